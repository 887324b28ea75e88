//! Services that are bound to a device (SO_BINDTODEVICE), from the kernel (sock_diag). The socket tables show such a
//! service only to packets of that device. If it lies above the card, the program on the card does not find it.

use std::{collections::BTreeSet, io, net::IpAddr};

use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP},
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use rtnetlink::sys::protocols::NETLINK_SOCK_DIAG;

use super::{Interface, NetworkError, dump::Dump};

/// A service that is bound to a device.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Bound {
    /// Its address, which may be unspecified.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: u8,
    /// The index of the device.
    pub device: u32,
}

/// Asks for such services.
pub struct Sockets(Dump);

impl Sockets {
    /// Connects. The sandbox allows this, too.
    ///
    /// # Errors
    /// No socket could be opened.
    pub fn connect() -> io::Result<Self> {
        Dump::new(NETLINK_SOCK_DIAG).map(Self)
    }

    /// All services that are bound to one of these devices.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn bound_to(&mut self, devices: &BTreeSet<u32>) -> Result<BTreeSet<Bound>, NetworkError> {
        let mut found = BTreeSet::new();
        for family in [AF_INET, AF_INET6] {
            for (protocol, states) in [
                (IPPROTO_TCP, StateFlags::LISTEN),
                // A UDP socket has one of these, with and without a peer.
                (IPPROTO_UDP, StateFlags::CLOSE | StateFlags::ESTABLISHED),
            ] {
                let socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
                let extensions = ExtensionFlags::empty();
                let request = InetRequest { family, protocol, extensions, states, socket_id };
                self.0
                    .ask(SockDiagMessage::InetRequest(request), &mut |answer| {
                        if let SockDiagMessage::InetResponse(socket) = answer {
                            let SocketId { source_address, source_port, interface_id, .. } =
                                socket.header.socket_id;
                            if devices.contains(&interface_id) {
                                found.insert(Bound {
                                    address: source_address.to_canonical(),
                                    port: source_port,
                                    protocol,
                                    device: interface_id,
                                });
                            }
                        }
                    })
                    .await?;
            }
        }
        Ok(found)
    }
}

/// The devices above some cards, by their indices: bridges, bonds and VRFs that they are ports of, VLANs and the like on
/// them, and what lies above those.
pub fn above(interfaces: &[Interface], cards: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut above = BTreeSet::new();
    let mut below: Vec<u32> = cards.iter().copied().collect();
    while let Some(index) = below.pop() {
        let controller = interfaces
            .iter()
            .find(|interface| interface.index == index)
            .and_then(|interface| interface.controller);
        let on_it = interfaces.iter().filter(|interface| interface.lower == Some(index));
        for device in controller.into_iter().chain(on_it.map(|interface| interface.index)) {
            if above.insert(device) {
                below.push(device);
            }
        }
    }
    above
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, controller: Option<u32>, lower: Option<u32>) -> Interface {
        Interface { index, controller, lower, ..Interface::default() }
    }

    #[test]
    fn what_lies_above_a_card_is_found_however_high_it_is() {
        // Two cards in a bond, a VLAN on it in a bridge, a VLAN on that; a card by itself; two that hold each other.
        let interfaces = [
            interface(2, Some(4), None),
            interface(3, Some(4), None),
            interface(4, None, None),
            interface(5, Some(6), Some(4)),
            interface(6, None, None),
            interface(7, None, Some(6)),
            interface(8, None, None),
            interface(9, Some(10), None),
            interface(10, Some(9), None),
        ];
        for (cards, expected) in [
            (&[2][..], &[4, 5, 6, 7][..]),
            (&[2, 3], &[4, 5, 6, 7]),
            (&[4], &[5, 6, 7]),
            (&[6], &[7]),
            (&[8], &[]),
            (&[9], &[9, 10]),
            (&[11], &[]),
        ] {
            let cards: BTreeSet<u32> = cards.iter().copied().collect();
            assert_eq!(above(&interfaces, &cards), expected.iter().copied().collect(), "{cards:?}");
        }
    }
}
