//! Capture files made of frames: another writer than the reader under test.

/// A frame with the time of its arrival, in microseconds since 1970.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timed {
    /// When.
    pub at: u64,
    /// What.
    pub frame: Vec<u8>,
    /// What of it is captured; all if it is shorter.
    pub snaplen: usize,
}

impl Timed {
    /// All of a frame, so many milliseconds after noon of a day in May 2024.
    pub fn new(milliseconds: u64, frame: Vec<u8>) -> Self {
        Self { at: (NOON + milliseconds) * 1_000, frame, snaplen: usize::MAX }
    }

    fn captured(&self) -> &[u8] {
        &self.frame[..self.frame.len().min(self.snaplen)]
    }
}

/// 2024-05-14T12:00:00Z in milliseconds since 1970.
const NOON: u64 = 1_715_688_000_000;
/// `LINKTYPE_ETHERNET`.
pub const ETHERNET: u16 = 1;

/// Numbers of 32 bits.
fn words(numbers: &[usize]) -> Vec<u8> {
    numbers.iter().flat_map(|number| u32::try_from(*number).expect("32 bits").to_le_bytes()).collect()
}

/// Little-endian pcap with microseconds.
pub fn pcap(link: u16, packets: &[Timed]) -> Vec<u8> {
    let mut file = words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, link.into()]);
    for packet in packets {
        let (second, microsecond) = (packet.at / 1_000_000, packet.at % 1_000_000);
        let lengths = [packet.captured().len(), packet.frame.len()];
        file.extend(words(&[second as usize, microsecond as usize]));
        file.extend(words(&lengths));
        file.extend(packet.captured());
    }
    file
}

/// Little-endian pcapng with one interface, whose times are in nanoseconds.
pub fn pcapng(link: u16, packets: &[Timed]) -> Vec<u8> {
    let section = [words(&[0x1a2b_3c4d, 1]), vec![0xff; 8]].concat();
    // if_tsresol: 10^-9
    let interface = [words(&[link.into(), 0]), vec![9, 0, 1, 0, 9, 0, 0, 0], vec![0; 4]].concat();
    let mut file = [block(0x0a0d_0d0a, section), block(1, interface)].concat();
    for packet in packets {
        let ticks = packet.at * 1_000;
        let (high, low) = ((ticks >> 32) as usize, (ticks & 0xffff_ffff) as usize);
        let header = words(&[0, high, low, packet.captured().len(), packet.frame.len()]);
        file.extend(block(6, [&header, packet.captured()].concat()));
    }
    file
}

fn block(kind: usize, mut content: Vec<u8>) -> Vec<u8> {
    content.resize(content.len().next_multiple_of(4), 0);
    let length = words(&[content.len() + 12]);
    [words(&[kind]), length.clone(), content, length].concat()
}
