use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::fleet::wire::{Batch, Sighting, VERSION};

const START: Duration = Duration::from_secs(1_700_000_000);

fn net(last: u32) -> IpNet {
    IpNet::new(Ipv4Addr::from(0xcb00_7100 + last).into(), 32).unwrap()
}

fn home(member: u32) -> IpAddr {
    Ipv4Addr::from(0xc633_0000 + member).into()
}

/// The message `n` of a member: about that source, port and fate.
fn batch(n: u64, member: u32, source: u32, port: u16, met: Met) -> Batch {
    let sighting = Sighting {
        source: net(source),
        age: 0,
        class: "syn".to_owned(),
        items: vec![Asked(home(member), 6, port, Fate(Some(met)))],
        completed: false,
        proven: source.is_multiple_of(2),
        tool: String::new(),
    };
    let open = vec![Place(home(member), 6, 443)];
    Batch { v: VERSION, boot: 7, n, own: vec![home(member)], open, sightings: vec![sighting] }
}

fn take(correlator: &mut Correlator, n: u64, member: u32, source: u32, met: Met) -> Vec<Decision> {
    let at = START + Duration::from_secs(n);
    let port = if met == Met::Open { 80 } else { 23 };
    let about = correlator.take(&format!("edge-{member}"), &batch(n, member, source, port, met), at);
    about.into_iter().filter_map(|net| correlator.judge(net, 1, at)).collect()
}

/// All that is said about the state, in words.
fn told(correlator: &Correlator, now: Duration) -> String {
    let explained: Vec<_> = (0..20).map(|source| correlator.explain(net(source), now)).collect();
    let recent: Vec<_> = correlator.recent().map(|recent| (recent.at, &recent.decision)).collect();
    format!("{explained:#?}\n{:?}\n{recent:?}\n{}", correlator.members(now), correlator.in_force())
}

fn played(steps: u64) -> Correlator {
    let mut correlator = Correlator::new(Run::default());
    for n in 1..=steps {
        let (member, source) = ((n % 13) as u32, (n / 13 % 7) as u32);
        let met = [Met::Closed, Met::Dark, Met::Filtered, Met::Open][(n % 11 % 4) as usize];
        take(&mut correlator, n, member, source, met);
    }
    correlator
}

#[test]
fn a_successor_knows_the_same_and_goes_on_in_the_same_way() {
    let mut before = played(200);
    let now = START + Duration::from_secs(300);
    let bytes = before.encode(now).unwrap();
    let mut after = Correlator::decode(Run::default(), &bytes).unwrap();
    assert!(before.in_force() > 0 && before.sources() > 5);
    assert_eq!(told(&after, now), told(&before, now));
    assert_eq!(after.encode(now).unwrap().len(), bytes.len());
    for n in 301..500 {
        let (member, source) = ((n % 13) as u32, (n % 17) as u32);
        let met = if n % 5 == 0 { Met::Open } else { Met::Closed };
        assert_eq!(take(&mut after, n, member, source, met), take(&mut before, n, member, source, met));
        assert_eq!(after.tick(START + Duration::from_secs(n)), before.tick(START + Duration::from_secs(n)));
    }
    let now = START + Duration::from_secs(500);
    assert_eq!(told(&after, now), told(&before, now));
    assert_eq!(after.count_members(), before.count_members());
}

#[test]
fn a_message_from_before_the_snapshot_changes_nothing_and_the_ninth_miss_after_it_decides() {
    let mut before = Correlator::new(Run::default());
    for member in 1..=8 {
        assert_eq!(take(&mut before, member.into(), member, 1, Met::Closed), []);
    }
    let bytes = before.encode(START + Duration::from_secs(9)).unwrap();
    let mut after = Correlator::decode(Run::default(), &bytes).unwrap();
    assert_eq!(take(&mut after, 8, 8, 1, Met::Closed), []);
    assert_eq!(after.bounds().duplicates, 1);
    assert_eq!(take(&mut after, 10, 9, 1, Met::Closed).len(), 1);
}

