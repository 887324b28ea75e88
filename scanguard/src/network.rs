//! This host's interfaces and routes, from the kernel (rtnetlink).

pub mod bound;
pub mod driver;
mod dump;
pub mod filters;
pub mod framing;
pub mod ports;
pub mod routes;
pub mod settings;
pub mod xdp_features;

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Handle, MulticastGroup, new_multicast_connection,
    packet_core::NetlinkPayload,
    packet_route::{
        AddressFamily,
        link::{InfoKind, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage, LinkXdp, XdpAttached},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    },
};
use tokio::{sync::Mutex, time::timeout};

use self::{driver::Device, dump::Dump, framing::Framing};

/// A connection to the kernel's routing tables.
#[derive(Clone)]
pub struct Network {
    handle: Handle,
    dump: Arc<Mutex<Dump>>,
    addresses_changed: Arc<AtomicBool>,
    overruns: Arc<AtomicU64>,
}

/// Which addresses are this host's own, and whether it forwards.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Local {
    /// Networks in which every address is local. Single addresses have all bits.
    pub prefixes: BTreeSet<(IpAddr, u8)>,
    /// Whether packets for other hosts are forwarded, in either family: NAT may then publish ports.
    pub forwards: bool,
}

/// An interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Interface {
    /// Kernel index. Another index means another interface, even with the same name.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Its MAC address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// What its packets begin with.
    pub framing: Framing,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Index of the bridge, bond or VRF that it is a port of.
    pub controller: Option<u32>,
    /// Index of the interface that it lies on, if it is a VLAN or the like.
    pub lower: Option<u32>,
    /// Id of the attached XDP program, in any mode.
    pub xdp_program: Option<u32>,
    /// Whether that program is attached in the network stack, not in the driver.
    pub xdp_generic: bool,
    /// The device that it belongs to, if the kernel names one.
    pub device: Option<Device>,
}

/// The kernel did not answer.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// No netlink socket, or it does not work.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// A request failed.
    #[error("rtnetlink: {0}")]
    Request(#[from] rtnetlink::Error),
    /// The kernel's answer cannot be read.
    #[error("rtnetlink: an answer that cannot be read: {0}")]
    Answer(String),
}

impl Network {
    /// Connects; the connection is served by the running tokio runtime.
    ///
    /// # Errors
    /// No socket could be opened.
    pub fn connect() -> Result<Self, NetworkError> {
        let (connection, handle, mut messages) = new_multicast_connection(&[
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv4Netconf,
            MulticastGroup::Ipv6Netconf,
        ])?;
        tokio::spawn(connection);
        let addresses_changed = Arc::new(AtomicBool::new(true));
        let overruns = Arc::new(AtomicU64::new(0));
        let (flag, count) = (Arc::clone(&addresses_changed), Arc::clone(&overruns));
        tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                if matches!(message.payload, NetlinkPayload::Overrun(_)) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                // After an overrun, too: all is read anew then.
                flag.store(true, Ordering::Relaxed);
            }
        });
        let dump = Arc::new(Mutex::new(Dump::of_routes()?));
        Ok(Self { handle, dump, addresses_changed, overruns })
    }

    /// How often the kernel could not tell of changes, since too many came at once (ENOBUFS).
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }

    /// Whether addresses or forwarding have changed since the last call; true the first time.
    pub fn addresses_changed(&self) -> bool {
        self.addresses_changed.swap(false, Ordering::Relaxed)
    }

    /// This host's own addresses: those that its local routing table delivers to itself. They include networks in
    /// which every address is accepted (`ip route add local ...`).
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn local(&self) -> Result<Local, NetworkError> {
        let mut local = Local { forwards: forwards(), ..Local::default() };
        for family in FAMILIES {
            self.each_route(family, RouteType::Local, |route| local.prefixes.extend(local_route(&route)))
                .await?;
        }
        Ok(local)
    }

    async fn each_route(
        &self,
        family: AddressFamily,
        kind: RouteType,
        mut take: impl FnMut(RouteMessage) + Send,
    ) -> Result<(), NetworkError> {
        self.dump.lock().await.routes(family, kind, &mut take).await
    }

    /// All interfaces.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn interfaces(&self) -> Result<Vec<Interface>, NetworkError> {
        // Statistics of virtual functions are large, and not needed here.
        let links =
            self.handle.link().get().set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        let answered = timeout(PATIENCE, links.execute().try_collect());
        let late = |_| NetworkError::Answer(format!("none within {} s", PATIENCE.as_secs()));
        let links: Vec<LinkMessage> = answered.await.map_err(late)??;
        Ok(links.iter().map(interface).collect())
    }

    /// Indices of the interfaces that the default routes of either family lead through, best first.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn default_route_interfaces(&self) -> Result<Vec<u32>, NetworkError> {
        let mut found = Vec::new();
        for family in FAMILIES {
            let mut defaults: Vec<(u32, u32)> = Vec::new();
            self.each_route(family, RouteType::Unicast, |route| defaults.extend(default_route(&route)))
                .await?;
            defaults.sort_unstable();
            found.extend(defaults.into_iter().map(|(_metric, index)| index));
        }
        let mut seen = std::collections::HashSet::new();
        found.retain(|index| seen.insert(*index));
        Ok(found)
    }
}

