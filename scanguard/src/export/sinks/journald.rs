//! The journal, by its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>): one datagram for each event,
//! with named fields, so that `journalctl SCANGUARD_SOURCE=192.0.2.7` finds it.

use std::path::{Path, PathBuf};

use tokio::net::UnixDatagram;

use super::{
    super::forms::{Context, Format, Formatter, names::SourceName},
    worker::{Deliver, Failure, datagram},
};
use crate::detect::{
    Severity,
    findings::{Event, EventKind},
};

/// Marks all messages about findings: `journalctl MESSAGE_ID=...`. A random number, as sd-id128(1) makes them.
const MESSAGE_ID: &str = "b1cda20bc90f461e86cdcb290ade4354";

/// The sink.
pub(super) struct Journald {
    socket: PathBuf,
    formatter: Formatter,
    open: Option<UnixDatagram>,
}

impl Journald {
    /// A sink for the journal at this socket.
    pub(super) fn new(socket: &Path, context: &Context) -> Self {
        let formatter = Formatter::plain(Format::Json, context.clone());
        Self { socket: socket.to_owned(), formatter, open: None }
    }

    fn entry(&self, event: &Event) -> Result<Vec<u8>, Failure> {
        let Event { kind, finding, .. } = event;
        let context = self.formatter.context();
        let source = SourceName::of(finding, context.ipv6_prefix);
        let message = format!("{} {} from {source}: {}", finding.rule, kind.label(), finding.reason);
        let mut entry = Vec::new();
        for (name, value) in [
            ("MESSAGE", message.as_str()),
            ("MESSAGE_ID", MESSAGE_ID),
            ("PRIORITY", priority(event)),
            ("SYSLOG_IDENTIFIER", "scanguard"),
            ("SCANGUARD_ID", &finding.id),
            ("SCANGUARD_EVENT", kind.label()),
            ("SCANGUARD_RULE", finding.rule),
            ("SCANGUARD_SEVERITY", finding.severity.label()),
            ("SCANGUARD_CONFIDENCE", finding.confidence.label()),
            ("SCANGUARD_SOURCE", &source.to_string()),
            ("SCANGUARD_FINDING", &self.formatter.line(event)?),
        ] {
            field(&mut entry, name, value);
        }
        // A field may occur several times.
        for technique in finding.techniques {
            field(&mut entry, "SCANGUARD_TECHNIQUE", technique.id());
        }
        Ok(entry)
    }
}

/// The priority, as in syslog(3).
fn priority(event: &Event) -> &'static str {
    match (event.kind, event.finding.severity) {
        (EventKind::Closed, _) | (EventKind::Opened | EventKind::Updated, Severity::Info) => "6",
        (EventKind::Opened | EventKind::Updated, Severity::Low) => "5",
        (EventKind::Opened | EventKind::Updated, Severity::Medium) => "4",
        (EventKind::Opened | EventKind::Updated, Severity::High) => "3",
    }
}

/// A value with several lines is preceded by its length.
fn field(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

impl Deliver for Journald {
    async fn deliver(&mut self, event: &Event) -> Result<(), Failure> {
        let entry = self.entry(event)?;
        // A restarted journal listens at a new socket of the same name.
        let socket = match self.open.take() {
            Some(socket) => socket,
            None => UnixDatagram::unbound()?,
        };
        datagram(socket.send_to(&entry, &self.socket).await).map_err(|failure| match failure {
            Failure::Away(why) => Failure::Away(format!("{}: {why}", self.socket.display())),
            Failure::Unable(why) => Failure::Unable(why),
            Failure::Refused(why) => Failure::Refused(why),
        })?;
        self.open = Some(socket);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::event, *};

    #[tokio::test]
    async fn an_event_that_is_larger_than_any_datagram_is_given_up_rather_than_tried_for_ever() {
        let path = std::env::temp_dir().join(format!("scanguard-journal-{}", std::process::id()));
        let _journal = UnixDatagram::bind(&path).unwrap();
        let mut sink = Journald::new(&path, &Context::here(64));
        let mut huge = event(7);
        huge.finding.reason = "a".repeat(16 << 20);
        let outcome = sink.deliver(&huge).await;
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(outcome, Err(Failure::Refused(_))), "{outcome:?}");
    }

    #[test]
    fn a_value_of_one_line_follows_an_equals_sign_and_others_their_length() {
        let mut entry = Vec::new();
        field(&mut entry, "MESSAGE", "one");
        field(&mut entry, "OTHER", "two\nlines");
        assert_eq!(entry, b"MESSAGE=one\nOTHER\n\x09\0\0\0\0\0\0\0two\nlines\n");
    }
}
