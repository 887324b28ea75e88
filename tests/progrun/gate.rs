//! The gate: who is dropped, and who never is.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use libtest_mimic::Trial;
use scanguard::{
    network::Local,
    sensor::{Sensor as _, gate::GateMode, settings::Settings, test_run::TestRunSensor},
};
use scanguard_common::{abi, outcome::Exit, tally::Tally};
use scanguard_tests::fixtures::{
    frames::{DESTINATION, DESTINATION6, ethernet, icmp, tcp, udp, v4, v6},
    program::{self, XDP_PASS},
};

use crate::trial;

/// `enum xdp_action`.
const XDP_DROP: u32 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;
/// Where the hop limit of an IPv6 packet is in its frame.
const HOP_LIMIT: usize = 14 + 7;
const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "gate: packets of a banned source that begin something or that no socket wants are dropped",
            begun,
        ),
        trial("gate: neighbours of a banned source and of a banned network pass", neighbours),
        trial("gate: a dry run drops nothing and counts what it would have dropped", dry),
        trial("gate: a ban that was made in dry run never drops", dry_ban),
        trial("gate: a ban ends by the kernel's clock, and one without an end does not", ends),
        trial("gate: an allowed source is never dropped, whatever ban there is", allowed),
        trial(
            "gate: networks that find room on the allow list are spared though others find none",
            allow_list_full,
        ),
        trial("gate: drop_all drops what answers this host too, and never ARP or Neighbour Discovery", all),
        trial("gate: an unban ends a ban, and a ban reports how much it dropped", unban),
        trial("gate: the segments of a connection through this host pass", forwarded),
        trial(
            "gate: a ban that is changed goes on counting, and one that is made anew begins anew",
            recounted,
        ),
        trial(
            "gate: a hundred thousand networks are banned at once, and nothing beyond what finds room",
            many,
        ),
    ]
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

/// Both destinations are this host's; nobody listens.
pub(crate) fn loaded(mode: GateMode) -> Result<TestRunSensor> {
    let mut loaded = program::load(&Settings::default())?;
    let prefixes = [(IpAddr::from(DESTINATION), 32), (IpAddr::from(DESTINATION6), 128)].into();
    loaded.kernel.set_local(&Local { prefixes, forwards: false })?;
    loaded.kernel.set_gate(mode, false)?;
    Ok(loaded)
}

pub(crate) fn drops(loaded: &TestRunSensor, frame: &[u8]) -> Result<bool> {
    let verdict = loaded.run(frame, 1)?.verdict;
    ensure!(verdict == XDP_DROP || verdict == XDP_PASS, "verdict {verdict}");
    Ok(verdict == XDP_DROP)
}

pub(crate) fn tally(loaded: &mut TestRunSensor) -> Result<Tally> {
    Ok(loaded.poll(&mut |_, _, _| {})?.tally)
}

/// Packets that begin something, or that no socket wants: (name, frame), IPv4 and IPv6.
fn unwanted() -> Vec<(&'static str, Vec<u8>)> {
    let data = [tcp(ACK, 80), vec![0; 100]].concat();
    vec![
        ("syn", v4(TCP, &tcp(SYN, 80))),
        ("syn6", v6(TCP, &tcp(SYN, 80))),
        ("fin", v4(TCP, &tcp(1, 80))),
        ("stray ack", v4(TCP, &tcp(ACK, 80))),
        ("stray ack6", v6(TCP, &tcp(ACK, 80))),
        ("stray data", v4(TCP, &data)),
        ("stray data6", v6(TCP, &data)),
        ("reset", v4(TCP, &tcp(4, 80))),
        ("datagram", v4(UDP, &udp(40_000, 161, b"snmp"))),
        ("ping", v4(1, &icmp(8))),
        ("ping6", v6(58, &icmp(128))),
    ]
}

/// Packets that belong to something that the source did not begin.
fn innocent() -> Vec<(&'static str, Vec<u8>)> {
    vec![("echo reply", v4(1, &icmp(0))), ("unreachable", v4(1, &icmp(3)))]
}

fn ban_both(loaded: &mut TestRunSensor, enforced: bool) -> Result<()> {
    loaded.kernel.ban(net("192.0.2.7/32"), HOUR, enforced)?;
    Ok(loaded.kernel.ban(net("2001:db8:7:7::/64"), HOUR, enforced)?)
}

