//! JSON with fields that the configuration names. The defaults are nginx's variables.

use std::{collections::BTreeMap, fmt};

use jiff::{SignedDuration, Timestamp};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

use super::{
    clf,
    entry::{Entry, Peer, Unparsed, Words, address},
};
use crate::settings::Section;

/// How many names a field may have.
const MAX_NAMES: usize = 16;
/// Times in seconds end here, in the year 5138; greater ones are in milliseconds.
const MAX_SECONDS: f64 = 1e11;

/// `[logs.json]`: the names of each field. The first one that a line has is taken; `a.b` is `b` within `a`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fields {
    /// The address of the connection's peer.
    pub client: Vec<String>,
    /// X-Forwarded-For.
    pub forwarded: Vec<String>,
    /// The time of the request.
    pub time: Vec<String>,
    /// The whole request line.
    pub request: Vec<String>,
    /// The method, where there is no request line.
    pub method: Vec<String>,
    /// The path with its query.
    pub target: Vec<String>,
    /// The host that was asked for.
    pub host: Vec<String>,
    /// The User-Agent.
    pub agent: Vec<String>,
    /// The Referer.
    pub referer: Vec<String>,
    /// The status.
    pub status: Vec<String>,
    /// The name of the user.
    pub user: Vec<String>,
}

impl Default for Fields {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            client: names(&["remote_addr", "remote_ip"]),
            forwarded: names(&["http_x_forwarded_for", "x_forwarded_for"]),
            time: names(&["time_iso8601", "time_local", "msec", "time", "timestamp", "@timestamp"]),
            request: names(&["request"]),
            method: names(&["request_method", "method"]),
            target: names(&["request_uri", "uri", "path"]),
            host: names(&["http_host", "host", "server_name"]),
            agent: names(&["http_user_agent", "user_agent"]),
            referer: names(&["http_referer", "http_referrer", "referer"]),
            status: names(&["status"]),
            user: names(&["remote_user", "user"]),
        }
    }
}

impl Fields {
    pub(super) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let mut names = |key, default| section.list(key, MAX_NAMES, default, name);
        let fields = Self {
            client: names("client", default.client),
            forwarded: names("forwarded", default.forwarded),
            time: names("time", default.time),
            request: names("request", default.request),
            method: names("method", default.method),
            target: names("target", default.target),
            host: names("host", default.host),
            agent: names("agent", default.agent),
            referer: names("referer", default.referer),
            status: names("status", default.status),
            user: names("user", default.user),
        };
        section.finish();
        fields
    }
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("a field has a name".to_owned()) } else { Ok(text.to_owned()) }
}

/// Reads a line.
pub(super) fn parse(line: &str, fields: &Fields) -> Result<Entry, Unparsed> {
    let node = serde_json::from_str::<Node>(line).map_err(|_| Unparsed::Syntax)?;
    let Node::Object(object) = node else { return Err(Unparsed::Syntax) };
    let text = |names: &[String]| names.iter().find_map(|name| find(&object, name));
    let peer = text(&fields.client).ok_or(Unparsed::Syntax)?;
    let (request, method, target) = (text(&fields.request), text(&fields.method), text(&fields.target));
    if request.is_none() && (method.is_none() || target.is_none()) {
        return Err(Unparsed::Syntax);
    }
    let peer = address(&peer).ok_or(Unparsed::Address)?;
    let said = |names: &[String]| text(names).filter(|text| !text.is_empty() && text != "-");
    let (host, agent, referer) = (said(&fields.host), said(&fields.agent), said(&fields.referer));
    let (method, target) = (method.unwrap_or_default(), target.unwrap_or_default());
    let words = Words {
        method: &method,
        target: &target,
        host: host.as_deref(),
        agent: agent.as_deref(),
        referer: referer.as_deref(),
        status: said(&fields.status).and_then(|text| text.parse().ok()).filter(|it| (100..=999).contains(it)),
        has_user: said(&fields.user).is_some(),
    };
    Ok(Entry {
        peer: Peer::Address(peer),
        forwarded: said(&fields.forwarded),
        time: said(&fields.time).and_then(|text| time(&text)),
        said: match &request {
            Some(request) => words.examine_line(request),
            None => words.examine(),
        },
    })
}

/// RFC 3339, the common log format's time, or seconds or milliseconds since 1970.
fn time(text: &str) -> Option<Timestamp> {
    if let Ok(number) = text.parse::<f64>() {
        let seconds = if number.abs() < MAX_SECONDS { number } else { number / 1000.0 };
        return Timestamp::from_duration(SignedDuration::try_from_secs_f64(seconds).ok()?).ok();
    }
    text.parse().ok().or_else(|| clf::time(text))
}

/// The text of a field. A member whose own name has dots comes first.
fn find(object: &BTreeMap<String, Node>, name: &str) -> Option<String> {
    if let Some(node) = object.get(name) {
        return node.text();
    }
    let (first, rest) = name.split_once('.')?;
    match object.get(first)? {
        Node::Object(inner) => find(inner, rest),
        Node::Text(_) | Node::List(_) | Node::Other => None,
    }
}

