//! Services that the sockets do not show from the card: bound to a device above it, or handed on to other hosts.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, RawFd},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::Agent,
    behind,
    lab::{Lab, Namespace, PATIENCE, SCANNER, VICTIM, VICTIM_INTERFACE, run, run_within, wait_for},
    scenario::Scenario,
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("above: services that are bound to a bridge above the card are open", || bound(true)),
        trial(
            "above: services that are bound to a bridge above the card are open without egress, too",
            || bound(false),
        ),
        trial("above: a service that is bound to another device is closed", elsewhere),
        trial("above: clients of a virtual address that is handed on at layer 2 are no scanners", handed_on),
    ]
}

const FAST: &str = "[sensor]\npoll_interval = \"100ms\"\n";
const SERVICES: std::ops::Range<u16> = 8_001..8_013;
pub(crate) const BRIDGE: &str = "br0";

/// Puts the card of the victim into a bridge, which has its address.
pub(crate) fn bridge(lab: &Lab) -> Result<()> {
    let (own, peer) = (lab.victim.mac(VICTIM_INTERFACE)?, lab.scanner.mac("scan0")?);
    for command in [
        format!("addr del {VICTIM}/24 dev {VICTIM_INTERFACE}"),
        format!("link add {BRIDGE} address {own} type bridge"),
        format!("link set {VICTIM_INTERFACE} master {BRIDGE}"),
        format!("addr add {VICTIM}/24 dev {BRIDGE}"),
        format!("link set {BRIDGE} up"),
        format!("neigh replace {SCANNER} lladdr {peer} dev {BRIDGE} nud permanent"),
    ] {
        lab.victim.ip(&command)?;
    }
    Ok(())
}

/// SO_BINDTODEVICE.
fn bind_to(socket: RawFd, device: &str) -> Result<()> {
    let length = libc::socklen_t::try_from(device.len())?;
    // SAFETY: the name and its length.
    let result = unsafe {
        libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device.as_ptr().cast(), length)
    };
    ensure!(result == 0, "SO_BINDTODEVICE: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Listens at a port of all addresses, through one device only, and answers each client with what it says.
fn serve(host: &Namespace, port: u16, device: &str) -> Result<()> {
    let (listener, socket) = host.enter(|| {
        let listener = TcpListener::bind(("0.0.0.0", port))?;
        bind_to(listener.as_raw_fd(), device)?;
        let socket = UdpSocket::bind(("0.0.0.0", port))?;
        bind_to(socket.as_raw_fd(), device)?;
        Ok((listener, socket))
    })?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut said = [0; 1];
            let _ = stream.read_exact(&mut said).and_then(|()| stream.write_all(&said));
        }
    });
    thread::spawn(move || {
        let mut said = [0; 64];
        while let Ok((length, client)) = socket.recv_from(&mut said) {
            let _ = socket.send_to(&said[..length], client);
        }
    });
    Ok(())
}

/// Visits each service over TCP and UDP.
fn visit(lab: &Lab, address: &str) -> Result<()> {
    lab.scanner.enter(|| {
        for port in SERVICES {
            let mut stream = TcpStream::connect((address, port)).with_context(|| format!("port {port}"))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0; 1])?;
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.send_to(b"x", (address, port))?;
            socket.recv_from(&mut [0; 8])?;
        }
        Ok(())
    })
}

/// A scan of other ports of the same host is found.
fn scan_is_found(lab: &Lab, agent: &Agent<'_>) -> Result<()> {
    ensure!(agent.opened().is_empty(), "found {:?}", agent.opened());
    let mut scan = lab.scanner.command("nmap");
    run_within(scan.args(["-n", "-Pn", "-sS", "-p", "100-199", VICTIM]), PATIENCE)?;
    wait_for("the scan is found", PATIENCE, || agent.opened().contains_key("vertical_scan").then_some(()))
        .map(drop)
}