fn begun() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    for (name, frame) in unwanted() {
        ensure!(!drops(&loaded, &frame)?, "{name} dropped without a ban");
    }
    ban_both(&mut loaded, true)?;
    let before = tally(&mut loaded)?;
    for (name, frame) in unwanted() {
        ensure!(drops(&loaded, &frame)?, "{name} passed");
    }
    for (name, frame) in innocent() {
        ensure!(!drops(&loaded, &frame)?, "{name} dropped");
    }
    let counted = tally(&mut loaded)?.since(&before);
    ensure!(counted.exit(Exit::Banned) == unwanted().len() as u64, "{counted:?}");
    ensure!(counted.packets() == (unwanted().len() + innocent().len()) as u64, "{counted:?}");
    ensure!(counted.would_drop == 0 && counted.probes.iter().sum::<u64>() == 0, "{counted:?}");
    Ok(())
}

fn neighbours() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    let [syn, syn6] = [v4(TCP, &tcp(SYN, 80)), v6(TCP, &tcp(SYN, 80))];
    for (banned, v4_drops, v6_drops) in [
        ("192.0.2.8/32", false, false),
        ("192.0.2.7/32", true, false),
        ("192.0.3.0/24", false, false),
        ("192.0.0.0/16", true, false),
        ("0.0.0.0/0", true, false),
        ("2001:db8:7:8::/64", false, false),
        ("2001:db8:7:7::/64", false, true),
        ("2001:db8:7:7:1:2:3:4/128", false, true),
        ("2001:db8:7:7:1:2:3:5/128", false, false),
        ("2001:db8::/32", false, true),
    ] {
        loaded.kernel.ban(net(banned), HOUR, true)?;
        ensure!(drops(&loaded, &syn)? == v4_drops, "{banned}: IPv4");
        ensure!(drops(&loaded, &syn6)? == v6_drops, "{banned}: IPv6");
        ensure!(loaded.kernel.unban(net(banned))?, "{banned} was not there");
    }
    ensure!(!drops(&loaded, &syn)? && !drops(&loaded, &syn6)?);
    Ok(())
}

fn dry() -> Result<()> {
    for enforced in [false, true] {
        let mut loaded = loaded(GateMode::DryRun)?;
        ban_both(&mut loaded, enforced)?;
        for (name, frame) in unwanted() {
            ensure!(!drops(&loaded, &frame)?, "{name} dropped in dry run");
        }
        let counted = tally(&mut loaded)?;
        ensure!(counted.would_drop == unwanted().len() as u64, "{counted:?}");
        ensure!(counted.exit(Exit::Banned) == 0, "{counted:?}");
    }
    let mut loaded = loaded(GateMode::Off)?;
    ban_both(&mut loaded, true)?;
    ensure!(!drops(&loaded, &v4(TCP, &tcp(SYN, 80)))?, "dropped though the gate is off");
    ensure!(tally(&mut loaded)?.would_drop == 0);
    Ok(())
}

fn dry_ban() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    ban_both(&mut loaded, false)?;
    for (name, frame) in unwanted() {
        ensure!(!drops(&loaded, &frame)?, "{name} dropped");
    }
    ensure!(tally(&mut loaded)?.would_drop == unwanted().len() as u64);
    Ok(())
}

fn ends() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    let syn = v4(TCP, &tcp(SYN, 80));
    let soon = Duration::from_millis(300);
    for banned in ["192.0.2.7/32", "192.0.2.0/24"] {
        loaded.kernel.ban(net(banned), Some(soon), true)?;
        ensure!(drops(&loaded, &syn)?, "{banned} does not count");
        sleep(soon + Duration::from_millis(100));
        ensure!(!drops(&loaded, &syn)?, "{banned} did not end");
        let standing = loaded.kernel.standing(net(banned))?;
        ensure!(standing.is_some_and(|it| it.remaining == Some(Duration::ZERO)), "{standing:?}");
        loaded.kernel.unban(net(banned))?;
    }
    loaded.kernel.ban(net("192.0.2.7/32"), None, true)?;
    ensure!(drops(&loaded, &syn)?);
    ensure!(loaded.kernel.standing(net("192.0.2.7/32"))?.is_some_and(|it| it.remaining.is_none()));
    Ok(())
}

