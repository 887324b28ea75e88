//! Findings as lines for people.

use std::fmt::Write as _;

use super::names::SourceName;
use crate::detect::{findings::Event, geo::Origin};

/// The line for people.
pub(super) fn text(event: &Event, ipv6_prefix: u8, colour: bool) -> String {
    let finding = &event.finding;
    let techniques: Vec<_> = finding.techniques.iter().map(|technique| technique.id()).collect();
    let (on, off) = match (colour, event.kind.label()) {
        (true, "opened") => ("\x1b[1;31m", "\x1b[0m"),
        (true, "updated") => ("\x1b[33m", "\x1b[0m"),
        (true, _) => ("\x1b[2m", "\x1b[0m"),
        (false, _) => ("", ""),
    };
    let mut line = format!(
        "{:.3} {on}{:<7}{off} {:<6} {} {} {}{}: {}",
        event.time,
        event.kind.label(),
        finding.severity.label(),
        finding.rule,
        techniques.join(","),
        SourceName::of(finding, ipv6_prefix),
        Whence(&finding.origin),
        finding.reason,
    );
    if let Some(origin) = finding.actor.as_ref().and_then(|actor| actor.origin()) {
        // Writing to a String does not fail.
        let _ = write!(line, "; {origin}");
    }
    if event.kind.label() == "closed" {
        // Writing to a String does not fail.
        let _ = match &finding.content {
            None => write!(
                line,
                "; in all {} probes, services {}, addresses {}",
                finding.probes(),
                finding.services(),
                finding.hosts()
            ),
            Some(content) => write!(line, "; said in all {} times: {}", finding.size(), content.summary),
        };
    }
    line
}

/// " (DE, AS64500 Example)", or nothing.
struct Whence<'f>(&'f Origin);

impl std::fmt::Display for Whence<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self.0 == Origin::default() { Ok(()) } else { write!(f, " ({})", self.0) }
    }
}
