//! A bridge with three hosts in namespaces: a server, which the sensor watches, its clients, and an attacker.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    fixtures::lab::{Namespace, VICTIM_INTERFACE, run},
    fixtures::wire::Wire,
};

/// The server's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
/// As above.
pub const SERVER6: Ipv6Addr = Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, 1);
/// The interface of client and attacker.
const INTERFACE: &str = "e0";
/// The next hops to all addresses of the clients and of the attacker.
const HOPS: [(&str, &str); 2] = [("10.66.0.2", "fd66:0:0:2::2"), ("10.66.0.3", "fd66:0:0:3::3")];
/// Networks that are routed to each of them: 254 addresses, and 4,096 prefixes of 64 bits.
const ROUTED: [(&str, &str); 2] =
    [("10.66.1.0/24", "fd66:0:0:1000::/52"), ("10.66.2.0/24", "fd66:0:0:2000::/52")];

/// More addresses of the server, every one of which it answers for.
const HOME: (&str, &str) = ("10.67.0.0/24", "fd67::/64");

/// One of the two families of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The server's address.
    pub fn server(self) -> IpAddr {
        match self {
            Self::V4 => SERVER.into(),
            Self::V6 => SERVER6.into(),
        }
    }

    /// Another address of the server.
    pub fn home(self, number: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 67, 0, number).into(),
            Self::V6 => Ipv6Addr::new(0xfd67, 0, 0, 0, 0, 0, 0, number.into()).into(),
        }
    }

    /// An address of a client: each number is a client of its own, in IPv6 with a prefix of its own.
    pub fn client(self, number: u8) -> IpAddr {
        self.host(1, number)
    }

    /// An address of the attacker's own, likewise.
    pub fn attacker(self, number: u8) -> IpAddr {
        self.host(2, number)
    }

    fn host(self, network: u8, number: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 66, network, number).into(),
            Self::V6 => {
                let prefix = (u16::from(network) << 12) + u16::from(number);
                Ipv6Addr::new(0xfd66, 0, 0, prefix, 0, 0, 0, 1).into()
            }
        }
    }

    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// The three hosts and the bridge.
pub struct Bridge {
    /// Is attacked; the sensor runs here.
    pub server: Namespace,
    /// All honest clients, each of them with an address of its own.
    pub clients: Namespace,
    /// Attacks.
    pub attacker: Namespace,
    /// The attacker's side of the link.
    pub(super) wire: Wire,
    /// The MAC addresses of the attacker and of the server: a frame begins with the second, then has the first.
    pub(super) macs: [[u8; 6]; 2],
    _bridge: Namespace,
}

impl Bridge {
    /// Makes all of it: offloads are off, neighbours are known, so that no traffic but that of the row appears and
    /// nobody learns a neighbour from a forged packet.
    ///
    /// # Errors
    /// `ip` or `ethtool` could not.
    pub fn new() -> Result<Self> {
        let bridge = Namespace::new("bridge")?;
        let hosts = [Namespace::new("server")?, Namespace::new("clients")?, Namespace::new("attacker")?];
        bridge.ip("link add br0 type bridge mcast_snooping 0")?;
        let names = [VICTIM_INTERFACE, INTERFACE, INTERFACE];
        for (place, (host, name)) in hosts.iter().zip(names).enumerate() {
            host.sysctl("ipv6/conf/default/mldv2_unsolicited_report_interval", "1")?;
            host.sysctl("ipv4/icmp_ratelimit", "0")?;
            host.sysctl("ipv6/icmp/ratelimit", "0")?;
            host.sysctl("ipv6/ip_nonlocal_bind", "1")?;
            let port = format!("p{place}");
            bridge.ip(&format!("link add {port} type veth peer name {name} netns {}", host.name()))?;
            batch(
                &bridge,
                &format!(
                    "link set br0 addrgenmode none\nlink set br0 up\nlink set {port} addrgenmode none\n\
                     link set {port} master br0\nlink set {port} up\n"
                ),
            )?;
            // XDP is to see the tags and checksums that were sent.
            offloads_off(&bridge, &port)?;
            offloads_off(host, name)?;
        }
        let [server, clients, attacker] = hosts;
        let macs = [server.mac(VICTIM_INTERFACE)?, clients.mac(INTERFACE)?, attacker.mac(INTERFACE)?];
        let [mac, ..] = &macs;
        let neighbours = |name: &str, hop: (&str, &str), mac: &str| {
            [hop.0, hop.1]
                .map(|ip| format!("neigh replace {ip} lladdr {mac} dev {name} nud permanent\n"))
                .concat()
        };
        let mut commands = format!(
            "link set {VICTIM_INTERFACE} addrgenmode none\naddr add {SERVER}/24 dev {VICTIM_INTERFACE}\n\
             addr add {SERVER6}/48 dev {VICTIM_INTERFACE} nodad\nlink set {VICTIM_INTERFACE} up\n\
             route add local {} dev lo\nroute add local {} dev lo\n",
            HOME.0, HOME.1
        );
        for ((hop, routed), mac) in HOPS.iter().zip(ROUTED).zip(&macs[1..]) {
            commands += &neighbours(VICTIM_INTERFACE, *hop, mac);
            commands +=
                &format!("route add {} via {}\nroute add {} via {}\n", routed.0, hop.0, routed.1, hop.1);
        }
        batch(&server, &commands)?;
        for ((host, hop), routed) in [&clients, &attacker].into_iter().zip(HOPS).zip(ROUTED) {
            let own = format!(
                "link set {INTERFACE} addrgenmode none\naddr add {}/24 dev {INTERFACE}\n\
                 addr add {}/48 dev {INTERFACE} nodad\nlink set {INTERFACE} up\n\
                 route add local {} dev lo\nroute add local {} dev lo\n",
                hop.0, hop.1, routed.0, routed.1
            );
            let (ip, ip6) = (SERVER.to_string(), SERVER6.to_string());
            batch(host, &(own + &neighbours(INTERFACE, (&ip, &ip6), mac)))?;
        }
        let wire = attacker.enter(|| Wire::open(INTERFACE))?;
        let macs = [attacker.mac_bytes(INTERFACE)?, server.mac_bytes(VICTIM_INTERFACE)?];
        Ok(Self { server, clients, attacker, wire, macs, _bridge: bridge })
    }
}

/// Many commands of `ip` at once.
fn batch(host: &Namespace, commands: &str) -> Result<()> {
    use std::io::Write as _;
    let mut command = host.command("ip");
    command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().context("ip")?;
    child.stdin.take().context("stdin")?.write_all(commands.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "ip -batch: {}: {commands}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn offloads_off(host: &Namespace, interface: &str) -> Result<()> {
    let mut ethtool: Command = host.command("ethtool");
    let features = ["tx", "rx", "gro", "gso", "tso", "txvlan", "rxvlan"];
    ethtool.args(["-K", interface]).args(features.iter().flat_map(|feature| [*feature, "off"]));
    run(&mut ethtool).map(drop)
}