fn allowed() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    let syn = v4(TCP, &tcp(SYN, 80));
    for banned in ["192.0.2.7/32", "192.0.2.0/25"] {
        loaded.kernel.ban(net(banned), HOUR, true)?;
        ensure!(drops(&loaded, &syn)?, "{banned} does not count");
        let before = tally(&mut loaded)?;
        loaded.kernel.set_allowed(&BTreeSet::from([net("192.0.0.0/16")]))?;
        ensure!(!drops(&loaded, &syn)? && !drops(&loaded, &syn)?, "{banned}: dropped though allowed");
        let counted = tally(&mut loaded)?.since(&before);
        ensure!(counted.spared == 2 && counted.exit(Exit::Banned) == 0, "{counted:?}");
        loaded.kernel.set_allowed(&BTreeSet::new())?;
        ensure!(drops(&loaded, &syn)?, "{banned}: not dropped any more");
        loaded.kernel.unban(net(banned))?;
    }
    // A part of a banned IPv6 source.
    ban_both(&mut loaded, true)?;
    let syn6 = v6(TCP, &tcp(SYN, 80));
    ensure!(drops(&loaded, &syn6)?);
    loaded.kernel.set_allowed(&BTreeSet::from([net("2001:db8:7:7:1:2:3:4/128")]))?;
    ensure!(!drops(&loaded, &syn6)?, "a part of a banned prefix was allowed");
    loaded.kernel.set_allowed(&BTreeSet::from([net("2001:db8:7:7:1:2:3:5/128")]))?;
    ensure!(drops(&loaded, &syn6)?, "another part of it");
    Ok(())
}

fn allow_list_full() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    ban_both(&mut loaded, true)?;
    let probe = v4(TCP, &tcp(SYN, 80));
    ensure!(drops(&loaded, &probe)?, "and with it found not to be allowed");
    // Of ever higher addresses: the source comes first.
    let first = u32::from(Ipv4Addr::new(198, 51, 0, 0));
    let mut allowed: BTreeSet<_> =
        (0..abi::MAX_ALLOWED).map(|host| IpNet::from(IpAddr::from(Ipv4Addr::from(first + host)))).collect();
    allowed.insert(net("192.0.2.7/32"));
    ensure!(loaded.kernel.set_allowed(&allowed).is_err(), "one too many");
    ensure!(loaded.kernel.allowed().len() == abi::MAX_ALLOWED as usize);
    ensure!(!drops(&loaded, &probe)?, "dropped by what was looked up before");
    Ok(())
}

fn all() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    ban_both(&mut loaded, true)?;
    loaded.kernel.set_gate(GateMode::Enforce, true)?;
    for (name, frame) in unwanted().into_iter().chain(innocent()) {
        ensure!(drops(&loaded, &frame)?, "{name} passed");
    }
    let arp = ethernet(etherparse::EtherType::ARP, &[0; 46]);
    ensure!(!drops(&loaded, &arp)?, "ARP dropped");
    for kind in [133, 134, 135, 136] {
        let mut discovery = v6(58, &icmp(kind));
        ensure!(drops(&loaded, &discovery)?, "{kind} that came through a router passed");
        discovery[HOP_LIMIT] = 255;
        ensure!(!drops(&loaded, &discovery)?, "Neighbour Discovery dropped: {kind}");
    }
    Ok(())
}

fn unban() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    let syn = v4(TCP, &tcp(SYN, 80));
    let banned = net("192.0.2.7/32");
    ensure!(loaded.kernel.standing(banned)?.is_none());
    ensure!(!loaded.kernel.unban(banned)?, "there was none");
    loaded.kernel.ban(banned, HOUR, true)?;
    let fresh = loaded.kernel.standing(banned)?.map(|it| (it.dropped, it.last));
    ensure!(fresh == Some((0, None)), "{fresh:?}");
    loaded.run(&syn, 5)?;
    let standing = loaded.kernel.standing(banned)?.map(|it| (it.dropped, it.enforced, it.last.is_some()));
    ensure!(standing == Some((5, true, true)), "{standing:?}");
    let remaining = loaded.kernel.standing(banned)?.and_then(|it| it.remaining);
    ensure!(remaining.is_some_and(|it| it <= Duration::from_secs(3601) && it > Duration::from_secs(3500)));
    ensure!(loaded.kernel.unban(banned)? && !drops(&loaded, &syn)?, "still banned");
    ensure!(loaded.kernel.banned().count() == 0);
    Ok(())
}

