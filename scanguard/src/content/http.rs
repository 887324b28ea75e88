//! HTTP/1 requests and status lines, as far as they were seen.
//!
//! The code reads the target and some headers of a request. Of cookies, Authorization and all other headers it tells only
//! whether there is a look-up by JNDI in them; they, bodies and queries never leave this folder. HTTP/2 without TLS begins
//! with a preface that is no request; it is ignored.

use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};

use super::{
    Junk, Oddity, Request, Said,
    sample::Place,
    sender::Shown,
    target::{self, Headers},
};

/// How many headers of a request are read; later ones are not. A browser sends some twenty.
const MAX_HEADERS: usize = 64;
/// How many requests of a payload are read.
const MAX_REQUESTS: usize = 32;
/// How many bytes are read of a header's value, of a method or of a target.
const MAX_VALUE: usize = 2048;
/// Methods without a body (RFC 9110, 9.3.1). No browser sends one with them. If the headers of a request are cut, only
/// the method tells whether there may be a body.
const WITHOUT_BODY: [&str; 2] = ["GET", "HEAD"];
/// Headers whose whole text is examined.
const EXAMINED: [&str; 3] = ["host", "user-agent", "referer"];
/// The preface of HTTP/2 (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// How a payload ends that begins with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The next request begins so many bytes behind the beginning of the payload.
    At {
        /// Bytes.
        next: u64,
        /// Whether the last request has a body that its method has not (RFC 9110, 9.3.1). A server may not take it for
        /// a body.
        is_doubtful: bool,
    },
    /// The head goes on in the next segment, and no body follows it.
    Head,
    /// Several requests without bodies follow each other, and the last ones were not seen. No browser does that, so no
    /// page does.
    Unseen,
    /// A body may go on, and nobody knows how far. Or the bytes that follow are no requests at all.
    Open,
    /// It is a CONNECT: if the server grants it, no requests follow.
    Connect,
}

/// The requests of a payload, including pipelined ones, and how the payload ends. A request that was cut within its
/// headers has the headers that were seen. A request that was cut within its target has the beginning of the target.
/// If it was cut before that, it is junk.
pub(super) fn requests(bytes: &[u8], place: Place) -> (Vec<Said>, End) {
    let (mut said, mut read) = (Vec::new(), 0);
    let mut end = End::Open;
    loop {
        let rest = bytes.get(read..).unwrap_or_default();
        if rest.is_empty() && !said.is_empty() {
            // The sample ends here. If the payload goes on, a client that pipelines wrote it, and no browser does.
            end = if read as u64 >= place.len.into() { end } else { whole_head(place, true) };
            break;
        }
        if said.len() >= MAX_REQUESTS || rest.is_empty() || rest.starts_with(HTTP2_PREFACE) {
            end = End::Open;
            break;
        }
        match request(rest) {
            // A sample may end within a later request. That is normal.
            Ok((request, _)) if request.is_cut && !said.is_empty() => {
                end = cut(&request, place, true);
                break;
            }
            Ok((request, Framing::Whole { head, body })) => {
                let is_doubtful = body > 0 && WITHOUT_BODY.contains(&&*request.method);
                let next = (read as u64).saturating_add(head as u64).saturating_add(body);
                said.push(Said::Request(request));
                end = End::At { next, is_doubtful };
                match usize::try_from(next) {
                    Ok(next) if next <= bytes.len() => read = next,
                    _ => break,
                }
            }
            Ok((request, Framing::Cut)) => {
                end = cut(&request, place, !said.is_empty());
                said.push(Said::Request(request));
                break;
            }
            Ok((request, Framing::Unknown)) => {
                end = if request.method == "CONNECT" { End::Connect } else { End::Open };
                said.push(Said::Request(request));
                break;
            }
            // Servers skip these.
            Err(Junk::Cut) if rest.iter().all(|byte| b"\r\n".contains(byte)) => {
                end = End::At { next: place.len.into(), is_doubtful: false };
                break;
            }
            Err(Junk::Cut) if !said.is_empty() => {
                end = whole_head(place, true);
                break;
            }
            Err(junk) => {
                said.push(Said::Junk(junk));
                end = End::Open;
                break;
            }
        }
    }
    (said, end)
}

/// How a payload ends whose last request is cut.
fn cut(request: &Request, place: Place, is_pipelined: bool) -> End {
    if WITHOUT_BODY.contains(&&*request.method) { whole_head(place, is_pipelined) } else { End::Open }
}

/// How a payload ends whose last request has no body.
fn whole_head(place: Place, is_pipelined: bool) -> End {
    match (place.ends_head, is_pipelined) {
        (true, _) => End::At { next: place.len.into(), is_doubtful: false },
        (false, true) => End::Unseen,
        (false, false) => End::Head,
    }
}

/// The status of a response; interim ones do not count (RFC 9110, 15.2).
pub(super) fn status(bytes: &[u8]) -> Option<Said> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    // The status line comes first: the rest may be anything.
    _ = response.parse(bytes);
    match response.code? {
        // Below 100: three digits, but no status (RFC 9110, 15).
        ..=100 | 102..200 => None,
        code => Some(Said::Status(code)),
    }
}

