//! The egress program under BPF_PROG_TEST_RUN: what it counts and notes equals what the table of answers says.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard::{
    network::Local,
    sensor::{Occupancy, Sensor as _, settings::Settings, test_run::TestRunSensor},
};
use scanguard_common::{
    account::Distinct,
    oracle::Reach,
    outcome::{Answer, EgressExit, Exit},
    tally::Tally,
    wire::{
        protocol::{TCP, UDP},
        tcp_flags::{ACK, FIN, RST, SYN},
    },
};
use scanguard_tests::{
    fixtures::{
        frames::{DESTINATION, DESTINATION6, SOURCE, tcp, udp, v4, v6},
        program::{self, TCX_NEXT},
        root::skipped,
    },
    tables::answers::{Leaving, from_port, table, turned},
};

use crate::trial;

/// A port that nobody on the machine of the tests has a socket for.
const PORT: u16 = 2;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("answers to unknown sources are counted by kind", answers_to_the_unknown),
        trial("answers to a source are counted for it", answers_to_sources),
        trial("a service that answers without a socket is open from then on, for an hour", published),
        trial("an answer is no service where the address is not local", not_published),
        trial("a routed address that answers or calls is not dark any more, for a day", live),
        trial(
            "packets that this host itself sends in the name of a routed address make nobody live",
            not_live,
        ),
        trial("the first visit of a service that answers without a socket is no miss", settled),
        trial(
            "a virtual address whose packets are handed on is open, and its visitors miss nothing",
            handed_on,
        ),
        trial("what comes late in a flow that this host used is no probe, for an hour", late),
        trial("a service's datagrams make no flow of this host, and neither does any other flow", not_late),
    ]
}

/// The parts that test runs of kernels without frags do not have.
const FORWARDED: &str = "forwarded packets in a test run";

/// The kernel makes no packet of less than the headers of Ethernet and IP.
const SHORTEST: usize = 14 + 20;

fn rows() -> impl Iterator<Item = Leaving> {
    table().into_iter().filter(|row| row.frame.len() >= SHORTEST)
}

/// The counts of the egress program by the table.
fn expected(rows: &[Leaving], is_known: bool) -> Tally {
    let mut tally = Tally::ZERO;
    for row in rows {
        let exit = match row.outcome {
            Ok(answer) => {
                tally.answers[answer as usize] += 1;
                if is_known { EgressExit::Answer } else { EgressExit::AnswerUnmatched }
            }
            Err(exit) => exit,
        };
        tally.egress[exit.index()] += 1;
    }
    tally
}

fn let_out(loaded: &TestRunSensor, rows: &[Leaving]) -> Result<()> {
    for row in rows {
        let verdict = loaded.run_egress(&row.frame, false, 1)?.verdict;
        ensure!(verdict == TCX_NEXT, "{}: verdict {verdict}", row.name);
    }
    Ok(())
}

fn tally(loaded: &mut TestRunSensor) -> Result<Tally> {
    Ok(loaded.kernel.poll(&mut |_, _, _| {})?.tally)
}

fn answers_to_the_unknown() -> Result<()> {
    let mut loaded = program::load(&Settings::default())?;
    for row in rows() {
        let before = tally(&mut loaded)?;
        let rows = [row];
        let_out(&loaded, &rows)?;
        let counted = tally(&mut loaded)?.since(&before);
        ensure!(counted == expected(&rows, false), "{}: {counted:?}", rows[0].name);
    }
    ensure!(loaded.kernel.occupancy()? == Occupancy::default(), "something was noted");
    Ok(())
}

fn answers_to_sources() -> Result<()> {
    let mut loaded = program::load(&Settings::default())?;
    loaded.run(&v4(TCP, &tcp(SYN, PORT)), 1)?;
    loaded.run(&v6(TCP, &tcp(SYN, PORT)), 1)?;
    let before = tally(&mut loaded)?;
    let rows: Vec<_> = rows().collect();
    let_out(&loaded, &rows)?;
    let counted = tally(&mut loaded)?.since(&before);
    ensure!(counted == expected(&rows, true), "{counted:?}");
    let mut sum = [0u64; 4];
    for source in [IpAddr::from(SOURCE), IpAddr::from([0x2001, 0xdb8, 7, 7, 0, 0, 0, 0])] {
        let state = loaded.kernel.forget(&source.into())?;
        let answers = state.map(|state| state.answers).unwrap_or_default();
        ensure!(answers.iter().all(|count| *count > 0), "{source}: {answers:?}");
        sum.iter_mut().zip(answers).for_each(|(sum, part)| *sum += u64::from(part));
    }
    ensure!(sum == counted.answers, "the sources got {sum:?}, {:?} were sent", counted.answers);
    Ok(())
}

