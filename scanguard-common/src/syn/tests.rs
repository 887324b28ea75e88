extern crate std;

use std::{format, string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn options(bytes: &[u8]) -> Options {
    let mut room = [0; OPTIONS_ROOM];
    room[..bytes.len()].copy_from_slice(bytes);
    Options::parse(&room, bytes.len())
}

fn ja4t(options: Options) -> String {
    let fingerprint = Fingerprint { layout: options.layout, values: options.values };
    let kinds: Vec<_> = fingerprint.kinds().map(|kind| format!("{kind}")).collect();
    format!("{}_{}_{}", kinds.join("-"), fingerprint.mss(), fingerprint.scale())
}

/// A SYN over IPv4 with these options, from 192.0.2.1 to 198.51.100.9, port 80.
fn syn(options: &[u8]) -> Vec<u8> {
    let total = u16::try_from(40 + options.len()).unwrap();
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(total.to_be_bytes());
    frame.extend([0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 9]);
    frame.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0]);
    frame.extend([u8::try_from(5 + options.len() / 4).unwrap() << 4, 2, 4, 0, 0, 0, 0, 0]);
    frame.extend(options);
    frame
}

fn marks(frame: &[u8]) -> Vec<&'static str> {
    let marks = of_frame(&frame).marks();
    Mark::ALL.into_iter().filter(|mark| marks & mark.bit() != 0).map(Mark::label).collect()
}

#[test]
fn kinds_and_values_are_read_in_their_order() {
    for (bytes, expected) in [
        ([].as_slice(), "_0_0"),
        (&[2, 4, 5, 0xb4], "2_1460_0"),
        (&[2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7], "2-4-8-1-3_1460_7"),
        (&[2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2], "2-1-3-1-1-4_1460_8"),
        // macOS: each byte of padding is one more.
        (
            &[2, 4, 5, 0xb4, 1, 3, 3, 6, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 4, 2, 0, 0],
            "2-1-3-1-1-8-4-0-0_1460_6",
        ),
        // A cookie of TCP Fast Open, whose kind is 34.
        (&[2, 4, 5, 0xb4, 34, 2, 1, 1], "2-31-1-1_1460_0"),
    ] {
        assert_eq!(ja4t(options(bytes)), expected);
        assert_eq!(options(bytes).values & Mark::BrokenOptions.bit(), 0, "{expected}");
    }
}

#[test]
fn impossible_lengths_end_the_options_and_are_marked() {
    for bytes in [
        [2, 4, 5, 0xb4, 3, 0, 0, 0].as_slice(),
        &[2, 4, 5, 0xb4, 3, 1, 0, 0],
        &[2, 4, 5, 0xb4, 1, 1, 3, 3],
        &[2, 4, 5, 0xb4, 1, 1, 1, 3],
        &[2, 4, 5, 0xb4, 8, 255, 0, 0],
    ] {
        let read = options(bytes);
        assert_ne!(read.values & Mark::BrokenOptions.bit(), 0, "{bytes:?}");
        assert!(ja4t(read).contains("_1460_0"), "{bytes:?}");
    }
    // Of a wrong length, an option has no value.
    assert_eq!(ja4t(options(&[2, 3, 5, 1, 3, 4, 7, 7])), "2-1-3_0_0");
}

#[test]
fn more_kinds_than_there_is_room_for_are_left_out() {
    let fingerprint = Fingerprint { layout: options(&[1; 40]).layout, values: 0 };
    assert_eq!(fingerprint.kinds().count(), MAX_KINDS);
    assert_eq!(fingerprint.layout & KEPT, 0);
    assert_eq!(Fingerprint::layout_of(core::iter::repeat_n(1, 40)), fingerprint.layout);
}

#[test]
fn what_no_stack_would_choose_is_marked() {
    assert_eq!(marks(&syn(&[])), ["df", "ttl64"]);
    let mut zmap = syn(&[]);
    zmap[18..20].copy_from_slice(&54_321u16.to_be_bytes());
    zmap[20] = 0;
    zmap[22] = 255;
    assert_eq!(marks(&zmap), ["ttl255", "id=54321"]);
    let mut masscan = syn(&[2, 4, 5, 0xb4]);
    let id = (0x0007 ^ 0x6409 ^ 80u16).to_be_bytes();
    masscan[18..20].copy_from_slice(&id);
    masscan[22] = 128;
    assert_eq!(marks(&masscan), ["df", "ttl128", "id=masscan"]);
    let mut mirai = syn(&[]);
    mirai.copy_within(30..34, 38);
    assert_eq!(marks(&mirai), ["df", "ttl64", "seq=dst"]);
    let mut scapy = syn(&[]);
    scapy[38..42].fill(0);
    scapy[45] = 9;
    assert_eq!(marks(&scapy), ["df", "ttl64", "seq=0", "ack"]);
}

