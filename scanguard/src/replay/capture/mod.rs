//! Capture files, read as they come: pcap and pcapng, in bounded memory whatever is in them.
//!
//! pcap-parser takes apart headers and blocks. Reading, limits and times are done here: its own reader gives
//! up when a pipe gives little at first, and it knows neither binary time resolutions nor the byte order of
//! time offsets.

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
    /// When it was captured; the simple packets of pcapng have no time.
    pub time: Option<Timestamp>,
    /// What the bytes begin with.
    pub link: Link,
    /// What was captured of it.
    pub data: &'c [u8],
    /// Its length on the wire, as far as that is known.
    pub wire_len: usize,
}

/// A capture could not be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file gave an error.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// There is nothing in it.
    #[error("it is empty: not even the header of a capture is there")]
    Empty,
    /// It begins like no capture.
    #[error("this is neither pcap nor pcapng")]
    Unknown,
    /// It ends within a header, block or packet.
    #[error("the capture ends within the next packet or block: it is truncated")]
    Truncated,
    /// A header says something that cannot be.
    #[error("the capture is corrupt: {0}")]
    Corrupt(&'static str),
    /// A header promises more than any packet has.
    #[error("the capture is corrupt: a packet or block of {0} bytes, more than {MAX_RECORD} are not taken")]
    TooLong(u64),
    /// Frames of this kind are not understood.
    #[error(
        "link type {0} is not supported; supported are Ethernet (1), raw IP (101), BSD loopback (0, 108) \
         and Linux cooked (113, 276); see https://www.tcpdump.org/linktypes.html"
    )]
    LinkType(u32),
}

/// What a packet or block may take: libpcap's limit of blocks, 64 times the longest packet.
const MAX_RECORD: usize = 16 << 20;

impl<R: Read> Capture<R> {
    /// Finds out what it is.
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

    /// The next packet; none at the end.
    ///
    /// # Errors
    /// It cannot be read on from here.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, CaptureError> {
        match &mut self.format {
            Format::Pcap(pcap) => pcap.next_packet(&mut self.buffer),
            Format::PcapNg(pcapng) => pcapng.next_packet(&mut self.buffer),
        }
    }
}

/// The nearest that there is: clocks of captures may say anything.
fn timestamp(nanoseconds: i128) -> Timestamp {
    let bound = if nanoseconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_nanosecond(nanoseconds).unwrap_or(bound)
}

/// Nanoseconds of a second.
const SECOND: i128 = 1_000_000_000;

#[cfg(test)]
mod tests;
