//! `cargo xtask bench --scale N`: a table of N sources, its memory, and what a poll of it takes.

use std::{
    fs,
    ops::Range,
    os::fd::{AsFd as _, AsRawFd as _},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use aya::{
    maps::Map,
    programs::{ProgramFd, Xdp},
};
use scanguard::{
    clock::Clock,
    config::Config,
    content::sampling::Settings as Sampling,
    detect::Detector,
    observe::Observer,
    pipeline::Pipeline,
    sensor::{
        Poll, Sensor, SensorError, TurnedAway, Visit,
        connections::Ground,
        kernel::KernelSensor,
        program::{self, KernelLogLevel},
        settings::Settings,
        test_run,
    },
};
use scanguard_common::{abi, account::SourceState, address::Address};
use scanguard_tests::fixtures::{
    frames::{tcp, v4},
    program::SALT,
};

use crate::{
    allocations,
    machine::{Machine, memory, thread_nanoseconds, usage},
    model::{Bound, Cell, Part, Report, Table, Target, figure, median},
};

/// Sources that changed, of a table of which most did not.
const FEW: u32 = 1_000;
/// Measurements of one kind.
const ROUNDS: usize = 3;
/// Milliseconds that a poll may take, for so many sources.
const LIMIT: f64 = 250.0;
/// As above.
const LIMIT_SOURCES: f64 = 1e6;
/// Sources of smaller tables, which show how the costs grow.
const SMALLER: [u32; 4] = [10_000, 30_000, 100_000, 300_000];
/// The columns of how they grow.
pub(crate) const READING_MS: &str = "reading_ms";
/// As above.
pub(crate) const WHOLE_MS: &str = "whole_poll_ms";
/// A mebibyte.
const MIB: f64 = 1_048_576.0;

/// Has the sensor's own program see packets.
struct Senders {
    program: ProgramFd,
    frame: Vec<u8>,
}

/// Where the source lies in an untagged frame of IPv4.
const SOURCE: Range<usize> = 26..30;

impl Senders {
    fn of(ebpf: &aya::Ebpf) -> Result<Self> {
        let program: &Xdp = ebpf.program(abi::PROGRAM).context(abi::PROGRAM)?.try_into()?;
        Ok(Self { program: program.fd()?.try_clone()?, frame: v4(6, &tcp(0x02, 443)) })
    }

    /// Each of the first `count` sources sends one SYN.
    fn send(&mut self, count: u32) -> Result<()> {
        for number in 0..count {
            self.frame[SOURCE].copy_from_slice(&(0x0a00_0000 + number).to_be_bytes());
            test_run::run(self.program.as_fd(), &self.frame, 1)?;
        }
        Ok(())
    }
}

/// The costs of a poll.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    milliseconds: f64,
    allocations: u64,
    handed_on: u64,
}

impl Cost {
    /// Of what gives how many sources it handed on.
    fn of(poll: impl FnOnce() -> Result<u64>) -> Result<Self> {
        let (allocations, start) = (allocations::count(), thread_nanoseconds()?);
        let handed_on = poll()?;
        let milliseconds = (thread_nanoseconds()? - start) / 1e6;
        Ok(Self { milliseconds, allocations: allocations::count() - allocations, handed_on })
    }

    /// The median time, with all else of the last.
    fn median(costs: &[Self]) -> Self {
        let times: Vec<_> = costs.iter().map(|cost| cost.milliseconds).collect();
        let last = costs.last().copied().unwrap_or_default();
        Self { milliseconds: median(&times).unwrap_or_default(), ..last }
    }

    fn cells(self) -> [Cell; 3] {
        [self.milliseconds, self.handed_on as f64, self.allocations as f64].map(Cell::from)
    }
}

/// A loaded program, with a table of so many sources.
struct Loaded {
    /// Keeps the program loaded.
    _ebpf: aya::Ebpf,
    senders: Senders,
    sensor: KernelSensor,
    /// See [`memlock`].
    memlock: u64,
}

impl Loaded {
    fn new(sources: u32) -> Result<Self> {
        let settings = Settings { max_sources: sources, ..Settings::default() };
        let mut ebpf =
            program::load(&settings, &Sampling::default(), SALT, KernelLogLevel(0), &Ground::of_kernel()?)?;
        // The sensor takes the maps.
        let (senders, memlock) = (Senders::of(&ebpf)?, memlock(&ebpf)?);
        let sensor = KernelSensor::new(&mut ebpf, settings.ipv6_prefix)?;
        Ok(Self { _ebpf: ebpf, senders, sensor, memlock })
    }
}

