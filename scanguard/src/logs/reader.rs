//! Turns a line of an access log into an event for the rules.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use scanguard_common::{address::Address, numbered};

use super::{client::Trusted, entry::Unparsed, format::Format, lines::Line, settings::Settings};
use crate::content::{ContentEvent, Proof, Service};

numbered! {
    /// Why a line was skipped.
    Skipped {
        /// It is longer than 16 KiB.
        TooLong = "too_long",
        /// It does not have the form of its file's format.
        Syntax = "syntax",
        /// There is no address where the client's should be.
        Address = "address",
        /// It is older than `logs.max_age`.
        Old = "old",
        /// The client is this host itself: a proxy on this host whose network is not in `logs.trusted_proxies`.
        Local = "local",
        /// It came through a trusted proxy that does not give the client's address.
        Proxy = "proxy",
    }
}

/// Reads lines.
#[derive(Clone, Debug)]
pub struct Reader {
    format: Format,
    trusted: Trusted,
    max_age: SignedDuration,
}

impl Reader {
    /// A reader with these settings.
    pub fn new(settings: &Settings) -> Self {
        Self {
            format: settings.format,
            trusted: Trusted(settings.trusted_proxies.clone()),
            max_age: SignedDuration::try_from(settings.max_age).unwrap_or(SignedDuration::MAX),
        }
    }

    /// The format of a file before its first line.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Reads a line of a file whose format is `format`. The line may settle the format. The source of the event is the
    /// client's address as the line has it.
    ///
    /// # Errors
    /// Why the line gives no event for the rules.
    pub fn read(&self, format: &mut Format, line: &[u8], now: Timestamp) -> Result<ContentEvent, Skipped> {
        let line = String::from_utf8_lossy(line);
        let entry = format.parse(line.trim_start()).map_err(|why| match why {
            Unparsed::Syntax => Skipped::Syntax,
            Unparsed::Address => Skipped::Address,
        })?;
        if entry.time.is_some_and(|time| now.duration_since(time) > self.max_age) {
            return Err(Skipped::Old);
        }
        let client = self.trusted.client(&entry).ok_or(Skipped::Proxy)?;
        if is_local(client) {
            return Err(Skipped::Local);
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
        format: &mut Format,
        line: &Line<'_>,
        now: Timestamp,
    ) -> Option<Result<ContentEvent, Skipped>> {
        match line {
            Line::Whole([]) => None,
            Line::Whole(line) => Some(self.read(format, line, now)),
            Line::TooLong => Some(Err(Skipped::TooLong)),
        }
    }
}

fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}
