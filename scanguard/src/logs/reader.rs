//! Turns a line of an access log into an event for the rules.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use scanguard_common::address::Address;

use super::{
    client::Trusted,
    entry::Entry,
    lines::Line,
    settings::Settings,
    shape::{Rules, Shape},
    skipped::Skipped,
};
use crate::content::{ContentEvent, Proof, Service};

/// Reads lines.
#[derive(Clone, Debug)]
pub struct Reader {
    rules: Rules,
    trusted: Trusted,
    max_age: SignedDuration,
}

impl Reader {
    /// A reader with these settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            rules: Rules {
                format: settings.format,
                fields: settings.json.clone(),
                programs: settings.programs.clone(),
            },
            trusted: Trusted(settings.trusted_proxies.clone()),
            max_age: SignedDuration::try_from(settings.max_age).unwrap_or(SignedDuration::MAX),
        }
    }

    /// The shape of a file before its first line.
    pub fn shape(&self) -> Shape {
        Shape::new(self.rules.format)
    }

    /// Reads a line of a file, which may settle its shape; nothing if the rest of the line is to come. The source of
    /// the event is the client's address as the line has it. An error is why the line gives no event for the rules.
    pub fn read(
        &self,
        shape: &mut Shape,
        line: &[u8],
        now: Timestamp,
    ) -> Option<Result<ContentEvent, Skipped>> {
        let result = self.event(shape, line, now)?;
        shape.note(result.as_ref().err().copied(), line, &self.rules);
        Some(result)
    }

    fn event(&self, shape: &mut Shape, line: &[u8], now: Timestamp) -> Option<Result<ContentEvent, Skipped>> {
        let line = String::from_utf8_lossy(line);
        Some(shape.parse(line.trim_start(), &self.rules)?.and_then(|entry| self.of(entry, now)))
    }

    fn of(&self, entry: Entry, now: Timestamp) -> Result<ContentEvent, Skipped> {
        if entry.time.is_some_and(|time| now.duration_since(time) > self.max_age) {
            return Err(Skipped::Old);
        }
        let client = self.trusted.client(&entry).ok_or(Skipped::Proxy)?;
        if is_local(client) {
            return Err(Skipped::Local);
        }
        if is_masked(client) {
            return Err(Skipped::Masked);
        }
        Ok(ContentEvent {
            source: Address::from(client),
            service: Service::Log,
            client_port: None,
            proof: Proof::Connection,
            said: entry.said,
        })
    }

    pub(super) fn read_line(
        &self,
        shape: &mut Shape,
        line: &Line<'_>,
        now: Timestamp,
    ) -> Option<Result<ContentEvent, Skipped>> {
        match line {
            Line::Whole([]) => None,
            Line::Whole(line) => self.read(shape, line, now),
            Line::TooLong => {
                shape.note(Some(Skipped::TooLong), &[], &self.rules);
                Some(Err(Skipped::TooLong))
            }
        }
    }
}

fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

/// Whether a server has masked the address: anonymisation zeroes the last octet of IPv4 addresses, and at least the
/// host part (the last 64 bits) of IPv6 addresses.
fn is_masked(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[3] == 0,
        IpAddr::V6(ip) => ip.segments()[4..] == [0; 4],
    }
}