/// The name of the interface with this index, in the network namespace of this thread.
pub fn name_of(index: u32) -> Option<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: room for a name with its terminating zero.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    let text = std::ffi::CStr::from_bytes_until_nul(&name).ok().filter(|_| !found.is_null())?;
    Some(text.to_string_lossy().into_owned())
}

fn interface(message: &LinkMessage) -> Interface {
    let framing = Framing::of(u16::from(message.header.link_layer_type));
    let mut interface = Interface { index: message.header.index, framing, ..Interface::default() };
    let (mut lower, mut lies_on_another) = (None, false);
    let mut device = Device::default();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::Address(mac) => interface.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Controller(index) => interface.controller = Some(*index),
            LinkAttribute::Link(index) => lower = Some(*index),
            LinkAttribute::ParentDevName(name) => device.name.clone_from(name),
            LinkAttribute::ParentDevBusName(bus) => device.bus.clone_from(bus),
            LinkAttribute::LinkInfo(infos) => lies_on_another = infos.iter().any(is_on_another),
            LinkAttribute::Xdp(xdp) => {
                interface.xdp_generic = xdp.contains(&LinkXdp::Attached(XdpAttached::SocketBuffer));
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
    interface.lower = lower.filter(|_| lies_on_another);
    interface.device = (device != Device::default()).then_some(device);
    interface
}

/// Whether an interface is of a kind that gets its packets from the one that it lies on. Of others, such as veth and
/// tunnels, the kernel names another end.
fn is_on_another(info: &LinkInfo) -> bool {
    matches!(
        info,
        LinkInfo::Kind(
            InfoKind::Vlan
                | InfoKind::MacVlan
                | InfoKind::MacVtap
                | InfoKind::IpVlan
                | InfoKind::IpVtap
                | InfoKind::MacSec
        )
    )
}

fn local_route(route: &RouteMessage) -> Option<(IpAddr, u8)> {
    if route.header.kind != RouteType::Local {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => {
            Some((IpAddr::V4(*ip), route.header.destination_prefix_length))
        }
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => {
            Some((IpAddr::V6(*ip), route.header.destination_prefix_length))
        }
        _ => None,
    })
}

/// Whether the kernel forwards, in the namespace of this process.
fn forwards() -> bool {
    ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"]
        .iter()
        .any(|file| std::fs::read_to_string(file).is_ok_and(|text| text.trim() != "0"))
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
    // The unreachable default route at the end of every IPv6 table uses the loopback interface.
    interface.filter(|index| *index != LOOPBACK).map(|index| (metric, index))
}

/// How long the kernel may take for the list of interfaces. Thousands take some milliseconds; an answer that got lost
/// must not stop the agent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Address families that have routes.
const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];
/// `LOOPBACK_IFINDEX`, include/net/flow.h.
const LOOPBACK: u32 = 1;
