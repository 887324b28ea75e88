//! Shields: what of a source meets nobody is dropped, and all else of it passes.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener, UdpSocket},
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
use scanguard_common::{abi, outcome::Exit};
use scanguard_tests::fixtures::frames::{V4, icmp, sctp, tcp, udp, v4, v4_with, v6};

use crate::{
    gate::{ACK, SYN, TCP, UDP, drops, loaded, net, tally},
    trial,
};

const SHIELDED: [&str; 2] = ["192.0.2.7/32", "2001:db8:7:7::/64"];
const HOUR: Option<Duration> = Some(Duration::from_secs(3600));
const FIN_ACK: u8 = 17;
const SYN_ACK: u8 = 18;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("shield: packets that meet nobody are dropped, and counted for their source", nobody),
        trial("shield: packets that a service here wants pass", services),
        trial("shield: packets that this host itself answers pass", answered),
        trial("shield: where the host forwards, only dark addresses are certain to be nobody", forwarded),
        trial("shield: a dry run drops nothing and counts what it would have dropped", dry),
        trial("shield: it ends by the kernel's clock", ends),
        trial("shield: an allowed source is never dropped", allowed),
        trial("shield: a ban of the same source goes first", banned),
        trial("shield: a source that has a shield is not held", not_held),
        trial("shield: neighbours pass, and one is lifted alone", neighbours),
        trial("shield: as many as can be are made, and none of them takes a ban's place", many),
        trial("shield: a source that found no room in the table is dropped, too", without_room),
    ]
}

fn shield(loaded: &mut TestRunSensor, lasts: Option<Duration>, enforced: bool) -> Result<()> {
    Ok(loaded.kernel.shield_all(&mut SHIELDED.iter().map(|text| (net(text), lasts, enforced)))?)
}

fn shielded(mode: GateMode) -> Result<TestRunSensor> {
    let mut loaded = loaded(mode)?;
    shield(&mut loaded, HOUR, true)?;
    Ok(loaded)
}

/// To ports where nobody listens: (name, frame), and whether it is a probe.
fn meets_nobody() -> Vec<(&'static str, Vec<u8>, bool)> {
    vec![
        ("syn", v4(TCP, &tcp(SYN, 81)), true),
        ("syn6", v6(TCP, &tcp(SYN, 81)), true),
        ("null", v4(TCP, &tcp(0, 81)), true),
        ("fin", v4(TCP, &tcp(1, 81)), true),
        ("xmas6", v6(TCP, &tcp(41, 81)), true),
        ("syn fin", v4(TCP, &tcp(3, 81)), true),
        ("ack probe", v4(TCP, &tcp(ACK, 81)), true),
        ("maimon", v4(TCP, &tcp(FIN_ACK, 81)), true),
        ("syn ack6", v6(TCP, &tcp(SYN_ACK, 81)), true),
        ("datagram", v4(UDP, &udp(40_000, 161, b"snmp")), true),
        ("empty datagram6", v6(UDP, &udp(40_000, 161, b"")), true),
        ("a late answer", v4(UDP, &udp(53, 40_000, b"answer")), false),
    ]
}

fn nobody() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    for (name, frame, _) in meets_nobody() {
        ensure!(!drops(&loaded, &frame)?, "{name} dropped without a shield");
    }
    shield(&mut loaded, HOUR, true)?;
    let before = tally(&mut loaded)?;
    for (name, frame, _) in meets_nobody() {
        ensure!(drops(&loaded, &frame)?, "{name} passed");
    }
    let counted = tally(&mut loaded)?.since(&before);
    let all = meets_nobody();
    let probes = all.iter().filter(|(_, _, is_probe)| *is_probe).count();
    ensure!(counted.exit(Exit::Shielded) == all.len() as u64, "{counted:?}");
    ensure!(counted.packets() == all.len() as u64 && counted.would_drop == 0, "{counted:?}");
    ensure!(counted.probes.iter().sum::<u64>() == probes as u64, "{counted:?}");
    let nets = SHIELDED.map(net);
    let standings = loaded.kernel.shield_standings(&nets)?;
    let dropped: u64 = standings.iter().map(|(_, standing)| standing.dropped).sum();
    ensure!(standings.len() == 2 && dropped == all.len() as u64, "{standings:?}");
    Ok(())
}

