//! Properties that a model checker would prove of this code: no index leaves its array, nothing overflows, and the
//! decisions about a source are monotonic. Where there are few cases, the tests try all of them, elsewhere random
//! ones. CONTRIBUTING.md says why the project does not use Kani.

use core::net::Ipv4Addr;

use proptest::prelude::*;

use crate::{
    abi::Control,
    account::{
        Around, HELD_ALREADY, MISSED_HOST, MISSED_SERVICE, SourceState, Unshared, record, record_aborted,
        record_answer, record_completed,
    },
    address::Address,
    admission::{Mark, PLACES},
    ban::passes,
    flow::{stir, tag},
    hold::{Evidence, hold, is_due, is_enforced, lasts},
    oracle::{
        Home, Reach, Socket,
        testing::{HOST, Host},
    },
    outcome::{ANSWERS, Answer, EPHEMERAL_START, Flow, PROBE_CLASSES, SegmentKind, Service},
    sketch::{HOST_WORDS, SERVICE_WORDS, host_bit, service_bit},
};

fn address() -> impl Strategy<Value = Address> {
    let v4 = any::<u32>().prop_map(|ip| Ipv4Addr::from(ip).into());
    prop_oneof![v4, any::<[u8; 16]>().prop_map(|bytes| Address::from_v6(&bytes))]
}

fn flow() -> impl Strategy<Value = Flow> {
    let parts = (address(), address(), any::<u8>(), any::<u16>(), any::<u16>());
    parts.prop_map(|(source, destination, protocol, port, source_port)| Flow {
        source,
        destination,
        service: Service { protocol, port },
        source_port,
        reserved: 0,
    })
}

/// Packets of one source. Miri has no time for more.
const STEPS: usize = if cfg!(miri) { 6 } else { 60 };

/// Numbers, including those at which arithmetic wraps.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), 0u32..1_100, (u32::MAX - 3)..=u32::MAX]
}

proptest! {
    #[test]
    fn a_bit_lies_within_its_bitmap(flow in flow(), salt: u64) {
        let (service, host) = (service_bit(flow.service, salt), host_bit(flow.destination, salt));
        prop_assert!(service.word < SERVICE_WORDS && service.mask.is_power_of_two());
        prop_assert!(host.word < HOST_WORDS && host.mask.is_power_of_two());
    }

    #[test]
    fn a_tag_is_none_of_an_empty_place_and_its_parts_are_not_mixed_up(flow in flow(), salt: u64, other: u64) {
        prop_assert_ne!(tag(&flow, salt), 0);
        prop_assert_eq!(stir(salt, other) == stir(salt, other ^ 1), false, "two words are one");
    }

    #[test]
    fn a_mark_lies_within_the_table_and_is_known_by_itself_alone(source in address(), salt: u64, held: u32) {
        let mark = Mark::new(source, salt);
        prop_assert!((mark.place as usize) < PLACES);
        prop_assert!(mark.is_known(mark.fingerprint) && !mark.is_known(0));
        prop_assert_eq!(mark.is_known(held), held == mark.fingerprint);
    }

    /// More misses never acquit, more met services never convict, and no numbers overflow.
    #[test]
    fn a_hold_that_is_due_stays_due_with_more_misses_and_not_with_more_successes(
        (hold_from, epoch) in (number(), number()),
        (services, hosts, met) in (0u32..0xffff, 0u32..0xffff, (any::<u64>(), any::<u64>())),
        (more_services, more_hosts, luck) in (0u32..0xffff, 0u32..0xffff, (any::<u64>(), any::<u64>())),
    ) {
        let control = Control { epoch, hold_from, ..Control::default() };
        let missed = |services: u32, hosts: u32| services.min(0xfffe) * MISSED_SERVICE + hosts * MISSED_HOST;
        let (met_services, met_hosts) = met;
        let evidence = Evidence { missed: missed(services, hosts), met_services, met_hosts };
        let worse = missed(services + more_services, (hosts + more_hosts).min(0xffff));
        let worse = Evidence { missed: worse, ..evidence };
        let better =
            Evidence { met_services: met_services | luck.0, met_hosts: met_hosts | luck.1, ..evidence };
        if is_due(&control, evidence) {
            prop_assert!(is_due(&control, worse));
            prop_assert!(hold_from != 0 && services.max(hosts) >= hold_from);
        } else {
            prop_assert!(!is_due(&control, better));
        }
        let held = Evidence { missed: HELD_ALREADY, ..evidence };
        prop_assert!(!is_due(&control, held));
    }

    #[test]
    fn a_hold_keeps_its_end_and_its_kind(until in 0u64..1 << 63, enforced: bool, jiffies: u64) {
        let held = hold(until, enforced);
        prop_assert_eq!(lasts(held, jiffies), until > jiffies);
        prop_assert_eq!(is_enforced(held), enforced);
    }

    /// This holds for all packets, also those of the epoch before and with numbers that are no class. Every probe is
    /// counted once by class and once by reach, and the number of misses stays far from the special value for a held
    /// source.
    #[test]
    fn an_account_counts_everything_once_and_overflows_nowhere(
        start in number(),
        salt: u64,
        sees_answers: bool,
        steps in prop::collection::vec((flow(), 0..PROBE_CLASSES + 2, 0usize..4, -1i32..3, 0u8..6), 0..STEPS),
    ) {
        let (mut epoch, mut state) = (start, SourceState::new(1, start));
        let (mut probes, mut novelties, mut answers) = (0, 0, 0);
        for (flow, class, reach, pace, what) in steps {
            // Time passes; some packets are late by one epoch.
            epoch = epoch.wrapping_add(pace.max(0).cast_unsigned());
            let epoch = if pace < 0 { epoch.wrapping_sub(1) } else { epoch };
            // SAFETY: exclusive references.
            unsafe {
                match what {
                    0 => {
                        let service = (reach % 2 == 0).then_some(flow.service);
                        record_completed::<Unshared>(&raw mut state, service, epoch, salt);
                    }
                    1 => {
                        let answer = Answer::ALL[reach % ANSWERS];
                        record_answer::<Unshared>(&raw mut state, answer, &flow, epoch, salt);
                        answers += 1;
                    }
                    2 => {
                        let novel = record_aborted::<Unshared>(&raw mut state, flow.service, epoch, salt);
                        novelties += u32::from(novel.is_some());
                    }
                    _ => {
                        let around = Around { epoch, salt, sees_answers, is_overheard: false, is_new: false };
                        let novel =
                            record::<Unshared>(&raw mut state, class, Reach::ALL[reach], &flow, around, || false);
                        probes += u32::from(class < PROBE_CLASSES);
                        novelties += u32::from(novel.is_some());
                    }
                }
            }
        }
        prop_assert_eq!(state.counts.iter().sum::<u32>(), probes);
        prop_assert_eq!(state.reach.iter().sum::<u32>(), probes);
        prop_assert_eq!(state.answers.iter().sum::<u32>(), answers);
        prop_assert_eq!(state.novelties, novelties);
        // Each bit of both windows counts once.
        let most = |words: usize| 2 * 64 * u32::try_from(words).unwrap();
        prop_assert!(state.missed % MISSED_HOST <= most(SERVICE_WORDS));
        prop_assert!(state.missed / MISSED_HOST <= most(HOST_WORDS));
        let seen = state.distinct_since(state.epoch.wrapping_sub(1));
        let bits = |words: &[u64]| words.iter().map(|word| word.count_ones()).sum::<u32>();
        // A RST makes a miss of what was asked for, and a SYN and ACK shows a service that nobody asked for.
        prop_assert!(bits(&seen.services) + bits(&[seen.open_services]) <= probes + answers);
        prop_assert!(bits(&seen.asked_services) <= probes);
        prop_assert!(state.samples.iter().all(|sample| sample.taken <= 1));
    }
}

