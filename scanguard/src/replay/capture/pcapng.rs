//! pcapng: sections of blocks. Each section has its byte order and its interfaces (draft-ietf-opsawg-pcapng).

use std::io::Read;

use jiff::Timestamp;
use pcap_parser::{
    Block, EPB_MAGIC, EnhancedPacketBlock, IDB_MAGIC, InterfaceDescriptionBlock, OptionCode, SPB_MAGIC,
    SimplePacketBlock, parse_block_be, parse_block_le, parse_sectionheaderblock,
};

use super::{CaptureError, Link, MAX_RECORD, Packet, SECOND, buffer::Buffer, timestamp};

/// The type of a section header: the same in either byte order.
pub(super) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// The byte-order magic, as read from a little-endian section.
const LITTLE_ENDIAN: [u8; 4] = [0x4d, 0x3c, 0x2b, 0x1a];
/// As above, big-endian.
const BIG_ENDIAN: [u8; 4] = [0x1a, 0x2b, 0x3c, 0x4d];
/// The obsolete packet block. No program has written it since 2009.
const OBSOLETE_PACKET: u32 = 2;
/// Type, length and, at the end, the length again.
const SHORTEST_BLOCK: usize = 12;
/// A section with more interfaces was made only to fill memory.
const MAX_INTERFACES: usize = 1 << 16;

#[derive(Default)]
pub(super) struct PcapNg {
    big_endian: bool,
    /// The interfaces of the section.
    interfaces: Vec<Interface>,
}

struct Interface {
    /// The number of its link type, if that is not supported: this matters only when a packet comes.
    link: Result<Link, u32>,
    /// How many bytes of a packet are captured; 0: all.
    snaplen: u32,
    /// `if_tsresol`.
    resolution: u8,
    /// `if_tsoffset`, in seconds.
    offset: i64,
}