/// A value. A line in which a name occurs twice is refused: where a server does not escape what its clients send, the
/// second one may be a forgery.
enum Node {
    Text(String),
    List(Vec<Self>),
    Object(BTreeMap<String, Self>),
    Other,
}

impl Node {
    fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            // A header that occurs twice is one list (RFC 9110, 5.3).
            Self::List(list) => Some(list.iter().filter_map(Self::text).collect::<Vec<_>>().join(",")),
            Self::Object(_) | Self::Other => None,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Nodes;

        impl<'de> Visitor<'de> for Nodes {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Node, E> {
                Ok(Node::Text(number.to_string()))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Node, E> {
                Ok(Node::Text(number.to_string()))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<Node, E> {
                Ok(Node::Text(number.to_string()))
            }

            fn visit_bool<E: Error>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Other)
            }

            fn visit_unit<E: Error>(self) -> Result<Node, E> {
                Ok(Node::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = list.next_element()? {
                    nodes.push(node);
                }
                Ok(Node::List(nodes))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut nodes = BTreeMap::new();
                while let Some((name, node)) = map.next_entry::<String, Node>()? {
                    if nodes.insert(name, node).is_some() {
                        return Err(A::Error::custom("a name occurs twice"));
                    }
                }
                Ok(Node::Object(nodes))
            }
        }

        deserializer.deserialize_any(Nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::{Junk, Said};

    fn short(line: &str, fields: &Fields) -> Result<String, Unparsed> {
        parse(line, fields).map(|entry| match entry.said {
            Said::Request(request) => {
                let time = entry.time.map_or("-".to_owned(), |time| time.to_string());
                format!("{:?} {} {} {:?} {time}", entry.peer, request.method, request.path, request.status)
            }
            other => format!("{:?} {other:?}", entry.peer),
        })
    }

    #[test]
    fn the_fields_of_nginx_are_known_and_others_can_be_named() {
        let default = Fields::default();
        let wanted = Ok("Address(192.0.2.7) GET /.env Some(404) 2026-11-24T10:21:52Z".to_owned());
        for line in [
            r#"{"time_iso8601":"2026-11-24T10:21:52+00:00","remote_addr":"192.0.2.7","request":"GET /.env?a=b HTTP/1.1","status":404,"x":{"y":[1,null,true]}}"#,
            r#"{"msec":"1795515712","remote_addr":"192.0.2.7","request_method":"GET","request_uri":"/.env","status":"404"}"#,
            r#"{"msec":1795515712000,"remote_addr":"192.0.2.7","request_method":"GET","uri":"/.env","status":"404"}"#,
            r#"{"time_local":"24/Nov/2026:10:21:52 +0000","remote_addr":"192.0.2.7","request":"GET /.env","status":404}"#,
        ] {
            assert_eq!(short(line, &default), wanted, "{line}");
        }
        let own = Fields {
            client: vec!["source.ip".to_owned()],
            method: vec!["http.request.method".to_owned()],
            target: vec!["url.original".to_owned()],
            status: vec!["http.response.status_code".to_owned()],
            time: vec!["@timestamp".to_owned()],
            ..default
        };
        let ecs = r#"{"@timestamp":"2026-11-24T10:21:52Z","source.ip":"192.0.2.7","http":{"request":{"method":"GET"},"response":{"status_code":404}},"url":{"original":"/.env"}}"#;
        assert_eq!(short(ecs, &own), wanted);
    }

    #[test]
    fn a_line_that_is_not_whole_or_says_a_thing_twice_is_no_evidence() {
        let default = Fields::default();
        let rows = [
            (
                r#"{"remote_addr":"192.0.2.7","remote_addr":"198.51.100.1","request":"GET /"}"#,
                Unparsed::Syntax,
            ),
            (r#"{"remote_addr":"192.0.2.7","status":200}"#, Unparsed::Syntax),
            (r#"{"request":"GET / HTTP/1.1","status":200}"#, Unparsed::Syntax),
            (r#"{"remote_addr":"unix:","request":"GET / HTTP/1.1"}"#, Unparsed::Address),
            (r#"{"remote_addr":{"ip":"192.0.2.7"},"request":"GET / HTTP/1.1"}"#, Unparsed::Syntax),
            (r#"{"remote_addr":"192.0.2.7","request":"GET / HTTP/1.1"} x"#, Unparsed::Syntax),
            (r#"["192.0.2.7"]"#, Unparsed::Syntax),
            ("7", Unparsed::Syntax),
        ];
        for (line, why) in rows {
            assert_eq!(short(line, &default), Err(why), "{line}");
        }
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        assert_eq!(short(&deep, &default), Err(Unparsed::Syntax));
        let junk = r#"{"remote_addr":"192.0.2.7","request":"","status":400}"#;
        assert_eq!(short(junk, &default), Ok(format!("Address(192.0.2.7) {:?}", Said::Junk(Junk::Cut))));
    }
}
