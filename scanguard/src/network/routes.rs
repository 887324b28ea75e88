//! Where routes lead: gateways, and networks that are directly at an interface.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};

use super::{FAMILIES, Network, NetworkError};

/// The contents of the routes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Routes {
    /// Next hops of default routes, in any table.
    pub gateways: BTreeSet<IpAddr>,
    /// Networks of routes without a next hop, by the index of their interface.
    pub attached: BTreeMap<u32, BTreeSet<IpNet>>,
    /// Networks of other routes than the default ones that have a next hop.
    pub beyond: BTreeSet<IpNet>,
}

impl Network {
    /// Reads all routes of both families.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn routes(&self) -> Result<Routes, NetworkError> {
        let mut routes = Routes::default();
        for family in FAMILIES {
            self.each_route(family, RouteType::Unicast, |message| routes.add(&message)).await?;
        }
        Ok(routes)
    }
}

impl Routes {
    fn add(&mut self, message: &RouteMessage) {
        if message.header.kind != RouteType::Unicast {
            return;
        }
        let hops: BTreeSet<_> = next_hops(&message.attributes).collect();
        if message.header.destination_prefix_length == 0 {
            return self.gateways.extend(hops);
        }
        let (mut interface, mut destination) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Oif(index) => interface = Some(*index),
                RouteAttribute::Destination(address) => destination = ip(address),
                _ => {}
            }
        }
        let net = destination.and_then(|ip| IpNet::new(ip, message.header.destination_prefix_length).ok());
        match (net, interface) {
            (Some(net), Some(interface)) if hops.is_empty() => {
                self.attached.entry(interface).or_default().insert(net.trunc());
            }
            (Some(net), _) if !hops.is_empty() => _ = self.beyond.insert(net.trunc()),
            _ => {}
        }
    }
}

/// The next hops of a route; it may have several paths.
fn next_hops(attributes: &[RouteAttribute]) -> Box<dyn Iterator<Item = IpAddr> + '_> {
    Box::new(attributes.iter().flat_map(|attribute| -> Box<dyn Iterator<Item = IpAddr> + '_> {
        match attribute {
            RouteAttribute::Gateway(address) => Box::new(ip(address).into_iter()),
            RouteAttribute::Via(RouteVia::Inet(ip)) => Box::new(std::iter::once(IpAddr::V4(*ip))),
            RouteAttribute::Via(RouteVia::Inet6(ip)) => Box::new(std::iter::once(IpAddr::V6(*ip))),
            RouteAttribute::MultiPath(paths) => {
                Box::new(paths.iter().flat_map(|path| next_hops(&path.attributes)))
            }
            _ => Box::new(std::iter::empty()),
        }
    }))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::route::RouteNextHop;

    use super::*;

    fn route(bits: u8, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.header.destination_prefix_length = bits;
        message.attributes = attributes;
        message
    }

    fn gateway(text: &str) -> RouteAttribute {
        RouteAttribute::Gateway(RouteAddress::Inet(text.parse().unwrap()))
    }

    #[test]
    fn gateways_and_attached_networks_are_told_apart() {
        let destination = |text: &str| RouteAttribute::Destination(RouteAddress::Inet(text.parse().unwrap()));
        let mut path = RouteNextHop::default();
        path.attributes = vec![gateway("192.0.2.2")];
        let via = RouteAttribute::Via(RouteVia::Inet6("fe80::1".parse().unwrap()));
        let mut routes = Routes::default();
        for message in [
            route(0, vec![RouteAttribute::Oif(2), gateway("192.0.2.1")]),
            route(0, vec![RouteAttribute::MultiPath(vec![path])]),
            route(0, vec![RouteAttribute::Oif(2), via]),
            route(24, vec![RouteAttribute::Oif(2), destination("198.51.100.0")]),
            route(24, vec![RouteAttribute::Oif(2), destination("203.0.113.0"), gateway("192.0.2.1")]),
        ] {
            routes.add(&message);
        }
        let gateways: Vec<_> = routes.gateways.iter().map(ToString::to_string).collect();
        assert_eq!(gateways, ["192.0.2.1", "192.0.2.2", "fe80::1"]);
        assert_eq!(routes.attached, [(2, ["198.51.100.0/24".parse().unwrap()].into())].into());
    }
}