/// The reach of a SYN to the destination.
fn met(loaded: &mut TestRunSensor, syn: &[u8]) -> Result<Reach> {
    let before = tally(loaded)?;
    loaded.run(syn, 1)?;
    let counted = tally(loaded)?.since(&before);
    let met: Vec<_> = Reach::ALL.into_iter().filter(|reach| counted.reach(*reach) == 1).collect();
    ensure!(met.len() == 1 && counted.reached.iter().sum::<u64>() == 1, "{:?}", counted.reached);
    Ok(met[0])
}

/// Both destinations are this host's, which does not forward: what has no socket is closed.
fn home(loaded: &mut TestRunSensor, epoch: Duration) -> Result<()> {
    let prefixes = [(IpAddr::from(DESTINATION), 32), (IpAddr::from(DESTINATION6), 128)].into();
    loaded.kernel.set_local(&Local { prefixes, forwards: false })?;
    Ok(loaded.kernel.set_epoch_length(epoch)?)
}

fn published() -> Result<()> {
    if !program::has_frags() {
        return skipped(FORWARDED);
    }
    for syn in [v4(TCP, &tcp(SYN, PORT)), v6(TCP, &tcp(SYN, PORT))] {
        let mut loaded = program::load(&Settings::default())?;
        // An hour is six of these. Asking what a SYN meets takes two.
        home(&mut loaded, Duration::from_secs(600))?;
        ensure!(met(&mut loaded, &syn)? == Reach::Closed);
        let answer = match syn[12] {
            0x08 => turned(v4(TCP, &from_port(SYN | ACK, PORT))),
            _ => turned(v6(TCP, &from_port(SYN | ACK, PORT))),
        };
        loaded.run_egress(&answer, true, 3)?;
        ensure!(loaded.kernel.occupancy()? == Occupancy { live: 0, published: 1 });
        for _ in 0..3 {
            ensure!(met(&mut loaded, &syn)? == Reach::Open, "not published");
        }
        ensure!(met(&mut loaded, &syn)? == Reach::Closed, "published for ever");
        loaded.run_egress(&answer, true, 1)?;
        ensure!(met(&mut loaded, &syn)? == Reach::Open, "not published again");
    }
    Ok(())
}

/// Distinct services that the source of the table missed in the running epoch.
fn missed(loaded: &mut TestRunSensor, source: IpAddr) -> Result<u32> {
    let seen = loaded.kernel.look(&source.into())?.context("the source is in the table")?.0;
    let Distinct { services, .. } = seen.distinct_since(seen.epoch);
    Ok(services.iter().map(|word| word.count_ones()).sum())
}

fn settled() -> Result<()> {
    if !program::has_frags() {
        return skipped(FORWARDED);
    }
    let mut loaded = program::load(&Settings::default())?;
    home(&mut loaded, Duration::from_secs(1))?;
    for port in [PORT, PORT + 1] {
        loaded.run(&v4(TCP, &tcp(SYN, port)), 1)?;
    }
    ensure!(missed(&mut loaded, SOURCE.into())? == 2, "both");
    loaded.run_egress(&turned(v4(TCP, &from_port(SYN | ACK, PORT))), false, 1)?;
    ensure!(missed(&mut loaded, SOURCE.into())? == 1, "the other one");
    // A refusal settles nothing.
    loaded.run_egress(&turned(v4(TCP, &from_port(RST | ACK, PORT + 1))), false, 1)?;
    ensure!(missed(&mut loaded, SOURCE.into())? == 1, "the other one");
    // Where this host forwards, the service is only asked for, until its answer is known.
    let mut loaded = program::load(&Settings::default())?;
    let prefixes = [(IpAddr::from(DESTINATION), 32)].into();
    loaded.kernel.set_local(&Local { prefixes, forwards: true })?;
    loaded.run(&v4(TCP, &tcp(SYN, PORT)), 1)?;
    loaded.run_egress(&turned(v4(TCP, &from_port(SYN | ACK, PORT))), true, 1)?;
    ensure!(missed(&mut loaded, SOURCE.into())? == 0, "a service that may answer is missed");
    Ok(())
}