/// The costs of a poll in which all of so many sources have changed: of reading alone, and whole.
fn all_changed(sources: u32) -> Result<[f64; 2]> {
    eprintln!("a table of {sources} sources");
    let Loaded { _ebpf, mut senders, mut sensor, .. } = Loaded::new(sources)?;
    let mut pipeline = pipeline(sources);
    let mut whole = Vec::new();
    // The first two find sources that are new, and that are new to the histories.
    for round in 0..2 + ROUNDS {
        senders.send(sources)?;
        let cost = poll(&mut pipeline, &mut sensor)?;
        whole.extend((round >= 2).then_some(cost));
    }
    drop(pipeline);
    let reading = read(&mut sensor, || senders.send(sources))?;
    Ok([reading, Cost::median(&whole)].map(|cost| cost.milliseconds))
}

/// Measures with so many sources, and how the costs grow up to there.
///
/// # Errors
/// There is no memory for the table.
pub(crate) fn run(sources: u32) -> Result<Report> {
    let mut growth = Vec::new();
    for fewer in SMALLER.into_iter().filter(|fewer| *fewer < sources) {
        growth.push((fewer, all_changed(fewer)?));
    }
    eprintln!("a table of {sources} sources");
    // Maps of programs that have just ended are freed later.
    thread::sleep(Duration::from_secs(2));
    let free = memory("MemAvailable")?;
    let Loaded { _ebpf, mut senders, mut sensor, memlock } = Loaded::new(sources)?;
    let memory = Memory { free_before: free, free_after: memory("MemAvailable")?, memlock };
    let few = FEW.min(sources);

    let mut pipeline = pipeline(sources);
    let resident = usage(std::process::id())?.resident;
    let grown = || Ok::<_, anyhow::Error>(usage(std::process::id())?.resident.saturating_sub(resident));
    senders.send(sources)?;
    let first = poll(&mut pipeline, &mut sensor)?;
    let seen_once = grown()?;
    let mut again = Vec::new();
    let mut seen_twice = 0;
    for round in 0..ROUNDS {
        senders.send(sources)?;
        again.push(poll(&mut pipeline, &mut sensor)?);
        if round == 0 {
            seen_twice = grown()?;
        }
    }
    let mut a_few = Vec::new();
    for _ in 0..ROUNDS {
        senders.send(few)?;
        a_few.push(poll(&mut pipeline, &mut sensor)?);
    }
    let mut nothing = Vec::new();
    for _ in 0..ROUNDS {
        nothing.push(poll(&mut pipeline, &mut sensor)?);
    }
    drop(pipeline);
    let read_all = read(&mut sensor, || senders.send(sources))?;
    let read_few = read(&mut sensor, || senders.send(few))?;
    let overflowing = abi::change_places(sources).saturating_add(1);
    let read_whole = read(&mut sensor, || senders.send(overflowing))?;

    let mut polls = Table::new(
        "Polls",
        "CPU milliseconds of the polling thread, medians of three. Reading: the states of the sources that have \
         changed, and a part of the table to count it. Whole poll: reading, the history of each source, rules. The \
         last row is the fallback of a poll when more sources have changed than their list holds: it reads the \
         whole table by batches. Allocations: calls of the allocator in one poll.",
        &["cpu_ms", "sources_handed_on", "allocations"],
    );
    polls.push("reading, all changed", read_all.cells());
    polls.push(&format!("reading, {FEW} changed"), read_few.cells());
    polls.push("whole poll, all new", first.cells());
    polls.push("whole poll, all seen again", again[0].cells());
    polls.push("whole poll, all changed", Cost::median(&again).cells());
    polls.push(&format!("whole poll, {FEW} changed"), Cost::median(&a_few).cells());
    polls.push("whole poll, none changed", Cost::median(&nothing).cells());
    polls.push("reading, list overflowed", read_whole.cells());

    growth.push((sources, [read_all, Cost::median(&again)].map(|cost| cost.milliseconds)));
    let limit = LIMIT * f64::from(sources) / LIMIT_SOURCES;
    let target = |what: String, figure| Target::new(&what, Some(figure), Bound::AtMost, limit, "ms");
    let targets = vec![
        target(format!("{sources} sources: reading all of them"), read_all.milliseconds),
        target(format!("{sources} sources: whole poll, {FEW} changed"), Cost::median(&a_few).milliseconds),
    ];
    let tables = vec![memory.table(sources, [seen_once, seen_twice]), polls, grown_table(&growth)];
    Ok(Report { part: Part::Scale, machine: Machine::this()?, tables, targets })
}

