//! How probes change the state of a source.

use core::net::Ipv4Addr;

use super::*;
use crate::outcome::Service;

fn probe(host: u8, port: u16) -> Flow {
    Flow {
        source: Ipv4Addr::new(192, 0, 2, 1).into(),
        destination: Ipv4Addr::new(198, 51, 100, host).into(),
        service: Service { protocol: 6, port },
        source_port: 40_000,
        reserved: 0,
    }
}

fn around(epoch: u32) -> Around {
    Around { epoch, salt: 7, sees_answers: false, is_overheard: false, is_new: false }
}

fn count(state: &mut SourceState, flow: &Flow, epoch: u32) {
    // SAFETY: an exclusive reference.
    let _news = unsafe {
        record::<Unshared>(state, ProbeClass::Syn.index(), Reach::Closed, flow, around(epoch), || false)
    };
}

fn bits(words: &[u64]) -> u32 {
    words.iter().map(|word| word.count_ones()).sum()
}

#[test]
fn repeated_probes_of_one_target_are_one_distinct_target() {
    let mut state = SourceState::new(1, 5);
    for _ in 0..100 {
        count(&mut state, &probe(1, 80), 5);
    }
    assert_eq!(state.counts[ProbeClass::Syn.index()], 100);
    let seen = state.distinct_since(5);
    assert_eq!((bits(&seen.services), bits(&seen.hosts)), (1, 1));
    assert_eq!(state.samples.iter().filter(|sample| sample.taken == 1).count(), 1);
}

#[test]
fn probes_that_met_a_service_are_counted_apart() {
    let mut state = SourceState::new(1, 5);
    let flow = probe(1, 443);
    // SAFETY: an exclusive reference.
    unsafe {
        record::<Unshared>(&raw mut state, ProbeClass::Syn.index(), Reach::Open, &flow, around(5), || false)
    };
    count(&mut state, &probe(1, 23), 5);
    let seen = state.distinct_since(5);
    assert_eq!((bits(&seen.services), bits(&seen.hosts)), (1, 1));
    assert_eq!((seen.open_services.count_ones(), seen.open_hosts.count_ones()), (1, 1));
    assert_eq!(state.reach, [1, 1, 0, 0]);
}

fn syn(state: &mut SourceState, reach: Reach, flow: &Flow, epoch: u32) {
    // SAFETY: an exclusive reference.
    let _news =
        unsafe { record::<Unshared>(state, ProbeClass::Syn.index(), reach, flow, around(epoch), || false) };
}

fn ask(state: &mut SourceState, reach: Reach, flow: &Flow, epoch: u32) -> Option<Novelties> {
    let around = Around { sees_answers: true, ..around(epoch) };
    // SAFETY: an exclusive reference.
    unsafe { record::<Unshared>(state, ProbeClass::Syn.index(), reach, flow, around, || false) }
}

fn answer(state: &mut SourceState, answer: Answer, flow: &Flow, epoch: u32) {
    // SAFETY: an exclusive reference.
    unsafe { record_answer::<Unshared>(state, answer, flow, epoch, 7) };
}

#[test]
fn a_listener_that_does_not_answer_is_no_service() {
    let mut state = SourceState::new(1, 5);
    for port in [22, 80, 443] {
        assert_eq!(ask(&mut state, Reach::Open, &probe(1, port), 5), None, "it wakes nobody");
    }
    answer(&mut state, Answer::SynAck, &probe(1, 80), 5);
    // This answer comes after the end of the epoch.
    answer(&mut state, Answer::SynAck, &probe(1, 443), 6);
    let seen = state.distinct_since(5);
    assert_eq!((bits(&seen.unanswered_services()), bits(&seen.unanswered_hosts())), (1, 0));
    assert_eq!((seen.open_services.count_ones(), seen.open_hosts.count_ones()), (2, 1));
    assert_eq!((bits(&seen.services), bits(&seen.hosts), state.missed), (0, 0, 0), "nothing is closed");
    assert_eq!(bits(&state.met), 2);
    // A service that answered before is met, whatever becomes of it.
    ask(&mut state, Reach::Open, &probe(1, 443), 90);
    ask(&mut state, Reach::Open, &probe(1, 22), 90);
    let seen = state.distinct_since(90);
    assert_eq!((bits(&seen.unanswered_services()), seen.open_services.count_ones()), (1, 1));
}

