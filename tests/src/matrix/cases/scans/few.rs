//! Scans of few ports, most of them closed, and of open ports to which nothing is said.

use anyhow::Result;

use super::{Case, scan, something_to_receive};
use crate::fixtures::{clients::serve, stage::Stage};

const fn ten(name: &'static str) -> Case {
    scan("few ports: ten, one is open", name).sends(10).after(one_open)
}

const fn five(name: &'static str) -> Case {
    scan("few ports: five, all are closed", name).sends(5).after(none_open)
}

/// The SYNs are of no stack.
const fn three(name: &'static str) -> Case {
    scan("few ports: three, by crafted SYNs", name).sends(3).after(none_open)
}

const fn silent(name: &'static str) -> Case {
    scan("open ports to which nothing is said", name).sends(11).after(eleven_open)
}

pub(super) const CASES: &[Case] = &[
    ten("nmap -n -Pn -sS -p 21,23,25,110,139,445,1433,3389,5900,8443 {victim}"),
    ten("nmap -n -Pn -sT -p 21,23,25,110,139,445,1433,3389,5900,8443 {victim}"),
    ten("nmap -n -Pn -sS -T2 -p 21,23,25,110,139,445,1433,3389,5900,8443 {victim}"),
    ten("bash {dir}/connects.sh {victim} 21 23 25 110 139 445 1433 3389 5900 8443"),
    ten("python3 {dir}/connects.py {victim} 21 23 25 110 139 445 1433 3389 5900 8443"),
    five("nmap -n -Pn -sS -p 23,445,1433,3389,5900 {victim}"),
    five("nmap -n -Pn -sT -p 23,445,1433,3389,5900 {victim}"),
    five("bash {dir}/connects.sh {victim} 23 445 1433 3389 5900"),
    three("nmap -n -Pn -sS -p 23,3389,5900 {victim}"),
    three("hping3 -q -8 23,3389,5900 -S {victim}").may_fail(),
    three(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 100 --wait 1 -p23,3389,5900 {victim}",
    ),
    three("bash {dir}/zmaps.sh {interface} {mac} {scanner} {victim} 23 3389 5900"),
    silent("nmap -n -Pn -sT -p 21,22,25,80,110,143,443,993,995,3306,8080 {victim}"),
    silent("nmap -n -Pn -sT -T2 -p 21,22,25,80,110,143,443,993,995,3306,8080 {victim}"),
    silent("nmap -n -Pn -sT -sV --version-light -p 21,22,25,80,110,143,443,993,995,3306,8080 {victim}"),
    silent("bash {dir}/connects.sh {victim} 21 22 25 80 110 143 443 993 995 3306 8080"),
];

fn open(stage: &mut Stage<'_>, ports: &[u16]) -> Result<()> {
    super::tools::files(stage)?;
    let services = serve(&stage.lab.victim, ports.iter().copied())?;
    stage.keep(services);
    something_to_receive(stage)
}

fn one_open(stage: &mut Stage<'_>) -> Result<()> {
    open(stage, &[8443])
}

fn none_open(stage: &mut Stage<'_>) -> Result<()> {
    open(stage, &[])
}

fn eleven_open(stage: &mut Stage<'_>) -> Result<()> {
    open(stage, &[21, 22, 25, 80, 110, 143, 443, 993, 995, 3306, 8080])
}