/// How the cost grows with the number of sources.
fn grown_table(growth: &[(u32, [f64; 2])]) -> Table {
    let mut table = Table::new(
        "By number of sources",
        "A poll in which all sources have changed, with tables of this size: CPU milliseconds of the polling thread, medians \
         of three. Each: CPU microseconds of the whole poll for one source.",
        &[READING_MS, WHOLE_MS, "microseconds_each"],
    );
    for (sources, [reading, whole]) in growth {
        let sources = f64::from(*sources);
        table.push(&figure(sources), [*reading, *whole, whole * 1_000.0 / sources].map(Cell::from));
    }
    table
}

/// Memory that the kernel reports for the maps that grow with the number of sources.
fn memlock(ebpf: &aya::Ebpf) -> Result<u64> {
    let mut sum = 0;
    for name in [abi::SOURCES, abi::CHANGES] {
        let (Map::LruHashMap(map) | Map::Array(map)) = ebpf.map(name).context(name)? else {
            anyhow::bail!("{name} is of another kind");
        };
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd()))?;
        let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).context("memlock")?;
        sum += line.trim().parse::<u64>()?;
    }
    Ok(sum)
}

/// Reading alone, after what `send` does.
fn read(sensor: &mut KernelSensor, mut send: impl FnMut() -> Result<()>) -> Result<Cost> {
    let mut costs = Vec::new();
    for _ in 0..ROUNDS {
        send()?;
        costs.push(Cost::of(|| {
            let mut handed_on = 0;
            sensor.poll(&mut |_, _, _| handed_on += 1)?;
            Ok(handed_on)
        })?);
    }
    Ok(Cost::median(&costs))
}

/// The agent's defaults, but for room for so many histories.
fn pipeline(sources: u32) -> Pipeline {
    let config = Config::default();
    let mut history = config.history;
    history.max_sources = sources;
    Pipeline::new(Observer::new(history), Detector::new(config.rules.rules(), config.findings))
}

/// One poll of the agent, but for its output.
fn poll(pipeline: &mut Pipeline, sensor: &mut KernelSensor) -> Result<Cost> {
    let now = Clock::start().now();
    Cost::of(|| {
        let mut counted = Counted { sensor, handed_on: 0 };
        pipeline.poll(&mut counted, now, &mut |_| {})?;
        Ok(counted.handed_on)
    })
}

/// Counts what it hands on.
struct Counted<'s> {
    sensor: &'s mut KernelSensor,
    handed_on: u64,
}

impl Sensor for Counted<'_> {
    fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError> {
        let handed_on = &mut self.handed_on;
        self.sensor.poll(&mut |source, state, epoch| {
            *handed_on += 1;
            each(source, state, epoch);
        })
    }

    fn look(&mut self, source: &Address) -> Result<Option<(SourceState, u32)>, SensorError> {
        self.sensor.look(source)
    }

    fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError> {
        self.sensor.forget(source)
    }

    fn turned_away(&mut self) -> Result<TurnedAway, SensorError> {
        self.sensor.turned_away()
    }

    fn sees_handshakes(&self) -> bool {
        self.sensor.sees_handshakes()
    }

    fn sees_leaving(&self) -> bool {
        self.sensor.sees_leaving()
    }

    fn set_sees_answers(&mut self, sees: bool) -> Result<(), SensorError> {
        self.sensor.set_sees_answers(sees)
    }
}

struct Memory {
    free_before: u64,
    free_after: u64,
    memlock: u64,
}

impl Memory {
    fn table(&self, sources: u32, [seen_once, seen_twice]: [u64; 2]) -> Table {
        let mut table = Table::new(
            "Memory",
            "The kernel allocates all of its table, and of the list of changes, when they are made. `map`: the \
             kernel's own figure (fdinfo, memlock). `machine`: the decrease of available memory after loading, \
             including all other maps. Histories: the growth of the agent's resident memory after it has seen every \
             source in one poll, and in two.",
            &["mib", "bytes_per_source"],
        );
        let mut row = |name: &str, bytes: u64| {
            let bytes = bytes as f64;
            table.push(name, [bytes / MIB, bytes / f64::from(sources)].map(Cell::from));
        };
        row("table, computed", program::bytes(sources));
        row("table, measured: map", self.memlock);
        row("table, measured: machine", self.free_before.saturating_sub(self.free_after));
        row("histories of one poll, measured", seen_once);
        row("histories of two polls, measured", seen_twice);
        table
    }
}