fn services() -> Result<()> {
    let listener = TcpListener::bind("[::]:0")?;
    let socket = UdpSocket::bind("[::]:0")?;
    let (port, udp_port) = (listener.local_addr()?.port(), socket.local_addr()?.port());
    let mut loaded = shielded(GateMode::Enforce)?;
    for (name, frame) in [
        ("syn", v4(TCP, &tcp(SYN, port))),
        ("syn6", v6(TCP, &tcp(SYN, port))),
        // As the end of a handshake with a SYN cookie.
        ("acknowledgment", v4(TCP, &tcp(ACK, port))),
        ("acknowledgment6", v6(TCP, &tcp(ACK, port))),
        ("data", v4(TCP, &[tcp(ACK, port), vec![0; 100]].concat())),
        ("fin ack", v4(TCP, &tcp(FIN_ACK, port))),
        ("reset", v4(TCP, &tcp(4, port))),
        ("reset to nobody", v4(TCP, &tcp(4, 81))),
        ("datagram", v4(UDP, &udp(40_000, udp_port, b"query"))),
        ("datagram6", v6(UDP, &udp(40_000, udp_port, b"query"))),
        ("answer", v4(UDP, &udp(53, udp_port, b"answer"))),
    ] {
        for _ in 0..2 {
            ensure!(!drops(&loaded, &frame)?, "{name} dropped");
        }
    }
    // No stack sends these, whoever listens.
    for flags in [0, 1, 41, 3, 6] {
        ensure!(drops(&loaded, &v4(TCP, &tcp(flags, port)))?, "flags {flags} passed");
    }
    let counted = tally(&mut loaded)?;
    ensure!(counted.exit(Exit::Shielded) == 5 && counted.exit(Exit::Banned) == 0, "{counted:?}");
    Ok(())
}

fn answered() -> Result<()> {
    let loaded = shielded(GateMode::Enforce)?;
    for (name, frame) in [
        ("ping", v4(1, &icmp(8))),
        ("ping6", v6(58, &icmp(128))),
        ("timestamp", v4(1, &icmp(13))),
        ("echo reply", v4(1, &icmp(0))),
        ("unreachable", v4(1, &icmp(3))),
        ("sctp init", v4(132, &sctp(81, 1))),
        ("protocol", v4(200, &[0; 8])),
        ("later fragment", v4_with(&V4 { protocol: UDP, offset: 100, ..V4::default() }, &[0; 64])),
    ] {
        ensure!(!drops(&loaded, &frame)?, "{name} dropped");
    }
    Ok(())
}

fn forwarded() -> Result<()> {
    let mut loaded = shielded(GateMode::Enforce)?;
    let dark: IpNet = net("10.9.0.0/24");
    loaded.kernel.set_routed(&[dark]);
    let prefixes = [(scanguard_tests::fixtures::frames::DESTINATION.into(), 32)].into();
    loaded.kernel.set_local(&Local { prefixes, forwards: true })?;
    for (name, frame, _) in meets_nobody() {
        ensure!(!drops(&loaded, &frame)?, "{name} dropped, and may be somebody else's");
    }
    let to = |protocol, payload: &[u8]| {
        let destination = Some(Ipv4Addr::new(10, 9, 0, 7));
        v4_with(&V4 { protocol, destination, ..V4::default() }, payload)
    };
    for (name, frame) in [
        ("syn", to(TCP, &tcp(SYN, 80))),
        ("null", to(TCP, &tcp(0, 80))),
        ("ack probe", to(TCP, &tcp(ACK, 80))),
        ("datagram", to(UDP, &udp(40_000, 161, b"snmp"))),
        ("ping", to(1, &icmp(8))),
        ("protocol", to(200, &[0; 8])),
    ] {
        ensure!(drops(&loaded, &frame)?, "{name} to a dark address passed");
    }
    Ok(())
}

fn dry() -> Result<()> {
    for (mode, enforced, counts) in
        [(GateMode::DryRun, true, true), (GateMode::Enforce, false, true), (GateMode::Off, true, false)]
    {
        let mut loaded = loaded(mode)?;
        shield(&mut loaded, HOUR, enforced)?;
        for (name, frame, _) in meets_nobody() {
            ensure!(!drops(&loaded, &frame)?, "{name} dropped, {mode:?}");
        }
        let counted = tally(&mut loaded)?;
        let expected = if counts { meets_nobody().len() as u64 } else { 0 };
        ensure!(counted.would_drop == expected, "{mode:?}: {counted:?}");
        ensure!(counted.exit(Exit::Shielded) == 0, "{mode:?}: {counted:?}");
    }
    Ok(())
}

fn ends() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    let soon = Duration::from_millis(300);
    shield(&mut loaded, Some(soon), true)?;
    let syn = v4(TCP, &tcp(SYN, 81));
    ensure!(drops(&loaded, &syn)?, "it does not count");
    sleep(soon + Duration::from_millis(100));
    ensure!(!drops(&loaded, &syn)?, "it did not end");
    let standing = loaded.kernel.shield_standings(&[net(SHIELDED[0])])?;
    ensure!(standing[0].1.remaining == Some(Duration::ZERO), "{standing:?}");
    shield(&mut loaded, HOUR, true)?;
    ensure!(drops(&loaded, &syn)?, "it was not renewed");
    Ok(())
}

fn allowed() -> Result<()> {
    let mut loaded = shielded(GateMode::Enforce)?;
    loaded.kernel.set_allowed(&BTreeSet::from([net("192.0.0.0/16"), net("2001:db8:7:7:1:2:3:4/128")]))?;
    for (name, frame, _) in meets_nobody() {
        ensure!(!drops(&loaded, &frame)?, "{name} dropped though allowed");
    }
    loaded.kernel.set_allowed(&BTreeSet::new())?;
    for (name, frame, _) in meets_nobody() {
        ensure!(drops(&loaded, &frame)?, "{name} passed");
    }
    Ok(())
}