fn handed_on() -> Result<()> {
    if !program::has_frags() {
        return skipped(FORWARDED);
    }
    // The last is too short for the early decision.
    let visits = [
        v4(TCP, &tcp(SYN, PORT)),
        v6(TCP, &tcp(SYN, PORT)),
        v4(UDP, &udp(40_000, PORT, &[7; 200])),
        v4(UDP, &udp(40_000, PORT, b"7")),
    ];
    for visit in visits {
        let source =
            if visit[12] == 0x08 { IpAddr::from(SOURCE) } else { [0x2001, 0xdb8, 7, 7, 0, 0, 0, 0].into() };
        let mut loaded = program::load(&Settings::default())?;
        home(&mut loaded, Duration::from_secs(600))?;
        ensure!(met(&mut loaded, &visit)? == Reach::Closed);
        loaded.run(&visit, 1)?;
        ensure!(missed(&mut loaded, source)? == 1);
        // The same packet leaves, with another address of the link only. This host itself sends no such thing.
        loaded.run_egress(&visit, false, 1)?;
        ensure!(loaded.kernel.occupancy()?.published == 0, "its own");
        let mut loaded = program::load(&Settings::default())?;
        home(&mut loaded, Duration::from_secs(600))?;
        loaded.run(&visit, 1)?;
        loaded.run_egress(&visit, true, 1)?;
        ensure!(missed(&mut loaded, source)? == 0, "the visitor missed something");
        ensure!(loaded.kernel.occupancy()?.published == 1, "not published");
        let before = tally(&mut loaded)?;
        loaded.run(&visit, 1)?;
        let counted = tally(&mut loaded)?.since(&before);
        ensure!(counted.reach(Reach::Closed) == 0, "still closed");
        // What goes on to somebody else is not handed on.
        loaded.run_egress(&turned(visit), true, 1)?;
        ensure!(loaded.kernel.occupancy()?.published == 1);
    }
    Ok(())
}

fn not_published() -> Result<()> {
    if !program::has_frags() {
        return skipped(FORWARDED);
    }
    let mut loaded = program::load(&Settings::default())?;
    // From the source of the table, which is nobody's.
    loaded.run_egress(&v4(TCP, &from_port(SYN | ACK, PORT)), true, 1)?;
    home(&mut loaded, Duration::from_secs(1))?;
    loaded.run_egress(&v4(TCP, &from_port(SYN | ACK, PORT)), true, 1)?;
    // A reset from a local address is none either.
    loaded.run_egress(&turned(v4(TCP, &from_port(RST, PORT))), true, 1)?;
    ensure!(loaded.kernel.occupancy()? == Occupancy::default());
    Ok(())
}

/// Both destinations lie in networks that are routed to this host.
fn routed(loaded: &mut TestRunSensor, epoch: Duration) -> Result<()> {
    loaded.kernel.set_routed(&["198.51.100.0/24".parse()?, "2001:db8:9:9::/64".parse()?]);
    loaded.kernel.set_local(&Local { forwards: true, ..Local::default() })?;
    Ok(loaded.kernel.set_epoch_length(epoch)?)
}

fn live() -> Result<()> {
    if !program::has_frags() {
        return skipped(FORWARDED);
    }
    let hour = Duration::from_secs(60 * 60);
    for flags in [SYN | ACK, RST | ACK, SYN] {
        for (syn, leaving) in [
            (v4(TCP, &tcp(SYN, PORT)), turned(v4(TCP, &from_port(flags, PORT)))),
            (v6(TCP, &tcp(SYN, PORT)), turned(v6(TCP, &from_port(flags, PORT)))),
        ] {
            let mut loaded = program::load(&Settings::default())?;
            routed(&mut loaded, 6 * hour)?;
            ensure!(met(&mut loaded, &syn)? == Reach::Dark);
            loaded.run_egress(&leaving, true, 1)?;
            ensure!(loaded.kernel.occupancy()? == Occupancy { live: 1, published: 0 });
            for _ in 0..2 {
                ensure!(met(&mut loaded, &syn)? == Reach::Unknown, "still dark");
            }
            ensure!(met(&mut loaded, &syn)? == Reach::Dark, "live for ever");
        }
    }
    Ok(())
}

