//! The networks that are never banned, each with its reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;

/// Maximum number of networks that can be allowed by hand.
pub const MAX_ALLOWED_BY_HAND: usize = 4_096;

/// Why a network is never banned. If there are several reasons, the first in this order is reported.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// This host's own address.
    Own,
    /// `response.allow`.
    Configured,
    /// `scanguard allow`.
    Hand,
    /// A connection to the SSH server.
    Ssh,
    /// It is a default gateway.
    Gateway,
    /// /etc/resolv.conf names it.
    Resolver,
    /// `response.allow_interfaces`: the network is directly at this interface.
    Interface(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own => f.write_str("it is this host's own address"),
            Self::Configured => f.write_str("the configuration allows it (response.allow)"),
            Self::Hand => f.write_str("it was allowed by hand (scanguard allow)"),
            Self::Ssh => {
                f.write_str("it has, or had a moment ago, a connection to the SSH server of this host")
            }
            Self::Gateway => f.write_str("it is a default gateway"),
            Self::Resolver => f.write_str("it is a resolver of this host"),
            Self::Interface(name) => {
                write!(f, "it is a network directly at {name} (response.allow_interfaces)")
            }
        }
    }
}

/// The allow list.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AllowList {
    nets: BTreeMap<IpNet, BTreeSet<Why>>,
    /// The kernel does not have the whole list, so a ban around an allowed address might drop it.
    pub(super) is_lacking: bool,
}

impl AllowList {
    /// Adds a network; bits beyond its prefix are dropped.
    pub fn add(&mut self, net: IpNet, why: Why) {
        self.nets.entry(net.trunc()).or_default().insert(why);
    }

    /// All networks, each with its first reason.
    pub fn entries(&self) -> impl Iterator<Item = (IpNet, &Why)> {
        self.nets.iter().filter_map(|(net, why)| Some((*net, why.first()?)))
    }

    /// At most `most` networks, in the order of their reasons.
    pub fn nets(&self, most: usize) -> BTreeSet<IpNet> {
        if self.nets.len() <= most {
            return self.nets.keys().copied().collect();
        }
        let mut entries: Vec<_> = self.entries().collect();
        // Packets from an own address do not arrive by a wire, so it needs sparing least.
        entries.sort_by_key(|(net, why)| (**why == Why::Own, *why, *net));
        entries.into_iter().take(most).map(|(net, _)| net).collect()
    }

