use proptest::prelude::*;

use super::*;

/// A reader that gives one byte at a time, like a slow pipe.
struct Slow<'b>(&'b [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = into.len().min(1);
        self.0.read(&mut into[..length])
    }
}

type Seen = (Vec<(Option<String>, Vec<u8>, usize)>, Option<CaptureError>);

/// All packets, and the error that ended the reading.
fn read(reader: impl Read) -> Seen {
    let mut packets = Vec::new();
    let mut capture = match Capture::open(reader) {
        Ok(capture) => capture,
        Err(error) => return (packets, Some(error)),
    };
    loop {
        match capture.next_packet() {
            Ok(Some(packet)) => packets.push((
                packet.time.map(|time| time.to_string()),
                packet.data.to_vec(),
                packet.wire_len,
            )),
            Ok(None) => return (packets, None),
            Err(error) => return (packets, Some(error)),
        }
    }
}

/// Writes numbers in the byte order of a file.
#[derive(Clone, Copy, Debug)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn two(self, number: u16) -> [u8; 2] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    fn four(self, number: u32) -> [u8; 4] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }

    fn eight(self, number: u64) -> [u8; 8] {
        match self {
            Self::Little => number.to_le_bytes(),
            Self::Big => number.to_be_bytes(),
        }
    }
}

/// Two packets, at 1.5 s and at 2.25 s, the second one cut.
fn pcap(order: Order, magic: u32, link: u32) -> Vec<u8> {
    let unit = if magic == 0xa1b2_3c4d { 1_000_000 } else { 1_000 };
    let mut file = order.four(magic).to_vec();
    file.extend([order.two(2), order.two(4)].concat());
    file.extend([0, 0, 65_535, link].map(|number| order.four(number)).concat());
    for (second, millisecond, captured, length) in [(1, 500, 20, 20), (2, 250, 18, 60)] {
        file.extend([second, millisecond * unit, captured, length].map(|number| order.four(number)).concat());
        file.extend(vec![second as u8; captured as usize]);
    }
    file
}

fn block(order: Order, kind: u32, content: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    content.resize(content.len().next_multiple_of(4), 0);
    let length = order.four(12 + content.len() as u32);
    [&order.four(kind)[..], &length, &content, &length].concat()
}

fn section(order: Order) -> Vec<u8> {
    let content =
        [&order.four(0x1a2b_3c4d)[..], &order.two(1), &order.two(0), &order.eight(u64::MAX)].concat();
    block(order, 0x0a0d_0d0a, &content)
}

fn interface(order: Order, link: u16, snaplen: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut content = [&order.two(link)[..], &[0, 0], &order.four(snaplen)].concat();
    for (code, value) in options {
        content.extend([order.two(*code), order.two(value.len() as u16)].concat());
        content.extend(*value);
        content.resize(content.len().next_multiple_of(4), 0);
    }
    block(order, 1, &content)
}

fn enhanced(order: Order, interface: u32, ticks: u64, data: &[u8], length: u32) -> Vec<u8> {
    let numbers = [interface, (ticks >> 32) as u32, ticks as u32, data.len() as u32, length];
    block(order, 6, &[&numbers.map(|number| order.four(number)).concat(), data].concat())
}

/// A section of each kind of interface, with an unknown block among them, and then another section.
fn pcapng(order: Order) -> Vec<u8> {
    let offset = order.eight(3_600);
    [
        section(order),
        interface(order, 1, 10, &[]),
        block(order, 0x0bad, b"whatever"),
        enhanced(order, 0, 1_500_000, &[1; 15], 15),
        interface(order, 101, 0, &[(2, b"eth0"), (9, &[9]), (14, &offset)]),
        enhanced(order, 1, 2_250_000_000, &[2; 16], 99),
        block(order, 3, &[&order.four(50)[..], &[3; 10]].concat()),
        section(order),
        interface(order, 1, 0, &[(9, &[0x80 | 10])]),
        enhanced(order, 0, 1024, &[4; 14], 14),
    ]
    .concat()
}

const ORDERS: [Order; 2] = [Order::Little, Order::Big];

#[test]
fn pcap_of_every_byte_order_and_resolution_is_read() {
    for order in ORDERS {
        for magic in [0xa1b2_c3d4, 0xa1b2_3c4d] {
            let (packets, error) = read(pcap(order, magic, 1).as_slice());
            assert!(error.is_none(), "{order:?} {magic:x}: {error:?}");
            let expected = [
                (Some("1970-01-01T00:00:01.5Z".to_owned()), vec![1; 20], 20),
                (Some("1970-01-01T00:00:02.25Z".to_owned()), vec![2; 18], 60),
            ];
            assert_eq!(packets, expected, "{order:?} {magic:x}");
        }
    }
}

#[test]
fn pcapng_of_every_byte_order_is_read_with_its_sections_and_interfaces() {
    for order in ORDERS {
        let file = pcapng(order);
        let (packets, error) = read(file.as_slice());
        assert!(error.is_none(), "{order:?}: {error:?}");
        let expected = [
            (Some("1970-01-01T00:00:01.5Z".to_owned()), vec![1; 15], 15),
            (Some("1970-01-01T01:00:02.25Z".to_owned()), vec![2; 16], 99),
            (None, vec![3; 10], 50),
            (Some("1970-01-01T00:00:01Z".to_owned()), vec![4; 14], 14),
        ];
        assert_eq!(packets, expected, "{order:?}");
        assert_eq!(read(Slow(&file)).0, expected, "{order:?}");
    }
}