#[test]
fn a_service_behind_this_host_is_missed_for_certain_when_it_refuses() {
    let mut state = SourceState::new(1, 5);
    for port in [22, 80] {
        assert!(ask(&mut state, Reach::Unknown, &probe(1, port), 5).is_some());
    }
    answer(&mut state, Answer::Reset, &probe(1, 22), 5);
    // Nobody asked for this one: the RST ends something else.
    answer(&mut state, Answer::Reset, &probe(1, 25), 5);
    let seen = state.distinct_since(5);
    assert_eq!((bits(&seen.services), bits(&seen.hosts)), (1, 1));
    assert_eq!(bits(&seen.unanswered_services()), 1);
    // What is only asked for may still be met; what was refused has failed at once.
    assert_eq!((seen.missed_families.count_ones(), seen.failed_families().count_ones()), (1, 2));
    // A RST after a SYN and ACK ends a connection.
    answer(&mut state, Answer::SynAck, &probe(1, 80), 5);
    answer(&mut state, Answer::Reset, &probe(1, 80), 5);
    let seen = state.distinct_since(5);
    assert_eq!((bits(&seen.services), bits(&seen.unanswered_services())), (1, 0));
}

#[test]
fn a_service_that_was_met_is_not_looked_for_when_it_is_down() {
    let mut state = SourceState::new(1, 5);
    for port in 1..=12 {
        syn(&mut state, Reach::Open, &probe(1, port), 5);
    }
    for port in 1..=12 {
        syn(&mut state, Reach::Closed, &probe(1, port), 90);
    }
    let seen = state.distinct_since(90);
    assert_eq!((bits(&seen.services), bits(&seen.hosts)), (0, 0));
    assert!(seen.open_services.count_ones() >= 10, "{seen:?}");
    assert_eq!((state.reach, state.missed), ([12, 12, 0, 0], 0), "the counts have it as it is");
    // The same service at another address, and another service.
    syn(&mut state, Reach::Closed, &probe(2, 1), 90);
    syn(&mut state, Reach::Closed, &probe(1, 99), 90);
    let seen = state.distinct_since(90);
    assert_eq!((bits(&seen.services), bits(&seen.hosts)), (2, 2));
    // Nobody means a service that he uses by a probe that no stack sends.
    let null = ProbeClass::Null.index();
    // SAFETY: an exclusive reference.
    let _news = unsafe {
        record::<Unshared>(&raw mut state, null, Reach::Closed, &probe(1, 5), around(91), || false)
    };
    assert_eq!(bits(&state.distinct_since(91).services), 1);
}

#[test]
fn whoever_meets_very_many_services_has_not_met_all() {
    let mut state = SourceState::new(1, 5);
    for port in 1..=2_000 {
        syn(&mut state, Reach::Open, &probe(1, port), 5);
    }
    assert_eq!(bits(&state.met), MET_IN_WORD * MET_WORDS as u32);
    for port in 10_001..=10_100 {
        syn(&mut state, Reach::Closed, &probe(1, port), 6);
    }
    let missed = bits(&state.distinct_since(6).services);
    assert!(missed >= 55, "{missed} of 100");
}

#[test]
fn a_service_that_answers_after_all_is_met_and_the_others_stay_missed() {
    let mut state = SourceState::new(1, 5);
    count(&mut state, &probe(1, 23), 5);
    count(&mut state, &probe(1, 443), 5);
    assert_eq!(state.missed, 2 * MISSED_SERVICE + MISSED_HOST);
    for _ in 0..3 {
        // SAFETY: an exclusive reference.
        unsafe { record_met::<Unshared>(&raw mut state, &probe(1, 443), 5, 7) };
    }
    let seen = state.distinct_since(5);
    assert_eq!((bits(&seen.services), bits(&seen.hosts)), (1, 0));
    assert_eq!((seen.open_services.count_ones(), seen.open_hosts.count_ones()), (1, 1));
    assert_eq!(state.missed, MISSED_SERVICE);
    count(&mut state, &probe(1, 24), 5);
    assert_eq!(state.missed, 2 * MISSED_SERVICE + MISSED_HOST, "the address comes again with the next miss");
}

