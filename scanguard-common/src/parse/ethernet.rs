//! Ethernet with up to two VLAN tags.

use crate::{
    outcome::Exit,
    packet::Packet,
    wire::{Ethernet, VlanTag, ethertype},
};

/// What the link header says.
pub(super) struct Link {
    /// What lies at `network`.
    pub(super) ethertype: u16,
    /// Offset of the network header.
    pub(super) network: usize,
    /// Whether the destination is a group.
    pub(super) to_group: bool,
}

/// How many tags are followed: a service tag and a customer tag (802.1ad).
const MAX_TAGS: usize = 2;

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, ethertype::VLAN | ethertype::SERVICE_VLAN | ethertype::OLD_SERVICE_VLAN)
}

#[inline(always)]
pub(super) fn parse<P: Packet>(packet: &P) -> Result<Link, Exit> {
    let header = packet.view::<Ethernet>(0).ok_or(Exit::TruncatedEthernet)?;
    let mut ethertype = header.ethertype.get();
    let mut network = size_of::<Ethernet>();
    for _ in 0..MAX_TAGS {
        if !is_tag(ethertype) {
            break;
        }
        let tag = packet.view::<VlanTag>(network).ok_or(Exit::TruncatedEthernet)?;
        ethertype = tag.ethertype.get();
        network += size_of::<VlanTag>();
    }
    if is_tag(ethertype) {
        return Err(Exit::UnsupportedVlan);
    }
    Ok(Link { ethertype, network, to_group: header.destination[0] & 1 != 0 })
}