fn forwarded() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    loaded.kernel.set_local(&Local { forwards: true, ..Local::default() })?;
    ban_both(&mut loaded, true)?;
    for (name, frame, expected) in [
        ("syn", v4(TCP, &tcp(SYN, 80)), true),
        ("ack", v4(TCP, &tcp(ACK, 80)), false),
        ("syn ack", v4(TCP, &tcp(SYN | ACK, 40_000)), false),
        ("data6", v6(TCP, &[tcp(ACK, 80), vec![0; 10]].concat()), false),
        ("answer", v4(UDP, &udp(53, 40_000, b"answer")), false),
        ("query", v4(UDP, &udp(40_000, 53, b"query")), true),
    ] {
        ensure!(drops(&loaded, &frame)? == expected, "{name}");
    }
    Ok(())
}

fn recounted() -> Result<()> {
    let mut loaded = loaded(GateMode::DryRun)?;
    let frame = v4(TCP, &tcp(SYN, 80));
    for banned in ["192.0.2.7/32", "192.0.2.0/24"].map(net) {
        let dropped = |loaded: &TestRunSensor| {
            anyhow::Ok(loaded.kernel.standing(banned)?.map(|standing| (standing.dropped, standing.enforced)))
        };
        loaded.kernel.ban(banned, HOUR, false)?;
        ensure!(!drops(&loaded, &frame)? && dropped(&loaded)? == Some((1, false)));
        // As a change of the mode does it.
        loaded.kernel.set_gate(GateMode::Enforce, false)?;
        loaded.kernel.ban(banned, HOUR, true)?;
        ensure!(dropped(&loaded)? == Some((1, true)), "{:?}", dropped(&loaded)?);
        ensure!(drops(&loaded, &frame)? && dropped(&loaded)? == Some((2, true)));
        // One that has ended is another one.
        loaded.kernel.ban(banned, Some(Duration::ZERO), true)?;
        sleep(Duration::from_millis(30));
        loaded.kernel.ban(banned, HOUR, true)?;
        ensure!(dropped(&loaded)? == Some((0, true)), "{:?}", dropped(&loaded)?);
        loaded.kernel.unban(banned)?;
        loaded.kernel.ban(banned, HOUR, false)?;
        ensure!(dropped(&loaded)? == Some((0, false)));
        loaded.kernel.unban(banned)?;
        loaded.kernel.set_gate(GateMode::DryRun, false)?;
    }
    Ok(())
}

fn many() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    let network =
        |number: u32| IpNet::new_assert(IpAddr::from((0x0b00_0000 + number * 256).to_be_bytes()), 24);
    let single = |number: u32| IpNet::new_assert(IpAddr::from((0x0b00_0000 + number).to_be_bytes()), 32);
    let most = [abi::MAX_BANNED_NETWORKS, abi::DEFAULT_MAX_BANS];
    for (count, most, net) in
        [(100_000, most[0], &network as &dyn Fn(u32) -> IpNet), (50_000, most[1], &single)]
    {
        let bans = || (0..count).map(|number| (net(number), HOUR, true));
        for again in [false, true] {
            let started = Instant::now();
            loaded.kernel.ban_all(&mut bans())?;
            println!("{count} bans such as {} in {:?}; again: {again}", net(0), started.elapsed());
        }
        for number in [0, count - 1] {
            let standing = loaded.kernel.standing(net(number))?;
            ensure!(standing.is_some_and(|standing| standing.enforced && standing.remaining <= HOUR));
        }
        ensure!(loaded.kernel.banned().count() == count as usize);
        // More than there is room for: all before are there, and the rest is said.
        let more = (count..=most).map(|number| (net(number), HOUR, true));
        let error = loaded.kernel.ban_all(&mut { more }).expect_err("there is no room");
        ensure!(error.to_string().contains("BPF_MAP_UPDATE_BATCH"), "{error}");
        ensure!(loaded.kernel.banned().count() == most as usize, "{}", loaded.kernel.banned().count());
        ensure!(
            loaded.kernel.standing(net(most - 1))?.is_some() && loaded.kernel.standing(net(most))?.is_none()
        );
        loaded.kernel.unban_all(&mut (0..most).map(net))?;
        ensure!(loaded.kernel.banned().count() == 0);
    }
    Ok(())
}
