//! Sweeps of routed networks for what this host serves on the wildcard address. Only the address tells whether anybody
//! is there.

use anyhow::Result;

use super::{Case, scan, something_to_receive};
use crate::fixtures::{
    clients::{Service, serve_banners, serve_silent_datagrams},
    routed,
    stage::Stage,
};

/// Every address is this host's, and every one answers.
const fn answering(name: &'static str, packets: u32) -> Case {
    scan("wildcard listeners: every address is this host's", name).sends(packets).after(listeners)
}

/// Nobody is at any address.
const fn empty(name: &'static str, packets: u32) -> Case {
    scan("wildcard listeners: a routed network without hosts", name).sends(packets).after(with_networks)
}

/// The same, and the agent is told of the network.
const fn dark(name: &'static str, packets: u32) -> Case {
    scan("wildcard listeners: a routed network without hosts, in `[network] home`", name)
        .sends(packets)
        .after(with_networks)
        .with("[network]\nhome = [\"{dark}.0/24\"]\n")
}

/// One host is there, to which this one forwards.
const fn inside(name: &'static str, packets: u32) -> Case {
    scan("wildcard listeners: a network behind this host", name).sends(packets).after(with_insider)
}

pub(super) const CASES: &[Case] = &[
    answering(
        "zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -p 22 {routed}.0/24",
        256,
    ),
    answering(
        "zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -p 443 {routed}.0/24",
        256,
    ),
    answering(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 1000 --wait 1 -p22 {routed}.0/24",
        256,
    ),
    answering("nmap -n -Pn -sS -p 22 --send-ip {routed}.0/24", 256),
    answering("nmap -n -Pn -sS -p 22,80,443 --send-ip {routed}.0/24", 768),
    answering("nmap -n -sn -PA80 --send-ip {routed}.0/24", 256),
    answering("nmap -n -Pn -sA -p 443 --send-ip {routed}.0/24", 256),
    answering("hping3 -q -i u5000 -c 120 -A -p 80 --rand-dest -I {interface} {routed}.x", 120).may_fail(),
    answering("nmap -6 -n -Pn -sS -p 80 --send-ip {routed6}/121", 128),
    empty("zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -p 22 {empty}.0/24", 256),
    empty("zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -p 80 {empty}.0/24", 256),
    empty("zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -p 443 {empty}.0/24", 256),
    empty(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 1000 --wait 1 -p443 {empty}.0/24",
        256,
    ),
    empty(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 1000 --wait 1 -p22,80 {empty}.0/24",
        512,
    ),
    empty(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 1000 --wait 1 -pU:161 {empty}.0/24",
        256,
    ),
    empty("nmap -n -Pn -sS -p 22 --max-retries 1 --min-rate 200 --send-ip {empty}.0/24", 256),
    empty("nmap -n -Pn -sS -p 80 --max-retries 0 --min-rate 200 --send-ip {empty}.0/25", 128),
    empty("nmap -n -Pn -sT -p 443 --max-retries 0 --min-rate 200 {empty}.0/25", 128),
    empty("nmap -n -Pn -sU -p 161 --max-retries 0 --min-rate 200 --send-ip {empty}.0/25", 128),
    empty("nmap -n -sn -PS80 --max-retries 0 --min-rate 200 --send-ip {empty}.0/25", 128),
    empty("nmap -n -sn -PA80 --max-retries 0 --min-rate 200 --send-ip {empty}.0/24", 256),
    empty("nmap -n -Pn -sA -p 443 --max-retries 0 --min-rate 200 --send-ip {empty}.0/25", 128),
    empty("hping3 -q -i u5000 -c 120 -A -p 80 --rand-dest -I {interface} {empty}.x", 120).may_fail(),
    empty(
        "zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -M udp -p 161 \
         --probe-args=text:hello {empty}.0/24",
        256,
    ),
    empty("ssh-keyscan -T 1 -f {dir}/empty", 120).may_fail(),
    empty("python3 {dir}/connects.py {empty}.0/25 22", 126),
    empty("zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 1 -c 1 -p 22 {empty}.0/26", 64)
        .slow(),
    empty("nmap -6 -n -Pn -sS -p 22 --max-retries 0 --send-ip {empty6}/121", 128),
    empty("nmap -6 -n -Pn -sT -p 80 --max-retries 0 {empty6}/121", 128),
    dark("zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -p 80 {dark}.0/24", 256),
    dark(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 1000 --wait 1 -p22 {dark}.0/24",
        256,
    ),
    dark("nmap -n -Pn -sS -p 443 --max-retries 1 --min-rate 200 --send-ip {dark}.0/27", 32),
    dark("nmap -n -Pn -sU -p 161 --max-retries 0 --min-rate 200 --send-ip {dark}.0/25", 128),
    dark("nmap -n -sn -PA80 --max-retries 0 --min-rate 200 --send-ip {dark}.0/24", 256),
    dark("ssh-keyscan -T 1 -f {dir}/dark", 120).may_fail(),
    dark("hping3 -q -i 1 -c 60 -S -p 22 --rand-dest -I {interface} {dark}.x", 60).may_fail().slow(),
    inside("zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -p 80 {inside}.0/24", 256),
    inside("nmap -n -Pn -sS -p 22 --max-retries 1 --send-ip {inside}.0/25", 128),
    inside("nmap -n -Pn -sT -p 443 --max-retries 0 {inside}.0/25", 128),
    inside("nmap -n -Pn -sS -p 21-49 --max-retries 1 --send-ip {inside}.2", 29),
    inside("nmap -n -Pn -sT -p 21,23,25,110,139,445,1433,3389,5900,8443 {inside}.2", 10),
];

/// The services of this host: real ones and small ones, at every address of both families.
pub(super) fn listeners(stage: &mut Stage<'_>) -> Result<()> {
    stage.nginx(&stage.lab.victim, &[80, 443])?;
    let ssh = serve_banners(
        &stage.lab.victim,
        &[Service { port: 22, banner: "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n" }],
    )?;
    stage.keep(ssh);
    let snmp = serve_silent_datagrams(&stage.lab.victim, 161)?;
    stage.keep(snmp);
    something_to_receive(stage)
}

/// The same, and networks without hosts.
pub(super) fn with_networks(stage: &mut Stage<'_>) -> Result<()> {
    routed::route(stage.lab)?;
    super::tools::files(stage)?;
    listeners(stage)
}

/// The same, and a host behind this one, which has a web server.
fn with_insider(stage: &mut Stage<'_>) -> Result<()> {
    with_networks(stage)?;
    let insider = routed::inside(stage.lab)?;
    let web = serve_banners(&insider, &[Service { port: 80, banner: "" }])?;
    stage.keep(web);
    stage.hosts.push(insider);
    Ok(())
}
