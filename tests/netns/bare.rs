//! A link without a header: a real tun device, whose other end is this test.

use std::{fs::File, io::Write as _, net::Ipv4Addr, os::fd::AsRawFd as _};

use anyhow::{Context as _, Result, ensure};
use etherparse::TcpHeader;
use libtest_mimic::Trial;
use scanguard_common::wire::{protocol, tcp_flags::SYN};
use scanguard_tests::fixtures::{
    agent::{Agent, LISTEN},
    frames::{V4, tcp, v4_packet},
    lab::{Lab, Namespace, PATIENCE, wait_for},
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("a scan by tun is found, with its answers, and no packet is not_ip", scanned)]
}

const HERE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const SCANNER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const PORTS: u16 = 200;

/// Makes a tun device, and gives its other end.
fn tun(namespace: &Namespace) -> Result<File> {
    let file = namespace.enter(|| {
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        let mut request = [0u8; 40];
        request[..4].copy_from_slice(b"tun0");
        let flags = u16::try_from(libc::IFF_TUN | libc::IFF_NO_PI)?;
        request[16..18].copy_from_slice(&flags.to_ne_bytes());
        // SAFETY: an open descriptor, and a request of the size that the kernel takes.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
        ensure!(result == 0, "TUNSETIFF: {}", std::io::Error::last_os_error());
        Ok(file)
    })?;
    namespace.ip("addr add 10.99.0.1/24 dev tun0")?;
    namespace.ip("link set tun0 up")?;
    Ok(file)
}

fn scanned() -> Result<()> {
    let lab = Lab::new()?;
    let mut other_end = tun(&lab.victim)?;
    let arguments = ["run", "--iface", "tun0", "--listen", LISTEN, "--format", "json"];
    let mut agent = Agent::spawn(&lab.victim, &arguments)?;
    wait_for("the agent is ready", PATIENCE, || {
        agent.get("/readyz").ok().filter(|(status, _)| *status == 200)
    })
    .with_context(|| agent.said())?;
    let syn = |port| {
        let with =
            V4 { protocol: protocol::TCP, source: Some(SCANNER), destination: Some(HERE), ..V4::default() };
        let (mut header, _) = TcpHeader::from_slice(&tcp(SYN, port))?;
        header.checksum = header.calc_checksum_ipv4_raw(SCANNER.octets(), HERE.octets(), &[])?;
        Ok::<_, anyhow::Error>(v4_packet(&with, &header.to_bytes()))
    };
    for port in 1..=PORTS {
        other_end.write_all(&syn(port)?)?;
    }
    // Too short for IP: it is counted, and passed on as it came.
    other_end.write_all(&[0x45, 0, 0])?;
    let found = || agent.opened().contains_key("vertical_scan").then_some(());
    wait_for("the finding", PATIENCE, found)?;
    let page = agent.settled()?;
    ensure!(page.probes("syn") == f64::from(PORTS), "{}", agent.said());
    ensure!(page.exit("not_ip") == 0.0 && page.exit("truncated_ip") == 1.0, "{}", agent.said());
    let resets = page.get("scanguard_answers_total{answer=\"reset\"}");
    ensure!(resets == f64::from(PORTS), "{resets} resets");
    ensure!(
        page.get("scanguard_xdp_attached{interface=\"tun0\",mode=\"generic\"}") == 1.0,
        "{}",
        agent.said()
    );
    agent.end()?;
    Ok(())
}