#[test]
fn what_was_tried_lately_is_known_without_the_messages() {
    let mut before = Correlator::new(Run::default());
    take(&mut before, 1, 1, 1, Met::Closed);
    take(&mut before, 700, 2, 2, Met::Closed);
    take(&mut before, 701, 3, 3, Met::Open);
    let now = START + Duration::from_secs(702);
    let after = Correlator::decode(Run::default(), &before.encode(now).unwrap()).unwrap();
    let tried: Vec<_> = after.tried_lately(now).into_iter().map(|(name, one)| (name, one.source)).collect();
    assert_eq!(tried, [(Arc::from("edge-2"), net(2))]);
}

#[test]
fn fewer_sources_than_the_predecessor_had_are_kept_and_the_others_are_counted() {
    let mut before = Correlator::new(Run::default());
    for source in 0..20 {
        take(&mut before, source.into(), 1, source, Met::Closed);
    }
    let bytes = before.encode(START).unwrap();
    let after = Correlator::decode(Run { max_sources: 15, ..Run::default() }, &bytes).unwrap();
    assert_eq!((after.sources(), after.bounds().evicted), (15, 5));
}

/// The state with one thing changed.
fn changed(change: impl FnOnce(&mut State)) -> Option<StateError> {
    let bytes = played(60).encode(START + Duration::from_secs(60)).unwrap();
    let mut state: State = postcard::from_bytes(&bytes).unwrap();
    change(&mut state);
    Correlator::decode(Run::default(), &postcard::to_allocvec(&state).unwrap()).err()
}

#[test]
fn what_no_worker_writes_is_refused() {
    assert_eq!(changed(|_| {}), None);
    let refused = |change: fn(&mut State)| changed(change).is_some();
    assert!(refused(|state| state.members[0].name = "a.b".to_owned()));
    assert!(refused(|state| state.members[1].name = "edge-1".to_owned()));
    assert!(refused(|state| state.members[0].accused = f64::NAN));
    assert!(refused(|state| state.members[0].borne = -1.0));
    assert!(refused(|state| state.members[0].aside = Some("\n".to_owned())));
    assert!(refused(|state| state.own.push((home(99), 13))));
    assert!(refused(|state| state.own.extend((100..200).map(|one| (home(one), 0)))));
    assert!(refused(|state| state.places.push((99, Place(home(1), 6, 1), 0))));
    assert!(refused(|state| {
        state.places.extend((1_000..3_000).map(|port| (0, Place(home(0), 6, port), 0)));
    }));
    assert!(refused(|state| state.sources[0].net = "0.0.0.0/0".parse().unwrap()));
    assert!(refused(|state| state.sources[0].net = state.sources[1].net));
    assert!(refused(|state| state.sources[0].votes.clear()));
    assert!(refused(|state| state.sources[0].votes[0].member = 77));
    assert!(refused(|state| state.sources[0].votes[0].member = state.sources[0].votes[1].member));
    assert!(refused(|state| {
        let items = (0..33).map(|port| PackedItem(home(1), 6, port, 1, 0));
        state.sources[0].votes[0].missed = items.collect();
    }));
    assert!(refused(|state| state.sources[0].votes[0].missed = vec![PackedItem(home(1), 6, 1, 0, 0)]));
    assert!(refused(|state| state.sources[0].votes[0].met = vec![PackedItem(home(1), 6, 1, 1, 0)]));
    assert!(refused(|state| state.sources[0].votes[0].met = vec![PackedItem(home(1), 6, 1, 200, 0)]));
    assert!(refused(|state| state.in_force.push((net(1), Verdict::Ban, "x".repeat(501), 0))));
}

proptest! {
    /// Nothing that a server may give makes a worker panic, or take much more memory than the bytes.
    #[test]
    fn hostile_bytes_are_refused_or_a_state(
        at in 0usize..10_000, byte: u8, cut in 0usize..10_000, garbage in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Correlator::decode(Run::default(), &garbage);
        let mut bytes = played(60).encode(START).unwrap();
        let length = bytes.len();
        let short = &bytes[..cut % length];
        prop_assert!(Correlator::decode(Run::default(), short).is_err());
        bytes[at % length] = byte;
        if let Ok(state) = Correlator::decode(Run::default(), &bytes) {
            let _ = told(&state, START + Duration::from_secs(60));
            let _ = state.encode(START);
        }
        bytes.push(0);
        prop_assert!(Correlator::decode(Run::default(), &bytes).is_err());
    }
}
