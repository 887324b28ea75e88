//! The common and combined log formats of Apache, nginx and Traefik. They may have a virtual host before them, and
//! X-Forwarded-For or anything else after them.
//!
//! This is our own code: a parser that follows the rules for requests refuses exactly the important lines, whose
//! requests break these rules.

use jiff::{Timestamp, fmt::strtime};

use super::entry::{Entry, Peer, Unparsed, Words, address};

const TIME: &str = "%d/%b/%Y:%H:%M:%S %z";

/// Reads a line.
pub(super) fn parse(line: &str) -> Result<Entry, Unparsed> {
    // The servers escape quotes within fields. So the first quote begins the request, whatever the user's name is.
    let quote = line.find('"').ok_or(Unparsed::Syntax)?;
    let (head, rest) = line.split_at(quote);
    let head = head.strip_suffix("] ").ok_or(Unparsed::Syntax)?;
    let (who, time) = head.rsplit_once('[').ok_or(Unparsed::Syntax)?;
    let (request, rest) = quoted(rest).ok_or(Unparsed::Syntax)?;
    let (status, rest) = word(rest).ok_or(Unparsed::Syntax)?;
    let status = match status.parse() {
        Ok(status @ 100..=999) => Some(status),
        // If there was no response, nginx writes 000, Traefik 0 and Apache "-".
        Ok(0) => None,
        _ if status == "-" => None,
        _ => return Err(Unparsed::Syntax),
    };
    // Number of bytes that were sent.
    let rest = word(rest).map_or("", |(_, rest)| rest);
    let (referer, rest) = optional(rest);
    let (agent, rest) = optional(rest);
    let (last, rest) = optional(rest);
    // Only at the very end: lines of Traefik continue behind it, and their user agents are not escaped.
    let forwarded = last.filter(|_| rest.trim().is_empty());
    let (host, peer, listed) = client(who)?;
    // The last word before the time: "192.0.2.1 - anna [".
    let has_user =
        who.trim_end().rsplit(' ').next().is_some_and(|user| user != "-" && address(user).is_none());
    let (agent, referer) = (agent.as_deref(), referer.as_deref());
    let words = Words { host, agent, referer, status, has_user, ..Words::default() };
    Ok(Entry {
        peer,
        forwarded: listed.or(forwarded),
        time: self::time(time),
        said: words.examine_line(&request),
    })
}

/// The virtual host, the client, and X-Forwarded-For if the server logs it in place of the client.
///
/// A virtual host may look like an address, since the client writes it. The next word decides: in these formats the
/// second word is `-`, or an address behind a host.
fn client(who: &str) -> Result<(Option<&str>, Peer, Option<String>), Unparsed> {
    let (first, rest) = word(who).ok_or(Unparsed::Syntax)?;
    // Traefik has the whole header there: "198.51.100.9, 203.0.113.5 - - [".
    if first.ends_with(',') {
        let list = who.split(" - ").next().unwrap_or_default();
        return Ok((None, Peer::Proxy, Some(list.to_owned())));
    }
    if let Some((client, rest)) = word(rest).and_then(|(second, rest)| Some((address(second)?, rest))) {
        // Either `%h %l %u`, with an ident answer that the client made up (mod_ident), or a host and its client. So
        // nobody is accused.
        let is_either = address(first).is_some() && word(rest).is_some_and(|(_, rest)| word(rest).is_none());
        return if is_either {
            Err(Unparsed::Address)
        } else {
            Ok((Some(first), Peer::Address(client), None))
        };
    }
    address(first).map(|ip| (None, Peer::Address(ip), None)).ok_or(Unparsed::Address)
}

/// `24/Nov/2026:10:21:48 +0000`.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    strtime::parse(TIME, text).and_then(|time| time.to_timestamp()).ok()
}

/// The next word, and the text behind it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(' ');
    let (word, rest) = text.split_at(text.find(' ').unwrap_or(text.len()));
    (!word.is_empty()).then_some((word, rest))
}

/// The next field if it is quoted; `-` is no value.
fn optional(text: &str) -> (Option<String>, &str) {
    match quoted(text) {
        Some((field, rest)) => (Some(field).filter(|field| field != "-" && !field.is_empty()), rest),
        None => (None, text),
    }
}

/// The next quoted field without its escapes (`\"`, `\\`, `\n` and so on; `\xHH` for a byte), and the text behind it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let text = text.trim_start_matches(' ').strip_prefix('"')?;
    let mut field = Vec::new();
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((String::from_utf8_lossy(&field).into_owned(), &text[at + 1..])),
            b'\\' => match bytes.next()?.1 {
                b'x' => {
                    let digits = text.get(at + 2..at + 4)?;
                    field.push(u8::from_str_radix(digits, 16).ok()?);
                    bytes.nth(1);
                }
                b'n' => field.push(b'\n'),
                b'r' => field.push(b'\r'),
                b't' => field.push(b'\t'),
                b'v' => field.push(0x0b),
                b'b' => field.push(0x08),
                other => field.push(other),
            },
            other => field.push(other),
        }
    }
    None
}