/// All possible answers of an oracle.
fn everything() -> impl Iterator<Item = Host> {
    const NO_YES: [bool; 2] = [false, true];
    let sockets = [
        Socket::Connected,
        Socket::Pending,
        Socket::Calling,
        Socket::Listening,
        Socket::ListeningForAny,
        Socket::None,
    ];
    let homes = [Home::Local, Home::Live, Home::Dark, Home::Elsewhere];
    sockets.into_iter().flat_map(move |tcp| {
        homes.into_iter().flat_map(move |home| {
            NO_YES.into_iter().flat_map(move |udp| {
                NO_YES.into_iter().flat_map(move |published| {
                    NO_YES.map(|forwards| Host { tcp, udp, home, published, forwards, ..HOST })
                })
            })
        })
    })
}

/// All cases: 6 sockets, 4 kinds of addresses, 8 of the rest, 6 kinds of segments, and ports on both sides of each bound.
#[test]
fn a_ban_never_drops_what_a_connection_of_this_host_wants() {
    const BOUNDS: [u16; 8] =
        [0, EPHEMERAL_START, 1, 1_023, 1_024, EPHEMERAL_START - 1, EPHEMERAL_START + 1, 65_535];
    // Miri has no time for all of them.
    const PORTS: &[u16] = BOUNDS.split_at(if cfg!(miri) { 2 } else { BOUNDS.len() }).0;
    let mut cases = 0;
    for says in everything() {
        for kind in SegmentKind::ALL {
            let is_datagram = matches!(kind, SegmentKind::Datagram | SegmentKind::EmptyDatagram);
            for (source_port, port) in PORTS.iter().flat_map(|from| PORTS.iter().map(|to| (*from, *to))) {
                let flow = Flow {
                    source: Ipv4Addr::new(192, 0, 2, 1).into(),
                    destination: Ipv4Addr::new(198, 51, 100, 1).into(),
                    service: Service { protocol: if is_datagram { 17 } else { 6 }, port },
                    source_port,
                    reserved: 0,
                };
                let passes = |says: &Host| passes(says, kind, &flow);
                if !is_datagram {
                    let own = matches!(says.tcp, Socket::Connected | Socket::Pending | Socket::Calling);
                    assert!(passes(&says) || !own, "{says:?} {kind:?} {flow:?}");
                }
                // If a socket or host may want a packet, this never makes a ban drop it.
                if passes(&says) {
                    assert!(passes(&Host { udp: true, ..says }), "{says:?} {kind:?} {flow:?}");
                    assert!(passes(&Host { tcp: Socket::Connected, ..says }), "{says:?} {kind:?} {flow:?}");
                    assert!(passes(&Host { used: true, ..says }), "{says:?} {kind:?} {flow:?}");
                    assert!(passes(&Host { published: true, ..says }), "{says:?} {kind:?} {flow:?}");
                }
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 6 * 4 * 8 * 6 * PORTS.len() * PORTS.len());
}
