//! The program when no agent ends its epochs: the kernel's clock bounds what it remembers.

use std::{net::TcpListener, thread::sleep, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard::sensor::{Sensor as _, gate::GateMode, test_run::TestRunSensor};
use scanguard_common::{account::SourceState, oracle::Reach};
use scanguard_tests::fixtures::{
    frames::{SOURCE, tcp, v4},
    lab::{PATIENCE, wait_for},
};

use crate::{
    gate::{SYN, TCP, loaded},
    trial,
};

/// For as long as this the program waits for an agent that it has not.
const LONGEST: Duration = Duration::from_millis(200);
/// Ports that are probed.
const PORTS: u16 = 14;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("alone: a service that starts where a port was closed is open soon", started),
        trial("alone: activity of a source over many epochs is no burst, and its last burst is one", spread),
    ]
}

fn probe(loaded: &TestRunSensor, port: u16) -> Result<()> {
    loaded.run(&v4(TCP, &tcp(SYN, port)), 1)?;
    Ok(())
}

fn state(loaded: &mut TestRunSensor) -> Result<SourceState> {
    Ok(loaded.look(&SOURCE.into())?.context("the source is in the table")?.0)
}

fn started() -> Result<()> {
    let mut loaded = loaded(GateMode::Off)?;
    // The port is one that is free, and free again.
    let port = TcpListener::bind("0.0.0.0:0")?.local_addr()?.port();
    probe(&loaded, port)?;
    ensure!(state(&mut loaded)?.reach[Reach::Closed as usize] == 1, "not closed");
    let _listener = TcpListener::bind(("0.0.0.0", port))?;
    wait_for("the service is open", PATIENCE, || {
        probe(&loaded, port).ok()?;
        (state(&mut loaded).ok()?.reach[Reach::Open as usize] > 0).then_some(())
    })
}

/// How many distinct services are new to an agent that reads the source now, and how many probes there were ever.
fn read(loaded: &mut TestRunSensor) -> Result<(u32, u32)> {
    let mut found = None;
    loaded.poll(&mut |_, state, unread| {
        let services = state.distinct_since(unread).services;
        found = Some((services.iter().map(|word| word.count_ones()).sum(), state.counts[0]));
    })?;
    found.context("the source is handed on")
}

fn spread() -> Result<()> {
    let mut loaded = loaded(GateMode::Off)?;
    loaded.kernel.set_longest_epoch(LONGEST)?;
    for port in 1..=PORTS {
        probe(&loaded, port)?;
        sleep(LONGEST / 2);
    }
    let (distinct, probes) = read(&mut loaded)?;
    ensure!(probes == u32::from(PORTS), "{probes} probes");
    ensure!((1..=8).contains(&distinct), "{distinct} distinct services in the last two epochs");

    // The first of these moves the epoch on. For the others, time stands still.
    sleep(LONGEST * 3);
    probe(&loaded, 1)?;
    loaded.kernel.set_longest_epoch(Duration::from_secs(3_600))?;
    for port in 1..=PORTS {
        probe(&loaded, 100 + port)?;
    }
    let (distinct, probes) = read(&mut loaded)?;
    ensure!(probes == 2 * u32::from(PORTS) + 1, "{probes} probes");
    ensure!(distinct > 11, "{distinct} distinct services in a burst");
    Ok(())
}
