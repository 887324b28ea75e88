//! Which source an address counts for: an IPv4 address as it is, an IPv6 address by its prefix, or by the IPv4 address
//! in it where it belongs to a translator or tunnel.
//!
//! The kernel program does the same (`scanguard_common::translator`); this is the agent's side, for whatever does not
//! come from the program: access logs, orders, the allow list, captures.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};
use scanguard_common::{
    address::{Address, SourceMask, source_bits},
    translator::{self, Filter, LENGTHS},
};

use crate::cidr;

/// How addresses become sources.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sources {
    ipv6_prefix: u8,
    translators: Vec<Ipv6Net>,
    filter: Filter,
}

impl Sources {
    /// Keeps this many bits of an IPv6 address. `translators` are the prefixes that the operator names.
    pub fn new(ipv6_prefix: u8, translators: &[Ipv6Net]) -> Self {
        let mut filter = Filter::default();
        for prefix in translators {
            filter.add(Address::from(IpAddr::V6(prefix.network())));
        }
        Self { ipv6_prefix, translators: translators.to_vec(), filter }
    }

    /// The same without the named prefixes that overlap with any of these networks, and those prefixes, each with the
    /// first such network.
    #[must_use]
    pub fn apart_from(&self, nets: &[IpNet]) -> (Self, Vec<(Ipv6Net, IpNet)>) {
        let conflict = |prefix: &Ipv6Net| nets.iter().find(|net| overlap(IpNet::V6(*prefix), **net)).copied();
        let (mut apart, mut conflicts) = (Vec::new(), Vec::new());
        for prefix in &self.translators {
            match conflict(prefix) {
                Some(net) => conflicts.push((*prefix, net)),
                None => apart.push(*prefix),
            }
        }
        (Self::new(self.ipv6_prefix, &apart), conflicts)
    }

    /// The prefixes that the operator names.
    pub fn translators(&self) -> &[Ipv6Net] {
        &self.translators
    }

    /// The filter in front of them, for the kernel program.
    pub fn filter(&self) -> Filter {
        self.filter
    }

    /// How many bits of an IPv6 address are kept.
    pub fn ipv6_prefix(&self) -> u8 {
        self.ipv6_prefix
    }

    /// The source for which an address counts.
    pub fn of(&self, address: Address) -> Address {
        let mask = SourceMask::new(self.ipv6_prefix);
        translator::source(address, mask, self.filter, |address| self.embedded(address))
    }

    fn embedded(&self, address: Address) -> Option<Address> {
        let prefix = |address: Address| {
            let IpAddr::V6(ip) = address.to_ip() else {
                return None;
            };
            let around = self.translators.iter().find(|prefix| prefix.contains(&ip));
            around.map(Ipv6Net::prefix_len)
        };
        translator::embedded(address, self.filter, prefix)
    }

    /// The network of a source: a single address, or the IPv6 prefix that the source stands for.
    pub fn net(&self, source: &Address) -> IpNet {
        cidr::net(*source, source_bits(*source, self.ipv6_prefix))
    }

    /// The IPv4 network that an IPv6 network stands for: all its addresses are those of clients of this IPv4 network.
    /// Any other network is returned as it is, for example the prefix of a translator, which has clients of all
    /// networks.
    pub fn meant(&self, net: IpNet) -> IpNet {
        let IpNet::V6(v6) = net.trunc() else {
            return net;
        };
        let ends = [v6.network(), v6.broadcast()].map(|ip| self.embedded(Address::from(IpAddr::V6(ip))));
        let [Some(IpAddr::V4(one)), Some(IpAddr::V4(other))] = ends.map(|end| end.map(Address::to_ip)) else {
            return net;
        };
        // An address may be embedded inverted, so that the last one comes first.
        let (first, last) = (one.min(other).to_bits(), one.max(other).to_bits());
        let bits = (first ^ last).leading_zeros();
        // All bits beyond the prefix must be free, and at least one bit of the IPv4 address must not be.
        let is_whole = first.trailing_zeros() >= 32 - bits && last.trailing_ones() >= 32 - bits;
        let bits = u8::try_from(bits).unwrap_or(32);
        match IpNet::new(IpAddr::V4(first.into()), bits) {
            Ok(meant) if is_whole && bits > 0 && net == net.trunc() => meant,
            Ok(_) | Err(_) => net,
        }
    }