#[test]
fn a_service_that_was_not_missed_takes_nothing_back() {
    let mut state = SourceState::new(1, 5);
    count(&mut state, &probe(1, 23), 5);
    // SAFETY: an exclusive reference.
    unsafe { record_met::<Unshared>(&raw mut state, &probe(1, 443), 5, 7) };
    let seen = state.distinct_since(5);
    assert_eq!((bits(&seen.services), bits(&seen.hosts), seen.open_services), (1, 1, 0));
    // Nor is a source that was held let go.
    state.missed = HELD_ALREADY;
    // SAFETY: as above.
    unsafe { record_met::<Unshared>(&raw mut state, &probe(1, 23), 5, 7) };
    assert_eq!(state.missed, HELD_ALREADY);
}

#[test]
fn the_epoch_before_is_whole_until_the_next_but_one() {
    let mut state = SourceState::new(1, 5);
    count(&mut state, &probe(1, 80), 5);
    count(&mut state, &probe(2, 80), 6);
    assert_eq!(bits(&state.distinct_since(5).hosts), 2);
    assert_eq!(bits(&state.distinct_since(6).hosts), 1);
    assert_eq!(bits(&state.distinct_since(7).hosts), 0);
    count(&mut state, &probe(3, 80), 7);
    assert_eq!(bits(&state.distinct_since(6).hosts), 2);
}

#[test]
fn an_epoch_long_past_leaves_nothing_behind() {
    let mut state = SourceState::new(1, 5);
    count(&mut state, &probe(1, 80), 5);
    count(&mut state, &probe(2, 80), 6);
    count(&mut state, &probe(3, 80), 106);
    assert_eq!(bits(&state.distinct_since(5).hosts), 1);
}

#[test]
fn epochs_may_wrap() {
    let mut state = SourceState::new(1, u32::MAX);
    count(&mut state, &probe(1, 80), u32::MAX);
    count(&mut state, &probe(2, 80), 0);
    assert_eq!(bits(&state.distinct_since(u32::MAX).hosts), 2);
    assert_eq!(bits(&state.distinct_since(0).hosts), 1);
}

fn abort(state: &mut SourceState, port: u16, epoch: u32) -> Option<Novelties> {
    // SAFETY: an exclusive reference.
    unsafe { record_aborted::<Unshared>(state, Service { protocol: 6, port }, epoch, 7) }
}

#[test]
fn handshakes_that_are_aborted_are_counted_and_their_services_are_distinct() {
    let mut state = SourceState::new(1, 5);
    assert_eq!(abort(&mut state, 22, 5), Some(Novelties { all: 1, in_epoch: 1 }));
    assert_eq!(abort(&mut state, 22, 5), None);
    assert_eq!(abort(&mut state, 80, 5), Some(Novelties { all: 2, in_epoch: 2 }));
    assert_eq!(state.aborted, 3);
    let seen = state.distinct_since(5);
    assert_eq!(seen.aborted_services.count_ones(), 2);
    assert_eq!((bits(&seen.services), bits(&seen.hosts), seen.open_services, seen.open_hosts), (0, 0, 0, 0));
    assert_eq!((state.counts, state.reach), ([0; COUNT_SLOTS], [0; REACHES]));
}

#[test]
fn an_abort_after_the_epoch_of_its_probe_moves_the_windows_on() {
    let mut state = SourceState::new(1, 5);
    count(&mut state, &probe(1, 80), 5);
    abort(&mut state, 80, 6);
    assert_eq!(state.epoch, 6);
    let (both, last) = (state.distinct_since(5), state.distinct_since(6));
    assert_eq!((bits(&both.services), both.aborted_services.count_ones()), (1, 1));
    assert_eq!((bits(&last.services), last.aborted_services.count_ones()), (0, 1));
    assert_eq!(abort(&mut state, 80, 8), Some(Novelties { all: 3, in_epoch: 1 }), "new again in this epoch");
    assert_eq!(state.distinct_since(5).aborted_services.count_ones(), 1, "epoch 6 is gone");
}