fn not_live() -> Result<()> {
    if !program::has_frags() {
        return skipped(FORWARDED);
    }
    let mut loaded = program::load(&Settings::default())?;
    routed(&mut loaded, Duration::from_secs(1))?;
    loaded.run_egress(&turned(v4(TCP, &from_port(RST | ACK, PORT))), false, 1)?;
    // From outside the networks.
    loaded.run_egress(&v6(TCP, &from_port(RST | ACK, PORT)), true, 1)?;
    ensure!(loaded.kernel.occupancy()? == Occupancy::default());
    let counted = tally(&mut loaded)?;
    ensure!(counted.answer(Answer::Reset) == 2, "{:?}", counted.answers);
    ensure!(met(&mut loaded, &v4(TCP, &tcp(SYN, PORT)))? == Reach::Dark);
    Ok(())
}

/// A datagram between ports, from the source of the table.
fn datagram(v6_too: bool, ports: (u16, u16), bytes: usize) -> Vec<u8> {
    let payload = vec![7; bytes];
    let datagram = udp(ports.0, ports.1, &payload);
    if v6_too { v6(UDP, &datagram) } else { v4(UDP, &datagram) }
}

/// By which exit a frame leaves.
fn exit(loaded: &mut TestRunSensor, frame: &[u8]) -> Result<Exit> {
    let before = tally(loaded)?;
    loaded.run(frame, 1)?;
    let counted = tally(loaded)?.since(&before);
    Exit::ALL.into_iter().find(|exit| counted.exit(*exit) == 1).context("an exit")
}

/// What leaves, and what arrives late: with short and long payloads, over both families, and what has no socket at all.
fn calls() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let mut calls = Vec::new();
    for (name, is_v6, bytes) in
        [("short", false, 2), ("long", false, 200), ("ipv6", true, 2), ("ipv6, long", true, 200)]
    {
        // From a port that Linux does not choose by itself, as resolvers do.
        let query = turned(datagram(is_v6, (2_000, 53), bytes));
        calls.push((name, query, datagram(is_v6, (53, 2_000), bytes)));
    }
    for flags in [SYN | ACK, ACK, FIN | ACK] {
        calls.push(("a segment", turned(v4(TCP, &from_port(SYN, PORT))), v4(TCP, &tcp(flags, PORT))));
        calls.push(("a segment", turned(v6(TCP, &from_port(SYN, PORT))), v6(TCP, &tcp(flags, PORT))));
    }
    calls
}

fn late() -> Result<()> {
    for (name, leaving, arriving) in calls() {
        let mut loaded = program::load(&Settings::default())?;
        // An hour is six of these. Asking for an exit takes two.
        home(&mut loaded, Duration::from_secs(600))?;
        ensure!(exit(&mut loaded, &arriving)? == Exit::Probe, "{name}");
        loaded.run_egress(&leaving, false, 1)?;
        for _ in 0..3 {
            ensure!(exit(&mut loaded, &arriving)? == Exit::LateAnswer, "{name}: not known");
        }
        ensure!(exit(&mut loaded, &arriving)? == Exit::Probe, "{name}: known for ever");
    }
    Ok(())
}

fn not_late() -> Result<()> {
    let mut loaded = program::load(&Settings::default())?;
    home(&mut loaded, Duration::from_secs(600))?;
    for (leaving, arriving) in [
        // A server's answer to a forged query.
        (turned(datagram(false, (53, 5_000), 20)), datagram(false, (5_000, 53), 20)),
        // Another port of the remote side, and another one here.
        (turned(datagram(false, (2_000, 53), 20)), datagram(false, (54, 2_000), 20)),
        (turned(datagram(false, (2_000, 53), 20)), datagram(false, (53, 2_001), 20)),
        // A SYN is no answer, and an answer is no call.
        (turned(v4(TCP, &from_port(SYN, PORT))), v4(TCP, &tcp(SYN, PORT))),
        (turned(v4(TCP, &from_port(RST | ACK, 9))), v4(TCP, &tcp(ACK, 9))),
    ] {
        loaded.run_egress(&leaving, false, 1)?;
        let exit = exit(&mut loaded, &arriving)?;
        ensure!(exit == Exit::Probe, "{exit:?}");
    }
    Ok(())
}