/// Where a request ends.
enum Framing {
    /// The lengths of its head and of its body.
    Whole { head: usize, body: u64 },
    /// It is cut within its head.
    Cut,
    /// Nobody knows: its body has chunks, it begins a tunnel, or it breaks the syntax.
    Unknown,
}

/// A request, and where it ends.
fn request(bytes: &[u8]) -> Result<(Request, Framing), Junk> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let outcome =
        ParserConfig::default().ignore_invalid_headers_in_requests(true).parse_request(&mut parsed, bytes);
    match (outcome, parsed.method, parsed.path) {
        (Ok(Status::Complete(head)), Some(method), Some(path)) => {
            let mut request = examined(method.as_bytes(), path.as_bytes(), parsed.headers, false);
            // HTTP/1.1 requires one (RFC 9112, 3.2).
            if parsed.version == Some(1) && value(parsed.headers, "host").is_none() {
                request.oddities.push(Oddity::NoHost);
            }
            let body = body(parsed.headers).filter(|_| method != "CONNECT");
            Ok((request, body.map_or(Framing::Unknown, |body| Framing::Whole { head, body })))
        }
        // The parser gives those headers that were seen whole.
        (Ok(Status::Partial), Some(method), Some(path)) => {
            Ok((examined(method.as_bytes(), path.as_bytes(), parsed.headers, true), Framing::Cut))
        }
        (Err(httparse::Error::TooManyHeaders), Some(method), Some(path)) => {
            Ok((examined(method.as_bytes(), path.as_bytes(), parsed.headers, true), Framing::Cut))
        }
        (outcome, ..) => by_hand(bytes, outcome.is_err()),
    }
}

/// A request whose line breaks the syntax or was cut: blanks or binary bytes in its target, no version, or another
/// version than 1.
fn by_hand(bytes: &[u8], is_wrong: bool) -> Result<(Request, Framing), Junk> {
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).ok_or(Junk::Cut)?;
    let bytes = &bytes[start..];
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (line, rest) = end.map_or((bytes, &[][..]), |end| (&bytes[..end], &bytes[end + 1..]));
    let line = line.trim_ascii_end();
    let unreadable = if is_wrong || end.is_some() { Junk::Syntax } else { Junk::Cut };
    let space = line.iter().position(|byte| *byte == b' ').ok_or(unreadable)?;
    let (method, target) = (&line[..space], line[space..].trim_ascii_start());
    if target.is_empty() || !method.iter().all(u8::is_ascii_graphic) {
        return Err(unreadable);
    }
    // A target that ends too early still has its whole path if a query has begun.
    let is_cut = end.is_none() && !target.contains(&b'?');
    let version = target.windows(6).rposition(|part| part == b" HTTP/");
    let target = version.map_or(target, |at| target[..at].trim_ascii_end());
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    // The parser gives the headers that it read before the error.
    _ = httparse::parse_headers(rest, &mut headers);
    let framing = if end.is_some() && is_wrong { Framing::Unknown } else { Framing::Cut };
    Ok((Request { is_cut, ..examined(method, target, &headers, false) }, framing))
}

fn examined(method: &[u8], target: &[u8], headers: &[Header<'_>], is_cut: bool) -> Request {
    let names = ["origin", "sec-fetch-site", "sec-fetch-dest", "accept"];
    let (texts, values) = (EXAMINED.map(|name| value(headers, name)), names.map(|name| value(headers, name)));
    let [host, agent, referer] = texts.each_ref().map(Option::as_deref);
    let [origin, site, destination, accept] = values.each_ref().map(Option::as_deref);
    let shown = Shown { referer, origin, site, destination, accept, is_cut };
    let has_credentials = value(headers, "authorization").is_some();
    // Scanners write it into each header that a server may log.
    let is_looking_up = |header: &&Header<'_>| {
        !EXAMINED.iter().any(|name| header.name.eq_ignore_ascii_case(name))
            && header.value.windows(2).any(|two| two == b"${")
    };
    let looking_up = headers.iter().find(is_looking_up).map(|header| text(header.value));
    let looking_up = looking_up.as_deref();
    let headers = Headers { host, agent, shown, has_credentials, looking_up };
    target::examine(&text(method), &text(target), &headers)
}

/// The first header of that name.
fn value(headers: &[Header<'_>], name: &str) -> Option<String> {
    let header = headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
    Some(text(header.value.trim_ascii()))
}

/// Cuts long text, and replaces what is not UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_VALUE)]).into_owned()
}

/// Length of the body in bytes, if the headers give it.
fn body(headers: &[Header<'_>]) -> Option<u64> {
    if value(headers, "transfer-encoding").is_some() {
        return None;
    }
    value(headers, "content-length").map_or(Some(0), |length| length.parse().ok())
}

#[cfg(test)]
mod tests;
