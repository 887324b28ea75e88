//! Scans by real tools: every one must be found. The scans of [`crate::tables::scans`] are cases, too.

mod few;
mod filtered;
mod tools;
mod wildcard;

use super::{Act, Case, Expect, nothing};
use crate::{
    fixtures::{
        clients::{Service, broadcast, serve_banners},
        stage::Stage,
    },
    tables::scans::SCANS,
};

pub(super) const fn scan(group: &'static str, name: &'static str) -> Case {
    Case {
        name,
        group,
        expect: Expect::Found,
        report: "",
        limit: "",
        beside: "",
        findings: &[],
        config: "",
        slow: false,
        tested: false,
        prepare: nothing,
        act: Act::Command,
        packets: 1,
    }
}

/// nmap, one target, no name look-up and no discovery before.
const fn nmap(name: &'static str) -> Case {
    scan("nmap: types of scan", name)
}

const fn discovery(name: &'static str) -> Case {
    scan("nmap: host discovery", name)
}

const fn timing(name: &'static str) -> Case {
    scan("nmap: timing", name)
}

const fn evasion(name: &'static str) -> Case {
    scan("nmap: evasion", name)
}

const fn versions(name: &'static str) -> Case {
    scan("nmap: versions and operating systems", name).after(banners)
}

const fn ipv6(name: &'static str) -> Case {
    scan("nmap: IPv6", name)
}

const fn masscan(name: &'static str) -> Case {
    // Its receiver looks at the clock only when something comes.
    scan("masscan", name).after(something_to_receive)
}

const fn zmap(name: &'static str) -> Case {
    scan("zmap", name)
}

/// Fails when nobody answers, or always.
const fn hping(name: &'static str) -> Case {
    scan("hping3", name).may_fail()
}

/// Fails when somebody does not answer.
const fn fping(name: &'static str) -> Case {
    scan("fping", name).may_fail()
}

const fn nping(name: &'static str) -> Case {
    scan("nping", name)
}

