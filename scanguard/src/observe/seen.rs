//! What a source asked for, item by item, and what each met: for those who compare hosts.
//!
//! Bitmaps are salted by host, so they say nothing elsewhere. The kernel's examples of targets are exact, up to four in
//! an epoch. The bitmaps of the same time tell what became of each. Where they leave a doubt, an item counts as met, in
//! the source's favour.

use scanguard_common::{
    account::{Distinct, SAMPLES, Sample},
    address::Address,
    numbered,
    oracle::Reach,
    outcome::{Answer, DYNAMIC_START, EPHEMERAL_START, ProbeClass, Service},
    sketch,
    wire::protocol,
};

use super::{Delta, activity::Activity};

numbered! {
    /// What an item met.
    Met {
        /// A service.
        Open = "open",
        /// An address of this host, and no service.
        Closed = "closed",
        /// Nothing: there was no answer in the time of a handshake.
        Filtered = "filtered",
        /// An address where nobody is.
        Dark = "dark",
    }
}

impl Met {
    /// Whether nothing was there.
    pub const fn is_missed(self) -> bool {
        match self {
            Self::Closed | Self::Filtered | Self::Dark => true,
            Self::Open => false,
        }
    }
}

/// An item that a source asked for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Item {
    /// The address.
    pub host: Address,
    /// The service.
    pub service: Service,
    /// What it met.
    pub met: Met,
}

/// What was seen of a source since the last look.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// The source.
    pub source: Address,
    /// The most frequent class of its probes.
    pub class: Option<ProbeClass>,
    /// The items, at most [`SAMPLES`].
    pub items: Vec<Item>,
    /// Whether connections with it were completed.
    pub completed: bool,
    /// The tools that its SYNs look like, as bits of the list.
    pub tools: u64,
}

/// Classes whose items are told: requests that their sender makes for itself. SYN and ACK, RST and bare acknowledgments
/// also come from servers that answer forged SYNs.
const ASKING: [ProbeClass; 6] = [
    ProbeClass::Syn,
    ProbeClass::Null,
    ProbeClass::Fin,
    ProbeClass::Xmas,
    ProbeClass::Udp,
    ProbeClass::UdpEmpty,
];

/// Classes that may be answers to somebody else. Where one of them is counted, nobody knows which class an item is of.
const ANSWERING: [ProbeClass; 4] =
    [ProbeClass::Ack, ProbeClass::Maimon, ProbeClass::SynAck, ProbeClass::SynAckProbe];

impl Seen {
    /// What is new of a source. None: nothing that others need.
    pub fn new(source: Address, delta: &Delta, salt: u64) -> Option<Self> {
        let activity = &delta.activity;
        let asks = activity.counts.of_any(&ASKING) > 0 && activity.counts.of_any(&ANSWERING) == 0;
        let items = if asks { items(&delta.samples, activity, salt, false) } else { Vec::new() };
        let seen = Self::with(source, items, activity);
        (!seen.items.is_empty() || seen.completed).then_some(seen)
    }

    /// What became of SYNs that were not answered in time. `activity` is that of the last minute.
    pub fn unanswered(
        source: Address,
        samples: &[Sample; SAMPLES],
        activity: &Activity,
        salt: u64,
    ) -> Option<Self> {
        let mut items = items(samples, activity, salt, true);
        items.retain(|item| item.met == Met::Filtered);
        (!items.is_empty()).then(|| Self::with(source, items, activity))
    }

    fn with(source: Address, items: Vec<Item>, activity: &Activity) -> Self {
        Self {
            source,
            class: activity.counts.by_frequency().first().map(|(class, _)| *class),
            items,
            completed: activity.completed() > 0,
            tools: activity.crafted().tools,
        }
    }
}

/// The items among these examples whose fate is known. `settled`: no answer can come any more.
fn items(samples: &[Sample; SAMPLES], activity: &Activity, salt: u64, settled: bool) -> Vec<Item> {
    let known = samples.iter().filter(|sample| sample.taken == 1).filter_map(|sample| {
        let service = Service { protocol: sample.protocol, port: sample.port };
        let is_asked_for = match sample.protocol {
            // Passive FTP meets another port each time.
            protocol::TCP => sample.port < EPHEMERAL_START,
            // Late answers, traceroute and media.
            protocol::UDP => sample.port < DYNAMIC_START,
            _ => false,
        };
        let met = is_asked_for.then(|| met(sample.host, service, activity, salt, settled)).flatten()?;
        Some(Item { host: sample.host, service, met })
    });
    let mut items: Vec<Item> = Vec::new();
    for item in known {
        if !items.contains(&item) {
            items.push(item);
        }
    }
    items
}

