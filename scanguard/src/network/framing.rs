//! What the packets of an interface begin with, by its link type (`ARPHRD_`, include/uapi/linux/if_arp.h).

/// What a packet begins with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Framing {
    /// An Ethernet header.
    #[default]
    Ethernet,
    /// The IP header.
    Bare,
    /// Something that the program does not read.
    Unread(LinkType),
}

/// A link type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkType(pub u16);

impl LinkType {
    /// Why the program cannot read packets of this type.
    pub const fn why(self) -> &'static str {
        match self.0 {
            // The kernel leaves the outer IP header of a received packet before the inner one.
            IPGRE | IP6GRE => "packets in GRE arrive with their outer header before them",
            TUNNEL | TUNNEL6 | SIT => {
                "before Linux 5.14, packets in tunnels arrive with their outer headers before them"
            }
            RADIOTAP..=RADIOTAP_PLUS => "this is a monitor of Wi-Fi frames",
            INFINIBAND => "this is InfiniBand",
            CAN => "this is a CAN bus",
            _ => "packets of this link type are neither Ethernet nor IP",
        }
    }
}

const ETHER: u16 = 1;
const INFINIBAND: u16 = 32;
const CAN: u16 = 280;
const PPP: u16 = 512;
const RAWIP: u16 = 519;
const TUNNEL: u16 = 768;
const TUNNEL6: u16 = 769;
const LOOPBACK: u16 = 772;
const SIT: u16 = 776;
const IPGRE: u16 = 778;
const RADIOTAP: u16 = 801;
const RADIOTAP_PLUS: u16 = 803;
const IP6GRE: u16 = 823;
const NONE: u16 = 65534;

impl Framing {
    /// The framing of a link type.
    pub fn of(link_type: u16) -> Self {
        Self::on(link_type, &release())
    }

    fn on(link_type: u16, release: &str) -> Self {
        match link_type {
            // Loopback has a header of zeros.
            ETHER | LOOPBACK => Self::Ethernet,
            // tun and WireGuard; PPP; modems.
            NONE | PPP | RAWIP => Self::Bare,
            // ipip, ip6tnl and sit: since 5.14 the kernel takes the outer headers off.
            TUNNEL | TUNNEL6 | SIT if version(release) >= (5, 14) => Self::Bare,
            other => Self::Unread(LinkType(other)),
        }
    }
}

fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// Major and minor number of a release such as `6.1.0-50-cloud-amd64`.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_type_is_read_in_one_way_or_refused() {
        let new = "6.1.0-50-cloud-amd64";
        assert_eq!([ETHER, LOOPBACK].map(|it| Framing::on(it, new)), [Framing::Ethernet; 2]);
        assert_eq!(
            [NONE, PPP, RAWIP, TUNNEL, TUNNEL6, SIT].map(|it| Framing::on(it, new)),
            [Framing::Bare; 6]
        );
        assert_eq!(Framing::on(SIT, "5.10.0-33-amd64"), Framing::Unread(LinkType(SIT)));
        assert_eq!(Framing::on(NONE, "5.10.0-33-amd64"), Framing::Bare);
        for unread in [IPGRE, IP6GRE, RADIOTAP_PLUS, INFINIBAND, CAN, 778, 1234] {
            assert_eq!(Framing::on(unread, new), Framing::Unread(LinkType(unread)));
        }
        assert_eq!(version(""), (0, 0));
    }
}
