//! The beginning of a line of syslog: RFC 3164, RFC 5424, and rsyslog's own formats of files.
//!
//! This is our own code: the parsers that there are guess, so that a text which a client chose could become the name
//! of a program.

use jiff::Timestamp;

/// A line of syslog.
#[derive(Debug, PartialEq)]
pub(super) struct Syslog<'l> {
    pub(super) program: &'l str,
    /// RFC 3164 has no year, and so no time.
    pub(super) time: Option<Timestamp>,
    pub(super) text: &'l str,
}

/// Takes a line apart; nothing if it has another form.
pub(super) fn parse(line: &str) -> Option<Syslog<'_>> {
    let rest = match line.strip_prefix('<') {
        Some(rest) => {
            let (priority, rest) = rest.split_once('>')?;
            // Facilities and severities end at 191.
            priority.parse::<u8>().ok().filter(|priority| *priority < 192)?;
            if let Some(rest) = rest.strip_prefix("1 ") {
                return rfc5424(rest);
            }
            rest
        }
        None => line,
    };
    let (time, rest) = match rest.split_once(' ') {
        Some((first, rest)) if first.len() > 18 => (Some(first.parse().ok()?), rest),
        _ => (None, rfc3164_time(rest)?),
    };
    let (first, rest) = rest.split_once(' ')?;
    // nginx can leave out the host (`nohostname`).
    let (tag, text) = if first.ends_with(':') { (first, rest) } else { rest.split_once(' ')? };
    let tag = tag.strip_suffix(':')?;
    let program = tag.split('[').next().unwrap_or(tag);
    (!program.is_empty()).then_some(Syslog { program, time, text: text.trim_start() })
}

/// Skips `Nov 24 10:21:52 ` or `Nov  4 10:21:52 `.
fn rfc3164_time(text: &str) -> Option<&str> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    const LENGTH: usize = "Nov 24 10:21:52 ".len();
    let (time, rest) = text.split_at_checked(LENGTH)?;
    let fits = |(byte, form): (u8, u8)| match form {
        b'd' => byte.is_ascii_digit(),
        b'_' => byte.is_ascii_digit() || byte == b' ',
        form => byte == form,
    };
    let is_time = time.bytes().skip(3).zip(*b" _d dd:dd:dd ").all(fits);
    (is_time && MONTHS.contains(&time.get(..3)?)).then_some(rest)
}

/// `TIME HOST PROGRAM PROCESS MESSAGE [DATA]... TEXT`.
fn rfc5424(text: &str) -> Option<Syslog<'_>> {
    let mut words = text.splitn(6, ' ');
    let time = words.next()?;
    let time = if time == "-" { None } else { Some(time.parse().ok()?) };
    let (_host, program, _process, _message) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let rest = words.next()?;
    let text = match rest.strip_prefix('-') {
        Some(text) => text,
        None => after_data(rest)?,
    };
    let text = text.strip_prefix(' ')?;
    Some(Syslog { program, time, text: text.strip_prefix('\u{feff}').unwrap_or(text) })
}

/// The text behind structured data: `[id name="value"][...]`, with `\"`, `\\` and `\]` in values.
fn after_data(text: &str) -> Option<&str> {
    let (mut is_inside, mut is_quoted) = (false, false);
    let mut bytes = text.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if is_quoted => {
                bytes.next()?;
            }
            b'"' if is_inside => is_quoted = !is_quoted,
            b'[' if !is_inside => is_inside = true,
            b']' if is_inside && !is_quoted => is_inside = false,
            b' ' if !is_inside => return text.get(at..),
            _ if is_inside => {}
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_syslog_are_read() {
        let time = "2026-11-24T10:21:52Z".parse().ok();
        let rows = [
            ("<190>Nov 24 10:21:52 edge nginx: the text", "nginx", None),
            ("<190>Nov  4 10:21:52 nginx: the text", "nginx", None),
            ("Nov 24 10:21:52 edge httpd[4711]: the text", "httpd", None),
            ("2026-11-24T10:21:52.000000+00:00 edge nginx: the text", "nginx", time),
            ("<165>1 2026-11-24T10:21:52Z edge caddy 4711 - - the text", "caddy", time),
            ("<165>1 - edge caddy 4711 ID47 [a@1 b=\"\\\"] x\"][c] \u{feff}the text", "caddy", None),
        ];
        for (line, program, time) in rows {
            assert_eq!(parse(line), Some(Syslog { program, time, text: "the text" }), "{line}");
        }
    }

    #[test]
    fn everything_else_is_no_syslog() {
        for line in [
            "",
            "<190>",
            "<192>Nov 24 10:21:52 edge nginx: x",
            "<x>Nov 24 10:21:52 edge nginx: x",
            "Now 24 10:21:52 edge nginx: x",
            "Nov 24 10-21-52 edge nginx: x",
            "Nov 24 10:21:52 edge nginx x",
            "Nov 24 10:21:52 edge",
            "Nov 24 10:21:5\u{fc} edge nginx: x",
            "<165>1 yesterday edge caddy 1 - - x",
            "<165>1 - edge caddy 1 - [a b=\"c\" x",
            "<165>1 - edge caddy 1 - x",
            "192.0.2.7 - - [24/Nov/2026:10:21:52 +0000] \"GET / HTTP/1.1\" 200 3",
        ] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
