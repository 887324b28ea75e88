//! pcap: one header, then packets (draft-ietf-opsawg-pcap).

use std::io::Read;

use pcap_parser::{
    LegacyPcapBlock, PcapError,
    nom::{Err, IResult, Needed},
    parse_pcap_frame, parse_pcap_frame_be, parse_pcap_frame_modified, parse_pcap_header,
};

use super::{CaptureError, Link, MAX_RECORD, Packet, SECOND, buffer::Buffer, timestamp};

/// Length of the file's header.
const HEADER: usize = 24;
/// The longest header of a packet: that of Kuznetsov's modified format.
const MAX_PACKET_HEADER: usize = 24;
/// The bits of the link type in its field. The others are about frame check sequences.
const LINK_TYPE: u32 = 0x03ff_ffff;

type Parse = for<'d> fn(&'d [u8]) -> IResult<&'d [u8], LegacyPcapBlock<'d>, PcapError<&'d [u8]>>;

pub(super) struct Pcap {
    link: Link,
    parse: Parse,
    /// The unit of fractions of seconds, in nanoseconds.
    unit: i128,
}

impl Pcap {
    pub(super) fn open<R: Read>(buffer: &mut Buffer<R>) -> Result<Self, CaptureError> {
        let whole = buffer.fill(HEADER)?;
        let header = match parse_pcap_header(buffer.data()) {
            Ok((_, header)) => header,
            Err(Err::Incomplete(_)) if !whole => return Err(CaptureError::Truncated),
            Err(_) => return Err(CaptureError::Unknown),
        };
        let number = header.network.0.cast_unsigned() & LINK_TYPE;
        let link = Link::from_number(number).ok_or(CaptureError::LinkType(number))?;
        let parse: Parse = match (header.is_modified_format(), header.is_bigendian()) {
            (true, _) => parse_pcap_frame_modified,
            (false, true) => parse_pcap_frame_be,
            (false, false) => parse_pcap_frame,
        };
        let unit = if header.is_nanosecond_precision() { 1 } else { 1_000 };
        buffer.take(HEADER);
        Ok(Self { link, parse, unit })
    }

    pub(super) fn next_packet<'b, R: Read>(
        &self,
        buffer: &'b mut Buffer<R>,
    ) -> Result<Option<Packet<'b>>, CaptureError> {
        let mut wanted = 1;
        if !buffer.fill(wanted)? {
            return Ok(None);
        }
        let length = loop {
            buffer.need(wanted)?;
            let data = buffer.data();
            match (self.parse)(data) {
                Ok((rest, _)) => break data.len() - rest.len(),
                Err(Err::Incomplete(Needed::Size(missing))) => wanted = data.len() + missing.get(),
                Err(_) => return Err(CaptureError::Corrupt("the header of a packet")),
            }
            if wanted > MAX_RECORD + MAX_PACKET_HEADER {
                return Err(CaptureError::TooLong(wanted as u64));
            }
        };
        // Try once more, since nothing more has to be read now.
        let Ok((_, block)) = (self.parse)(buffer.take(length)) else {
            return Err(CaptureError::Corrupt("the header of a packet"));
        };
        let time = i128::from(block.ts_sec) * SECOND + i128::from(block.ts_usec) * self.unit;
        Ok(Some(Packet {
            time: Some(timestamp(time)),
            link: self.link,
            data: block.data,
            wire_len: block.origlen as usize,
        }))
    }
}
