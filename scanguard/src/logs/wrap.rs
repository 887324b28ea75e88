//! What may be around a line: Docker's json-file, CRI (Kubernetes), syslog.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use super::{lines::MAX_LINE, syslog};

/// What is around the lines of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wrap {
    /// Nothing.
    Bare,
    /// `{"log":"LINE\n","stream":"stdout","time":"TIME"}`.
    Docker,
    /// `TIME stdout F LINE`.
    Cri,
    /// `<190>Nov 24 10:21:52 HOST nginx: LINE`, and other forms.
    Syslog,
}

/// The streams of a container.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stream {
    Output = 0,
    Errors = 1,
}

impl Stream {
    fn of(name: &str) -> Option<Self> {
        match name {
            "stdout" => Some(Self::Output),
            "stderr" => Some(Self::Errors),
            _ => None,
        }
    }
}

/// What was within.
#[derive(Debug, PartialEq)]
pub(super) struct Inner<'l> {
    pub(super) text: Cow<'l, str>,
    pub(super) time: Option<Timestamp>,
    /// The stream whose lines may come in parts, and whether this is the last part of a line.
    pub(super) part: Option<(Stream, bool)>,
    /// The program of a line of syslog.
    pub(super) program: Option<&'l str>,
}

#[derive(Deserialize)]
struct Docker<'l> {
    #[serde(borrow)]
    log: Cow<'l, str>,
    #[serde(borrow)]
    stream: Cow<'l, str>,
    time: Option<Timestamp>,
}

impl Wrap {
    /// In this order; a line has the form of one of them at most.
    pub(super) const AROUND: [Self; 3] = [Self::Docker, Self::Cri, Self::Syslog];

    /// Takes off what is around a line; nothing if the line has another form.
    pub(super) fn open(self, line: &str) -> Option<Inner<'_>> {
        match self {
            Self::Bare => Some(Inner { text: line.into(), time: None, part: None, program: None }),
            Self::Docker => docker(line),
            Self::Cri => cri(line),
            Self::Syslog => {
                let syslog::Syslog { program, time, text } = syslog::parse(line)?;
                Some(Inner { text: text.into(), time, part: None, program: Some(program) })
            }
        }
    }
}

fn docker(line: &str) -> Option<Inner<'_>> {
    if !line.starts_with('{') {
        return None;
    }
    let Docker { mut log, stream, time } = serde_json::from_str(line).ok()?;
    let is_last = log.ends_with('\n');
    let end = log.trim_end_matches(['\r', '\n']).len();
    match &mut log {
        Cow::Borrowed(text) => *text = &text[..end],
        Cow::Owned(text) => text.truncate(end),
    }
    Some(Inner { text: log, time, part: Some((Stream::of(&stream)?, is_last)), program: None })
}

fn cri(line: &str) -> Option<Inner<'_>> {
    let (time, rest) = line.split_once(' ')?;
    let (stream, rest) = rest.split_once(' ')?;
    let stream = Stream::of(stream)?;
    let time = time.parse().ok()?;
    // An empty line ends behind its tags.
    let (tags, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_last = match tags.split(':').next() {
        Some("F") => true,
        Some("P") => false,
        Some(_) | None => return None,
    };
    Some(Inner { text: text.into(), time: Some(time), part: Some((stream, is_last)), program: None })
}

/// The parts of lines that have not ended yet, by stream: runtimes cut lines at 16 KiB.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Parts([Begun; 2]);

#[derive(Clone, Debug, Default, PartialEq)]
struct Begun {
    text: String,
    /// The line is too long, and this was reported. Its rest is skipped.
    skipping: bool,
}

/// A line of which parts came.
#[derive(Debug, PartialEq)]
pub(super) enum Joined<'l> {
    Whole(Cow<'l, str>),
    TooLong,
    /// There is nothing to read yet.
    Unfinished,
}

impl Parts {
    pub(super) fn join<'l>(&mut self, stream: Stream, text: Cow<'l, str>, is_last: bool) -> Joined<'l> {
        let [output, errors] = &mut self.0;
        let begun = match stream {
            Stream::Output => output,
            Stream::Errors => errors,
        };
        if begun.skipping {
            begun.skipping = !is_last;
            return Joined::Unfinished;
        }
        if is_last && begun.text.is_empty() {
            return Joined::Whole(text);
        }
        if begun.text.len() + text.len() > MAX_LINE {
            *begun = Begun { text: String::new(), skipping: !is_last };
            return Joined::TooLong;
        }
        begun.text.push_str(&text);
        if is_last { Joined::Whole(std::mem::take(&mut begun.text).into()) } else { Joined::Unfinished }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(wrap: Wrap, line: &str) -> Option<(String, Option<(Stream, bool)>)> {
        wrap.open(line).map(|inner| (inner.text.into_owned(), inner.part))
    }

    #[test]
    fn lines_of_containers_are_opened() {
        let docker =
            r#"{"log":"a \"line\"\n","stream":"stdout","time":"2026-11-24T10:21:52.1Z","attrs":{"tag":"x"}}"#;
        assert_eq!(open(Wrap::Docker, docker), Some(("a \"line\"".to_owned(), Some((Stream::Output, true)))));
        assert_eq!(Wrap::Docker.open(docker).unwrap().time, "2026-11-24T10:21:52.1Z".parse().ok());
        let part = r#"{"log":"a lin","stream":"stderr"}"#;
        assert_eq!(open(Wrap::Docker, part), Some(("a lin".to_owned(), Some((Stream::Errors, false)))));
        for other in [
            "a line",
            "{}",
            r#"{"log":"x"}"#,
            r#"{"log":"x","stream":"std"}"#,
            r#"{"log":1,"stream":"stdout"}"#,
        ] {
            assert_eq!(open(Wrap::Docker, other), None, "{other}");
        }
        let time = "2026-11-24T10:21:52.123456789+01:00";
        for (rest, text, is_last) in [
            ("stdout F a line", "a line", true),
            ("stdout P a ", "a ", false),
            ("stdout F:x  a line", " a line", true),
            ("stdout F", "", true),
        ] {
            let wanted = Some((text.to_owned(), Some((Stream::Output, is_last))));
            assert_eq!(open(Wrap::Cri, &format!("{time} {rest}")), wanted, "{rest}");
        }
        for other in
            ["2026-11-24 stdout F x", "2026-11-24T10:21:52Z x F x", "2026-11-24T10:21:52Z stdout X x", ""]
        {
            assert_eq!(open(Wrap::Cri, other), None, "{other}");
        }
    }

    #[test]
    fn parts_are_joined_by_stream_and_a_line_without_end_takes_bounded_memory() {
        let mut parts = Parts::default();
        let mut join = |stream, text: &str, is_last| match parts.join(stream, text.to_owned().into(), is_last)
        {
            Joined::Whole(text) => text.into_owned(),
            Joined::TooLong => "too long".to_owned(),
            Joined::Unfinished => String::new(),
        };
        assert_eq!(join(Stream::Output, "one ", false), "");
        assert_eq!(join(Stream::Errors, "two ", false), "");
        assert_eq!(join(Stream::Output, "line", true), "one line");
        assert_eq!(join(Stream::Errors, "lines", true), "two lines");
        let part = "x".repeat(MAX_LINE / 4);
        let said: Vec<_> = (0..100).map(|_| join(Stream::Output, &part, false)).collect();
        assert_eq!(said.iter().filter(|said| *said == "too long").count(), 1);
        assert_eq!(join(Stream::Output, "the end", true), "");
        assert_eq!(join(Stream::Output, "next", true), "next");
    }
}