#[test]
fn a_connection_moves_the_windows_on_and_is_no_probe() {
    let mut state = SourceState::new(1, 5);
    count(&mut state, &probe(1, 80), 5);
    // SAFETY: an exclusive reference.
    unsafe { record_completed::<Unshared>(&raw mut state, None, 9, 7) };
    assert_eq!((state.epoch, state.completed, state.novelties), (9, 1, 1));
    assert_eq!(state.distinct_since(0), Distinct::EMPTY, "this host began it");
    for port in [80, 80, 443] {
        let service = Service { protocol: 6, port };
        // SAFETY: an exclusive reference.
        unsafe { record_completed::<Unshared>(&raw mut state, Some(service), 9, 7) };
    }
    let distinct = state.distinct_since(9);
    assert_eq!((state.completed, distinct.connected_services.count_ones()), (4, 2));
    assert_eq!((distinct.open_services, bits(&distinct.services)), (0, 0), "an account of its own");
}

#[test]
fn services_to_which_nothing_is_said_are_counted_exactly_up_to_twelve() {
    for salt in 0..2_000 {
        let mut state = SourceState::new(1, 5);
        for (services, port) in
            (1u16..).map(|number| number.wrapping_mul(487) % 10_000).take(EXACT_PORTS).enumerate()
        {
            for _ in 0..2 {
                // SAFETY: an exclusive reference.
                unsafe { record_silent::<Unshared>(&raw mut state, Service { protocol: 6, port }, 5, salt) };
            }
            assert_eq!(state.distinct_since(5).silent_services().count_ones(), services as u32 + 1);
        }
        assert_eq!((state.silent, state.distinct_since(5).refused_hosts()), (24, 0));
    }
}

#[test]
fn a_service_keeps_its_bit_in_other_epochs_and_those_beyond_share_theirs() {
    let mut state = SourceState::new(1, 5);
    let mut silent = |port: u16, epoch: u32| {
        // SAFETY: an exclusive reference.
        unsafe { record_silent::<Unshared>(&raw mut state, Service { protocol: 6, port }, epoch, 7) };
        state.distinct_since(epoch).silent_services()
    };
    assert_eq!((silent(80, 5), silent(443, 5), silent(443, 6), silent(80, 9)), (1, 3, 2, 1));
    let own = (1u32 << EXACT_PORTS) - 1;
    let all = (1..=500).fold(0, |all, port| all | silent(port, 20));
    assert_eq!(all & own, own);
    assert!((all >> EXACT_PORTS).count_ones() > 15, "{all:x}");
}

#[test]
fn addresses_that_refuse_strays_are_distinct_and_apart_from_those_that_were_missed() {
    let mut state = SourceState::new(1, 5);
    let mut news = 0;
    for host in [1, 2, 2, 3, 1] {
        // SAFETY: an exclusive reference.
        let new = unsafe { record_refused::<Unshared>(&raw mut state, probe(host, 443).destination, 5, 7) };
        news += u32::from(new.is_some());
    }
    let seen = state.distinct_since(5);
    assert_eq!((seen.refused_hosts().count_ones(), news, state.novelties), (3, 3, 3));
    assert_eq!((bits(&seen.hosts), bits(&seen.services), seen.silent_services()), (0, 0, 0));
    assert_eq!((state.counts[ProbeClass::Ack.index()], state.reach), (5, [0, 0, 5, 0]));
}

proptest::proptest! {
    #[test]
    fn the_agent_finds_as_many_aborts_as_there_were(ports in proptest::collection::vec(1u16.., 0..200)) {
        let mut state = SourceState::new(1, 5);
        let mut expected = 0u64;
        for port in &ports {
            let mask = sketch::service_bit(Service { protocol: 6, port: *port }, 7).mask;
            let is_new = expected & mask == 0;
            expected |= mask;
            proptest::prop_assert_eq!(abort(&mut state, *port, 5).is_some(), is_new);
        }
        proptest::prop_assert_eq!(state.aborted as usize, ports.len());
        proptest::prop_assert_eq!(state.distinct_since(5).aborted_services, expected);
        proptest::prop_assert_eq!(state.novelties, expected.count_ones());
    }
}
