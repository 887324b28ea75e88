//! The shared parser and classifier on the host: the packet table, and properties of any bytes.

use std::collections::HashSet;

use proptest::prelude::*;
use scanguard_common::{
    inspect,
    outcome::{Exit, Outcome, ProbeClass},
};
use scanguard_tests::packets::table;

fn outcome(frame: &[u8]) -> Outcome {
    inspect(&frame)
}

#[test]
fn every_packet_of_the_table_becomes_what_the_table_says() {
    let wrong: Vec<_> = table()
        .into_iter()
        .filter_map(|case| {
            let outcome = outcome(&case.frame);
            (outcome != case.outcome).then(|| format!("{}: {outcome:?}, not {:?}", case.name, case.outcome))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_has_every_probe_class_and_every_exit() {
    let mut classes: HashSet<_> = ProbeClass::ALL.into_iter().collect();
    // These say whether a probe was counted; the parser does not know.
    let mut exits: HashSet<_> =
        Exit::ALL.into_iter().filter(|exit| !matches!(exit, Exit::Probe | Exit::TableFull)).collect();
    for case in table() {
        match case.outcome {
            Outcome::Probe(probe) => {
                classes.remove(&probe.class);
            }
            Outcome::Exit(exit) => {
                exits.remove(&exit);
            }
        }
    }
    assert!(classes.is_empty() && exits.is_empty(), "no packet for {classes:?} {exits:?}");
}

#[test]
fn names_in_the_table_are_unique() {
    let mut seen = HashSet::new();
    for case in table() {
        assert!(seen.insert(case.name), "{}", case.name);
    }
}

#[test]
fn every_truncation_of_every_packet_is_safe_and_never_a_probe_unless_the_packet_was() {
    for case in table() {
        for length in 0..case.frame.len() {
            let cut = outcome(&case.frame[..length]);
            if let (Outcome::Probe(_), Outcome::Exit(_)) = (cut, case.outcome) {
                panic!("{} cut to {length} became {cut:?}", case.name);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_safe(frame in prop::collection::vec(any::<u8>(), 0..256)) {
        outcome(&frame);
    }

    #[test]
    fn any_change_of_any_packet_is_safe(
        place in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let table = table();
        let mut frame = table[place.index(table.len())].frame.clone();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        outcome(&frame);
    }

    #[test]
    fn the_early_decision_and_the_thorough_one_agree(flags in any::<u8>(), port in any::<u16>()) {
        use scanguard_common::{classify, parse};
        use scanguard_tests::frames;
        let segment = frames::tcp(flags, port);
        for frame in [frames::v4(6, &segment), frames::v6(6, &segment)] {
            let frame = frame.as_slice();
            if let Some(early) = classify::established(&frame) {
                let thorough = classify::classify(&frame, &parse::parse(&frame).expect("well formed"));
                prop_assert_eq!(early, thorough);
            }
        }
    }
}
