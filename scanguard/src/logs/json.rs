//! The JSON access logs of Caddy and of Traefik. The code takes only the needed fields of each line. It skips cookies,
//! authorization and the other headers.

use jiff::Timestamp;
use serde::Deserialize;

use super::entry::{Entry, Peer, Unparsed, Words, address};

/// Caddy 2.
#[derive(Deserialize)]
struct Caddy {
    ts: Option<Time>,
    status: Option<u16>,
    /// Empty without a login.
    user_id: Option<String>,
    request: CaddyRequest,
}

#[derive(Deserialize)]
struct CaddyRequest {
    /// Since 2.5. Caddy also writes `client_ip`: what it believes of X-Forwarded-For. By default this is the first
    /// entry, which anybody can write.
    remote_ip: Option<String>,
    /// Before 2.5, with the port.
    remote_addr: Option<String>,
    method: String,
    host: Option<String>,
    uri: String,
    #[serde(default)]
    headers: CaddyHeaders,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CaddyHeaders {
    #[serde(rename = "User-Agent")]
    agent: Vec<String>,
    #[serde(rename = "Referer")]
    referer: Vec<String>,
    #[serde(rename = "X-Forwarded-For")]
    forwarded: Vec<String>,
}

/// Seconds since 1970, unless `time_format` sets another format.
#[derive(Deserialize)]
#[serde(untagged)]
enum Time {
    Seconds(f64),
    Text(String),
}

impl Time {
    fn timestamp(&self) -> Option<Timestamp> {
        match self {
            Self::Seconds(seconds) => {
                Timestamp::from_duration(jiff::SignedDuration::try_from_secs_f64(*seconds).ok()?).ok()
            }
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// Reads a line of Caddy's log.
pub(super) fn caddy(line: &str) -> Result<Entry, Unparsed> {
    let Caddy { ts, status, user_id, request } = serde_json::from_str(line).map_err(|_| Unparsed::Syntax)?;
    let peer = request.remote_ip.as_deref().or(request.remote_addr.as_deref());
    let peer = peer.and_then(address).ok_or(Unparsed::Address)?;
    let words = Words {
        method: &request.method,
        target: &request.uri,
        host: request.host.as_deref(),
        agent: request.headers.agent.first().map(String::as_str),
        referer: request.headers.referer.first().map(String::as_str),
        status: status.filter(|status| *status != 0),
        has_user: user_id.is_some_and(|user| !user.is_empty()),
    };
    Ok(Entry {
        peer: Peer::Address(peer),
        // A header that occurs twice is one list (RFC 9110, 5.3).
        forwarded: Some(request.headers.forwarded.join(",")).filter(|list| !list.is_empty()),
        time: ts.and_then(|time| time.timestamp()),
        said: words.examine(),
    })
}

/// Traefik 2 and 3.
#[derive(Deserialize)]
struct Traefik {
    /// Address and port of the connection.
    #[serde(rename = "ClientAddr")]
    address: String,
    /// The address without port, or X-Forwarded-For instead, if there was one. It is the header as it arrived, while
    /// the field of the header has Traefik's version of it.
    #[serde(rename = "ClientHost")]
    client: Option<String>,
    #[serde(rename = "StartUTC")]
    start: Option<Timestamp>,
    #[serde(rename = "RequestMethod")]
    method: String,
    #[serde(rename = "RequestPath")]
    path: String,
    #[serde(rename = "RequestHost")]
    host: Option<String>,
    /// "-" if there is none.
    #[serde(rename = "ClientUsername")]
    user: Option<String>,
    #[serde(rename = "DownstreamStatus")]
    status: Option<u16>,
    #[serde(rename = "request_User-Agent")]
    agent: Option<String>,
    #[serde(rename = "request_Referer")]
    referer: Option<String>,
}

/// Reads a line of Traefik's log.
pub(super) fn traefik(line: &str) -> Result<Entry, Unparsed> {
    let line: Traefik = serde_json::from_str(line).map_err(|_| Unparsed::Syntax)?;
    let peer = address(&line.address).ok_or(Unparsed::Address)?;
    let instead = line.client.filter(|client| address(client) != Some(peer));
    let words = Words {
        method: &line.method,
        target: &line.path,
        host: line.host.as_deref(),
        agent: line.agent.as_deref(),
        referer: line.referer.as_deref(),
        status: line.status.filter(|status| *status != 0),
        has_user: line.user.is_some_and(|user| user != "-"),
    };
    Ok(Entry { peer: Peer::Address(peer), forwarded: instead, time: line.start, said: words.examine() })
}
