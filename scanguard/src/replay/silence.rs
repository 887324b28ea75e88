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

/// Ports below 1024 at which silence says nothing. Nobody answers there: discard and wake-on-LAN, DHCP, NetBIOS
/// broadcasts, traps of SNMP, PTP, syslog, RIP. Or honest programs ask many hosts, of which some are gone: DNS (also by
/// QUIC), NTP, NetBIOS names, HTTP by QUIC.
const SILENT: [u16; 16] = [9, 53, 67, 68, 123, 137, 138, 162, 319, 320, 443, 514, 520, 521, 546, 853];

/// Whether the silence of this service may say something.
pub fn tells(service: Service) -> bool {
    let port = service.port;
    service.protocol == protocol::UDP
        && (port < USER_START && !SILENT.contains(&port) || OTHERS.contains(&port))
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

    /// Whether hardly anybody has answered the source at this service until now.
    pub fn is_kept(&mut self, flow: &Flow) -> bool {
        let Counts { asked, answered } = *self.counts(flow);
        answered.saturating_mul(FEW) < asked
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
        let quiet = [53, 123, 137, 443, 514, 1_812, 2_055, 3_478, 5_353, 6_343, 6_881, 8_125, 51_820];
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