impl Interface {
    fn new(block: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> Self {
        let number = block.linktype.0.cast_unsigned();
        let offset = block.options.iter().find(|option| option.code == OptionCode::IfTsoffset);
        let offset = offset.and_then(|option| option.value().first_chunk().copied()).map_or(0, |bytes| {
            if big_endian { i64::from_be_bytes(bytes) } else { i64::from_le_bytes(bytes) }
        });
        Self {
            link: Link::from_number(number).ok_or(number),
            snaplen: block.snaplen,
            resolution: block.if_tsresol,
            offset,
        }
    }

    fn link(&self) -> Result<Link, CaptureError> {
        self.link.map_err(CaptureError::LinkType)
    }

    fn time(&self, ticks: u64) -> Timestamp {
        let ticks = i128::from(ticks);
        let power = u32::from(self.resolution & 0x7f);
        let nanoseconds = match self.resolution {
            // A power of two. 94 bits are shifted.
            0x80.. => (ticks * SECOND).checked_shr(power).unwrap_or(0),
            // A power of ten.
            0..=9 => ticks * 10i128.pow(9 - power),
            _ => 10i128.checked_pow(power - 9).map_or(0, |unit| ticks / unit),
        };
        timestamp(nanoseconds + i128::from(self.offset) * SECOND)
    }
}

impl PcapNg {
    pub(super) fn next_packet<'b, R: Read>(
        &mut self,
        buffer: &'b mut Buffer<R>,
    ) -> Result<Option<Packet<'b>>, CaptureError> {
        let length = loop {
            let Some((kind, length)) = self.next_block(buffer)? else {
                return Ok(None);
            };
            match kind {
                EPB_MAGIC | SPB_MAGIC => break length,
                IDB_MAGIC => self.describe(buffer.take(length))?,
                OBSOLETE_PACKET => return Err(CaptureError::Corrupt("an obsolete packet block, of type 2")),
                // Statistics, names, secrets, and future kinds.
                _ => drop(buffer.take(length)),
            }
        };
        match self.parse(buffer.take(length))? {
            Block::EnhancedPacket(block) => self.enhanced(&block),
            Block::SimplePacket(block) => self.simple(&block),
            _ => Err(CaptureError::Corrupt("a block that is no packet")),
        }
        .map(Some)
    }

    fn enhanced<'b>(&self, block: &EnhancedPacketBlock<'b>) -> Result<Packet<'b>, CaptureError> {
        let interface = self.interface(block.if_id)?;
        let captured = block.data.len().min(block.caplen as usize);
        Ok(Packet {
            time: Some(interface.time(u64::from(block.ts_high) << 32 | u64::from(block.ts_low))),
            link: interface.link()?,
            data: &block.data[..captured],
            wire_len: block.origlen as usize,
        })
    }

    /// It belongs to the first interface, and has neither its time nor its captured length.
    fn simple<'b>(&self, block: &SimplePacketBlock<'b>) -> Result<Packet<'b>, CaptureError> {
        let interface = self.interface(0)?;
        let limit = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let captured = block.data.len().min(block.origlen.min(limit) as usize);
        Ok(Packet {
            time: None,
            link: interface.link()?,
            data: &block.data[..captured],
            wire_len: block.origlen as usize,
        })
    }

    /// Reads the next block whole, and returns its type and length. Handles sections.
    fn next_block<R: Read>(&mut self, buffer: &mut Buffer<R>) -> Result<Option<(u32, usize)>, CaptureError> {
        if !buffer.fill(1)? {
            return Ok(None);
        }
        buffer.need(SHORTEST_BLOCK)?;
        let (kind, length, third) = match buffer.data() {
            [a, b, c, d, e, f, g, h, i, j, k, l, ..] => {
                ([*a, *b, *c, *d], [*e, *f, *g, *h], [*i, *j, *k, *l])
            }
            _ => return Err(CaptureError::Truncated),
        };
        if kind == MAGIC {
            self.big_endian = match third {
                LITTLE_ENDIAN => false,
                BIG_ENDIAN => true,
                _ => return Err(CaptureError::Corrupt("a section of no byte order")),
            };
            self.interfaces.clear();
        }
        let length = self.number(length);
        let size = length as usize;
        if size > MAX_RECORD {
            return Err(CaptureError::TooLong(length.into()));
        }
        if size < SHORTEST_BLOCK || !size.is_multiple_of(4) {
            return Err(CaptureError::Corrupt("a block of impossible length"));
        }
        buffer.need(size)?;
        let data = &buffer.data()[..size];
        if data[4..8] != data[size - 4..] {
            return Err(CaptureError::Corrupt("a block that begins and ends with different lengths"));
        }
        if kind == MAGIC {
            match parse_sectionheaderblock(data) {
                Ok((_, section)) if section.major_version == 1 => {}
                Ok(_) => return Err(CaptureError::Corrupt("a section of another version than 1")),
                Err(_) => return Err(CaptureError::Corrupt("the header of a section")),
            }
        }
        Ok(Some((self.number(kind), size)))
    }

    fn number(&self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// The block is whole: if something is missing in it, its lengths do not fit.
    fn parse<'b>(&self, block: &'b [u8]) -> Result<Block<'b>, CaptureError> {
        let parsed = if self.big_endian { parse_block_be(block) } else { parse_block_le(block) };
        parsed.map(|(_, block)| block).map_err(|_| CaptureError::Corrupt("a block whose lengths do not fit"))
    }

    fn describe(&mut self, block: &[u8]) -> Result<(), CaptureError> {
        let Block::InterfaceDescription(block) = self.parse(block)? else {
            return Err(CaptureError::Corrupt("the description of an interface"));
        };
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(CaptureError::Corrupt("more than 65536 interfaces in a section"));
        }
        self.interfaces.push(Interface::new(&block, self.big_endian));
        Ok(())
    }

    fn interface(&self, number: u32) -> Result<&Interface, CaptureError> {
        self.interfaces
            .get(number as usize)
            .ok_or(CaptureError::Corrupt("a packet of an interface that is not described"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(resolution: u8, offset: i64, ticks: u64) -> String {
        let interface = Interface { link: Ok(Link::Ethernet), snaplen: 0, resolution, offset };
        interface.time(ticks).to_string()
    }

    #[test]
    fn every_resolution_gives_the_right_time_and_absurd_ones_the_nearest_there_is() {
        assert_eq!(time(6, 0, 1_500_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(time(9, 0, 1_500_000_001), "1970-01-01T00:00:01.500000001Z");
        assert_eq!(time(0, 0, 7), "1970-01-01T00:00:07Z");
        assert_eq!(time(12, 0, 1_500_000_000_000), "1970-01-01T00:00:01.5Z");
        assert_eq!(time(0x80 | 10, 0, 1024 + 512), "1970-01-01T00:00:01.5Z");
        assert_eq!(time(0x80, 0, 7), "1970-01-01T00:00:07Z");
        assert_eq!(time(6, -1, 1_500_000), "1970-01-01T00:00:00.5Z");
        assert_eq!(time(6, 60, 0), "1970-01-01T00:01:00Z");
        for (resolution, expected) in [(0, Timestamp::MAX), (0x80, Timestamp::MAX)] {
            assert_eq!(time(resolution, i64::MAX, u64::MAX), expected.to_string());
        }
        for resolution in [127, 255] {
            assert_eq!(time(resolution, 0, u64::MAX), "1970-01-01T00:00:00Z");
            assert_eq!(time(resolution, i64::MIN, u64::MAX), Timestamp::MIN.to_string());
        }
    }
}