#[test]
fn every_prefix_gives_the_packets_that_are_whole_and_says_that_it_is_cut() {
    let files = ORDERS.into_iter().flat_map(|order| [pcap(order, 0xa1b2_c3d4, 1), pcapng(order)]);
    for file in files {
        let (whole, _) = read(file.as_slice());
        let mut clean_ends = 0;
        for length in 0..file.len() {
            let (packets, error) = read(&file[..length]);
            assert_eq!(packets, whole[..packets.len()]);
            match error {
                // Between two packets or blocks.
                None => clean_ends += 1,
                Some(CaptureError::Empty) => assert_eq!(length, 0),
                Some(CaptureError::Unknown) => assert!((1..4).contains(&length), "{length}"),
                Some(CaptureError::Truncated) => {}
                Some(other) => panic!("{length}: {other}"),
            }
        }
        assert!((2..=10).contains(&clean_ends), "{clean_ends}");
    }
}

#[test]
fn what_is_no_capture_is_said_so() {
    for (bytes, expected) in [
        (&b""[..], "empty"),
        (b"\n", "neither"),
        (b"#!/bin/sh\necho this is a script that is no capture\n", "neither"),
        (&[0; 64], "neither"),
        (&MAGIC_ALONE, "truncated"),
    ] {
        let (_, error) = read(bytes);
        let said = error.expect("it is no capture").to_string();
        assert!(said.contains(expected), "{said}");
    }
}

const MAGIC_ALONE: [u8; 4] = pcapng::MAGIC;

#[test]
fn a_link_type_that_is_not_supported_is_named() {
    let wireless = interface(Order::Little, 105, 0, &[]);
    let packet = enhanced(Order::Little, 0, 0, &[0; 20], 20);
    for file in
        [pcap(Order::Little, 0xa1b2_c3d4, 105), [section(Order::Little), wireless.clone(), packet].concat()]
    {
        let said = read(file.as_slice()).1.expect("not supported").to_string();
        assert!(said.starts_with("link type 105 is not supported"), "{said}");
    }
    // It does no harm as long as no packet comes from it.
    let file = [section(Order::Little), wireless].concat();
    assert!(read(file.as_slice()).1.is_none());
    // The upper bits are about frame check sequences.
    assert!(read(pcap(Order::Little, 0xa1b2_c3d4, 0x5400_0001).as_slice()).1.is_none());
}

#[test]
fn lengths_of_gigabytes_are_refused_before_anything_is_allocated() {
    let mut file = pcap(Order::Little, 0xa1b2_c3d4, 1);
    file[32..36].fill(0xff);
    let error = read(file.as_slice()).1;
    assert!(matches!(error, Some(CaptureError::TooLong(_))), "{error:?}");
    let mut file = pcapng(Order::Little);
    let place = section(Order::Little).len() + 4;
    file[place..place + 4].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    let error = read(file.as_slice()).1;
    assert!(matches!(error, Some(CaptureError::TooLong(0xffff_fff0))), "{error:?}");
    // Within the limit, memory is only taken for bytes that arrive.
    let mut file = pcap(Order::Little, 0xa1b2_c3d4, 1);
    file[32..36].copy_from_slice(&(MAX_RECORD as u32).to_le_bytes());
    let mut buffer = Buffer::new(file.as_slice());
    let pcap = Pcap::open(&mut buffer).unwrap();
    assert!(matches!(pcap.next_packet(&mut buffer), Err(CaptureError::Truncated)));
    assert!(buffer.data().len() < 200);
}

#[test]
fn corrupt_blocks_are_refused() {
    let good = [section(Order::Little), interface(Order::Little, 1, 0, &[])].concat();
    let with = |block: Vec<u8>| [good.clone(), block].concat();
    let change = |mut block: Vec<u8>, at: usize, byte: u8| {
        block[at] = byte;
        block
    };
    let packet = enhanced(Order::Little, 0, 0, &[0; 20], 20);
    for (name, file) in [
        ("no such interface", with(enhanced(Order::Little, 7, 0, &[0; 20], 20))),
        ("another length at the end", with(change(packet.clone(), packet.len() - 4, 1))),
        ("a packet longer than its block", with(change(packet.clone(), 20, 200))),
        ("shorter than a block can be", with(change(packet.clone(), 4, 8))),
        ("a length that is no multiple of four", with(change(packet, 4, 51))),
        ("an obsolete packet", with(block(Order::Little, 2, &[0; 40]))),
        ("a section of no byte order", change(section(Order::Little), 8, 0)),
        ("a section of version 2", change(section(Order::Little), 12, 2)),
    ] {
        let error = read(file.as_slice()).1;
        assert!(matches!(error, Some(CaptureError::Corrupt(_))), "{name}: {error:?}");
    }
}

#[test]
fn memory_does_not_grow_with_the_capture() {
    let mut file = pcap(Order::Little, 0xa1b2_c3d4, 1);
    let packets = file.split_off(24);
    for _ in 0..20_000 {
        file.extend(&packets);
    }
    let mut capture = Capture::open(file.as_slice()).unwrap();
    let mut count = 0;
    while capture.next_packet().unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 40_000);
    assert!(capture.buffer.capacity() <= 4 * 64 * 1024, "{}", capture.buffer.capacity());
}

proptest! {
    #[test]
    fn any_change_of_any_capture_is_safe(
        big in any::<bool>(),
        next_generation in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let order = if big { Order::Big } else { Order::Little };
        let mut file = if next_generation { pcapng(order) } else { pcap(order, 0xa1b2_c3d4, 1) };
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        read(file.as_slice());
    }

    #[test]
    fn any_bytes_are_safe(mut bytes in prop::collection::vec(any::<u8>(), 0..512), kind in 0..3) {
        match kind {
            0 => bytes.splice(..0, pcap(Order::Little, 0xa1b2_c3d4, 1)).for_each(drop),
            1 => bytes.splice(..0, section(Order::Big)).for_each(drop),
            _ => {}
        }
        read(bytes.as_slice());
    }
}