/// Scans that the table of the tests in namespaces does not have.
const MORE: &[Case] = &[
    nmap("nmap -n -Pn -F {victim}"),
    nmap("nmap -n -Pn -sSU -p T:1-50,U:50-80 --max-retries 1 {victim}"),
    nmap("nmap -n -Pn --scanflags URGACKPSHRSTSYNFIN -p 1-60 --max-retries 1 {victim}"),
    nmap("nmap -n -Pn --scanflags SYNFIN -p 1-60 --max-retries 1 {victim}"),
    nmap("nmap -n -Pn --scanflags PSH -p 1-60 --max-retries 1 {victim}"),
    nmap("nmap -n -Pn -sS -p 1-20 --send-ip {routed}.0/28"),
    discovery("nmap -n -sn --send-ip {routed}.0/24").tested(),
    discovery("nmap -n -sn -PS22,80,443 --send-ip {routed}.0/27"),
    discovery("nmap -n -sn -PA80 --send-ip {routed}.0/27").tested(),
    discovery("nmap -n -sn -PU40125 --send-ip {routed}.0/27"),
    discovery("nmap -n -sn -PY80 --send-ip {routed}.0/27"),
    discovery("nmap -n -sn -PO2,4 --send-ip {routed}.0/27"),
    timing("nmap -n -Pn -sS -T5 -p 1-200 {victim}"),
    timing("nmap -n -Pn -sS -T4 -p 1-200 {victim}"),
    timing("nmap -n -Pn -sS -T3 -p 1-200 {victim}"),
    timing("nmap -n -Pn -sS -T2 -p 1-40 {victim}"),
    timing("nmap -n -Pn -sS -T1 -p 1-12 {victim}").slow(),
    timing("nmap -n -Pn -sS --scan-delay 4s -p 1-40 {victim}").slow(),
    evasion("nmap -n -Pn -sS -f -f -p 1-60 --max-retries 1 {victim}"),
    evasion("nmap -n -Pn -sS --mtu 24 -p 1-60 --max-retries 1 {victim}"),
    evasion("nmap -n -Pn -sS -D 10.77.0.50,10.77.0.51,ME,10.77.0.52 -p 1-60 {victim}").tested(),
    evasion("nmap -n -Pn -sS -g 53 -p 1-60 {victim}"),
    evasion("nmap -n -Pn -sS --scanflags SYNACK -g 80 -p 1-200 {victim}"),
    evasion("nmap -n -Pn -sS --scanflags SYNACK -p 80 --send-ip {routed}.0/24"),
    evasion("nmap -n -Pn -sU -g 53 -p 50-110 --max-retries 1 {victim}").tested(),
    evasion("nmap -n -Pn -sS --data-length 40 --ttl 77 --randomize-hosts -p 1-60 {victim}"),
    evasion("nmap -n -Pn -sS --badsum -p 1-60 --max-retries 0 {victim}"),
    evasion("nmap -n -Pn -sS --ip-options R -p 1-60 --max-retries 1 {victim}"),
    evasion("nmap -n -Pn -sS --spoof-mac 02:00:00:00:00:99 -p 1-60 --max-retries 0 {victim}"),
    versions("nmap -n -Pn -sV -p 21,22,25,80,110,143,443,3306 --version-light {victim}"),
    versions("nmap -n -Pn -sS -p 21,22,25,80,110,143,443,3306 {victim}").tested(),
    versions("nmap -n -Pn -sV -p 1-200 --version-light {victim}"),
    versions("nmap -n -Pn -O -p 1,80 --max-os-tries 1 {victim}").tested(),
    versions("nmap -n -Pn -A -p 1-100 {victim}"),
    ipv6("nmap -6 -n -Pn -sT -p 1-100 {victim6}"),
    ipv6("nmap -6 -n -Pn -sS -p 21,22,25,80,110,143,443,3306 {victim6}").after(banners),
    ipv6("nmap -6 -n -Pn -sF -p 1-60 --max-retries 1 {victim6}"),
    ipv6("nmap -6 -n -Pn -sN -p 1-60 --max-retries 1 {victim6}"),
    ipv6("nmap -6 -n -Pn -sA -p 1-60 --max-retries 1 {victim6}"),
    ipv6("nmap -6 -n -Pn -sM -p 1-60 --max-retries 1 {victim6}"),
    ipv6("nmap -6 -n -Pn -sY -p 1-60 --max-retries 1 {victim6}"),
    ipv6("nmap -6 -n -Pn -sO -p 140-180 --max-retries 1 {victim6}"),
    ipv6("nmap -6 -n -sn -PE --send-ip {routed6}/123").tested(),
    ipv6("nmap -6 -n -Pn -sS -p 22 --send-ip {routed6}/122"),
    masscan(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 2000 --wait 1 -p1-1000 {victim}",
    ),
    masscan(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 100 --wait 1 -p1-200 {victim}",
    ),
    masscan(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 1000 --wait 1 -p80 {routed}.0/24",
    ),
    masscan(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 2000 --wait 1 -p1-20 {routed}.0/26",
    ),
    masscan(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 1000 --wait 1 -pU:50-150 {victim}",
    ),
    masscan(
        "masscan -e {interface} --adapter-ip {scanner} --router-mac {mac} --rate 1000 --wait 1 --ping {routed}.0/24",
    ),
    masscan(
        "masscan -e {interface} --adapter-ip 10.77.0.66 --router-mac {mac} --rate 100 --wait 2 --banners \
         -p21,22,25,80,110,143,443,3306 {victim}",
    )
    .sends(16)
    .after(banners_and_something_to_receive),
    zmap("zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -p 80 {routed}.0/24"),
    zmap("zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -P 2 -p 23 {routed}.0/26")
        .sends(128),
    zmap(
        "zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -M icmp_echoscan {routed}.0/24",
    ),
    zmap(
        "zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -M udp -p 53 --probe-args=text:hello {routed}.0/24",
    ),
    zmap("zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -M ntp -p 123 {routed}.0/24"),
    zmap(
        "zmap -q -i {interface} -G {mac} -S {scanner} -b /dev/null -r 500 -c 1 -M upnp -p 1900 {routed}.0/24",
    ),
    hping("hping3 -q -8 1-100 -S {victim}"),
    hping("hping3 -q -i u2000 -c 100 -S -p ++1 {victim}"),
    hping("hping3 -q -i u2000 -c 100 -A -p ++1 {victim}"),
    hping("hping3 -q -i u2000 -c 100 -S -A -s 443 -p ++1 {victim}"),
    hping("hping3 -q -i u2000 -c 100 -S -A -s 443 -k -p ++1 {victim}"),
    hping("hping3 -q -i u2000 -c 100 -2 -p ++1 {victim}").tested(),
    hping("hping3 -q -i u2000 -c 100 -S -a 10.77.0.66 -p ++1 {victim}"),
    hping("hping3 -q -i u2000 -c 60 -1 --rand-dest -I {interface} {routed}.x"),
    hping("hping3 -q -i u2000 -c 60 -S -p 22 --rand-dest -I {interface} {routed}.x"),
    hping("hping3 -q -i u2000 -c 60 -A -p 80 --rand-dest -I {interface} {routed}.x").sends(60),
    hping("hping3 -q -i u2000 -c 60 -2 -p 161 --rand-dest -I {interface} {routed}.x").sends(60),
    hping("hping3 -q -i u2000 -c 60 -1 -C 13 --rand-dest -I {interface} {routed}.x").sends(60),
    hping("hping3 -q -i u2000 -c 60 -F -p ++1 {victim}").sends(60),
    hping("hping3 -q -i u2000 -c 60 -F -P -U -p ++1 {victim}").sends(60),
    hping("hping3 -q -i u2000 -c 60 -p ++1 {victim}").sends(60),
    hping("hping3 -q -i u2000 -c 60 -S -s 53 -k -p ++1 {victim}").sends(60),
    hping("hping3 -q -8 1-100 -F {victim}").sends(100),
    hping("hping3 -q -8 known -S {victim}").sends(100),
    fping("fping -q -r 0 -g {routed}.0/26"),
    fping("fping -q -r 0 -p 500 -c 2 -g {routed}.1 {routed}.40"),
    nping("nping --tcp -p 1-100 --rate 100 -c 1 {victim}"),
    nping("nping --tcp-connect -p 1-100 --rate 100 -c 1 {victim}"),
    nping("nping --tcp --flags fin,psh,urg -p 1-40 --rate 100 -c 1 {victim}"),
    // What ZMap's tcp_synackscan sends, which Debian's ZMap does not have.
    nping("nping --tcp --flags syn,ack -g 45000 -p 80 --rate 200 -c 1 {routed}.0/24"),
    nping("nping --udp -p 1-60 --rate 100 -c 1 {victim}"),
    nping("nping --icmp -c 1 --rate 100 {routed}.1-40"),
    nping("nping --icmp --icmp-type timestamp -c 1 --rate 100 {routed}.1-40").sends(40),
    nping("nping --tcp --flags ack -p 1-60 --rate 100 -c 1 {victim}").sends(60),
    nping("nping --tcp --flags fin -p 1-60 --rate 100 -c 1 {victim}").sends(60),
    nping("nping --tcp -p 22 --rate 100 -c 1 {routed}.1-60").sends(60),
    nping("nping --tcp-connect -p 22 --rate 100 -c 1 {routed}.1-60").sends(60),
    nping("nping --udp -p 161 --rate 100 -c 1 {routed}.1-60").sends(60),
];