/// None: it is not among the distinct things of this time, or its fate is not known yet.
fn met(host: Address, service: Service, activity: &Activity, salt: u64, settled: bool) -> Option<Met> {
    let Distinct {
        services,
        hosts,
        open_services,
        open_hosts,
        asked_services,
        asked_hosts,
        answered_services,
        answered_hosts,
        ..
    } = &activity.distinct;
    let service_bit = sketch::service_bit(service, salt);
    let host_bit = sketch::host_bit(host, salt);
    if open_services & service_bit.mask != 0 && open_hosts & host_bit.mask != 0 {
        return Some(Met::Open);
    }
    if services[service_bit.word] & service_bit.mask != 0 && hosts[host_bit.word] & host_bit.mask != 0 {
        let is_closed = activity.reached(Reach::Closed) > 0 || activity.answered(Answer::Reset) > 0;
        return match (is_closed, activity.reached(Reach::Dark) > 0) {
            (true, _) => Some(Met::Closed),
            (false, true) => Some(Met::Dark),
            (false, false) => None,
        };
    }
    let asked = sketch::asked_service_bit(service, salt);
    let asked_host = sketch::asked_host_bit(host, salt);
    let is_asked =
        asked_services[asked.word] & asked.mask != 0 && asked_hosts[asked_host.word] & asked_host.mask != 0;
    let is_answered = answered_services[asked.word] & asked.mask != 0
        && answered_hosts[asked_host.word] & asked_host.mask != 0;
    (settled && is_asked && !is_answered && activity.unsure() == 0).then_some(Met::Filtered)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use scanguard_common::{
        account::{self, Around, SourceState, Unshared},
        outcome::{Flow, PortRange},
    };

    use super::*;
    use crate::observe::activity::Totals;

    const SALT: u64 = 7;

    fn flow(host: u8, port: u16) -> Flow {
        Flow {
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            destination: Ipv4Addr::new(198, 51, 100, host).into(),
            service: Service { protocol: 6, port },
            source_port: 40_000,
            reserved: 0,
        }
    }

    fn probe(state: &mut SourceState, class: ProbeClass, reach: Reach, host: u8, port: u16) {
        let around = Around { epoch: 1, salt: SALT, sees_answers: true, is_overheard: false, is_new: false };
        // SAFETY: an exclusive reference.
        let _news = unsafe {
            account::record::<Unshared>(state, class.index(), reach, &flow(host, port), around, || false)
        };
    }

    fn delta(play: impl FnOnce(&mut SourceState)) -> Delta {
        let mut state = SourceState::new(1, 1);
        play(&mut state);
        let activity = Activity::between(&Totals::default(), &Totals::from(&state), state.distinct_since(1));
        let activity = activity.with_samples(&state.samples, PortRange::DEFAULT);
        Delta { activity, samples: state.samples }
    }

    fn fates(delta: &Delta) -> Vec<(u16, Met)> {
        let seen = Seen::new(flow(1, 1).source, delta, SALT);
        let mut fates: Vec<_> =
            seen.into_iter().flat_map(|seen| seen.items).map(|item| (item.service.port, item.met)).collect();
        fates.sort_by_key(|(port, _)| *port);
        fates
    }

    #[test]
    fn each_item_has_its_own_fate() {
        for (reach, met) in [(Reach::Closed, Met::Closed), (Reach::Dark, Met::Dark)] {
            let one = delta(|state| probe(state, ProbeClass::Syn, reach, 1, 23));
            assert_eq!(fates(&one), [(23, met)], "{reach:?}");
        }
        let both = delta(|state| {
            probe(state, ProbeClass::Syn, Reach::Open, 1, 80);
            // SAFETY: an exclusive reference.
            unsafe {
                account::record_answer::<Unshared>(state, Answer::SynAck, &flow(1, 80), 1, SALT);
            }
            probe(state, ProbeClass::Syn, Reach::Closed, 1, 23);
        });
        assert_eq!(fates(&both), [(23, Met::Closed), (80, Met::Open)]);
    }

    #[test]
    fn what_is_not_answered_yet_is_told_when_no_answer_can_come() {
        let asked = delta(|state| probe(state, ProbeClass::Syn, Reach::Open, 1, 80));
        assert_eq!(fates(&asked), []);
        let source = flow(1, 1).source;
        let seen = Seen::unanswered(source, &asked.samples, &asked.activity, SALT).expect("something");
        assert_eq!(seen.items.iter().map(|item| item.met).collect::<Vec<_>>(), [Met::Filtered]);
        let answered = delta(|state| {
            probe(state, ProbeClass::Syn, Reach::Open, 1, 80);
            // SAFETY: an exclusive reference.
            unsafe {
                account::record_answer::<Unshared>(state, Answer::SynAck, &flow(1, 80), 1, SALT);
            }
        });
        assert_eq!(Seen::unanswered(source, &answered.samples, &answered.activity, SALT), None);
    }

    #[test]
    fn answers_to_forged_syns_accuse_nobody() {
        let backscatter = delta(|state| probe(state, ProbeClass::SynAck, Reach::Closed, 1, 23));
        assert_eq!(fates(&backscatter), []);
        let mixed = delta(|state| {
            probe(state, ProbeClass::SynAck, Reach::Closed, 1, 23);
            probe(state, ProbeClass::Syn, Reach::Closed, 1, 24);
        });
        assert_eq!(fates(&mixed), []);
        let late = delta(|state| probe(state, ProbeClass::Udp, Reach::Closed, 1, 40_000));
        assert_eq!(fates(&late), []);
    }
}