    /// How many networks there are.
    pub fn len(&self) -> usize {
        self.nets.len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    /// Whether a whole network is allowed.
    pub fn covers(&self, net: IpNet) -> bool {
        around(net).any(|around| self.nets.contains_key(&around))
    }

    /// An allowed network that contains this one.
    pub fn around(&self, net: IpNet) -> Option<(IpNet, &Why)> {
        let found = around(net).find_map(|around| self.nets.get_key_value(&around));
        found.and_then(|(net, why)| Some((*net, why.first()?)))
    }

    /// The allowed parts of a network. A ban of the network spares them.
    pub fn within(&self, net: IpNet) -> impl Iterator<Item = (IpNet, &Why)> {
        let parts = self.nets.range(inside(net)).filter(move |(one, _)| net.contains(*one) && **one != net);
        parts.filter_map(|(net, why)| Some((*net, why.first()?)))
    }

    /// An allowed network that contains this one, or an allowed part of it.
    pub fn conflict(&self, net: IpNet) -> Option<(IpNet, &Why)> {
        self.around(net).or_else(|| self.within(net).next())
    }

    /// An address of this host or a gateway that is part of a network. So are their neighbours.
    pub fn near(&self, net: IpNet) -> Option<(IpNet, &Why)> {
        self.within(net).find(|(_, why)| matches!(why, Why::Own | Why::Gateway))
    }
}

/// The network itself and all that contain it, the narrowest first.
pub(super) fn around(net: IpNet) -> impl Iterator<Item = IpNet> {
    (0..=net.prefix_len()).rev().filter_map(move |bits| Some(IpNet::new(net.addr(), bits).ok()?.trunc()))
}

/// The range of the networks within `net` in a sorted list.
fn inside(net: IpNet) -> std::ops::RangeInclusive<IpNet> {
    let ends = |first: IpAddr, last: IpAddr| match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            (IpNet::V4(Ipv4Net::new_assert(first, 0)), IpNet::V4(Ipv4Net::new_assert(last, 32)))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            (IpNet::V6(Ipv6Net::new_assert(first, 0)), IpNet::V6(Ipv6Net::new_assert(last, 128)))
        }
        // Both ends of a network are of the same family.
        (IpAddr::V4(_) | IpAddr::V6(_), _) => (net, net),
    };
    let (first, last) = ends(net.network(), net.broadcast());
    first..=last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn whatever_overlaps_is_found() {
        let mut list = AllowList::default();
        for (text, why) in [
            ("10.0.0.0/8", Why::Configured),
            ("192.0.2.7/32", Why::Own),
            ("192.0.2.7/32", Why::Hand),
            ("2001:db8::1/128", Why::Gateway),
            ("fe80::/10", Why::Interface("eth0".to_owned())),
        ] {
            list.add(net(text), why);
        }
        for (asked, expected) in [
            ("10.1.2.3/32", Some(("10.0.0.0/8", Why::Configured))),
            ("10.0.0.0/8", Some(("10.0.0.0/8", Why::Configured))),
            ("8.0.0.0/6", Some(("10.0.0.0/8", Why::Configured))),
            ("192.0.2.0/24", Some(("192.0.2.7/32", Why::Own))),
            ("192.0.2.7/32", Some(("192.0.2.7/32", Why::Own))),
            ("192.0.2.8/32", None),
            ("192.0.2.8/29", None),
            ("11.0.0.0/8", None),
            ("2001:db8::/64", Some(("2001:db8::1/128", Why::Gateway))),
            ("2001:db8:0:1::/64", None),
            ("fe80::/64", Some(("fe80::/10", Why::Interface("eth0".to_owned())))),
            ("::/0", Some(("2001:db8::1/128", Why::Gateway))),
        ] {
            let found = list.conflict(net(asked)).map(|(net, why)| (net, why.clone()));
            assert_eq!(found, expected.map(|(text, why)| (net(text), why)), "{asked}");
        }
    }

    #[test]
    fn a_network_is_allowed_as_a_whole_or_in_parts() {
        let mut list = AllowList::default();
        for (text, why) in
            [("10.0.0.0/8", Why::Configured), ("192.0.2.7/32", Why::Own), ("192.0.2.9/32", Why::Ssh)]
        {
            list.add(net(text), why);
        }
        let parts = |text| list.within(net(text)).map(|(part, _)| part.to_string()).collect::<Vec<_>>();
        assert_eq!(list.around(net("10.1.0.0/16")).map(|(net, _)| net), Some(net("10.0.0.0/8")));
        assert_eq!((list.around(net("192.0.2.0/24")), list.around(net("8.0.0.0/6"))), (None, None));
        assert_eq!(parts("192.0.2.0/24"), ["192.0.2.7/32", "192.0.2.9/32"]);
        assert_eq!(parts("192.0.2.8/29"), ["192.0.2.9/32"]);
        assert_eq!(
            (parts("10.0.0.0/8").len(), parts("192.0.2.7/32").len()),
            (0, 0),
            "not parts, but all of it"
        );
        assert_eq!(list.near(net("192.0.2.0/24")).map(|(part, _)| part), Some(net("192.0.2.7/32")));
        assert_eq!(list.near(net("192.0.2.8/29")), None);
    }

    #[test]
    fn where_not_all_find_room_own_addresses_go_first() {
        let mut list = AllowList::default();
        list.add(net("192.0.2.1/32"), Why::Own);
        list.add(net("192.0.2.2/32"), Why::Resolver);
        list.add(net("192.0.2.3/32"), Why::Ssh);
        assert_eq!(list.nets(2), [net("192.0.2.2/32"), net("192.0.2.3/32")].into());
        assert_eq!(list.nets(3).len(), 3);
    }
}
