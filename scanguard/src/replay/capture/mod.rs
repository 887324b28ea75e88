//! Reads capture files as a stream: pcap and pcapng, in bounded memory whatever they contain.
//!
//! pcap-parser parses headers and blocks. Reading, limits and times are done here. Its own reader stops when a pipe
//! gives few bytes at first, and it knows neither binary time resolutions nor the byte order of time offsets.

mod buffer;
mod link;
mod pcap;
mod pcapng;

use std::io::{self, Read};

use jiff::Timestamp;

pub use self::link::Link;
use self::{buffer::Buffer, pcap::Pcap, pcapng::PcapNg};

/// A capture that is being read.
pub struct Capture<R> {
    buffer: Buffer<R>,
    format: Format,
}

enum Format {
    Pcap(Pcap),
    PcapNg(PcapNg),
}

/// A packet of a capture.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Packet<'c> {
    /// When it was captured. Simple packets of pcapng have no time.
    pub time: Option<Timestamp>,
    /// The link type of the bytes.
    pub link: Link,
    /// The captured bytes.
    pub data: &'c [u8],
    /// Its length on the wire, if it is known.
    pub wire_len: usize,
}

/// A capture could not be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file gave an error.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is empty.
    #[error("it is empty: not even the header of a capture is there")]
    Empty,
    /// It does not begin like a capture.
    #[error("this is neither pcap nor pcapng")]
    Unknown,
    /// It ends within a header, block or packet.
    #[error("the capture ends within the next packet or block: it is truncated")]
    Truncated,
    /// A header has an impossible value.
    #[error("the capture is corrupt: {0}")]
    Corrupt(&'static str),
    /// A header gives a greater length than any packet has.
    #[error("the capture is corrupt: a packet or block of {0} bytes, more than {MAX_RECORD} are not taken")]
    TooLong(u64),
    /// Frames of this kind are not supported.
    #[error(
        "link type {0} is not supported; supported are Ethernet (1), raw IP (101), BSD loopback (0, 108) \
         and Linux cooked (113, 276); see https://www.tcpdump.org/linktypes.html"
    )]
    LinkType(u32),
}

/// How long a packet or block may be: libpcap's limit of blocks, 64 times the longest packet.
const MAX_RECORD: usize = 16 << 20;

impl<R: Read> Capture<R> {
    /// Finds out its format.
    ///
    /// # Errors
    /// It is no capture, or one of an unsupported link type.
    pub fn open(reader: R) -> Result<Self, CaptureError> {
        let mut buffer = Buffer::new(reader);
        if !buffer.fill(4)? {
            return Err(if buffer.data().is_empty() { CaptureError::Empty } else { CaptureError::Unknown });
        }
        let format = if buffer.data().starts_with(&pcapng::MAGIC) {
            Format::PcapNg(PcapNg::default())
        } else {
            Format::Pcap(Pcap::open(&mut buffer)?)
        };
        Ok(Self { buffer, format })
    }

    /// The next packet; nothing at the end.
    ///
    /// # Errors
    /// The rest cannot be read.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        match &mut self.format {
            Format::Pcap(pcap) => pcap.next_packet(&mut self.buffer),
            Format::PcapNg(pcapng) => pcapng.next_packet(&mut self.buffer),
        }
    }
}

/// The nearest valid time: clocks of captures may have any value.
fn timestamp(nanoseconds: i128) -> Timestamp {
    let bound = if nanoseconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_nanosecond(nanoseconds).unwrap_or(bound)
}

/// Nanoseconds in a second.
const SECOND: i128 = 1_000_000_000;

#[cfg(test)]
mod tests;