fn banned() -> Result<()> {
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let mut loaded = shielded(GateMode::Enforce)?;
    let (open, closed) = (v4(TCP, &tcp(SYN, listener.local_addr()?.port())), v4(TCP, &tcp(SYN, 81)));
    ensure!(!drops(&loaded, &open)?);
    loaded.kernel.ban(net(SHIELDED[0]), HOUR, true)?;
    ensure!(drops(&loaded, &open)? && drops(&loaded, &closed)?, "the shield hides the ban");
    let counted = tally(&mut loaded)?;
    ensure!((counted.exit(Exit::Banned), counted.exit(Exit::Shielded)) == (2, 0), "{counted:?}");
    loaded.kernel.unban(net(SHIELDED[0]))?;
    ensure!(!drops(&loaded, &open)? && drops(&loaded, &closed)?, "the shield went with the ban");
    Ok(())
}

fn not_held() -> Result<()> {
    let mut loaded = shielded(GateMode::Enforce)?;
    loaded.kernel.set_hold(Some(HoldTerms { services: 9, lasts: Duration::from_millis(300), most: 5 }))?;
    for port in 1..100 {
        ensure!(drops(&loaded, &v4(TCP, &tcp(SYN, port)))?, "port {port}");
    }
    let counted = tally(&mut loaded)?;
    ensure!(counted.exit(Exit::Shielded) == 99 && counted.holds == 0, "{counted:?}");
    Ok(())
}

fn neighbours() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    let [syn, syn6] = [v4(TCP, &tcp(SYN, 81)), v6(TCP, &tcp(SYN, 81))];
    let others = ["192.0.2.8/32", "2001:db8:7:8::/64"].map(net);
    loaded.kernel.shield_all(&mut others.into_iter().map(|net| (net, HOUR, true)))?;
    ensure!(!drops(&loaded, &syn)? && !drops(&loaded, &syn6)?, "a neighbour was dropped");
    shield(&mut loaded, HOUR, true)?;
    ensure!(drops(&loaded, &syn)? && drops(&loaded, &syn6)?);
    loaded.kernel.unshield_all(&mut std::iter::once(net(SHIELDED[0])))?;
    ensure!(!drops(&loaded, &syn)? && drops(&loaded, &syn6)?, "one is lifted alone");
    // A shield from a network around sources, or from one address of a source.
    loaded.kernel.unshield_all(&mut std::iter::once(net(SHIELDED[1])))?;
    for (around, drops4, drops6) in [
        ("192.0.2.0/24", true, false),
        ("2001:db8:7::/48", false, true),
        ("2001:db8:7:7:1:2:3:4/128", false, true),
        ("2001:db8:7:7:1:2:3:5/128", false, false),
    ] {
        loaded.kernel.shield_all(&mut std::iter::once((net(around), HOUR, true)))?;
        ensure!((drops(&loaded, &syn)?, drops(&loaded, &syn6)?) == (drops4, drops6), "{around}");
        let standing = loaded.kernel.shield_standings(&[net(around)])?;
        ensure!(
            standing.iter().all(|(_, standing)| standing.dropped == u64::from(drops4 || drops6)),
            "{standing:?}"
        );
        loaded.kernel.unshield_all(&mut std::iter::once(net(around)))?;
        ensure!(!drops(&loaded, &syn)? && !drops(&loaded, &syn6)?, "{around} goes on");
    }
    ensure!(loaded.kernel.shielded().count() == 2);
    Ok(())
}

fn many() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    loaded.kernel.ban(net(SHIELDED[0]), HOUR, true)?;
    let single = |number: u32| IpNet::from(std::net::IpAddr::from((0x0b00_0000 + number).to_be_bytes()));
    let error = loaded
        .kernel
        .shield_all(&mut (0..=abi::MAX_SHIELDS).map(|number| (single(number), HOUR, true)))
        .expect_err("one too many");
    ensure!(error.to_string().contains(abi::SHIELDS), "{error}");
    ensure!(loaded.kernel.shielded().count() == abi::MAX_SHIELDS as usize);
    loaded.kernel.ban(net("203.0.113.1/32"), HOUR, true)?;
    ensure!(loaded.kernel.banned().count() == 2 && drops(&loaded, &v4(TCP, &tcp(SYN, 81)))?);
    loaded.kernel.unshield_all(&mut (0..abi::MAX_SHIELDS).map(single))?;
    ensure!(loaded.kernel.shielded().count() == 0);
    Ok(())
}

fn without_room() -> Result<()> {
    let mut loaded = shielded(GateMode::Enforce)?;
    loaded.kernel.set_free_entries(0)?;
    let syn = v4(TCP, &tcp(SYN, 81));
    ensure!(drops(&loaded, &syn)?, "a probe at the door passed");
    let counted = tally(&mut loaded)?;
    ensure!(counted.exit(Exit::Shielded) == 1 && counted.probes.iter().sum::<u64>() == 1, "{counted:?}");
    Ok(())
}
