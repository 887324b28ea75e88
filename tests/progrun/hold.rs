//! The reflex: who is held until the agent has judged, and who never is.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    thread::sleep,
    time::Duration,
};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use libtest_mimic::Trial;
use scanguard::{
    network::Local,
    sensor::{
        gate::{GateMode, HoldTerms},
        test_run::TestRunSensor,
    },
};
use scanguard_common::outcome::Exit;
use scanguard_tests::fixtures::frames::{V4, icmp, tcp, udp, v4, v4_with, v6};

use crate::{
    gate::{ACK, SYN, TCP, UDP, drops, loaded, net, tally},
    trial,
};

/// Of which the services fall on bits of their own, whatever the salt of the tests makes of them.
const ENOUGH: u16 = 12;
const REFLEX: HoldTerms = HoldTerms { services: 9, lasts: Duration::from_millis(300), most: 5 };

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "hold: further packets of a plain scan that meet nobody are dropped and still counted, for a moment",
            held,
        ),
        trial("hold: packets of a held source that a service or this host itself answers pass", served),
        trial(
            "hold: a source that asks for one service at many addresses is held, and services and addresses are not added",
            swept,
        ),
        trial("hold: a source is held once in an epoch, and again in the next", once),
        trial("hold: a dry run counts and drops nothing, nor does what it held drop later", dry),
        trial("hold: an allowed source is never held", allowed),
        trial("hold: no more sources are held in an epoch than is configured", most),
        trial(
            "hold: hits on services are not saved up, neither many on one nor those of earlier epochs",
            saved_up,
        ),
        trial("hold: ephemeral ports and services of unknown fate are no misses", unknown),
    ]
}

fn armed(mode: GateMode, reflex: HoldTerms) -> Result<TestRunSensor> {
    let mut loaded = loaded(mode)?;
    loaded.kernel.set_hold(Some(reflex))?;
    Ok(loaded)
}

/// SYNs to so many ports; how many of them were dropped.
fn scan(loaded: &TestRunSensor, first: u16, ports: u16) -> Result<u16> {
    let mut dropped = 0;
    for port in first..first + ports {
        dropped += u16::from(drops(loaded, &v4(TCP, &tcp(SYN, port)))?);
    }
    Ok(dropped)
}

fn held() -> Result<()> {
    let mut loaded = armed(GateMode::Enforce, REFLEX)?;
    let start = tally(&mut loaded)?;
    ensure!(scan(&loaded, 1, 8)? == 0, "dropped too soon");
    let dropped = scan(&loaded, 9, ENOUGH)?;
    ensure!((ENOUGH - 3..=ENOUGH).contains(&dropped), "{dropped} dropped");
    let begun = [
        ("the same again", v4(TCP, &tcp(SYN, 1))),
        ("ack probe", v4(TCP, &tcp(ACK, 80))),
        ("datagram", v4(UDP, &udp(40_000, 161, b"snmp"))),
        ("null", v4(TCP, &tcp(0, 80))),
    ];
    for (name, frame) in &begun {
        ensure!(drops(&loaded, frame)?, "{name} passed");
    }
    for (name, frame) in
        [("ping", v4(1, &icmp(8))), ("echo reply", v4(1, &icmp(0))), ("neighbour", v6(TCP, &tcp(SYN, 80)))]
    {
        ensure!(!drops(&loaded, &frame)?, "{name} dropped");
    }
    let seen = tally(&mut loaded)?.since(&start);
    let expected = u64::from(dropped) + begun.len() as u64;
    ensure!(seen.exit(Exit::Held) == expected && seen.holds == 1, "{seen:?}");
    ensure!(seen.probes.iter().sum::<u64>() == u64::from(8 + ENOUGH) + begun.len() as u64 + 2, "{seen:?}");
    ensure!(seen.would_drop == 0 && seen.exit(Exit::Banned) == 0, "{seen:?}");
    sleep(REFLEX.lasts + Duration::from_millis(100));
    ensure!(!drops(&loaded, &v4(TCP, &tcp(SYN, 80)))?, "it did not end");
    Ok(())
}

fn served() -> Result<()> {
    let service = TcpListener::bind("0.0.0.0:0")?;
    let port = service.local_addr()?.port();
    let loaded = armed(GateMode::Enforce, HoldTerms { lasts: Duration::from_secs(5), ..REFLEX })?;
    ensure!(scan(&loaded, 1, 9 + ENOUGH)? > 0, "it is not held");
    for (name, frame) in [
        ("a SYN to a service", v4(TCP, &tcp(SYN, port))),
        ("a stray to it", v4(TCP, &tcp(ACK, port))),
        ("a ping", v4(1, &icmp(8))),
    ] {
        ensure!(!drops(&loaded, &frame)?, "{name} was dropped");
    }
    ensure!(drops(&loaded, &v4(TCP, &tcp(SYN, 1)))?, "it is held no more");
    Ok(())
}

