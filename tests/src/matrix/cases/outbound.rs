//! What leaves the watched host itself: scans by its own programs, and programs that only look like scanners.

pub(super) mod daemons;

use std::net::Ipv4Addr;

use anyhow::Result;

use super::{Act, Case, Expect, Expected, nothing};
use crate::fixtures::{
    frames::{V4, tcp, to, v4_packet},
    lab::{SCANNER_INTERFACE, VICTIM, VICTIM_INTERFACE},
    sshd,
    stage::Stage,
    xsk::Xsk,
};

/// A network of others that the watched host has a route to. The other host of the stage answers for it, where it answers
/// at all.
const OTHERS: &str = "20.7.0.0/16";
/// Another one, of which every address answers.
const THERE: &str = "20.8.0.0/16";

/// Files that commands of the cases name.
const FILES: [(&str, &str); 8] = [
    ("connect.py", include_str!("outbound/connect.py")),
    ("serve.py", include_str!("outbound/serve.py")),
    ("datagrams.py", include_str!("outbound/datagrams.py")),
    ("loops.sh", include_str!("outbound/loops.sh")),
    ("bypass.py", include_str!("outbound/bypass.py")),
    ("socks.py", include_str!("outbound/socks.py")),
    ("torrent.sh", include_str!("outbound/torrent.sh")),
    ("tracker.py", include_str!("outbound/tracker.py")),
];

/// Routes to others, of whom some are there, and the files.
fn networks(stage: &mut Stage<'_>) -> Result<()> {
    for (name, text) in FILES {
        stage.file(name, text)?;
    }
    for net in [OTHERS, THERE] {
        stage.lab.victim.ip(&stage.fill(&format!("route add {net} via {{scanner}}")))?;
    }
    stage.lab.scanner.ip(&format!("route add local {THERE} dev lo"))?;
    Ok(())
}

/// As above, with a server at these ports of all addresses of [`THERE`].
fn serve(stage: &mut Stage<'_>, ports: &str) -> Result<()> {
    networks(stage)?;
    let scanner = &stage.lab.scanner;
    stage.start("serve", scanner, &format!("python3 {{dir}}/serve.py {ports}"))?;
    let first = ports.split(' ').next().and_then(|port| port.parse().ok()).unwrap_or_default();
    stage.await_port("serve", scanner, first)
}

/// A server at port 80 of all addresses of [`THERE`].
fn web_servers(stage: &mut Stage<'_>) -> Result<()> {
    serve(stage, "80")
}

/// A server of SSH on the watched host.
fn ssh_server(stage: &mut Stage<'_>) -> Result<()> {
    networks(stage)?;
    let server = sshd::start(&stage.lab.victim, stage.directory())?;
    stage.keep_server("sshd", server);
    let victim = &stage.lab.victim;
    stage.await_port("sshd", victim, 22)
}

/// Logs in to the watched host, and scans through it.
fn scan_through_ssh(stage: &mut Stage<'_>) -> Result<()> {
    let scanner = &stage.lab.scanner;
    let options = "-F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
    stage.start("ssh", scanner, &format!("ssh {options} -i {{dir}}/user -N -D 1080 root@{{victim}}"))?;
    stage.await_port("ssh", scanner, 1080)?;
    stage.run(scanner, "python3 {dir}/socks.py 1080 22 20.7.0 80", LIMIT)
}

/// Sends SYNs to sixty addresses by AF_XDP: such a socket has room for so many.
fn scan_by_af_xdp(stage: &mut Stage<'_>) -> Result<()> {
    let lab = stage.lab;
    let mac = lab.scanner.mac_bytes(SCANNER_INTERFACE)?;
    let frames = (1..=60).map(|host| {
        let with = V4 {
            protocol: 6,
            source: VICTIM.parse().ok(),
            destination: Some(Ipv4Addr::new(20, 7, 0, host)),
            ..V4::default()
        };
        to(mac, &v4_packet(&with, &tcp(SYN, 22)))
    });
    let frames: Vec<_> = frames.collect();
    Xsk::open(&lab.victim, VICTIM_INTERFACE)?.send(&frames)
}

/// The flag of a SYN.
const SYN: u8 = 2;

/// masscan waits for a first packet to come in.
fn something_to_receive(stage: &mut Stage<'_>) -> Result<()> {
    networks(stage)?;
    let scanner = &stage.lab.scanner;
    stage.start("ping", scanner, "ping -q -i 0.2 {victim}")
}

const fn scan(name: &'static str, rule: &'static [Expected]) -> Case {
    Case {
        name,
        group: "what leaves: scans by the host's own programs",
        expect: Expect::Found,
        report: "",
        limit: "",
        beside: "",
        findings: rule,
        config: "",
        slow: false,
        tested: false,
        prepare: networks,
        act: Act::CommandOfHost,
        packets: 0,
    }
}

