//! `cargo xtask bench --scale N`: a table of N sources, its memory, and what a poll of it takes.

use std::{fs, os::fd::AsRawFd as _, thread, time::Duration};

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, Map, MapData};
use scanguard::{
    clock::Clock,
    config::Config,
    content::sampling::Settings as Sampling,
    detect::Detector,
    observe::Observer,
    pipeline::Pipeline,
    sensor::{
        Poll, Sensor, SensorError, TurnedAway, Visit,
        kernel::KernelSensor,
        program::{self, BYTES_PER_SOURCE, KernelLogLevel},
        settings::Settings,
    },
};
use scanguard_common::{abi, account::SourceState, address::Address, outcome::ProbeClass};
use scanguard_tests::program::SALT;
use zerocopy::IntoBytes as _;

use crate::{
    allocations,
    machine::{Machine, memory, thread_nanoseconds, usage},
    model::{Bound, Cell, Part, Report, Table, Target, median},
};

/// Sources that changed, of a table of which most did not.
const FEW: u32 = 1_000;
/// Polls that hand a source on after its last probe, see `Sensor::poll`; so many measurements there are.
const POLLS: u32 = 3;
/// Milliseconds that a poll may take, for so many sources.
const LIMIT: f64 = 250.0;
/// As above.
const LIMIT_SOURCES: f64 = 1e6;
/// A mebibyte.
const MIB: f64 = 1_048_576.0;

/// Writes states into the sensor's own table, as its program would have left them.
struct Filler(HashMap<MapData, [u8; size_of::<Address>()], [u8; size_of::<SourceState>()]>);

impl Filler {
    /// Every one of the first `count` sources has sent `probes` by now, the last one in `epoch`.
    fn fill(&mut self, count: u32, probes: u32, epoch: u32) -> Result<()> {
        let mut state = SourceState::new(1, epoch);
        state.counts[ProbeClass::Syn as usize] = probes;
        let state: [u8; size_of::<SourceState>()] = state.as_bytes().try_into()?;
        for number in 0..count {
            let address = Address::from_v4(&(0x0a00_0000 + number).to_be_bytes());
            self.0.insert(<[u8; 16]>::try_from(address.as_bytes())?, state, 0)?;
        }
        Ok(())
    }
}

/// What a poll took.
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

/// Measures with so many sources.
///
/// # Errors
/// There is no memory for the table.
pub(crate) fn run(sources: u32) -> Result<Report> {
    eprintln!("a table of {sources} sources");
    // Maps of programs that have just ended are freed later.
    thread::sleep(Duration::from_secs(2));
    let free = memory("MemAvailable")?;
    let settings = Settings { max_sources: sources, ..Settings::default() };
    let mut ebpf = program::load(&settings, &Sampling::default(), SALT, KernelLogLevel(0))?;
    let (mut filler, memlock) = filler(&ebpf)?;
    let mut sensor = KernelSensor::new(&mut ebpf, settings.ipv6_prefix)?;
    let memory = Memory { free_before: free, free_after: memory("MemAvailable")?, memlock };

    let next = |sensor: &KernelSensor| sensor.epoch().wrapping_add(1);
    filler.fill(sources, 1, next(&sensor))?;
    let read_all = read(&mut sensor)?;
    filler.fill(FEW.min(sources), 2, next(&sensor))?;
    let read_few = read(&mut sensor)?;

    let mut pipeline = pipeline(sources);
    let resident = usage(std::process::id())?.resident;
    filler.fill(sources, 3, next(&sensor))?;
    let first = poll(&mut pipeline, &mut sensor)?;
    filler.fill(sources, 4, next(&sensor))?;
    let again = poll(&mut pipeline, &mut sensor)?;
    // Those of before are handed on, unchanged, as long as an epoch is not whole.
    for _ in 0..POLLS {
        poll(&mut pipeline, &mut sensor)?;
    }
    filler.fill(FEW.min(sources), 5, next(&sensor))?;
    let few = poll(&mut pipeline, &mut sensor)?;
    let histories = usage(std::process::id())?.resident.saturating_sub(resident);

    let mut polls = Table::new(
        "Polls",
        "CPU milliseconds of the polling thread. Reading: the kernel's table by batches, up to the states of those sources that \
         may have changed. Whole poll: reading, history of each source, rules. Allocations: calls of the allocator in one poll.",
        &["cpu_ms", "sources_handed_on", "allocations"],
    );
    polls.push("reading, all changed", read_all.cells());
    polls.push(&format!("reading, {FEW} changed"), read_few.cells());
    polls.push("whole poll, all new", first.cells());
    polls.push("whole poll, all changed", again.cells());
    polls.push(&format!("whole poll, {FEW} changed"), few.cells());

    let limit = LIMIT * f64::from(sources) / LIMIT_SOURCES;
    let target = |what: String, figure| Target::new(&what, Some(figure), Bound::AtMost, limit, "ms");
    let targets = vec![
        target(format!("{sources} sources: reading all of them"), read_all.milliseconds),
        target(format!("{sources} sources: whole poll, {FEW} changed"), few.milliseconds),
    ];
    let tables = vec![memory.table(sources, histories), polls];
    Ok(Report { part: Part::Scale, machine: Machine::this()?, tables, targets })
}

/// Another descriptor of the table, and what the kernel says that it takes.
fn filler(ebpf: &aya::Ebpf) -> Result<(Filler, u64)> {
    let Some(Map::LruHashMap(map)) = ebpf.map(abi::SOURCES) else {
        anyhow::bail!("{} is no LRU map", abi::SOURCES);
    };
    let map = MapData::from_id(map.info()?.id())?;
    let info =
        fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsFd::as_fd(map.fd()).as_raw_fd()))?;
    let line = info.lines().find_map(|line| line.strip_prefix("memlock:")).context("memlock")?;
    Ok((Filler(HashMap::try_from(Map::LruHashMap(map))?), line.trim().parse()?))
}

fn read(sensor: &mut KernelSensor) -> Result<Cost> {
    let mut costs = Vec::new();
    for _ in 0..POLLS {
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

/// One poll of the agent, but for what it tells.
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
}

struct Memory {
    free_before: u64,
    free_after: u64,
    memlock: u64,
}

impl Memory {
    fn table(&self, sources: u32, histories: u64) -> Table {
        let mut table = Table::new(
            "Memory",
            "All of the kernel's table is taken when it is made. `map`: what the kernel says of it (fdinfo, memlock). `machine`: by \
             how much less memory was available after loading, all other maps included. Histories: the agent's, what its resident \
             memory grew by once every source had one of two polls.",
            &["mib", "bytes_per_source"],
        );
        let mut row = |name: &str, bytes: u64| {
            let bytes = bytes as f64;
            table.push(name, [bytes / MIB, bytes / f64::from(sources)].map(Cell::from));
        };
        row("table, computed", u64::from(sources) * BYTES_PER_SOURCE);
        row("table, measured: map", self.memlock);
        row("table, measured: machine", self.free_before.saturating_sub(self.free_after));
        row("histories, measured", histories);
        table
    }
}
