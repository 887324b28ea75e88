//! Real daemons and tools of hosts that use the network all day, and scan nothing.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};

use super::{LIMIT, networks, quiet};
use crate::{
    fixtures::{
        lab::{PATIENCE, SCANNER_INTERFACE, VICTIM_INTERFACE, wait_for},
        stage::Stage,
    },
    matrix::cases::Case,
};

/// Zones of the resolver's world; each has two name servers, of which one is there.
const ZONES: usize = 40;
/// Questions about each: three names, and one whose answer takes a connection.
const QUESTIONS: usize = 4;

/// The log of a server of the stage.
fn log(stage: &Stage<'_>, name: &str) -> String {
    fs::read_to_string(stage.directory().join(format!("{name}.log"))).unwrap_or_default()
}

/// Waits until a server has written some words so many times.
fn await_words(stage: &Stage<'_>, name: &str, words: &str, times: usize) -> Result<()> {
    wait_for(&format!("{name}: {words}"), PATIENCE, || {
        (log(stage, name).matches(words).count() >= times).then_some(())
    })
}

fn apt(stage: &mut Stage<'_>) -> Result<()> {
    networks(stage)?;
    stage.file("apt.sh", include_str!("daemons/apt.sh"))?;
    let (victim, scanner) = (&stage.lab.victim, &stage.lab.scanner);
    stage.run(victim, "sh {dir}/apt.sh {dir} 20.8.0.1 20.8.0.2 20.7.0.1", LIMIT)?;
    stage.start("nginx", scanner, "nginx -e {dir}/error.log -c {dir}/apt.nginx")?;
    stage.await_port("nginx", scanner, 80)?;
    for command in ["update", "download scanguard-case"] {
        stage.run(victim, &format!("env APT_CONFIG={{dir}}/apt/apt.conf apt-get -q {command}"), LIMIT)?;
    }
    let package = stage.directory().join("scanguard-case_1_all.deb");
    ensure!(package.is_file(), "apt-get has downloaded nothing");
    Ok(())
}

fn unbound(stage: &mut Stage<'_>) -> Result<()> {
    networks(stage)?;
    stage.file("resolver.sh", include_str!("daemons/resolver.sh"))?;
    let (victim, scanner) = (&stage.lab.victim, &stage.lab.scanner);
    stage.run(victim, &format!("sh {{dir}}/resolver.sh {{dir}} {ZONES}"), LIMIT)?;
    for role in ["root", "leaf"] {
        stage.start(role, scanner, &format!("nsd -d -c {{dir}}/{role}.nsd"))?;
        await_words(stage, role, "nsd started", 1)?;
    }
    stage.start("unbound", victim, "unbound -d -c {dir}/unbound.conf")?;
    await_words(stage, "unbound", "start of service", 1)?;
    let ask = "xargs -P 20 -n 2 dig @127.0.0.1 +short +tries=1 +timeout=15 < names > answers; true";
    stage.file("ask.sh", ask)?;
    stage.run(victim, "sh {dir}/ask.sh", LIMIT)?;
    let answers = fs::read_to_string(stage.directory().join("answers"))?;
    let found = answers.lines().filter(|line| line.starts_with("192.0.2.") || line.ends_with("1\"")).count();
    ensure!(found >= ZONES * QUESTIONS * 9 / 10, "{found} answers");
    Ok(())
}

fn wireguard(stage: &mut Stage<'_>) -> Result<()> {
    networks(stage)?;
    stage.file("wireguard.sh", include_str!("daemons/wireguard.sh"))?;
    let (victim, scanner) = (&stage.lab.victim, &stage.lab.scanner);
    stage.run(victim, "sh {dir}/wireguard.sh keys {dir}", LIMIT)?;
    let run = "unshare --mount sh {dir}/wireguard.sh run {dir}";
    stage.start("there", scanner, &format!("{run} there 10.99.0.2/16"))?;
    stage.start("here", victim, &format!("{run} here 10.99.0.1/16"))?;
    let tunnelled = || stage.run(victim, "ping -n -q -c 1 -W 1 10.99.0.2", Duration::from_secs(5));
    wait_for("the tunnel", PATIENCE, || tunnelled().ok())?;
    // The handshakes of those that are away are tried again after five seconds.
    stage.run(victim, "ping -n -q -c 12 -W 1 10.99.0.2", LIMIT)
}

