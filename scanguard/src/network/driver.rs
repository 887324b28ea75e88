//! The driver of an interface, and what keeps it from running programs itself.

use std::fs;

use super::Interface;

/// The device that an interface belongs to, as the kernel names it (Linux 5.14).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Device {
    /// Its bus: `pci`, `virtio`.
    pub bus: String,
    /// Its name on that bus.
    pub name: String,
}

/// What is known of a driver that does not take a program.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Driver {
    /// Its name, such as `virtio_net`.
    pub name: String,
    /// Of virtio, what host and guest agreed on: a digit for each feature.
    features: Option<String>,
    /// The first two numbers of the kernel's release, where they can be read.
    kernel: Option<(u32, u32)>,
}

/// Features of virtio's network cards, include/uapi/linux/virtio_net.h.
mod feature {
    pub(super) const CTRL_GUEST_OFFLOADS: usize = 2;
    /// What the host does for the guest with what comes: checksums and joined segments.
    pub(super) const OFFLOADS: [(usize, &str); 7] = [
        (1, "guest_csum"),
        (7, "guest_tso4"),
        (8, "guest_tso6"),
        (9, "guest_ecn"),
        (10, "guest_ufo"),
        (54, "guest_uso4"),
        (55, "guest_uso6"),
    ];
}

/// The largest MTU whose packets fit into a page beside what the kernel keeps there, in any driver, rounded down.
const ONE_PAGE: u32 = 3400;

/// Drivers of cards that no Linux has native XDP for.
const GENERIC_ONLY: [&str; 8] =
    ["8139cp", "8139too", "e1000", "e1000e", "ne2k-pci", "pcnet32", "r8169", "tg3"];

/// Drivers that have native XDP since a Linux that is newer than the oldest that does.
const LATE: [(&str, (u32, u32)); 1] = [("vmxnet3", (6, 6))];

/// The first two numbers of a release.
fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

impl Driver {
    /// The driver of a device.
    pub fn of(device: &Device) -> Option<Self> {
        // By its bus, since /sys/class/net shows the interfaces of one network namespace only.
        let path = format!("/sys/bus/{}/devices/{}", device.bus, device.name);
        let driver = fs::read_link(format!("{path}/driver")).ok()?;
        let features = (device.bus == "virtio").then(|| fs::read_to_string(format!("{path}/features")).ok());
        Some(Self {
            name: driver.file_name()?.to_string_lossy().into_owned(),
            features: features.flatten().map(|text| text.trim().to_owned()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().as_deref().and_then(numbers),
        })
    }

    /// What keeps it from native mode, with what mends that, as far as it is known.
    pub fn obstacle(&self, interface: &str, mtu: u32) -> Option<String> {
        if GENERIC_ONLY.contains(&self.name.as_str()) {
            return Some(format!("its driver, {}, has no native mode", self.name));
        }
        let is_late = |(name, since): &&(&str, (u32, u32))| {
            *name == self.name && self.kernel.is_some_and(|kernel| kernel < *since)
        };
        if let Some((name, (major, minor))) = LATE.iter().find(is_late) {
            return Some(format!("its driver, {name}, has native mode from Linux {major}.{minor} on"));
        }
        let offloads = self.joined_segments();
        if !offloads.is_empty() {
            return Some(format!(
                "the hypervisor hands over joined segments and does not let this host turn that off: have it offer \
                 ctrl_guest_offloads (QEMU: `-device virtio-net-pci,ctrl_guest_offloads=on`), or none of {}",
                offloads.join(", ")
            ));
        }
        if mtu > ONE_PAGE {
            return Some(format!(
                "its driver, {}, may want packets to fit into a page: `ip link set dev {interface} mtu {ONE_PAGE}`",
                self.name
            ));
        }
        None
    }

    /// What the host hands over that programs cannot take, if this host cannot turn it off.
    fn joined_segments(&self) -> Vec<&'static str> {
        let Some(features) = &self.features else { return Vec::new() };
        let has = |bit: usize| features.as_bytes().get(bit) == Some(&b'1');
        if has(feature::CTRL_GUEST_OFFLOADS) {
            return Vec::new();
        }
        feature::OFFLOADS.iter().filter(|(bit, _)| has(*bit)).map(|(_, name)| *name).collect()
    }
}

/// Why an interface does not take native mode, as far as it is known: the kernel says no more than that it is not
/// supported.
pub fn explained(interface: &Interface, reason: &str) -> String {
    let driver = interface.device.as_ref().and_then(Driver::of);
    let obstacle = driver.and_then(|driver| driver.obstacle(&interface.name, interface.mtu));
    obstacle.map_or_else(|| reason.to_owned(), |obstacle| format!("{reason}; {obstacle}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn virtio(bits: &[usize]) -> Driver {
        let features = (0..64).map(|bit| if bits.contains(&bit) { '1' } else { '0' }).collect();
        Driver { name: "virtio_net".to_owned(), features: Some(features), kernel: None }
    }

    #[test]
    fn joined_segments_that_the_guest_cannot_turn_off_are_named() {
        let said = virtio(&[1, 7, 8]).obstacle("eth0", 1500).unwrap();
        assert!(
            said.contains("ctrl_guest_offloads=on") && said.ends_with("guest_csum, guest_tso4, guest_tso6"),
            "{said}"
        );
        assert_eq!(virtio(&[1, 2, 7, 8]).obstacle("eth0", 1500), None);
        assert_eq!(virtio(&[]).obstacle("eth0", 1500), None);
    }

    #[test]
    fn an_mtu_beyond_a_page_is_named_with_the_command_that_lowers_it() {
        let said = virtio(&[2]).obstacle("eth0", 9000).unwrap();
        assert!(said.contains("`ip link set dev eth0 mtu 3400`"), "{said}");
    }

    #[test]
    fn a_kernel_whose_driver_is_too_old_is_told_from_an_mtu_that_is_too_large() {
        let vmxnet3 = |release: &str| {
            let driver = Driver { name: "vmxnet3".to_owned(), features: None, kernel: numbers(release) };
            driver.obstacle("eth0", 9000).unwrap()
        };
        assert_eq!(vmxnet3("6.1.0-50-amd64"), "its driver, vmxnet3, has native mode from Linux 6.6 on");
        assert!(vmxnet3("6.12.117+deb13").contains("mtu 3400") && vmxnet3("6.6.0").contains("mtu 3400"));
        assert!(vmxnet3("unknown").contains("mtu 3400"));
    }

    #[test]
    fn a_driver_without_native_mode_is_named() {
        let driver = |name: &str| Driver { name: name.to_owned(), features: None, kernel: None };
        assert!(driver("e1000e").obstacle("eth0", 9000).unwrap().contains("e1000e, has no native mode"));
        assert_eq!(driver("ixgbe").obstacle("eth0", 1500), None);
    }
}