const fn quiet(name: &'static str, act: fn(&mut Stage<'_>) -> Result<()>) -> Case {
    Case {
        group: "what leaves: programs that are no scanners",
        expect: Expect::Quiet,
        findings: &[],
        prepare: nothing,
        act: Act::Script(act),
        ..scan(name, &[])
    }
}

/// A scan that nothing sees, by name. If it is found one day, it moves to the others.
const fn missed(name: &'static str, act: Act) -> Case {
    Case { group: "what leaves: scans that pass no hook, and are not found", act, ..quiet(name, |_| Ok(())) }
}

const KNOCKS: &[Expected] = &[Expected { rule: "outbound_knocks", technique: "T1595" }];
const SWEEP: &[Expected] = &[Expected { rule: "outbound_sweep", technique: "T1595.001" }];
/// As above; the targets are in a private network.
const VERTICAL: &[Expected] = &[Expected { rule: "outbound_vertical", technique: "T1046" }];
const CRAFTED: &[Expected] = &[Expected { rule: "outbound_crafted", technique: "T1595" }];
const CRAFTED_INSIDE: &[Expected] = &[Expected { rule: "outbound_crafted", technique: "T1046" }];
const BLOCK: &[Expected] = &[Expected { rule: "outbound_block", technique: "T1595.001" }];

