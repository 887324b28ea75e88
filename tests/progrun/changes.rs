//! The list of sources that did something: each once an epoch, none lost, and what becomes of it when it overflows.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    os::fd::AsFd as _,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::Xdp;
use libtest_mimic::Trial;
use scanguard::content::sampling::Settings as Sampling;
use scanguard::sensor::{
    Poll, Sensor, Whole,
    connections::Ground,
    kernel::KernelSensor,
    program::{KernelLogLevel, load},
    settings::Settings,
    test_run::{self, TestRunSensor},
};
use scanguard_common::{abi, address::Address, outcome::ProbeClass};
use scanguard_tests::fixtures::{
    frames::{V4, tcp, v4_with},
    program::{self, SALT},
};

use super::trial;

pub(super) fn trials() -> Vec<Trial> {
    vec![
        trial("a poll hands on each source that did something once, and no other", once),
        trial("an answer after the epoch of its probe is handed on with the next", late_answer),
        trial("a list that goes round is read to its end each time", round),
        trial("where the list overflows the whole table is read, and that is reported", overflow),
        trial("no probe is lost while epochs end on another CPU", epochs_end),
        trial("frames are run as often as asked, also if signals interrupt it", interrupted),
    ]
}

fn address(source: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 + source)
}

fn syn(source: u32) -> Vec<u8> {
    v4_with(&V4 { protocol: 6, source: Some(address(source)), ..V4::default() }, &tcp(2, 80))
}

/// The sources that one poll hands on: each source as often as it is handed on, with its SYNs.
fn poll(sensor: &mut impl Sensor) -> Result<(Vec<(Address, u32)>, Poll)> {
    let mut seen = Vec::new();
    let poll = sensor.poll(&mut |source, state, _| {
        seen.push((*source, state.counts[ProbeClass::Syn.index()]));
    })?;
    Ok((seen, poll))
}

fn table_of(max_sources: u32) -> Result<TestRunSensor> {
    program::load(&Settings { max_sources, ..Settings::default() })
}

fn expect(sensor: &mut TestRunSensor, wanted: &[(u32, u32)]) -> Result<Poll> {
    let (seen, poll) = poll(sensor)?;
    let wanted: Vec<_> =
        wanted.iter().map(|(source, syns)| (Address::from(address(*source)), *syns)).collect();
    ensure!(seen == wanted, "{seen:?} instead of {wanted:?}");
    Ok(poll)
}

fn once() -> Result<()> {
    let mut sensor = table_of(256)?;
    sensor.run(&syn(1), 3)?;
    sensor.run(&syn(2), 1)?;
    sensor.run(&syn(1), 2)?;
    let first = expect(&mut sensor, &[(1, 5), (2, 1)])?;
    ensure!(first.entries == 2 && first.whole.is_none(), "{first:?}");
    sensor.run(&syn(2), 1)?;
    expect(&mut sensor, &[(2, 2)])?;
    expect(&mut sensor, &[])?;
    // One that is no longer there is nobody.
    sensor.run(&syn(1), 1)?;
    sensor.forget(&address(1).into())?;
    let last = expect(&mut sensor, &[])?;
    ensure!(last.entries == 1, "{last:?}");
    Ok(())
}

fn late_answer() -> Result<()> {
    let mut sensor = table_of(256)?;
    sensor.run(&syn(1), 1)?;
    expect(&mut sensor, &[(1, 1)])?;
    let reset =
        v4_with(&V4 { protocol: 6, destination: Some(address(1)), ..V4::default() }, &tcp(0x14, 40_000));
    sensor.run_egress(&reset, false, 1)?;
    expect(&mut sensor, &[(1, 1)])?;
    expect(&mut sensor, &[]).map(drop)
}

fn round() -> Result<()> {
    const SOURCES: u32 = 100;
    let mut sensor = table_of(256)?;
    // The list has 512 places.
    for epoch in 1..=20 {
        for source in 0..SOURCES {
            sensor.run(&syn(source), 1)?;
        }
        let wanted: Vec<_> = (0..SOURCES).map(|source| (source, epoch)).collect();
        let poll = expect(&mut sensor, &wanted)?;
        ensure!(poll.whole.is_none(), "epoch {epoch}: {poll:?}");
    }
    Ok(())
}

fn overflow() -> Result<()> {
    const SOURCES: u32 = 5_000;
    let mut sensor = table_of(256)?;
    for source in 0..SOURCES {
        sensor.run(&syn(source), 1)?;
    }
    let (seen, first) = poll(&mut sensor)?;
    ensure!(first.whole == Some(Whole::Overflow), "{first:?}");
    ensure!(seen.len() as u64 == first.entries, "{} of {} were read", seen.len(), first.entries);
    // After that the list serves again.
    sensor.run(&syn(SOURCES - 1), 1)?;
    let second = expect(&mut sensor, &[(SOURCES - 1, 2)])?;
    ensure!(second.whole.is_none(), "{second:?}");
    Ok(())
}

