//! What the silence of a service says, in a capture that has answers.
//!
//! Many services say nothing to a datagram that they do not understand, many programs expect no answer, and others ask
//! hosts of which half are gone. So silence counts only where nearly everybody who is asked in earnest answers: at
//! assigned ports, and for a source that hardly anybody answered there.

use std::collections::HashMap;

use scanguard_common::{
    address::Address,
    flow,
    outcome::{Flow, Service},
    wire::protocol,
};

/// From this port on, programs open ports of their own (RFC 6335, 6), and ask others at such ports.
const USER_START: u16 = 1_024;

/// Services at higher ports that answer all their clients: NAT-PMP, SIP, CoAP, memcached, SQL Server's browser.
const OTHERS: [u16; 5] = [1_434, 5_060, 5_351, 5_683, 11_211];

/// Ports at which silence says nothing, however many are asked: discard and wake-on-LAN, DHCP, NetBIOS broadcasts, traps of
/// SNMP, PTP, syslog, RIP. Nobody answers there.
const SILENT: [u16; 11] = [9, 67, 68, 138, 162, 319, 320, 514, 520, 521, 546];

/// Ports of which honest programs ask many hosts, some of which are gone: DNS (also by QUIC), NTP, NetBIOS names, HTTP by
/// QUIC; and those of devices: SSDP, Apple's remote desktop, WS-Discovery, mDNS, Ubiquiti's discovery, BACnet.
const ASKED_OF_MANY: [u16; 11] = [53, 123, 137, 443, 853, 1_900, 3_283, 3_702, 5_353, 10_001, 47_808];
/// Beyond so many questions at such a port, of which hardly any is answered, nobody asks in earnest. Resolvers, clients of
/// NTP and browsers meet most of those that they ask.
const MANY: u32 = 64;

/// After how many questions of a source the silence of this service says something; never, if there is none.
fn patience(service: Service) -> Option<u32> {
    let port = service.port;
    if service.protocol != protocol::UDP || SILENT.contains(&port) {
        None
    } else if ASKED_OF_MANY.contains(&port) {
        Some(MANY)
    } else {
        (port < USER_START || OTHERS.contains(&port)).then_some(1)
    }
}

/// Whether the silence of this service may say something.
pub fn tells(service: Service) -> bool {
    patience(service).is_some()
}

/// How many sources and services a generation has at most. Both together take about 4 MB.
const MOST: usize = 1 << 16;
/// A source that more than one in so many answered at a service is one that meets it.
const FEW: u32 = 4;

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    asked: u32,
    answered: u32,
}

/// How often sources were answered at services. Kept in two generations, as flows are: see [`super::flows`].
pub struct Silence {
    young: HashMap<u64, Counts>,
    old: HashMap<u64, Counts>,
    salt: u64,
    most: usize,
}

impl Silence {
    /// Nobody has asked yet.
    pub fn new(salt: u64) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), salt, most: MOST }
    }

    /// A source asks a service of some address.
    pub fn asks(&mut self, flow: &Flow) {
        let counts = self.counts(flow);
        counts.asked = counts.asked.saturating_add(1);
    }

    /// It was answered.
    pub fn answered(&mut self, flow: &Flow) {
        let counts = self.counts(flow);
        counts.answered = counts.answered.saturating_add(1);
    }

    /// Whether hardly anybody has answered the source at this service until now, although it has asked often enough.
    pub fn is_kept(&mut self, flow: &Flow) -> bool {
        let Counts { asked, answered } = *self.counts(flow);
        let is_enough = patience(flow.service).is_some_and(|least| asked >= least);
        is_enough && answered.saturating_mul(FEW) < asked
    }

    fn counts(&mut self, flow: &Flow) -> &mut Counts {
        let anywhere = Flow { destination: Address::UNSPECIFIED, source_port: 0, ..*flow };
        let tag = flow::tag(&anywhere, self.salt);
        let before = self.old.remove(&tag);
        if self.young.len() >= self.most && !self.young.contains_key(&tag) {
            self.old = std::mem::take(&mut self.young);
        }
        let counts = self.young.entry(tag).or_default();
        if let Some(before) = before {
            *counts = before;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn flow(source: u32, host: u8, port: u16) -> Flow {
        Flow {
            source: Ipv4Addr::from_bits(source).into(),
            destination: Ipv4Addr::new(198, 51, 100, host).into(),
            service: Service { protocol: protocol::UDP, port },
            source_port: 40_000,
            reserved: 0,
        }
    }

    #[test]
    fn silence_says_something_only_where_services_answer_all_their_clients() {
        let udp = |port| tells(Service { protocol: protocol::UDP, port });
        assert!([69, 111, 161, 389, 500, 623, 1_434, 5_060, 11_211].into_iter().all(udp));
        let quiet = [9, 67, 138, 514, 1_812, 2_055, 3_478, 6_343, 6_881, 8_125, 51_820];
        assert!(!quiet.into_iter().any(udp));
        assert!(
            !tells(Service { protocol: protocol::TCP, port: 111 })
                && !tells(Service { protocol: 1, port: 0 })
        );
    }

    #[test]
    fn a_source_that_some_answer_meets_the_service() {
        let mut silence = Silence::new(7);
        for host in 0..20 {
            silence.asks(&flow(1, host, 161));
            silence.asks(&flow(2, host, 161));
            if host % 2 == 0 {
                silence.answered(&flow(2, host, 161));
            }
        }
        assert!(silence.is_kept(&flow(1, 99, 161)) && !silence.is_kept(&flow(2, 99, 161)));
        silence.asks(&flow(2, 1, 111));
        assert!(silence.is_kept(&flow(2, 1, 111)), "another service");
    }

    #[test]
    fn where_honest_programs_ask_many_it_takes_many_that_are_silent() {
        let asked = |port: u16, questions: u32, answers: u32| {
            let mut silence = Silence::new(7);
            (0..questions).for_each(|_| silence.asks(&flow(1, 1, port)));
            (0..answers).for_each(|_| silence.answered(&flow(1, 1, port)));
            silence.is_kept(&flow(1, 99, port))
        };
        assert!(!asked(53, 63, 0) && asked(53, 64, 0) && asked(123, 200, 20));
        assert!(!asked(53, 200, 60), "a resolver");
        assert!(asked(161, 1, 0));
    }

    #[test]
    fn memory_is_bounded_and_the_busy_are_remembered() {
        let mut silence = Silence { most: 100, ..Silence::new(7) };
        for source in 10..2_000 {
            silence.asks(&flow(source, 1, 161));
            silence.asks(&flow(1, 1, 161));
            silence.answered(&flow(1, 1, 161));
        }
        assert!(silence.young.len() <= 101 && silence.old.len() <= 101);
        assert!(!silence.is_kept(&flow(1, 1, 161)));
    }
}
