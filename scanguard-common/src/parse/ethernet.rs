//! Ethernet with VLAN tags and PPPoE sessions, and links without a header.

use super::Unread;
use crate::{
    outcome::Exit,
    packet::Packet,
    wire::{Ethernet, Pppoe, VlanTag, ethertype, ppp},
};

/// The contents of the link header.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(C)]
pub struct Link {
    /// Offset of the network header.
    pub network: u32,
    /// The type of the next header, see [`ethertype`].
    pub ethertype: u16,
    /// 1 if the frame was sent to a link-layer group (multicast or broadcast), else 0.
    pub to_group: u16,
}

impl Link {
    #[inline(always)]
    pub(super) fn new(header: &Ethernet) -> Self {
        let to_group = u16::from(header.destination[0] & 1);
        Self { network: size_of::<Ethernet>() as u32, ethertype: header.ethertype.get(), to_group }
    }

    /// A packet without a link header: its first byte has the version of IP.
    #[inline(always)]
    pub fn bare(first: u8) -> Self {
        let ethertype = match first >> 4 {
            4 => ethertype::IPV4,
            6 => ethertype::IPV6,
            _ => ethertype::NONE,
        };
        Self { network: 0, ethertype, to_group: 0 }
    }

    /// Whether there is the header of a PPPoE session at `network`.
    #[inline(always)]
    pub(super) fn is_pppoe(self) -> bool {
        self.ethertype == ethertype::PPPOE_SESSION
    }

    /// The position and type within a PPPoE session.
    #[inline(always)]
    pub(super) fn within(self, session: &Pppoe) -> Self {
        let ethertype = match (session.code, session.protocol.get()) {
            (0, ppp::IPV4) => ethertype::IPV4,
            (0, ppp::IPV6) => ethertype::IPV6,
            _ => ethertype::NONE,
        };
        Self { network: self.network + size_of::<Pppoe>() as u32, ethertype, ..self }
    }

    /// Whether there is a tag at `network`.
    #[inline(always)]
    pub(super) fn is_tag(self) -> bool {
        matches!(self.ethertype, ethertype::VLAN | ethertype::SERVICE_VLAN | ethertype::OLD_SERVICE_VLAN)
    }

    /// The position and type behind this tag.
    #[inline(always)]
    pub(super) fn behind(self, tag: &VlanTag) -> Self {
        let network = self.network + size_of::<VlanTag>() as u32;
        Self { network, ethertype: tag.ethertype.get(), ..self }
    }
}

/// How many tags are followed in place: a service tag and a customer tag (802.1ad).
const MAX_TAGS: usize = 2;

#[inline(always)]
pub(super) fn parse<P: Packet>(packet: &P) -> Result<Link, Unread> {
    let mut link = Link::new(packet.view::<Ethernet>(0).ok_or(Exit::TruncatedEthernet)?);
    for _ in 0..MAX_TAGS {
        if !link.is_tag() {
            break;
        }
        let tag = packet.view::<VlanTag>(link.network as usize).ok_or(Unread::Deeper)?;
        link = link.behind(tag);
    }
    if link.is_pppoe() {
        let session = packet.view::<Pppoe>(link.network as usize).ok_or(Unread::Deeper)?;
        link = link.within(session);
    }
    if link.is_tag() { Err(Unread::Deeper) } else { Ok(link) }
}
