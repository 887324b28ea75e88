//! Tools that are no port scanners, or not widely known as such, and loops that anybody writes.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Case, scan};
use crate::fixtures::{
    lab::ROUTED,
    routed::{DARK, EMPTY},
    stage::Stage,
};

/// How many addresses the lists have.
const ADDRESSES: u8 = 120;
/// Files that commands of the cases name: loops, lists of addresses, a community of SNMP.
pub(super) fn files(stage: &Stage<'_>) -> Result<()> {
    for (name, text) in [
        ("connects.sh", include_str!("scripts/connects.sh")),
        ("connects.py", include_str!("scripts/connects.py")),
        ("zmaps.sh", include_str!("scripts/zmaps.sh")),
        ("syns.py", include_str!("scripts/syns.py")),
        ("hosts.sh", include_str!("scripts/hosts.sh")),
        ("public", "public\n"),
        ("empty", &addresses(EMPTY)),
        ("dark", &addresses(DARK)),
        ("routed", &addresses(ROUTED)),
    ] {
        stage.file(name, text)?;
    }
    Ok(())
}

/// A list of a network's addresses, a line each.
fn addresses(network: &str) -> String {
    (1..=ADDRESSES).fold(String::new(), |mut list, host| {
        // Writing to a String does not fail.
        let _ = writeln!(list, "{network}.{host}");
        list
    })
}

fn prepare(stage: &mut Stage<'_>) -> Result<()> {
    files(stage)
}

/// Connects of loops and of tools that do only this.
const fn connects(name: &'static str, packets: u32) -> Case {
    scan("connects by scripts and small tools", name).sends(packets).after(prepare)
}

/// Other scanners of TCP.
const fn tcp(name: &'static str, packets: u32) -> Case {
    scan("other scanners of TCP", name).sends(packets).after(prepare)
}

/// Scanners that look for a service over UDP.
const fn udp(name: &'static str, packets: u32) -> Case {
    scan("scanners of services over UDP", name).sends(packets).after(prepare)
}

/// Scanners of IPv6 only.
const fn ipv6(name: &'static str, packets: u32) -> Case {
    scan("scanners of IPv6", name).sends(packets).after(prepare)
}

pub(super) const CASES: &[Case] = &[
    connects("nc -z -w 1 {victim} 1-100", 100).may_fail(),
    connects("nc -z -v -u -w 1 {victim} 100-140", 41).may_fail(),
    connects("nc -6 -z -w 1 {victim6} 1-100", 100).may_fail(),
    connects("bash {dir}/connects.sh {victim} 1-100", 100),
    connects("python3 {dir}/connects.py {victim} 1-100", 100),
    connects("python3 {dir}/connects.py {routed}.0/26 445", 62),
    connects("curl -s -m 2 http://{victim}:[8000-8040]/", 41).may_fail(),
    connects("curl -s -m 2 http://{routed}.[1-60]/", 60).may_fail(),
    connects("bash {dir}/hosts.sh {dir}/routed nc -z -w 1 {} 22", 120),
    connects("ssh-keyscan -T 1 -f {dir}/routed", 120).may_fail(),
    connects("ssh-audit -b -t 1 -T {dir}/routed", 120).may_fail(),
    tcp("pnscan {victim} 1:100", 100),
    tcp("pnscan -w hello {routed}.0/26 80", 62),
    tcp("doscan -p 22 {routed}.0/25", 126).may_fail(),
    tcp("scanssh -s ssh -n 22 {routed}.0/26", 62).may_fail(),
    tcp("dmitry -p -t 0 {victim}", 100).may_fail(),
    tcp("python3 {dir}/syns.py {interface} {victim} 1 60", 60),
    tcp("rustscan -n -g -b 50 -t 300 -r 1-100 -a {victim}", 100).may_fail(),
    tcp("rustscan -n -g -b 50 -t 300 --scan-order random -r 1-1000 -a {victim}", 1000).may_fail(),
    tcp("rustscan -n -g -b 50 -t 300 -p 22 -a {routed}.0/26", 62).may_fail(),
    udp("rustscan -n -g -b 50 -t 300 --udp -r 100-160 -a {victim}", 61).may_fail(),
    udp("ike-scan --retry=1 --interval=5 {routed}.0/24", 256),
    udp("nbtscan {routed}.0/24", 254),
    udp("onesixtyone -w 5 -c {dir}/public -i {dir}/routed", 120),
    udp("braa -t 1 public@{routed}.1-{routed}.120:.1.3.6.1.2.1.1.1.0", 120).may_fail(),
    udp("svmap {routed}.0/24", 254).may_fail(),
    udp("bash {dir}/hosts.sh {dir}/routed snmpget -v 2c -c public -r 0 -t 0.2 {} 1.3.6.1.2.1.1.1.0", 120),
    ipv6("scan6 -i {interface} -d {routed6}/123", 32),
    ipv6("scan6 -i {interface} -d {victim6} -j tcp:1-100 -G syn", 100),
    ipv6("atk6-alive6 {interface} {routed6}1-40", 64).may_fail(),
    ipv6("atk6-alive6 -s 22,80,443 {interface} {routed6}1-40", 192).may_fail(),
    // By a routing header.
    ipv6("atk6-alive6 {interface} {routed6}1-40 {victim6}", 64).may_fail(),
];
