//! Which interfaces have a driver with native XDP, from the kernel (generic netlink, family `netdev`, Linux 6.3). That a
//! driver has it does not mean that it takes a program now: an MTU or an offload may be in the way.

use std::{collections::BTreeSet, io};

use netlink_packet_generic::{
    GenlFamily, GenlHeader, GenlMessage,
    ctrl::{GenlCtrl, GenlCtrlCmd, nlas::GenlCtrlAttrs},
};
use rtnetlink::{
    packet_core::{DecodeError, Emitable, NlasIterator, ParseableParametrized},
    sys::protocols::NETLINK_GENERIC,
};

use super::{NetworkError, dump::Dump};

/// Of include/uapi/linux/netdev.h.
mod netdev {
    pub(super) const FAMILY: &str = "netdev";
    pub(super) const VERSION: u8 = 1;
    pub(super) const DEV_GET: u8 = 1;
    pub(super) const IFINDEX: u16 = 1;
    pub(super) const XDP_FEATURES: u16 = 3;
    /// `NETDEV_XDP_ACT_BASIC`: it runs programs, and takes their verdicts.
    pub(super) const BASIC: u64 = 1;
}

/// The indices of the interfaces of this network namespace whose driver has native XDP.
///
/// # Errors
/// The kernel does not say, as before Linux 6.3.
pub async fn with_native_xdp() -> Result<BTreeSet<u32>, NetworkError> {
    let mut dump = Dump::new(NETLINK_GENERIC)?;
    let request = GenlMessage::from_payload(GenlCtrl { cmd: GenlCtrlCmd::GetFamily, nlas: Vec::new() });
    let mut family = None;
    dump.ask(request, &mut |answer: GenlMessage<GenlCtrl>| family = family.or(id_of(&answer.payload)))
        .await?;
    let absent = || io::Error::new(io::ErrorKind::Unsupported, "the kernel has no family netdev (Linux 6.3)");
    let family = family.ok_or_else(absent)?;
    let mut request = GenlMessage::from_payload(Device::default());
    request.set_resolved_family_id(family);
    let mut found = BTreeSet::new();
    dump.ask(request, &mut |GenlMessage { payload: Device { index, features }, .. }| {
        found.extend((features & netdev::BASIC != 0).then_some(index));
    })
    .await?;
    Ok(found)
}

/// The number of the family, if it is the one that is looked for.
fn id_of(family: &GenlCtrl) -> Option<u16> {
    let is_it = |it: &GenlCtrlAttrs| matches!(it, GenlCtrlAttrs::FamilyName(name) if name == netdev::FAMILY);
    family.nlas.iter().any(is_it).then_some(())?;
    family.nlas.iter().find_map(|it| match it {
        GenlCtrlAttrs::FamilyId(id) => Some(*id),
        _ => None,
    })
}

/// A device, as the kernel describes it. As a request, it asks for all.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Device {
    index: u32,
    features: u64,
}

impl GenlFamily for Device {
    fn family_name() -> &'static str {
        netdev::FAMILY
    }

    fn command(&self) -> u8 {
        netdev::DEV_GET
    }

    fn version(&self) -> u8 {
        netdev::VERSION
    }
}

impl Emitable for Device {
    fn buffer_len(&self) -> usize {
        0
    }

    fn emit(&self, _buffer: &mut [u8]) {}
}

impl ParseableParametrized<[u8], GenlHeader> for Device {
    fn parse_with_param(buffer: &[u8], _header: GenlHeader) -> Result<Self, DecodeError> {
        let mut device = Self::default();
        for attribute in NlasIterator::new(buffer) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                netdev::IFINDEX => device.index = u32::from_ne_bytes(sized(value)?),
                netdev::XDP_FEATURES => device.features = u64::from_ne_bytes(sized(value)?),
                _ => {}
            }
        }
        Ok(device)
    }
}

fn sized<const N: usize>(value: &[u8]) -> Result<[u8; N], DecodeError> {
    value.try_into().map_err(|_| DecodeError::from(format!("{} bytes in place of {N}", value.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: GenlHeader = GenlHeader { cmd: netdev::DEV_GET, version: netdev::VERSION };

    #[test]
    fn a_device_is_read_from_its_attributes_whatever_else_there_is() {
        // Index 2; padding; features 0x21; the largest packet in zero-copy mode, which is not read.
        let bytes = [
            [8, 0, 1, 0, 2, 0, 0, 0].as_slice(),
            &[4, 0, 2, 0],
            &[12, 0, 3, 0, 0x21, 0, 0, 0, 0, 0, 0, 0],
            &[8, 0, 4, 0, 1, 0, 0, 0],
        ]
        .concat();
        let device = Device::parse_with_param(&bytes, HEADER).unwrap();
        assert_eq!(device, Device { index: 2, features: 0x21 });
    }

    #[test]
    fn an_attribute_of_another_size_is_an_error() {
        assert!(Device::parse_with_param(&[6, 0, 1, 0, 2, 0, 0, 0], HEADER).is_err());
    }
}
