//! What the kernel says of this host's interfaces and routes (rtnetlink).

use std::{io, net::Ipv4Addr, net::Ipv6Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::{
    Handle, RouteMessageBuilder, new_connection,
    packet_route::{
        link::{LinkAttribute, LinkExtentMask, LinkMessage, LinkXdp},
        route::{RouteAttribute, RouteMessage},
    },
};

/// A connection to the kernel's routing tables.
#[derive(Clone)]
pub struct Network {
    handle: Handle,
}

/// An interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interface {
    /// Kernel index: another one means another interface, though it may have the same name.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Id of the XDP program that is attached, in whatever mode.
    pub xdp_program: Option<u32>,
}

/// The kernel did not answer.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No netlink socket.
    #[error("no netlink socket: {0}")]
    Connect(#[from] io::Error),
    /// A request failed.
    #[error("rtnetlink: {0}")]
    Request(#[from] rtnetlink::Error),
}

impl Network {
    /// Connects; the connection is served by the running tokio runtime.
    ///
    /// # Errors
    /// No socket could be had.
    pub fn connect() -> Result<Self, NetworkError> {
        let (connection, handle, _messages) = new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// All interfaces.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn interfaces(&self) -> Result<Vec<Interface>, NetworkError> {
        // Statistics of virtual functions are of no use here, and large.
        let links = self
            .handle
            .link()
            .get()
            .set_filter_mask(rtnetlink::packet_route::AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        let links: Vec<LinkMessage> = links.execute().try_collect().await?;
        Ok(links.iter().map(interface).collect())
    }

    /// Indices of the interfaces that the default routes of either family lead through, best first.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn default_route_interfaces(&self) -> Result<Vec<u32>, NetworkError> {
        let requests =
            [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()];
        let mut found = Vec::new();
        for request in requests {
            let routes: Vec<RouteMessage> = self.handle.route().get(request).execute().try_collect().await?;
            let mut defaults: Vec<(u32, u32)> = routes.iter().filter_map(default_route).collect();
            defaults.sort_unstable();
            found.extend(defaults.into_iter().map(|(_metric, index)| index));
        }
        let mut seen = std::collections::HashSet::new();
        found.retain(|index| seen.insert(*index));
        Ok(found)
    }
}

fn interface(message: &LinkMessage) -> Interface {
    let mut interface = Interface { index: message.header.index, ..Interface::default() };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Xdp(xdp) => {
                interface.xdp_program = xdp.iter().find_map(|xdp| match xdp {
                    LinkXdp::ProgId(id)
                    | LinkXdp::DrvProgId(id)
                    | LinkXdp::SkbProgId(id)
                    | LinkXdp::HwProgId(id) => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    interface
}

/// Metric and interface of a default route.
fn default_route(route: &RouteMessage) -> Option<(u32, u32)> {
    if route.header.destination_prefix_length != 0 {
        return None;
    }
    let mut metric = 0;
    let mut interface = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    // The unreachable default that every IPv6 table ends with goes through the loopback interface.
    interface.filter(|index| *index != LOOPBACK).map(|index| (metric, index))
}

/// `LOOPBACK_IFINDEX`, include/net/flow.h.
const LOOPBACK: u32 = 1;