/// Two threads probe from the same sources and from their own while epochs end as fast as they can: what was handed on
/// last of each source is all that it sent.
fn epochs_end() -> Result<()> {
    const OWN: u32 = 20;
    const ROUNDS: u32 = 3_000;
    let settings = Settings { max_sources: 4_096, ..Settings::default() };
    let mut ebpf = load(&settings, &Sampling::default(), SALT, KernelLogLevel(0), &Ground::of_kernel()?)?;
    let xdp: &Xdp = ebpf.program(abi::PROGRAM).context(abi::PROGRAM)?.try_into()?;
    let xdp = xdp.fd()?.try_clone()?;
    let mut sensor = KernelSensor::new(&mut ebpf, settings.ipv6_prefix)?;
    let mut last = BTreeMap::new();
    let is_over = AtomicBool::new(false);
    let polls = thread::scope(|scope| -> Result<u32> {
        let send = |first: u32| {
            let frames: Vec<_> = (0..OWN).chain(first..first + OWN).map(syn).collect();
            for round in 0..ROUNDS {
                test_run::run(xdp.as_fd(), &frames[(round % (2 * OWN)) as usize], 7)?;
            }
            Ok::<_, anyhow::Error>(())
        };
        let senders = [scope.spawn(move || send(100)), scope.spawn(move || send(200))];
        let is_over = &is_over;
        let poller = scope.spawn(move || -> Result<(u32, BTreeMap<Address, u32>)> {
            let (mut polls, mut last) = (0, BTreeMap::new());
            while !is_over.load(Ordering::Relaxed) {
                last.extend(poll(&mut sensor)?.0);
                polls += 1;
            }
            // The counts before the last epoch ended.
            last.extend(poll(&mut sensor)?.0);
            Ok((polls, last))
        });
        let sent: Vec<_> = senders.into_iter().map(thread::ScopedJoinHandle::join).collect();
        is_over.store(true, Ordering::Relaxed);
        for result in sent {
            result.map_err(|_| anyhow::anyhow!("a sender panicked"))??;
        }
        let (polls, seen) = poller.join().map_err(|_| anyhow::anyhow!("the poller panicked"))??;
        last = seen;
        Ok(polls)
    })?;
    ensure!(polls > 10, "only {polls} polls");
    let per_source = ROUNDS / (2 * OWN) * 7;
    for source in (0..OWN).chain(100..100 + OWN).chain(200..200 + OWN) {
        let wanted = if source < OWN { 2 * per_source } else { per_source };
        let found = last.get(&Address::from(address(source))).copied();
        ensure!(found == Some(wanted), "{}: {found:?} of {wanted}, in {polls} polls", address(source));
    }
    Ok(())
}

/// How many signals the thread of [`interrupted`] got.
static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_signal(_number: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Relaxed);
}

/// The kernel cuts a run of several frames short when a signal comes, and does not say how many there were.
fn interrupted() -> Result<()> {
    const ROUNDS: u32 = 5_000;
    /// So many signals must come between the first run and the last.
    const ENOUGH: u32 = 200;
    /// On a busy machine the thread that sends the signals gets its turn late: the runs go on for so long at most.
    const LIMIT: Duration = Duration::from_secs(60);
    const TIMES: u32 = 7;
    let mut sensor = table_of(256)?;
    let handler: extern "C" fn(libc::c_int) = on_signal;
    // SAFETY: the handler only adds to an atomic number. Nothing else here uses this signal.
    ensure!(unsafe { libc::signal(libc::SIGURG, handler as libc::sighandler_t) } != libc::SIG_ERR);
    // SAFETY: always fine.
    let runner = unsafe { libc::pthread_self() };
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    let rounds = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // SAFETY: the thread waits for this one at the end of the scope.
                unsafe { libc::pthread_kill(runner, libc::SIGURG) };
                // Runs need some peace to come to their end at all.
                thread::sleep(Duration::from_micros(50));
            }
        });
        let ran = (1..)
            .take_while(|round| {
                *round <= ROUNDS || SIGNALS.load(Ordering::Relaxed) < ENOUGH && begun.elapsed() < LIMIT
            })
            .try_fold(0, |_, round| sensor.run(&syn(1), TIMES).map(|_| round));
        is_over.store(true, Ordering::Relaxed);
        ran
    })?;
    let signals = SIGNALS.load(Ordering::Relaxed);
    ensure!(signals >= ENOUGH, "only {signals} signals came within {rounds} runs");
    expect(&mut sensor, &[(1, rounds * TIMES)]).map(drop)
}