/// The order of the headings.
const GROUPS: [&str; 10] = [
    "nmap: types of scan",
    "nmap: host discovery",
    "nmap: timing",
    "nmap: evasion",
    "nmap: versions and operating systems",
    "nmap: IPv6",
    "masscan",
    "zmap",
    "hping3",
    "fping",
];

/// All scans, by group.
pub fn all() -> impl Iterator<Item = Case> {
    // A single ping is none.
    let tested = SCANS.iter().filter(|scan| !scan.found_as.is_empty()).map(|scanned| {
        let words = scanned.command;
        let group = match words {
            _ if words.starts_with("hping3") => "hping3",
            _ if words.starts_with("nmap -6") => "nmap: IPv6",
            _ if words.contains(" -sn ") => "nmap: host discovery",
            _ if words.contains(" -f ") => "nmap: evasion",
            _ => "nmap: types of scan",
        };
        let act = if scanned.may_fail { Act::CommandThatMayFail } else { Act::Command };
        Case { act, ..scan(group, words) }
    });
    let more = [MORE, few::CASES, filtered::CASES, wildcard::CASES, tools::CASES];
    let mut cases: Vec<_> = tested.chain(more.into_iter().flatten().copied()).collect();
    let place = |case: &Case| GROUPS.iter().position(|group| *group == case.group).unwrap_or(GROUPS.len());
    cases.sort_by_key(place);
    cases.into_iter()
}

/// The scanned host says something to nobody now and then.
fn something_to_receive(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let broadcaster = broadcast(&stage.lab.victim)?;
    stage.keep(broadcaster);
    Ok(())
}

fn banners_and_something_to_receive(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    banners(stage)?;
    something_to_receive(stage)
}

/// Services that say who they are.
fn banners(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let services = [
        Service { port: 21, banner: "220 (vsFTPd 3.0.3)\r\n" },
        Service { port: 22, banner: "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n" },
        Service { port: 25, banner: "220 mail.example ESMTP Postfix\r\n" },
        Service { port: 80, banner: "HTTP/1.0 200 OK\r\nServer: nginx\r\n\r\nhello" },
        Service { port: 110, banner: "+OK Dovecot ready.\r\n" },
        Service { port: 143, banner: "* OK Dovecot ready.\r\n" },
        Service { port: 443, banner: "" },
        Service { port: 3306, banner: "" },
    ];
    let listeners = serve_banners(&stage.lab.victim, &services)?;
    stage.keep(listeners);
    Ok(())
}
