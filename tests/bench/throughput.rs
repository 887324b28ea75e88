//! Effects on the clients of a server: iperf3 and wrk, with and without the sensor, in turns.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use scanguard_tests::fixtures::{
    lab::{Lab, Namespace, SCANNER_INTERFACE, VICTIM, VICTIM_INTERFACE, run},
    stage::Stage,
};

use crate::{
    model::{Bound, Cell, Table, Target, median},
    setups::Setup,
    work::Effort,
};

/// Compared with each other, in this order.
const SETUPS: [Setup; 4] = [Setup::Nothing, Setup::EmptyXdp, Setup::ScanGuard, Setup::ScanGuardByTc];
/// iperf3's.
const IPERF_PORT: u16 = 5201;
/// Of the throughput without the sensor, at least so much is to be left.
const LIMIT: f64 = 0.97;

/// A client, and how the wire treats what it sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Client {
    /// Segments of up to 64 KiB, as veth hands them on by default and no real link does.
    IperfSuper,
    /// Segments of the MTU's size, handed on as a network card's driver does.
    Iperf,
    /// Requests to nginx over connections that stay.
    Wrk,
    /// As above, every request over a new connection.
    WrkClose,
}

const CLIENTS: [Client; 4] = [Client::IperfSuper, Client::Iperf, Client::Wrk, Client::WrkClose];

impl Client {
    const fn name(self) -> &'static str {
        match self {
            Self::IperfSuper => "iperf3, Gbit/s (veth's segments of 64 KiB)",
            Self::Iperf => "iperf3, Gbit/s (segments of the MTU)",
            Self::Wrk => "wrk, requests/s",
            Self::WrkClose => "wrk, connections/s",
        }
    }

    /// Sets both interfaces up for it.
    fn prepare(self, lab: &Lab) -> Result<()> {
        let (segments, receive) = match self {
            Self::IperfSuper => ("on", "off"),
            Self::Iperf | Self::Wrk | Self::WrkClose => ("off", "on"),
        };
        let mut sender = lab.scanner.command("ethtool");
        run(sender.args(["-K", SCANNER_INTERFACE, "tso", segments, "gso", segments]))?;
        run(lab.victim.command("ethtool").args(["-K", VICTIM_INTERFACE, "gro", receive])).map(drop)
    }

    fn run(self, lab: &Lab, seconds: u32) -> Result<f64> {
        let seconds = seconds.to_string();
        match self {
            Self::IperfSuper | Self::Iperf => {
                let mut iperf = lab.scanner.command("iperf3");
                let output =
                    run(iperf.args(["-c", VICTIM, "-p", &IPERF_PORT.to_string(), "-J", "-t", &seconds]))?;
                let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
                Ok(said["end"]["sum_received"]["bits_per_second"].as_f64().context("iperf3 gives no rate")?
                    / 1e9)
            }
            Self::Wrk => wrk(&lab.scanner, VICTIM, &seconds, &[]),
            Self::WrkClose => wrk(&lab.scanner, VICTIM, &seconds, &["-H", "Connection: close"]),
        }
    }
}

/// Requests a second of wrk on a host, for so long, to a server.
///
/// # Errors
/// It is not there, or nobody answers.
pub(crate) fn wrk(host: &Namespace, server: &str, seconds: &str, more: &[&str]) -> Result<f64> {
    let mut wrk = host.command("wrk");
    wrk.args(["-t", "1", "-c", "32", "-d", seconds]).args(more).arg(format!("http://{server}/"));
    let output = run(&mut wrk)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (_, rate) = text.split_once("Requests/sec:").context("wrk gives no rate")?;
    let rate: f64 = rate.split_whitespace().next().context("a rate")?.parse()?;
    ensure!(rate > 0.0, "wrk: no answer: {text}");
    Ok(rate)
}

/// Measures; the table, and what is to be left of the throughput.
///
/// # Errors
/// A client or server is missing.
pub(crate) fn measure(effort: Effort) -> Result<(Table, Vec<Target>)> {
    let lab = Lab::new()?;
    let mut stage = Stage::new(&lab)?;
    stage.nginx(&lab.victim, &[80]).context("nginx; `cargo xtask setup --for bench` gets it")?;
    stage.start("iperf3", &lab.victim, &format!("iperf3 --server --port {IPERF_PORT}"))?;
    stage.await_port("iperf3", &lab.victim, IPERF_PORT)?;
    // iperf3 gets over the client that only knocked.
    std::thread::sleep(Duration::from_millis(500));

    // Of each client, of each setup, of each turn.
    let mut rates = CLIENTS.map(|_| SETUPS.map(|_| Vec::new()));
    let seconds = effort.seconds.min(3);
    for turn in 1..=effort.turns {
        eprintln!("throughput, turn {turn} of {}", effort.turns);
        for (client, rates) in CLIENTS.into_iter().zip(&mut rates) {
            client.prepare(&lab)?;
            let mut row: Vec<_> = SETUPS.into_iter().zip(rates).collect();
            if turn % 2 == 0 {
                // Whoever comes first meets what the client before has left behind.
                row.reverse();
            }
            for (setup, rates) in row {
                let _running = setup.start(&lab)?;
                rates.push(client.run(&lab, seconds).with_context(|| client.name())?);
            }
        }
    }
    Ok(report(&rates, effort.turns, seconds))
}

type Rates = [[Vec<f64>; SETUPS.len()]; CLIENTS.len()];

fn report(rates: &Rates, turns: usize, seconds: u32) -> (Table, Vec<Target>) {
    let about = format!(
        "A client is on one end of a veth pair, the server with the sensor on the other; {seconds} s each, {turns} \
         turns, medians. Ratios are medians of the ratios within each turn. Any XDP program changes how veth \
         works: veth no longer passes segments of 64 KiB, and it copies each packet of a TCP socket to make room \
         for the program. The column of an empty program has that cost without the sensor's. By tc (`sensor.mode = \
         \"tc\"`) none of that happens."
    );
    let columns =
        ["nothing", "empty_program", "scanguard", "by_tc", "to_nothing", "to_empty_program", "tc_to_nothing"];
    let mut table = Table::new("Throughput", &about, &columns);
    let mut targets = Vec::new();
    for (client, [nothing, empty, sensor, by_tc]) in CLIENTS.into_iter().zip(rates) {
        let ratio = |of: &[f64], to: &[f64]| {
            median(&of.iter().zip(to).map(|(with, without)| with / without).collect::<Vec<_>>())
        };
        let ratios = [ratio(sensor, nothing), ratio(sensor, empty), ratio(by_tc, nothing)];
        let cells = [median(nothing), median(empty), median(sensor), median(by_tc)].into_iter().chain(ratios);
        table.push(client.name(), cells.flatten().map(Cell::from));
        let [to_nothing, to_empty, by_tc] = ratios;
        let target = |what: &str, figure| {
            let what = format!("{}: {what}", client.name());
            Target::new(&what, figure, Bound::AtLeast, LIMIT, "")
        };
        targets.extend([
            target("ScanGuard / nothing", to_nothing),
            target("ScanGuard / empty XDP program", to_empty),
            target("ScanGuard by tc / nothing", by_tc),
        ]);
    }
    (table, targets)
}
