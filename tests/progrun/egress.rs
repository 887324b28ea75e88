//! The egress program under BPF_PROG_TEST_RUN: what it counts and notes equals what the table of answers says.

use std::{net::IpAddr, time::Duration};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard::{
    network::Local,
    sensor::{Occupancy, Sensor as _, settings::Settings, test_run::TestRunSensor},
};
use scanguard_common::{
    oracle::Reach,
    outcome::{Answer, EgressExit},
    tally::Tally,
    wire::{
        protocol::TCP,
        tcp_flags::{ACK, RST, SYN},
    },
};
use scanguard_tests::{
    fixtures::{
        frames::{DESTINATION, DESTINATION6, SOURCE, tcp, v4, v6},
        program::{self, TCX_NEXT},
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
    ]
}

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

fn not_published() -> Result<()> {
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
