//! The shared parser and classifier on the host: the packet table, and properties of any bytes.

use std::collections::HashSet;

use proptest::prelude::*;
use scanguard_common::{
    classify::{self, Early},
    egress::{self, Outgoing},
    inspect,
    outcome::{Answer, EgressExit, Exit, Outcome, Probe, ProbeClass, Segment, SegmentKind},
};
use scanguard_tests::{
    fixtures::frames,
    tables::{answers, packets::table},
};

fn outcome(frame: &[u8]) -> Outcome {
    inspect(&frame)
}

/// The outcome of a frame that the early decision takes for a SYN.
fn opening(frame: &[u8]) -> Option<Outcome> {
    assert_eq!(classify::early_source(&frame), classify::early_flow(&frame).map(|flow| flow.source));
    classify::early_flow(&frame).map(|flow| Outcome::Probe(Probe { class: ProbeClass::Syn, flow }))
}

#[test]
fn every_packet_of_the_table_becomes_what_the_table_says() {
    let wrong: Vec<_> = table()
        .into_iter()
        .filter_map(|case| {
            let outcome = case.inspected();
            (outcome != case.outcome).then(|| format!("{}: {outcome:?}, not {:?}", case.name, case.outcome))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_has_every_probe_class_and_every_exit_that_needs_no_maps() {
    let need_sockets = [ProbeClass::Ack, ProbeClass::Maimon, ProbeClass::SynAck, ProbeClass::SynAckProbe];
    let mut classes: HashSet<_> =
        ProbeClass::ALL.into_iter().filter(|class| !need_sockets.contains(class)).collect();
    let need_state = [
        Exit::TcpStray,
        Exit::UdpOwned,
        Exit::LateAnswer,
        Exit::TableFull,
        Exit::AtTheDoor,
        Exit::Banned,
        Exit::Held,
        Exit::Shielded,
    ];
    let mut exits: HashSet<_> = Exit::ALL.into_iter().filter(|exit| !need_state.contains(exit)).collect();
    let mut kinds: HashSet<_> = SegmentKind::ALL.into_iter().map(SegmentKind::index).collect();
    for case in table() {
        let (exit, class) = case.counted();
        exits.remove(&exit);
        class.map(|class| classes.remove(&class));
        if let Outcome::Segment(segment) = case.outcome {
            kinds.remove(&segment.kind.index());
        }
    }
    assert!(classes.is_empty() && exits.is_empty(), "no packet for {classes:?} {exits:?}");
    assert!(kinds.is_empty(), "no packet for {kinds:?}");
}

#[test]
fn every_packet_that_leaves_becomes_what_the_table_of_answers_says() {
    for row in answers::table() {
        let outcome = match egress::early(&row.frame.as_slice()) {
            Some((exit, _)) => Err(exit),
            None => match egress::outgoing(&row.frame.as_slice()) {
                Outgoing::Answer(answer, flow) => {
                    assert!(flow.source == frames::SOURCE.into() || !flow.source.is_v4(), "{}", row.name);
                    Ok(answer)
                }
                Outgoing::Refusal(_) => Ok(Answer::Reset),
                Outgoing::Opening(flow) => Err(egress::opening(&flow)),
                Outgoing::Datagram(_) => Err(EgressExit::Udp),
                Outgoing::Exit(exit) => Err(exit),
            },
        };
        assert_eq!(outcome, row.outcome, "{}", row.name);
    }
}

#[test]
fn the_early_decision_never_leaves_out_an_answer() {
    let leaving = answers::table().into_iter().map(|row| row.frame);
    for frame in leaving.chain(table().into_iter().map(|case| case.frame)) {
        let outcome = egress::outgoing(&frame.as_slice());
        if egress::early(&frame.as_slice()).is_some() {
            assert!(matches!(outcome, Outgoing::Exit(_) | Outgoing::Datagram(_)), "{outcome:?}");
        }
        if let (Outgoing::Datagram(flow), Some(early)) = (outcome, egress::early_datagram(&frame.as_slice()))
        {
            assert_eq!(early, flow, "the flow of a datagram, read in both ways");
        }
    }
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
            if let (Outcome::Probe(_) | Outcome::Segment(_), Outcome::Exit(_)) = (cut, case.outcome) {
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
    fn the_early_decision_and_the_thorough_one_agree(
        flags in any::<u8>(), port in any::<u16>(), payload in 0usize..3, salt in any::<u64>()
    ) {
        let segment = [frames::tcp(flags, port), vec![0; payload]].concat();
        for frame in [frames::v4(6, &segment), frames::v6(6, &segment)] {
            let frame = frame.as_slice();
            let thorough = outcome(frame);
            match classify::early(&frame, salt) {
                Early::Established => prop_assert_eq!(thorough, Outcome::Exit(Exit::TcpEstablished)),
                Early::Acknowledgment { tag } => {
                    let Outcome::Segment(Segment { kind: SegmentKind::Acknowledgment, flow }) = thorough else {
                        return Err(TestCaseError::fail(format!("{thorough:?}")));
                    };
                    prop_assert_eq!(tag, scanguard_common::flow::tag(&flow, salt));
                }
                Early::Opening => prop_assert_eq!(Some(thorough), opening(frame)),
                Early::Undecided => {}
            }
        }
    }

    #[test]
    fn a_packet_taken_for_a_syn_early_is_one_however_its_headers_were_changed(
        changes in prop::collection::vec((0usize..74, any::<u8>()), 0..3), cut in 0usize..30
    ) {
        for mut frame in [frames::v4(6, &frames::tcp(2, 80)), frames::v6(6, &frames::tcp(2, 80))] {
            for (at, byte) in &changes {
                let at = at % frame.len();
                frame[at] = *byte;
            }
            frame.truncate(frame.len() - cut);
            if classify::early(&frame.as_slice(), 0) == Early::Opening {
                prop_assert_eq!(Some(outcome(&frame)), opening(&frame));
            }
        }
    }

    #[test]
    fn the_source_port_is_that_of_the_frame(source in any::<u16>(), port in any::<u16>()) {
        let frame = frames::v4(17, &frames::udp(source, port, b"x"));
        let Outcome::Segment(segment) = outcome(&frame) else {
            return Err(TestCaseError::fail("not a segment"));
        };
        prop_assert_eq!((segment.flow.source_port, segment.flow.service.port), (source, port));
    }
}
