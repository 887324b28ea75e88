//! HTTP/1 requests and status lines, as far as they were seen.
//!
//! The code reads the target and three headers of a request. Cookies, Authorization and all other headers, bodies and
//! queries never leave this file. HTTP/2 without TLS begins with a preface that is no request; it is ignored.

use httparse::{EMPTY_HEADER, Header, ParserConfig, Status};

use super::{Junk, Oddity, Request, Said, target};

/// How many headers of a request are read; later ones are not. A browser sends some twenty.
const MAX_HEADERS: usize = 64;
/// How many requests of a payload are read.
const MAX_REQUESTS: usize = 32;
/// How many bytes are read of a header's value, of a method or of a target.
const MAX_VALUE: usize = 2048;
/// Methods with a body (RFC 9110, 9.3; RFC 5789). If the headers of a request are cut, only the method tells whether
/// there is a body.
const WITH_BODY: [&str; 3] = ["POST", "PUT", "PATCH"];
/// The preface of HTTP/2 (RFC 9113, 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// The requests of a payload, including pipelined ones. A request that was cut within its headers has the headers that
/// were seen. A request that was cut within its target has the beginning of the target. If it was cut before that, it
/// is junk.
pub(super) fn requests(mut bytes: &[u8]) -> Vec<Said> {
    let mut said = Vec::new();
    while said.len() < MAX_REQUESTS && !bytes.is_empty() && !bytes.starts_with(HTTP2_PREFACE) {
        match request(bytes) {
            // A sample may end within a later request. That is normal.
            Ok((request, _)) if request.is_cut && !said.is_empty() => break,
            Ok((request, next)) => {
                said.push(Said::Request(request));
                bytes = next;
            }
            Err(Junk::Cut) if !said.is_empty() => break,
            Err(junk) => {
                said.push(Said::Junk(junk));
                break;
            }
        }
    }
    said
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

/// A request, and the bytes behind it. There are none if its end is not known.
fn request(bytes: &[u8]) -> Result<(Request, &[u8]), Junk> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let outcome =
        ParserConfig::default().ignore_invalid_headers_in_requests(true).parse_request(&mut parsed, bytes);
    match (outcome, parsed.method, parsed.path) {
        (Ok(Status::Complete(length)), Some(method), Some(path)) => {
            let mut request = examined(method.as_bytes(), path.as_bytes(), parsed.headers);
            // HTTP/1.1 requires one (RFC 9112, 3.2).
            if parsed.version == Some(1) && value(parsed.headers, "host").is_none() {
                request.oddities.push(Oddity::NoHost);
            }
            let next = body(parsed.headers).and_then(|body| bytes.get(length.checked_add(body)?..));
            request.is_open = next.is_none();
            Ok((request, next.unwrap_or_default()))
        }
        // The parser gives those headers that were seen whole.
        (Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders), Some(method), Some(path)) => {
            let is_open = WITH_BODY.contains(&method);
            Ok((Request { is_open, ..examined(method.as_bytes(), path.as_bytes(), parsed.headers) }, &[]))
        }
        (outcome, ..) => by_hand(bytes, outcome.is_err()).map(|request| (request, &[][..])),
    }
}

/// A request whose line breaks the syntax or was cut: blanks or binary bytes in its target, no version, or another
/// version than 1.
fn by_hand(bytes: &[u8], is_wrong: bool) -> Result<Request, Junk> {
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
    Ok(Request { is_cut, ..examined(method, target, &headers) })
}

fn examined(method: &[u8], target: &[u8], headers: &[Header<'_>]) -> Request {
    let [host, agent, referer] = ["host", "user-agent", "referer"].map(|name| value(headers, name));
    target::examine(&text(method), &text(target), host.as_deref(), agent.as_deref(), referer.as_deref())
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
fn body(headers: &[Header<'_>]) -> Option<usize> {
    if value(headers, "transfer-encoding").is_some() {
        return None;
    }
    value(headers, "content-length").map_or(Some(0), |length| length.parse().ok())
}

#[cfg(test)]
mod tests;
