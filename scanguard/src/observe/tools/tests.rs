use proptest::prelude::*;
use scanguard_common::{
    account::{Around, Unshared, record, record_fingerprint},
    oracle::Reach,
    outcome::{Flow, Service},
    syn::of_frame,
};

use super::*;

/// A SYN over IPv4 from 192.0.2.1 to port 80 of 198.51.100.9: its window, the time to live, whether it must not be
/// fragmented, and options.
fn syn(window: u16, ttl: u8, df: bool, options: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(u16::try_from(40 + options.len()).unwrap().to_be_bytes());
    frame.extend([0x12, 0x34, if df { 0x40 } else { 0 }, 0, ttl, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 9]);
    frame.extend([0x9c, 0x40, 0, 80, 9, 9, 9, 9, 0, 0, 0, 0]);
    frame.extend([u8::try_from(5 + options.len() / 4).unwrap() << 4, 2]);
    frame.extend(window.to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(options);
    frame
}

const MSS: [u8; 4] = [2, 4, 5, 0xb4];

fn fingerprint(frame: &[u8]) -> Fingerprint {
    of_frame(&frame)
}

fn tool(frame: &[u8]) -> Option<String> {
    SynTools::default().name_of(fingerprint(frame)).map(|name| name.to_string())
}

#[test]
fn nothing_is_wrong_with_the_list_that_is_built_in() {
    let list = SynTools::parse(BUILT_IN).expect("a list");
    assert!(list.entries.len() > 10 && list.names.len() > 5);
}

#[test]
fn a_fingerprint_is_written_as_the_list_has_it() {
    for (frame, words) in [
        (syn(1_024, 50, false, &MSS), "1024_2_1460_00,ttl64"),
        (syn(8_192, 128, true, &[]), "8192_00_00_00,df,ttl128"),
        (
            syn(64_240, 255, true, &[2, 4, 5, 0xb4, 1, 3, 3, 0, 1, 1, 4, 2]),
            "64240_2-1-3-1-1-4_1460_0,df,ttl255",
        ),
        (syn(5, 64, false, &[34, 2, 1, 1]), "5_31+-1-1_00_00,ttl64"),
    ] {
        assert_eq!(in_words(fingerprint(&frame)), words);
        if !words.contains('+') {
            let list = SynTools::parse(&format!("{words} this one\n")).expect(words);
            assert_eq!(list.name_of(fingerprint(&frame)).as_deref(), Some("this one"));
        }
    }
}

#[test]
fn systems_and_small_stacks_are_no_tools() {
    let linux = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
    let windows = [2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2];
    let mac = [2, 4, 5, 0xb4, 1, 3, 3, 6, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 4, 2, 0, 0];
    let freebsd = [2, 4, 5, 0xb4, 1, 3, 3, 6, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0];
    for (name, frame) in [
        ("Linux", syn(64_240, 64, true, &linux)),
        ("Linux behind 20 hops", syn(65_535, 44, true, &linux)),
        ("Linux without timestamps", syn(64_240, 64, true, &[2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 7])),
        ("Windows 10", syn(64_240, 128, true, &windows)),
        ("Windows Server", syn(65_535, 118, true, &windows)),
        ("Windows 7", syn(8_192, 128, true, &windows)),
        ("macOS", syn(65_535, 64, true, &mac)),
        ("FreeBSD", syn(65_535, 64, true, &freebsd)),
        // lwIP: TCP_WND of its own, of ESP8266, ESP32, STM32 and Xilinx; the time to live is 255 or 64.
        ("lwIP", syn(2_144, 255, false, &[2, 4, 2, 0x18])),
        ("lwIP, ESP8266", syn(5_840, 255, false, &MSS)),
        ("lwIP, ESP8266, small", syn(2_144, 255, false, &[2, 4, 2, 0x18])),
        ("lwIP, ESP32", syn(5_744, 64, false, &[2, 4, 5, 0xa0])),
        ("lwIP, ESP32, as first", syn(5_760, 64, false, &[2, 4, 5, 0xa0])),
        ("lwIP, Arduino", syn(11_680, 255, false, &MSS)),
        ("lwIP, Xilinx", syn(2_048, 255, false, &MSS)),
        ("lwIP with its largest window", syn(65_535, 255, false, &MSS)),
        // WIZnet's chips have 2 or 4 KiB for a socket, and a time to live of 128.
        ("W5500", syn(2_048, 128, true, &MSS)),
        ("W5100 with four sockets' memory", syn(4_096, 128, true, &MSS)),
        ("uIP", syn(1_024, 64, false, &[2, 4, 4, 0])),
        ("uIP, Contiki", syn(48, 64, false, &[2, 4, 0, 48])),
        ("Cisco IOS", syn(4_128, 255, false, &[2, 4, 2, 0x18])),
        // A load balancer's check by half a handshake: its own options, or MSS alone.
        ("IPVS", syn(64_240, 64, true, &linux)),
        ("F5 BIG-IP", syn(4_380, 255, true, &[2, 4, 5, 0xb4, 4, 2, 0, 0])),
        ("a check with MSS alone", syn(5_840, 64, true, &MSS)),
        ("a check without options", syn(16_384, 64, true, &[])),
    ] {
        assert_eq!(tool(&frame), None, "{name}: {}", in_words(fingerprint(&frame)));
    }
}

#[test]
fn the_first_of_several_entries_names_the_tool_and_marks_are_wanted_or_not() {
    let list =
        SynTools::parse("1024_*_*_00,!df first\n*_*_*_*,ttl255 second\n1000-1100_2_1400-1460_* third\n")
            .unwrap();
    for (frame, expected) in [
        (syn(1_024, 255, false, &MSS), Some("first")),
        (syn(1_024, 255, true, &MSS), Some("second")),
        (syn(1_024, 64, true, &MSS), Some("third")),
        (syn(1_101, 64, true, &MSS), None),
        (syn(1_024, 64, true, &[2, 4, 4, 0]), None),
    ] {
        assert_eq!(list.name_of(fingerprint(&frame)).as_deref(), expected);
    }
}

#[test]
fn wrong_lines_are_named_and_an_empty_list_is_a_list() {
    let text = "1024_2_1460_00\n1024_2_1460 a\n70000_2_1460_00 a\n1024_x_1460_00 a\n*_*_*_* a\n1024_2_1460_00,what a\n\
                9-3_2_1460_00 a\n1024_1-1-1-1-1-1-1-1-1-1-1-1-1_00_00 a\n*_*_*_*,!df a\n";
    match SynTools::parse(text) {
        Err(ListError::Lines(lines)) => {
            assert_eq!(lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), (1..=9).collect::<Vec<_>>());
        }
        other => panic!("{other:?}"),
    }
    assert!(SynTools::parse("# nothing\n").unwrap().entries.is_empty());
    let many: String = (0..65).map(|tool| format!("{tool}_2_1460_00 tool {tool}\n")).collect();
    assert!(matches!(SynTools::parse(&many), Err(ListError::TooMany)));
}

