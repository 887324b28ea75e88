//! How probes change what is kept of a source.

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

fn count(state: &mut SourceState, flow: &Flow, epoch: u32) {
    // SAFETY: an exclusive reference.
    let _news = unsafe { record::<Unshared>(state, ProbeClass::Syn.index(), Reach::Closed, flow, epoch, 7) };
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
fn what_met_a_service_is_kept_apart() {
    let mut state = SourceState::new(1, 5);
    let flow = probe(1, 443);
    // SAFETY: an exclusive reference.
    unsafe { record::<Unshared>(&raw mut state, ProbeClass::Syn.index(), Reach::Open, &flow, 5, 7) };
    count(&mut state, &probe(1, 23), 5);
    let seen = state.distinct_since(5);
    assert_eq!((bits(&seen.services), bits(&seen.hosts)), (1, 1));
    assert_eq!((seen.open_services.count_ones(), seen.open_hosts.count_ones()), (1, 1));
    assert_eq!(state.reach, [1, 1, 0, 0]);
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