#[test]
fn an_ipv6_syn_has_no_marks_of_ipv4() {
    let mut frame = vec![0; 12];
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 6, 255]);
    frame.extend([0x20; 16]);
    frame.extend([0x21; 16]);
    frame.extend([
        0x9c, 0x40, 0, 80, 0x21, 0x21, 0x21, 0x21, 0, 0, 0, 0, 0x60, 2, 4, 0, 0, 0, 0, 0, 2, 4, 5, 0xa0,
    ]);
    let fingerprint = of_frame(&frame.as_slice());
    assert_eq!((fingerprint.window(), fingerprint.mss()), (1024, 1440));
    assert_eq!(marks(&frame), ["ttl255"]);
}

fn slots(play: &[(u16, bool, u32)]) -> Vec<(u16, u32, u32)> {
    let mut slots = [Slot::EMPTY; SLOTS];
    for (window, met, times) in play {
        let fingerprint = Fingerprint { layout: START, values: u64::from(*window) << WINDOW };
        for _ in 0..*times {
            // SAFETY: an exclusive reference.
            unsafe { record(&raw mut slots, fingerprint, *met) };
        }
    }
    slots.iter().map(|slot| (slot.fingerprint().window(), slot.syns, slot.missed)).collect()
}

#[test]
fn two_fingerprints_of_a_source_are_counted_exactly() {
    assert_eq!(slots(&[(1, true, 3), (2, false, 5), (1, false, 2), (2, true, 1)]), [(1, 5, 2), (2, 6, 5)]);
}

#[test]
fn a_scanner_cannot_hide_behind_other_fingerprints_that_came_first() {
    // However many they were.
    let found = slots(&[(1, false, 1_000), (2, false, 1_000), (3, false, 10)]);
    assert!(found.contains(&(3, 9, 9)), "{found:?}");
    // Those that met a service cost it nothing.
    let found = slots(&[(1, true, 1_000), (2, true, 1_000), (3, false, 10)]);
    assert!(found.contains(&(3, 10, 10)), "{found:?}");
}

#[test]
fn what_meets_a_service_pushes_no_fingerprint_out() {
    let found = slots(&[(1, false, 3), (2, false, 1), (3, true, 1_000), (4, true, 1_000)]);
    assert_eq!(found, [(1, 3, 3), (2, 1, 1)]);
}

proptest! {
    #[test]
    fn the_usual_layouts_are_read_as_any_others(
        mss in any::<u16>(), scale in any::<u8>(), place in 0usize..3, change in any::<Option<(usize, u8)>>()
    ) {
        let [high, low] = mss.to_be_bytes();
        let mut bytes = [
            vec![2, 4, high, low],
            vec![2, 4, high, low, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, scale],
            vec![2, 4, high, low, 1, 3, 3, scale, 1, 1, 4, 2],
        ][place].clone();
        if let Some((at, value)) = change {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let packet = bytes.as_slice();
        if let Some(usual) = Options::usual(&packet, 0, bytes.len()) {
            prop_assert_eq!(usual, options(&bytes));
        } else {
            prop_assert!(change.is_some());
        }
    }

    #[test]
    fn any_bytes_are_options(bytes in prop::collection::vec(any::<u8>(), 0..=MAX_OPTIONS)) {
        let read = options(&bytes);
        let fingerprint = Fingerprint { layout: read.layout, values: 0 };
        prop_assert_eq!(Fingerprint::layout_of(fingerprint.kinds()), read.layout);
        prop_assert_eq!(read.layout & KEPT, 0);
    }

    #[test]
    fn no_count_is_too_high(play in prop::collection::vec((0u16..5, any::<bool>()), 0..200)) {
        let rows: Vec<_> = play.iter().map(|(window, met)| (*window, *met, 1)).collect();
        for (window, syns, missed) in slots(&rows) {
            let all = play.iter().filter(|(one, _)| *one == window);
            prop_assert!(syns as usize <= all.clone().count());
            prop_assert!(missed as usize <= all.filter(|(_, met)| !met).count());
            prop_assert!(missed <= syns);
        }
    }
}