    /// Whether any address of an IPv6 network counts for an IPv4 source.
    pub fn has_embedded(&self, net: IpNet) -> bool {
        let IpNet::V6(_) = net else {
            return false;
        };
        let named = self.translators.iter().copied();
        WELL_KNOWN.into_iter().chain(named).any(|prefix| overlap(IpNet::V6(prefix), net))
    }
}

/// The prefixes that nobody needs to name.
const WELL_KNOWN: [Ipv6Net; 4] = [
    Ipv6Net::new_assert(std::net::Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    Ipv6Net::new_assert(std::net::Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    Ipv6Net::new_assert(std::net::Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    Ipv6Net::new_assert(std::net::Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
];
/// The one of them in which each network chooses the layout of its translator (RFC 8215).
const LOCAL_USE: Ipv6Net = WELL_KNOWN[1];
/// IPv4 that is mapped into IPv6 (RFC 4291, 2.5.5.2): no packet has such an address.
const MAPPED: Ipv6Net = Ipv6Net::new_assert(std::net::Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);

/// Whether two networks have an address in common.
fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// How many prefixes can be named.
pub const MOST_TRANSLATORS: usize = scanguard_common::abi::MAX_TRANSLATORS as usize;

/// A complaint about the first two of these prefixes that overlap.
pub fn overlapping(translators: &[Ipv6Net]) -> Option<String> {
    let pairs = translators
        .iter()
        .enumerate()
        .flat_map(|(place, one)| translators[..place].iter().map(move |other| (one, other)));
    let mut both = pairs.filter(|(one, other)| overlap(IpNet::V6(**one), IpNet::V6(**other)));
    both.next().map(|(one, other)| {
        format!(
            "{one} and {other} overlap, and an address in both could stand for two clients: leave one out"
        )
    })
}

/// Reads the prefix of a translator.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn translator(text: &str) -> Result<Ipv6Net, String> {
    let lengths = LENGTHS.map(|length| format!("/{length}")).join(", ");
    let net = text.parse::<IpNet>().map_err(|_| {
        format!(
            "\"{text}\" is no IPv6 prefix with its length, such as \"64:ff9b::/96\" or \"2001:db8:64::/48\""
        )
    })?;
    let IpNet::V6(prefix) = cidr::without_host_bits(text, net)? else {
        return Err(format!(
            "{text}: the prefix of a translator is one of IPv6, such as \"2001:db8:64::/96\""
        ));
    };
    if prefix.prefix_len() > 96 {
        return Err(format!(
            "{text} is longer than /96, which leaves no room for an IPv4 address: name the prefix that the \
             translator puts before it ({lengths})"
        ));
    }
    if !LENGTHS.contains(&prefix.prefix_len()) {
        return Err(format!(
            "{text}: no translator has a prefix of this length; RFC 6052 has {lengths}. See how yours is configured"
        ));
    }
    let net = IpNet::V6(prefix);
    if overlap(net, IpNet::V6(MAPPED)) {
        return Err(format!("{text} has the addresses {MAPPED}, which are IPv4 already: leave it out"));
    }
    let is_part = LOCAL_USE.contains(&prefix);
    match WELL_KNOWN.iter().find(|known| overlap(IpNet::V6(**known), net)) {
        Some(known) if *known != prefix && !is_part => {
            Err(format!("{text} overlaps with {known}, whose layout is fixed and known: leave it out"))
        }
        Some(_) | None => Ok(prefix),
    }
}

/// A complaint about the first of these prefixes that overlaps with a network that is ours.
pub fn not_ours(translators: &[Ipv6Net], home: &[IpNet]) -> Option<String> {
    let (_, conflicts) = Sources::new(128, translators).apart_from(home);
    conflicts.first().map(|(prefix, net)| {
        format!(
            "the prefix {prefix} of a translator overlaps with {net} in network.home: the hosts of that network \
             would be taken for IPv4 clients. Name only the prefix that the translator uses, or take it out of \
             network.home"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn sources(translators: &[&str]) -> Sources {
        let prefixes: Vec<_> = translators.iter().map(|text| translator(text).unwrap()).collect();
        Sources::new(64, &prefixes)
    }

    #[test]
    fn addresses_of_named_translators_count_for_their_client() {
        let sources = sources(&["2001:db8:64::/96", "2001:db8:65::/48", "64:ff9b:1:fffe::/64"]);
        for (text, source) in [
            ("2001:db8:64::192.0.2.1", "192.0.2.1"),
            ("2001:db8:64:0:0:1:c000:201", "2001:db8:64::"),
            ("2001:db8:65:c000:2:100::", "192.0.2.1"),
            ("64:ff9b:1:fffe:c0:2:100::", "192.0.2.1"),
            ("64:ff9b:1:ffff::192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::"),
            ("192.0.2.7", "192.0.2.7"),
        ] {
            let found = sources.of(Address::from(text.parse::<IpAddr>().unwrap()));
            assert_eq!(found.to_ip(), source.parse::<IpAddr>().unwrap(), "{text}");
        }
    }

    #[test]
    fn networks_of_clients_mean_those_clients() {
        let sources = sources(&["2001:db8:65::/48"]);
        for (text, meant) in [
            ("64:ff9b::192.0.2.1/128", "192.0.2.1/32"),
            ("64:ff9b::192.0.2.0/120", "192.0.2.0/24"),
            ("64:ff9b::/96", "64:ff9b::/96"),
            ("64:ff9b::/64", "64:ff9b::/64"),
            ("2001:db8:65:c000::/56", "192.0.0.0/8"),
            ("2001:db8:65:c000::/64", "192.0.0.0/16"),
            ("2001:db8:65:c000:2:100::/88", "192.0.2.1/32"),
            ("2001:db8:65:c000:2:100::/128", "192.0.2.1/32"),
            ("2001:db8:65::/48", "2001:db8:65::/48"),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2/128", "192.0.2.45/32"),
            ("2001:0:4136:e378::/64", "2001:0:4136:e378::/64"),
            ("2002:c000:204::/48", "192.0.2.4/32"),
            ("2002:c000:204:5::/64", "192.0.2.4/32"),
            ("2002::/16", "2002::/16"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
        ] {
            assert_eq!(sources.meant(net(text)), net(meant), "{text}");
        }
        for (text, has) in [("64:ff9b::/64", true), ("2001:db8::/32", true), ("2001:db8:1::/64", false)] {
            assert_eq!(sources.has_embedded(net(text)), has, "{text}");
        }
    }

    #[test]
    fn prefixes_that_no_translator_has_are_refused_with_a_next_step() {
        for (text, said) in [
            ("2001:db8:64::/97", "longer than /96"),
            ("2001:db8:64::/80", "RFC 6052 has /32, /40, /48, /56, /64, /96"),
            ("2001:db8:64::1/96", "is \"2001:db8:64::/96\" meant?"),
            ("192.0.2.0/24", "is one of IPv6"),
            ("nat64", "is no IPv6 prefix"),
            ("64:ff9b::/32", "overlaps with 64:ff9b::/96"),
            ("2002:c000:204::/48", "whose layout is fixed"),
            ("::/32", "IPv4 already"),
        ] {
            let error = translator(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        for text in ["64:ff9b::/96", "64:ff9b:1::/48", "64:ff9b:1:ab::/64", "::ffff:0:0:0/96"] {
            assert!(translator(text).is_ok(), "{text}");
        }
        let both = ["2001:db8:64::/48", "2001:db8:64:1::/64"].map(|text| translator(text).unwrap());
        assert!(overlapping(&both).unwrap().contains("overlap"));
        assert_eq!(overlapping(&both[..1]), None);
    }

    #[test]
    fn prefixes_around_our_own_addresses_are_not_used() {
        let sources = sources(&["2001:db8:64::/96", "2001:db8:1::/64"]);
        let (apart, conflicts) = sources.apart_from(&[net("2001:db8:1::5/128"), net("192.0.2.1/32")]);
        assert_eq!(apart.translators().len(), 1);
        assert_eq!(conflicts, [("2001:db8:1::/64".parse().unwrap(), net("2001:db8:1::5/128"))]);
    }
}
