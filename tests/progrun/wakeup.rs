//! Wake-ups: how often a source wakes the agent.

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard::sensor::{gate::GateMode, test_run::TestRunSensor};
use scanguard_tests::fixtures::frames::{tcp, v4, v6};

use crate::{
    gate::{TCP, loaded, tally},
    trial,
};

/// The numbers of novelties at which rules can first match.
const THRESHOLDS: [u32; 4] = [3, 9, 10, 20];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("wake-ups: a thousand odd segments of a source are a few in each epoch", odd),
        trial("wake-ups: a scan wakes the agent as soon as a rule can match", scan),
        trial("wake-ups: without rules there are none", none),
    ]
}

fn armed() -> Result<TestRunSensor> {
    let mut loaded = loaded(GateMode::Off)?;
    loaded.kernel.set_wakeup(&THRESHOLDS)?;
    Ok(loaded)
}

/// How many wake-ups there are for these frames.
fn woken(loaded: &mut TestRunSensor, frames: impl Iterator<Item = Vec<u8>>) -> Result<u64> {
    let start = tally(loaded)?;
    for frame in frames {
        loaded.run(&frame, 1)?;
    }
    Ok(tally(loaded)?.since(&start).wakeups)
}

/// Makes a packet of a protocol with this content.
type Packet = fn(u8, &[u8]) -> Vec<u8>;

/// Segments without flags, each of which is a novelty.
fn nulls(packet: Packet, count: u32) -> impl Iterator<Item = Vec<u8>> {
    (1..=count).map(move |_| packet(TCP, &tcp(0, 1_000)))
}

fn odd() -> Result<()> {
    let mut loaded = armed()?;
    for epoch in 0..3 {
        for (name, packet) in [("IPv4", v4 as Packet), ("IPv6", v6)] {
            let woken = woken(&mut loaded, nulls(packet, 1_000))?;
            ensure!((7..=16).contains(&woken), "{name}, epoch {epoch}: {woken} wake-ups");
        }
    }
    Ok(())
}

fn scan() -> Result<()> {
    for threshold in THRESHOLDS {
        let [one_less, reached] =
            [threshold - 1, threshold].map(|count| woken(&mut armed()?, nulls(v4, count)));
        let (one_less, reached) = (one_less?, reached?);
        ensure!(
            reached == one_less + 1,
            "{threshold} novelties: {reached} wake-ups, {one_less} with one less"
        );
    }
    Ok(())
}

fn none() -> Result<()> {
    let mut loaded = armed()?;
    loaded.kernel.set_wakeup(&[])?;
    let woken = woken(&mut loaded, nulls(v4, 500))?;
    ensure!(woken == 0, "{woken} wake-ups");
    Ok(())
}