/// The cases.
pub(super) const CASES: &[Case] = &[
    scan("nmap -n -Pn -sS -p 1-200 {scanner}", CRAFTED_INSIDE),
    scan("nmap -n -Pn -sT -p 1-200 {scanner}", VERTICAL),
    scan(
        "nmap -n -Pn -sT -p 1-300 --max-rtt-timeout 200ms --max-retries 0 20.7.0.9",
        &[Expected { rule: "outbound_vertical", technique: "T1595.002" }],
    ),
    scan("nmap -n -Pn -sT -p 22 --max-rtt-timeout 200ms --max-retries 0 20.7.0.0/25", SWEEP),
    scan("nmap -n -Pn -sT --top-ports 20 --max-rtt-timeout 200ms --max-retries 0 20.7.0.0/28", BLOCK),
    scan("nmap -n -Pn -sU -p 1-100 --max-retries 0 20.7.0.9", CRAFTED),
    scan(
        "masscan -e edge0 --adapter-ip {victim} --router-mac {scanner_mac} --rate 1000 --wait 1 -p22 20.7.0.0/24",
        CRAFTED,
    )
    .after(something_to_receive),
    scan(
        "zmap -i edge0 -G {scanner_mac} -S {victim} -p 443 -r 500 -c 1 -q -o {dir}/out 20.7.0.0/24",
        CRAFTED,
    ),
    scan("hping3 --scan 1-100 -S {scanner}", CRAFTED_INSIDE),
    scan("python3 {dir}/connect.py at-once 22 20.7.0.1-200", SWEEP),
    scan(
        "python3 {dir}/connect.py at-once 1-300 20.7.0.9",
        &[Expected { rule: "outbound_vertical", technique: "T1595.002" }],
    ),
    scan("sh {dir}/loops.sh busybox 20.7.0 60", SWEEP),
    scan("bash {dir}/loops.sh bash 20.7.0 60", SWEEP),
    scan("sh {dir}/loops.sh copies 20.7.0 60", SWEEP),
    scan("sh {dir}/loops.sh renamed 20.7.0 60", SWEEP),
    scan("nmap -n -Pn -sT -p 80 -T5 20.8.0.0/24", KNOCKS).after(web_servers),
    Case { act: Act::Script(scan_through_ssh), ..scan("ssh -D 1080 {victim}, and a scan through it", SWEEP) }
        .after(ssh_server),
    Case {
        prepare: networks,
        ..missed(
            "python3 {dir}/bypass.py edge0 {victim} {scanner_mac} 20.7.0 100 22 (PACKET_QDISC_BYPASS)",
            Act::Script(|stage| {
                let command = "python3 {dir}/bypass.py edge0 {victim} {scanner_mac} 20.7.0 100 22";
                stage.run(&stage.lab.victim, command, LIMIT)
            }),
        )
    },
    Case { prepare: networks, ..missed("SYNs to 60 addresses by AF_XDP", Act::Script(scan_by_af_xdp)) },
    quiet("a balancer that looks after 90 servers by bare connections", |stage| {
        serve(stage, "80")?;
        for _ in 0..2 {
            let servers = "nmap -n -Pn -sT -p 80 20.8.0.1-90";
            stage.run(&stage.lab.victim, servers, LIMIT)?;
        }
        Ok(())
    }),
    quiet("a browser with thirty pages from thirty hosts", |stage| {
        serve(stage, "80 443")?;
        stage.run(&stage.lab.victim, "python3 {dir}/connect.py in-turn 80,443 20.8.0.1-30", LIMIT)
    }),
    quiet("apt: three mirrors, of which one is down", |stage| {
        serve(stage, "80")?;
        stage.run(&stage.lab.victim, "python3 {dir}/connect.py in-turn 80 20.8.0.1-2 20.7.0.1", LIMIT)
    }),
    quiet("a torrent client with 150 dead peers, each at a port of its own, and 30 that live", |stage| {
        serve(stage, "6881")?;
        stage.run(&stage.lab.victim, "python3 {dir}/connect.py peers 6881 20.7.0.1-150 20.8.0.1-30", LIMIT)
    }),
    quiet("aria2c with a torrent of 300 peers, of which 30 live", |stage| {
        networks(stage)?;
        let scanner = &stage.lab.scanner;
        stage.start("tracker", scanner, "python3 {dir}/tracker.py {scanner} {dir}/nothing.torrent")?;
        stage.await_port("tracker", scanner, 6969)?;
        stage.run(&stage.lab.victim, "sh {dir}/torrent.sh {dir}", LIMIT)
    }),
    quiet("Prometheus with 200 targets, of which 60 go down", |stage| {
        serve(stage, "9100")?;
        let targets = "python3 {dir}/connect.py at-once 9100 20.8.0.1-200";
        stage.run(&stage.lab.victim, targets, LIMIT)?;
        stage.lab.scanner.filter(
            "table ip down { chain in { type filter hook input priority 0; ip daddr 20.8.0.1-20.8.0.60 drop; }; }",
        )?;
        stage.run(&stage.lab.victim, targets, LIMIT)?;
        stage.run(&stage.lab.victim, targets, LIMIT)
    }),
    quiet("a backup to 40 hosts by ssh", |stage| {
        serve(stage, "22")?;
        stage.run(&stage.lab.victim, "python3 {dir}/connect.py in-turn 22 20.8.0.1-40", LIMIT)
    }),
    quiet("a mail server with 20 dead mail exchangers, and 30 that live", |stage| {
        serve(stage, "25")?;
        stage.run(&stage.lab.victim, "python3 {dir}/connect.py at-once 25 20.7.0.1-20 20.8.0.1-30", LIMIT)
    }),
    quiet("a resolver that asks 300 name servers", |stage| {
        networks(stage)?;
        stage.run(&stage.lab.victim, "python3 {dir}/datagrams.py 53 20.7.0.1-200 20.8.0.1-100", LIMIT)
    }),
    quiet("health checks of 100 pods", |stage| {
        serve(stage, "8080")?;
        for _ in 0..3 {
            stage.run(&stage.lab.victim, "python3 {dir}/connect.py at-once 8080 20.8.0.1-100", LIMIT)?;
        }
        Ok(())
    }),
    quiet("WireGuard with ten peers, of which five are away", |stage| {
        networks(stage)?;
        stage.run(&stage.lab.victim, "python3 {dir}/datagrams.py 51820 20.7.0.1-5 20.8.0.1-5", LIMIT)
    }),
    quiet("ping of ten hosts", |stage| {
        networks(stage)?;
        for host in 1..=10 {
            stage.run(&stage.lab.victim, &format!("ping -n -c 1 -W 1 20.8.0.{host}"), LIMIT)?;
        }
        Ok(())
    }),
    quiet("traceroute to two hosts", |stage| {
        networks(stage)?;
        for host in 1..=2 {
            stage.run(&stage.lab.victim, &format!("traceroute -n -m 5 -w 0.5 20.8.0.{host}"), LIMIT)?;
        }
        Ok(())
    }),
    quiet("a crawler of 100 hosts, of which 30 are dead", |stage| {
        serve(stage, "443 80")?;
        stage.run(&stage.lab.victim, "python3 {dir}/connect.py at-once 443 20.7.0.1-30 20.8.0.1-70", LIMIT)
    }),
    quiet("a VPN client that tries three servers of three ports again and again", |stage| {
        networks(stage)?;
        for _ in 0..3 {
            let servers = "python3 {dir}/connect.py at-once 443,1194,992 20.7.0.1-3";
            stage.run(&stage.lab.victim, servers, LIMIT)?;
        }
        Ok(())
    }),
    quiet("an upgrade of 30 services that wait for a database which is down", |stage| {
        networks(stage)?;
        for _ in 0..30 {
            stage.run(&stage.lab.victim, "python3 {dir}/connect.py at-once 5432 20.7.0.1", LIMIT)?;
        }
        Ok(())
    }),
];

/// How long a command may take.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(60);
