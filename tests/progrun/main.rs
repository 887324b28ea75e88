//! The real program under BPF_PROG_TEST_RUN: what it counts equals what the shared code counts on the host,
//! packet by packet and over all of them.

mod alone;
mod bench;
mod buffers;
mod changes;
mod content;
mod differential;
mod egress;
mod gate;
mod hold;
mod on_link;
mod shield;
mod translators;
mod wakeup;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use scanguard::{
    content::sampling::Settings as Sampling,
    sensor::{
        FRAME_LENGTHS, Feed as _, Poll, Sensor,
        program::LoadError,
        settings::{Mode, Settings},
        software::SoftwareSensor,
        test_run::TestRunSensor,
    },
};
use scanguard_common::{account::SourceState, address::Address, outcome::ProbeClass};
use scanguard_tests::{
    fixtures::{
        program::{self, EPOCH, SALT, TCX_NEXT, XDP_PASS},
        root::{self, skipped},
    },
    tables::packets::{Case, table},
};

fn main() -> ExitCode {
    let mut trials: Vec<_> = table().into_iter().map(one_packet).collect();
    trials.push(trial("all packets in one program add up", all_packets));
    trials.push(trial("tc: all packets count as they do by XDP", by_tc));
    trials.push(trial("the longest frames are taken and counted alike", longest));
    trials.push(trial("ipv6 sources are kept by the configured prefix", prefixes));
    trials.push(trial("totals stay exact when the table of sources overflows", overflow));
    trials.push(trial("beyond its free entries the table takes a source with its second probe", door));
    trials.push(trial("a source that is forgotten gives its last state and starts anew", forget));
    trials.extend(alone::trials());
    trials.extend(bench::trials());
    trials.extend(buffers::trials());
    trials.extend(content::trials());
    trials.extend(changes::trials());
    trials.extend(differential::trials());
    trials.extend(egress::trials());
    trials.extend(gate::trials());
    trials.extend(hold::trials());
    trials.extend(on_link::trials());
    trials.extend(shield::trials());
    trials.extend(translators::trials());
    trials.extend(wakeup::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, test: fn() -> Result<()>) -> Trial {
    root::trial(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
}

fn one_packet(case: Case) -> Trial {
    root::trial(format!("packet: {}", case.name), move || {
        check(&[case]).map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// The program and its counterpart in software, given the same frames.
struct Pair {
    kernel: TestRunSensor,
    software: SoftwareSensor,
}

/// Counts of a sensor.
type Counted = (Poll, BTreeMap<Address, SourceState>);

impl Pair {
    fn new(settings: &Settings) -> Result<Self> {
        let software = SoftwareSensor::new(settings, SALT).sampling(&Sampling::default(), EPOCH);
        Ok(Self { kernel: program::load(settings)?, software })
    }

    fn count(&mut self, case: &Case) -> Result<()> {
        let Case { name, frame, .. } = case;
        if !program::takes(frame) {
            return skipped("frames in several buffers");
        }
        if FRAME_LENGTHS.contains(&frame.len()) {
            ensure!(self.kernel.run(frame, 1)?.verdict == XDP_PASS, "{name}: not passed");
            self.software.packet(frame);
        } else {
            ensure!(self.kernel.run(frame, 1).is_err(), "the kernel took a frame of {}", frame.len());
        }
        Ok(())
    }

    fn compare(&mut self) -> Result<()> {
        let (kernel, software) = (counted(&mut self.kernel)?, counted(&mut self.software)?);
        ensure!(kernel == software, "the kernel counted {kernel:?}, the software {software:?}");
        let (kernel, software) = (self.kernel.samples(), self.software.samples());
        ensure!(kernel == software, "the kernel sampled {kernel:?}, the software {software:?}");
        Ok(())
    }
}

/// Reads a sensor and has it forget its sources. The time of insertion, which is the sensor's own, is taken out.
fn counted(sensor: &mut impl Sensor) -> Result<Counted> {
    let mut sources = BTreeMap::new();
    let poll = sensor.poll(&mut |source, state, _| {
        sources.insert(*source, SourceState { born_ns: 0, ..*state });
    })?;
    for source in sources.keys() {
        sensor.forget(source)?;
    }
    Ok((poll, sources))
}

/// With the default settings; loaded once, since verifying it takes half a second.
static DEFAULT: Mutex<Option<Pair>> = Mutex::new(None);

fn check(cases: &[Case]) -> Result<()> {
    let mut default = DEFAULT.lock().unwrap_or_else(PoisonError::into_inner);
    let pair = match &mut *default {
        Some(pair) => pair,
        none => none.insert(Pair::new(&Settings::default())?),
    };
    cases.iter().try_for_each(|case| pair.count(case))?;
    pair.compare()
}

fn all_packets() -> Result<()> {
    check(&table())
}

fn by_tc() -> Result<()> {
    let mut pair = match Pair::new(&Settings { mode: Mode::Tc, ..Settings::default() }) {
        Err(error) if matches!(error.downcast_ref(), Some(LoadError::NoTcx { .. })) => {
            return skipped("tcx (Linux 6.6)");
        }
        pair => pair?,
    };
    let mut refused = Vec::new();
    for Case { name, frame, .. } in table() {
        match pair.kernel.run(&frame, 1) {
            Ok(run) => {
                ensure!(run.verdict == TCX_NEXT, "{name}: not passed");
                pair.software.packet(&frame);
            }
            Err(_) => refused.push(name),
        }
    }
    // The kernel runs a program of tc on frames of at most a page that have a whole IP header. The others are tried on the
    // wire.
    ensure!(refused.len() <= 12, "the kernel refused {refused:?}");
    pair.compare()
}

fn prefixes() -> Result<()> {
    for bits in [1, 48, 64, 65, 127, 128] {
        let mut pair = Pair::new(&Settings { ipv6_prefix: bits, ..Settings::default() })?;
        table().iter().try_for_each(|case| pair.count(case))?;
        pair.compare()?;
    }
    Ok(())
}

/// The most bytes that drivers hand up: merged segments.
fn longest() -> Result<()> {
    let mut pair = Pair::new(&Settings::default())?;
    let mut frame = scanguard_tests::fixtures::frames::v4(6, &scanguard_tests::fixtures::frames::tcp(2, 80));
    // With an IP length of 0 the length of the frame is that of the packet.
    frame[16..18].fill(0);
    for length in [1514, 4_000, 9_014, *FRAME_LENGTHS.end()] {
        frame.resize(length, 0);
        if !program::takes(&frame) {
            continue;
        }
        ensure!(pair.kernel.run(&frame, 1)?.verdict == XDP_PASS, "{length} bytes: not passed");
        pair.software.packet(&frame);
    }
    pair.compare()
}

fn overflow() -> Result<()> {
    use scanguard_tests::fixtures::frames::{V4, tcp, v4_with};
    const SOURCES: u32 = 5_000;
    let settings = Settings { max_sources: 256, ..Settings::default() };
    let mut loaded = program::load(&settings)?;
    for source in 0..SOURCES {
        let source = std::net::Ipv4Addr::from(0x0a00_0000 + source);
        let with = V4 { protocol: 6, source: Some(source), ..V4::default() };
        loaded.run(&v4_with(&with, &tcp(2, 80)), 1)?;
    }
    let mut seen = 0;
    let poll = loaded.poll(&mut |_, _, _| seen += 1)?;
    let syns = poll.tally.probe(ProbeClass::Syn);
    ensure!(syns == u64::from(SOURCES), "{syns} SYNs");
    ensure!(poll.tally.packets() == u64::from(SOURCES), "{} packets", poll.tally.packets());
    ensure!(poll.entries <= 256 && poll.entries == seen, "{} entries, {seen} seen", poll.entries);
    Ok(())
}

fn door() -> Result<()> {
    use scanguard_common::outcome::Exit;
    use scanguard_tests::fixtures::frames::{V4, tcp, v4_with};
    const FREE: u32 = 10;
    const SOURCES: u32 = 1_000;
    let syn = |source: u32| {
        let source = Some(std::net::Ipv4Addr::from(0x0a00_0000 + source));
        v4_with(&V4 { protocol: 6, source, ..V4::default() }, &tcp(2, 80))
    };
    // All on one CPU, since each has its free entries; the thread is the test's own.
    pin_to_one_cpu()?;
    let mut loaded = program::load(&Settings::default())?;
    loaded.kernel.set_free_entries(FREE)?;
    for source in 0..SOURCES {
        loaded.run(&syn(source), 1)?;
    }
    let first = loaded.poll(&mut |_, _, _| {})?;
    ensure!(first.entries == u64::from(FREE), "{} entries", first.entries);
    ensure!(first.tally.exit(Exit::AtTheDoor) == u64::from(SOURCES - FREE), "{:?}", first.tally);
    ensure!(first.tally.probe(ProbeClass::Syn) == u64::from(SOURCES), "{:?}", first.tally);
    let turned_away = loaded.kernel.turned_away()?;
    ensure!(turned_away.count == u64::from(SOURCES - FREE), "{turned_away:?}");
    ensure!(turned_away.samples.iter().any(|sample| sample.port == 80), "{turned_away:?}");
    // A new epoch has free entries again; those who knocked need none.
    for source in 0..SOURCES {
        loaded.run(&syn(source), 1)?;
    }
    let second = loaded.poll(&mut |_, _, _| {})?;
    ensure!(second.entries == u64::from(SOURCES), "{} entries", second.entries);
    ensure!(second.tally.exit(Exit::AtTheDoor) == first.tally.exit(Exit::AtTheDoor), "{:?}", second.tally);
    Ok(())
}

fn pin_to_one_cpu() -> Result<()> {
    // SAFETY: a set of CPUs is plain data; the call reads as much of it as it is told.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    ensure!(result == 0, "sched_setaffinity: {}", std::io::Error::last_os_error());
    Ok(())
}

fn forget() -> Result<()> {
    use scanguard_tests::fixtures::frames::{SOURCE, tcp, v4};
    let mut loaded = program::load(&Settings::default())?;
    let syn = v4(6, &tcp(2, 80));
    loaded.run(&syn, 3)?;
    let last = loaded.forget(&SOURCE.into())?;
    ensure!(last.is_some_and(|state| state.counts[0] == 3), "{last:?}");
    ensure!(loaded.forget(&SOURCE.into())?.is_none(), "it is still there");
    loaded.run(&syn, 1)?;
    let again = loaded.forget(&SOURCE.into())?;
    ensure!(
        again
            .is_some_and(|state| state.counts[0] == 1 && Some(state.born_ns) > last.map(|last| last.born_ns)),
        "{again:?}"
    );
    Ok(())
}