fn bound(egress: bool) -> Result<()> {
    let scenario = Scenario::new(&format!("{FAST}egress = {egress}\n"))?;
    bridge(&scenario.lab)?;
    for port in SERVICES {
        serve(&scenario.lab.victim, port, BRIDGE)?;
    }
    scenario.run(|lab, agent| {
        for _ in 0..3 {
            visit(lab, VICTIM)?;
        }
        let metrics = agent.settled()?;
        let closed = metrics.get("scanguard_probes_reached_total{reach=\"closed\"}");
        ensure!(closed == 0.0, "{closed} visits met nobody");
        scan_is_found(lab, agent)
    })
}

fn elsewhere() -> Result<()> {
    let scenario = Scenario::new(FAST)?;
    bridge(&scenario.lab)?;
    scenario.lab.victim.ip("link add other0 type veth peer name other1")?;
    serve(&scenario.lab.victim, 8_001, "other0")?;
    scenario.run(|lab, agent| {
        let refused = lab.scanner.enter(|| Ok(TcpStream::connect((VICTIM, 8_001)).is_err()))?;
        ensure!(refused, "it is served");
        let closed = agent.settled()?.get("scanguard_probes_reached_total{reach=\"closed\"}");
        ensure!(closed == 1.0, "{closed} visits met nobody");
        Ok(())
    })
}

/// Addresses of the victim that the server behind it answers for.
const VIRTUAL: [&str; 12] = [
    "10.81.0.1",
    "10.81.0.2",
    "10.81.0.3",
    "10.81.0.4",
    "10.81.0.5",
    "10.81.0.6",
    "10.81.0.7",
    "10.81.0.8",
    "10.81.0.9",
    "10.81.0.10",
    "10.81.0.11",
    "10.81.0.12",
];

/// The victim hands packets to its virtual addresses on to a server, which answers the client by a way of its own.
fn handed_on() -> Result<()> {
    let scenario = Scenario::new(FAST)?.with(&["--iface", "inner0"]);
    let lab = &scenario.lab;
    let server = Namespace::new("server")?;
    lab.victim.join([("inner0", "10.82.0.1/24"), ("up0", "10.82.0.2/24")], &server)?;
    server.join([("direct0", "10.83.0.2/24"), ("back0", "10.83.0.1/24")], &lab.scanner)?;
    for address in VIRTUAL {
        lab.victim.ip(&format!("addr add {address}/32 dev lo"))?;
        server.ip(&format!("addr add {address}/32 dev lo"))?;
    }
    lab.scanner.ip(&format!("route add 10.81.0.0/24 via {VICTIM}"))?;
    server.ip(&format!("route add {SCANNER}/32 via 10.83.0.1"))?;
    for (host, interface) in
        [(&server, "up0"), (&server, "all"), (&lab.scanner, "back0"), (&lab.scanner, "all")]
    {
        host.sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
    }
    // Its address of the link is that of the card: then nothing has to be rewritten.
    server.ip(&format!("link set up0 address {}", lab.victim_mac()?))?;
    for command in [
        format!("qdisc add dev {VICTIM_INTERFACE} clsact"),
        format!(
            "filter add dev {VICTIM_INTERFACE} ingress protocol ip u32 match ip dst 10.81.0.0/24 action mirred \
             egress redirect dev inner0"
        ),
    ] {
        run(lab.victim.command("tc").args(command.split(' ')))?;
    }
    behind::serve(&server, 80)?;
    scenario.run(|lab, agent| {
        for address in VIRTUAL.into_iter().chain(VIRTUAL) {
            behind::connect(lab, address, 80, 3)?;
        }
        let metrics = agent.settled()?;
        ensure!(agent.opened().is_empty(), "found {:?}", agent.opened());
        let published = metrics.get("scanguard_probes_reached_total{reach=\"open\"}");
        ensure!(published >= 60.0, "{published} open");
        scan_is_found(lab, agent)
    })
}