fn saved_up() -> Result<()> {
    let services = (0..12).map(|_| TcpListener::bind("0.0.0.0:0")).collect::<Result<Vec<_>, _>>()?;
    let ports =
        services.iter().map(|service| Ok(service.local_addr()?.port())).collect::<Result<Vec<_>>>()?;
    let hit = |loaded: &TestRunSensor, times: usize| -> Result<()> {
        for port in ports.iter().cycle().take(times) {
            ensure!(!drops(loaded, &v4(TCP, &tcp(SYN, *port)))?, "a SYN to a service was dropped");
        }
        Ok(())
    };
    let mut loaded = armed(GateMode::Enforce, REFLEX)?;
    hit(&loaded, 600)?;
    ensure!(scan(&loaded, 1, 9)? == 0, "what was met counts in favour of the source");
    ensure!(scan(&loaded, 10, 12 + ENOUGH)? > 0, "600 hits on 12 services count 12 times at most");
    let mut loaded_long_ago = armed(GateMode::Enforce, REFLEX)?;
    hit(&loaded_long_ago, 600)?;
    for _ in 0..2 {
        tally(&mut loaded_long_ago)?;
    }
    ensure!(scan(&loaded_long_ago, 1, ENOUGH)? > 0, "hits of earlier epochs count");
    ensure!(tally(&mut loaded)?.holds == 1);
    Ok(())
}

fn swept() -> Result<()> {
    let block: IpNet = "10.9.0.0/24".parse()?;
    let swept = |ports: u16, hosts: u8| -> Result<u16> {
        let mut loaded = armed(GateMode::Enforce, REFLEX)?;
        let prefixes = [(block.network(), block.prefix_len())].into();
        loaded.kernel.set_local(&Local { prefixes, forwards: false })?;
        let mut dropped = 0;
        for host in 1..=hosts {
            let destination = Some(Ipv4Addr::new(10, 9, 0, host));
            let port = 80 + u16::from(host) % ports;
            let frame = v4_with(&V4 { protocol: TCP, destination, ..V4::default() }, &tcp(SYN, port));
            dropped += u16::from(drops(&loaded, &frame)?);
        }
        Ok(dropped)
    };
    let dropped = swept(1, 30)?;
    ensure!((19..=22).contains(&dropped), "{dropped} of 30 dropped");
    ensure!(swept(8, 8)? == 0, "eight services at eight addresses are eight, not sixteen");
    Ok(())
}

fn once() -> Result<()> {
    let mut loaded = armed(GateMode::Enforce, REFLEX)?;
    ensure!(scan(&loaded, 1, 8 + ENOUGH)? > 0);
    sleep(REFLEX.lasts + Duration::from_millis(100));
    ensure!(scan(&loaded, 100, 100)? == 0, "held again though the agent has not looked");
    let seen = tally(&mut loaded)?;
    ensure!(seen.holds == 1, "{seen:?}");
    ensure!(scan(&loaded, 300, 8 + ENOUGH)? > 0, "not held in the next epoch");
    loaded.kernel.set_hold(None)?;
    ensure!(scan(&loaded, 300, 8 + ENOUGH)? == 0, "held though the reflex is off");
    Ok(())
}

fn dry() -> Result<()> {
    let mut loaded = armed(GateMode::DryRun, HoldTerms { lasts: Duration::from_secs(5), ..REFLEX })?;
    ensure!(scan(&loaded, 1, 8 + ENOUGH)? == 0, "dropped in a dry run");
    let seen = tally(&mut loaded)?;
    ensure!(seen.would_drop >= u64::from(ENOUGH) - 3 && seen.holds == 1, "{seen:?}");
    ensure!(seen.exit(Exit::Held) == 0, "{seen:?}");
    loaded.kernel.set_gate(GateMode::Enforce, false)?;
    ensure!(!drops(&loaded, &v4(TCP, &tcp(SYN, 1)))?, "what was held in a dry run drops");
    let mut loaded = armed(GateMode::Off, REFLEX)?;
    ensure!(
        scan(&loaded, 1, 8 + ENOUGH)? == 0 && tally(&mut loaded)?.holds == 0,
        "held though the gate is off"
    );
    Ok(())
}

fn allowed() -> Result<()> {
    let mut loaded = armed(GateMode::Enforce, REFLEX)?;
    loaded.kernel.set_allowed(&BTreeSet::from([net("192.0.2.0/24")]))?;
    ensure!(scan(&loaded, 1, 100)? == 0 && tally(&mut loaded)?.holds == 0, "held though allowed");
    loaded.kernel.set_allowed(&BTreeSet::new())?;
    ensure!(scan(&loaded, 1, 100)? > 0, "not held");
    loaded.kernel.set_allowed(&BTreeSet::from([net("192.0.2.7/32")]))?;
    ensure!(!drops(&loaded, &v4(TCP, &tcp(SYN, 1)))?, "dropped though allowed meanwhile");
    Ok(())
}

fn most() -> Result<()> {
    let mut loaded = armed(GateMode::Enforce, HoldTerms { most: 1, ..REFLEX })?;
    ensure!(scan(&loaded, 1, 100)? > 0, "not held");
    for port in 1..100 {
        ensure!(!drops(&loaded, &v6(TCP, &tcp(SYN, port)))?, "one more than is configured");
    }
    let seen = tally(&mut loaded)?;
    ensure!((seen.holds, seen.holds_refused) == (1, 1), "{seen:?}");
    Ok(())
}

fn unknown() -> Result<()> {
    let mut loaded = armed(GateMode::Enforce, REFLEX)?;
    ensure!(scan(&loaded, 40_000, 200)? == 0, "ephemeral ports");
    let prefixes = [(scanguard_tests::fixtures::frames::DESTINATION.into(), 32)].into();
    loaded.kernel.set_local(&Local { prefixes, forwards: true })?;
    ensure!(scan(&loaded, 1, 200)? == 0, "on a host that forwards");
    ensure!(tally(&mut loaded)?.holds == 0);
    Ok(())
}