#[test]
fn a_name_keeps_its_bit_when_the_list_changes() {
    let old = SynTools::parse("1_*_*_* one\n2_*_*_* two\n").unwrap();
    let new = SynTools::parse("3_*_*_* three\n2_*_*_* two\n").unwrap().after(&old);
    let bit = |list: &SynTools, window| list.tool(fingerprint(&syn(window, 64, false, &[])));
    assert_eq!((bit(&new, 2), bit(&new, 1)), (bit(&old, 2), None));
    assert_eq!(new.names(bit(&new, 3).unwrap()), ["three".into()]);
    assert_eq!(new.names(bit(&old, 1).unwrap()), ["one".into()], "what was found before is still named");
    assert_eq!(new.after(&new), new);
    // However often it changes, there is a bit for each name.
    let mut list = old;
    for round in 0..50 {
        let text: String = (0..60).map(|tool| format!("{tool}_*_*_* {round} {tool}\n")).collect();
        list = SynTools::parse(&text).unwrap().after(&list);
        assert_eq!(list.names(bit(&list, 59).unwrap()), [format!("{round} 59").into()]);
        assert!(list.names.len() <= MAX_TOOLS, "{}", list.names.len());
    }
}

/// SYNs of a source to closed ports, counted as the kernel does.
fn send(state: &mut SourceState, frame: &[u8], times: u16) {
    for port in 0..times {
        let flow = Flow {
            source: std::net::Ipv4Addr::new(192, 0, 2, 1).into(),
            destination: std::net::Ipv4Addr::new(198, 51, 100, 9).into(),
            service: Service { protocol: 6, port },
            source_port: 40_000,
            reserved: 0,
        };
        // SAFETY: an exclusive reference.
        unsafe {
            let around =
                Around { epoch: 1, salt: 1, sees_answers: false, is_overheard: false, is_new: false };
            let _news = record::<Unshared>(state, 0, Reach::Closed, &flow, around, || false);
            record_fingerprint(state, fingerprint(frame), Reach::Closed);
        }
    }
}

#[test]
fn each_crafted_syn_is_new_once() {
    let list = SynTools::parse("1024_2_1460_00 nmap\n").unwrap();
    let (nmap, linux) = (syn(1_024, 64, false, &MSS), syn(64_240, 64, true, &MSS));
    let (mut state, mut last) = (SourceState::new(1, 1), LastRead::default());
    send(&mut state, &linux, 5);
    assert_eq!(last.news(&state, &list, 5), Crafted::NONE);
    assert!(last.0.is_none(), "an ordinary client takes no memory");
    send(&mut state, &nmap, 3);
    let crafted = Crafted { syns: 3, missed: 3, tools: 1 };
    assert_eq!(last.news(&state, &list, 3), crafted);
    assert_eq!(last.news(&state, &list, 0), Crafted::NONE);
    send(&mut state, &nmap, 1);
    assert_eq!(
        last.news(&state, &list, 100),
        Crafted { syns: 1, missed: 1, tools: 0 },
        "one among many names no tool"
    );
    // It went, and came back.
    for window in 1..10 {
        send(&mut state, &syn(window, 64, true, &[]), 3);
    }
    assert_eq!(last.news(&state, &list, 27), Crafted::NONE);
    send(&mut state, &nmap, 4);
    assert!(
        (3..=4).contains(&last.news(&state, &list, 4).syns),
        "one may have pushed another fingerprint out"
    );
    // What came before the agent did is not new.
    assert_eq!(LastRead::default().news(&state, &list, 2).syns, 2);
}

proptest! {
    #[test]
    fn no_text_is_too_wrong(text in ".*", window in any::<u16>(), options in prop::collection::vec(any::<u32>(), 0..10)) {
        let options: Vec<u8> = options.iter().flat_map(|word| word.to_be_bytes()).collect();
        let fingerprint = fingerprint(&syn(window, 64, false, &options));
        if let Ok(list) = SynTools::parse(&text) {
            let _ = list.name_of(fingerprint);
        }
        // Each fingerprint can be written into a list.
        let words = in_words(fingerprint);
        if !words.contains('+') {
            let list = SynTools::parse(&format!("{words} tool\n"));
            prop_assert!(list.expect("a list").name_of(fingerprint).is_some());
        }
    }
}