fn keepalived(stage: &mut Stage<'_>) -> Result<()> {
    networks(stage)?;
    stage.file("keepalived.sh", include_str!("daemons/keepalived.sh"))?;
    let (victim, scanner) = (&stage.lab.victim, &stage.lab.scanner);
    let run = "sh {dir}/keepalived.sh {dir}";
    stage.start("here", victim, &format!("{run} here {VICTIM_INTERFACE} 150 {{scanner}}"))?;
    await_words(stage, "here", "Entering MASTER STATE", 2)?;
    stage.start("there", scanner, &format!("{run} there {SCANNER_INTERFACE} 200 {{victim}}"))?;
    // The other one takes over, goes, and this one is back.
    await_words(stage, "here", "Entering BACKUP STATE", 4)?;
    stage.kill("there");
    await_words(stage, "here", "Entering MASTER STATE", 4)
}

fn dhcp(stage: &mut Stage<'_>) -> Result<()> {
    networks(stage)?;
    let (victim, scanner) = (&stage.lab.victim, &stage.lab.scanner);
    stage.start(
        "dnsmasq",
        scanner,
        &format!(
            "dnsmasq -k -p 0 -C /dev/null -i {SCANNER_INTERFACE} --bind-dynamic --dhcp-range=10.77.0.150,10.77.0.160,2m \
             --dhcp-leasefile={{dir}}/leases --no-resolv --no-hosts --no-ping --log-facility=- --user=root --pid-file="
        ),
    )?;
    await_words(stage, "dnsmasq", "DHCP, IP range", 1)?;
    for _ in 0..3 {
        let dhclient = "dhclient -4 -1 -d -sf /bin/true -lf {dir}/dhclient.leases -pf {dir}/dhclient.pid";
        stage.start("dhclient", victim, &format!("{dhclient} {VICTIM_INTERFACE}"))?;
        await_words(stage, "dhclient", "bound to", 1)?;
        stage.kill("dhclient");
        stage.run(victim, &format!("busybox udhcpc -f -q -n -i {VICTIM_INTERFACE} -s /bin/true"), LIMIT)?;
    }
    Ok(())
}

fn openvpn(stage: &mut Stage<'_>) -> Result<()> {
    networks(stage)?;
    let (victim, scanner) = (&stage.lab.victim, &stage.lab.scanner);
    stage.run(victim, "openvpn --genkey secret {dir}/secret", LIMIT)?;
    let both = "openvpn --dev tun --secret {dir}/secret --cipher AES-256-CBC --ping 1 --script-security 0";
    let server =
        format!("{both} --ifconfig 10.98.0.1 10.98.0.2 --proto udp --port 1194 --multihome --verb 1");
    stage.start("server", scanner, &server)?;
    await_words(stage, "server", "UDPv4 link local", 1)?;
    let remotes = "--remote 20.8.0.1 1194 udp --remote 20.7.0.1 1194 udp --remote 20.7.0.2 443 tcp-client \
                   --remote 20.7.0.3 992 tcp-client";
    let patience = "--connect-timeout 1 --connect-retry 1 1 --ping-restart 2 --nobind --verb 3";
    stage.start("client", victim, &format!("{both} --ifconfig 10.98.0.2 10.98.0.1 {remotes} {patience}"))?;
    await_words(stage, "client", "Initialization Sequence Completed", 1)?;
    stage.kill("server");
    await_words(stage, "client", "Attempting to establish TCP connection", 2)?;
    stage.start("server", scanner, &server)?;
    await_words(stage, "client", "Initialization Sequence Completed", 2)
}

/// The cases.
pub(in super::super) const CASES: &[Case] = &[
    quiet("apt-get update and download, with two mirrors and a dead one", apt),
    quiet("unbound, which looks for names in 40 zones, of whose name servers half are away", unbound),
    quiet("wireguard-go with ten peers, of which nine are away", wireguard),
    quiet("keepalived, which loses to another router and takes over again", keepalived),
    quiet("dhclient and udhcpc, three leases each", dhcp),
    quiet("openvpn, which loses its server, tries three others and comes back", openvpn),
];
