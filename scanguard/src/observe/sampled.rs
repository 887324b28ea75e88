//! The kinds of targets that a source probes, from the examples that the kernel keeps.
//!
//! The bitmaps of distinct services tell how many there are, not which. The examples are up to four of the distinct
//! targets of each epoch, chosen by their hash: a fair sample. Their shares tell how many of the distinct services are
//! TCP ports, and how many are ports that systems hand out. Late answers, data channels and traceroute arrive at the
//! latter.

use scanguard_common::{
    account::Sample,
    outcome::{DYNAMIC_START, EPHEMERAL_START, PortRange},
    wire::protocol,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::distinct::estimate;

/// A kind of target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A TCP port that is assigned to a service.
    TcpFixed,
    /// A TCP port that a service may use for a while.
    TcpDynamic,
    /// A TCP port of either kind from which this host calls others, too, because its port range begins so low. The
    /// late segments of its own connections arrive there.
    TcpCalling,
    /// A TCP port of the client side of connections.
    TcpEphemeral,
    /// A UDP port that is assigned to a service.
    UdpFixed,
    /// Any other UDP port.
    UdpDynamic,
    /// ICMP: the address itself.
    Icmp,
    /// Another protocol.
    Other,
}

impl Kind {
    /// TCP.
    pub const TCP: &'static [Self] =
        &[Self::TcpFixed, Self::TcpDynamic, Self::TcpCalling, Self::TcpEphemeral];
    /// TCP ports of services, for those who ask for them by a SYN.
    pub const SERVICES: &'static [Self] = &[Self::TcpFixed, Self::TcpDynamic, Self::TcpCalling];
    /// TCP ports of services at which nothing arrives late.
    pub const ONLY_SERVICES: &'static [Self] = &[Self::TcpFixed, Self::TcpDynamic];
    /// UDP.
    pub const UDP: &'static [Self] = &[Self::UdpFixed, Self::UdpDynamic];

    fn of(sample: &Sample, ports: PortRange) -> Self {
        match (sample.protocol, sample.port) {
            (protocol::TCP, EPHEMERAL_START..) => Self::TcpEphemeral,
            (protocol::TCP, port) if ports.calls_from(port) => Self::TcpCalling,
            (protocol::TCP, DYNAMIC_START..) => Self::TcpDynamic,
            (protocol::TCP, _) => Self::TcpFixed,
            (protocol::UDP, DYNAMIC_START..) => Self::UdpDynamic,
            (protocol::UDP, _) => Self::UdpFixed,
            (protocol::ICMP | protocol::ICMPV6, _) => Self::Icmp,
            _ => Self::Other,
        }
    }
}

const KINDS: usize = 8;

/// Distinct examples by their kind, as bitmaps: a source that returns to one target each second must not make that
/// kind look as frequent as a hundred targets of another.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Sampled {
    services: [u64; KINDS],
    hosts: [u64; KINDS],
}

impl Sampled {
    /// No examples.
    pub const NONE: Self = Self { services: [0; KINDS], hosts: [0; KINDS] };

    /// Counts these examples of probes of a host that calls from these ports; empty slots do not count.
    pub fn of(samples: &[Sample], ports: PortRange) -> Self {
        let mut sampled = Self::NONE;
        for sample in samples.iter().filter(|sample| sample.taken == 1) {
            let kind = Kind::of(sample, ports) as usize;
            let [high, low] = sample.host.words();
            sampled.services[kind] |= bit(u64::from(sample.protocol) << 16 | u64::from(sample.port));
            sampled.hosts[kind] |= bit(high.rotate_left(32) ^ low);
        }
        sampled
    }

    /// Adds other examples.
    pub fn add(&mut self, other: &Self) {
        for (word, more) in self.services.iter_mut().zip(&other.services) {
            *word |= more;
        }
        for (word, more) in self.hosts.iter_mut().zip(&other.hosts) {
            *word |= more;
        }
    }

    /// How many of the distinct services are of these kinds; all of them if there is no example.
    pub fn share_of_services(&self, of: u64, kinds: &[Kind]) -> u64 {
        share(&self.services, of, kinds)
    }

    /// How many of the distinct addresses were probed at targets of these kinds.
    pub fn share_of_hosts(&self, of: u64, kinds: &[Kind]) -> u64 {
        share(&self.hosts, of, kinds)
    }
}

/// Fibonacci hashing: the upper bits of a product depend on all bits of the value.
fn bit(value: u64) -> u64 {
    1 << (value.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58)
}

fn share(sampled: &[u64; KINDS], of: u64, kinds: &[Kind]) -> u64 {
    let distinct = |word: &u64| estimate(&[*word]).value;
    let all: u64 = sampled.iter().map(distinct).sum();
    if all == 0 {
        return of;
    }
    let these: u64 = kinds.iter().map(|kind| distinct(&sampled[*kind as usize])).sum();
    // Rounds to the nearest, so that one stray example among many takes nothing away.
    (of * these + all / 2) / all
}

#[cfg(test)]
mod tests {
    use scanguard_common::address::Address;

    use super::*;

    const PORTS: PortRange = PortRange::DEFAULT;

    fn sample(protocol: u8, port: u16) -> Sample {
        Sample { host: Address::UNSPECIFIED, port, protocol, taken: 1, epoch: 1 }
    }

    #[test]
    fn shares_are_those_of_the_examples() {
        let sampled =
            Sampled::of(&[sample(6, 22), sample(6, 40_000), sample(17, 33_434), Sample::default()], PORTS);
        assert_eq!(sampled.share_of_services(30, Kind::TCP), 20);
        assert_eq!(sampled.share_of_services(30, &[Kind::UdpFixed]), 0);
        assert_eq!(sampled.share_of_services(30, Kind::UDP), 10);
    }

    #[test]
    fn where_a_host_calls_from_is_what_its_kernel_says() {
        let samples = [sample(6, 80), sample(6, 1_024), sample(6, 20_000), sample(6, 40_000)];
        for (first, last, arrives) in
            [(32_768, 60_999, 3), (1_024, 65_535, 1), (20_000, 20_000, 2), (40_000, 50_000, 3)]
        {
            let sampled = Sampled::of(&samples, PortRange { first, last });
            let only = sampled.share_of_services(4, Kind::ONLY_SERVICES);
            assert_eq!(only, arrives, "{first}-{last}");
            assert_eq!(sampled.share_of_services(4, Kind::SERVICES), 3, "{first}-{last}");
            assert_eq!(sampled.share_of_services(4, Kind::TCP), 4, "{first}-{last}");
        }
    }

    #[test]
    fn a_target_that_comes_again_and_again_is_one() {
        let mut sampled = Sampled::NONE;
        for port in 40_000..40_030 {
            sampled.add(&Sampled::of(&[sample(6, 21), sample(6, port)], PORTS));
        }
        assert!(sampled.share_of_services(31, &[Kind::TcpFixed]) <= 2);
    }

    #[test]
    fn without_examples_everything_may_be_of_the_kind() {
        assert_eq!(Sampled::NONE.share_of_services(30, Kind::TCP), 30);
    }
}
