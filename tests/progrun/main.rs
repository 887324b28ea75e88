//! The real program under BPF_PROG_TEST_RUN: what it counts equals what the shared code counts on the host,
//! packet by packet and over all of them.

mod egress;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use scanguard::sensor::{Sensor as _, settings::Settings};
use scanguard_common::{
    account::{self, SourceState, Unshared},
    address::{Address, SourceMask},
    inspect,
    oracle::{self, Blind, Decision},
    outcome::{Exit, Outcome, ProbeClass},
    tally::Tally,
};
use scanguard_tests::{
    packets::{Case, table},
    program::{Loaded, SALT, XDP_PASS},
    root,
};

/// BPF_PROG_TEST_RUN refuses frames without a whole Ethernet header, and so does every driver.
const SHORTEST_FRAME: usize = 14;

fn main() -> ExitCode {
    let mut trials: Vec<_> = table().into_iter().map(one_packet).collect();
    trials.push(trial("all packets in one program add up", all_packets));
    trials.push(trial("ipv6 sources are kept by the configured prefix", prefixes));
    trials.push(trial("totals stay exact when the table of sources overflows", overflow));
    trials.push(trial("a source that is forgotten gives its last state and starts anew", forget));
    trials.extend(egress::trials());
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

/// What the shared code makes of frames on the host.
#[derive(Default)]
struct Host {
    tally: Tally,
    sources: BTreeMap<Address, SourceState>,
}

impl Host {
    fn count(&mut self, frame: &[u8], mask: SourceMask, epoch: u32) {
        // Nothing is known of sockets and addresses, as in a program without its agent.
        let (class, reach, flow) = match inspect(&frame) {
            Outcome::Exit(exit) => return self.exit(exit),
            Outcome::Probe(probe) => {
                let is_syn = probe.class == ProbeClass::Syn;
                (probe.class, oracle::reach(&Blind, is_syn, &probe.flow), probe.flow)
            }
            Outcome::Segment(segment) => match oracle::segment(&Blind, segment.kind, &segment.flow) {
                Decision::Ordinary { exit, .. } => return self.exit(exit),
                Decision::Probe { class, reach } => (class, reach, segment.flow),
            },
        };
        self.tally.probes[class.index()] += 1;
        self.tally.reached[reach as usize] += 1;
        let state = self.sources.entry(mask.apply(flow.source)).or_insert_with(|| {
            self.tally.inserted += 1;
            SourceState::new(0, epoch)
        });
        // SAFETY: an exclusive reference.
        unsafe { account::record::<Unshared>(state, class.index(), reach, &flow, epoch, SALT) };
        self.exit(Exit::Probe);
    }

    fn exit(&mut self, exit: Exit) {
        self.tally.exits[exit.index()] += 1;
    }
}

/// Reads the kernel's side: what it counted since `before`, and its sources, which it then forgets. The
/// time of insertion, which the host does not know, is taken out.
fn kernel(loaded: &mut Loaded, before: &Tally) -> Result<(Tally, BTreeMap<Address, SourceState>)> {
    let mut sources = BTreeMap::new();
    let poll = loaded.sensor.poll(&mut |source, state, _| {
        sources.insert(*source, SourceState { born_ns: 0, ..*state });
    })?;
    for source in sources.keys() {
        loaded.sensor.forget(source)?;
    }
    Ok((poll.tally.since(before), sources))
}

/// With the default settings; loaded once, since verifying it takes half a second.
static DEFAULT: Mutex<Option<Loaded>> = Mutex::new(None);

fn check(cases: &[Case]) -> Result<()> {
    let settings = Settings::default();
    let mut default = DEFAULT.lock().unwrap_or_else(PoisonError::into_inner);
    let loaded = match &mut *default {
        Some(loaded) => loaded,
        none => none.insert(Loaded::new(&settings)?),
    };
    let before = loaded.sensor.poll(&mut |_, _, _| {})?.tally;
    let epoch = loaded.sensor.epoch();
    let mut host = Host::default();
    for case in cases {
        if case.frame.len() < SHORTEST_FRAME {
            ensure!(loaded.run(&case.frame, 1).is_err(), "the kernel took a frame of {}", case.frame.len());
            continue;
        }
        ensure!(loaded.run(&case.frame, 1)?.verdict == XDP_PASS, "{}: not passed", case.name);
        host.count(&case.frame, SourceMask::new(settings.ipv6_prefix), epoch);
    }
    let (tally, sources) = kernel(loaded, &before)?;
    ensure!(tally == host.tally, "the kernel counted {tally:?}, the host {:?}", host.tally);
    ensure!(sources == host.sources, "the kernel has {sources:?}, the host {:?}", host.sources);
    Ok(())
}

fn all_packets() -> Result<()> {
    check(&table())
}

fn prefixes() -> Result<()> {
    for bits in [1, 48, 64, 65, 127, 128] {
        let settings = Settings { ipv6_prefix: bits, ..Settings::default() };
        let mut loaded = Loaded::new(&settings)?;
        let mut host = Host::default();
        for case in table() {
            if case.frame.len() >= SHORTEST_FRAME {
                loaded.run(&case.frame, 1)?;
                host.count(&case.frame, SourceMask::new(bits), 1);
            }
        }
        let (_, sources) = kernel(&mut loaded, &Tally::ZERO)?;
        ensure!(sources == host.sources, "prefix of {bits} bits");
    }
    Ok(())
}

fn overflow() -> Result<()> {
    use scanguard_tests::frames::{V4, tcp, v4_with};
    const SOURCES: u32 = 5_000;
    let settings = Settings { max_sources: 256, ..Settings::default() };
    let mut loaded = Loaded::new(&settings)?;
    for source in 0..SOURCES {
        let source = std::net::Ipv4Addr::from(0x0a00_0000 + source);
        let with = V4 { protocol: 6, source: Some(source), ..V4::default() };
        loaded.run(&v4_with(&with, &tcp(2, 80)), 1)?;
    }
    let mut seen = 0;
    let poll = loaded.sensor.poll(&mut |_, _, _| seen += 1)?;
    let syns = poll.tally.probe(ProbeClass::Syn);
    ensure!(syns == u64::from(SOURCES), "{syns} SYNs");
    ensure!(poll.tally.packets() == u64::from(SOURCES), "{} packets", poll.tally.packets());
    ensure!(poll.entries <= 256 && poll.entries == seen, "{} entries, {seen} seen", poll.entries);
    Ok(())
}

fn forget() -> Result<()> {
    use scanguard_tests::frames::{SOURCE, tcp, v4};
    let mut loaded = Loaded::new(&Settings::default())?;
    let syn = v4(6, &tcp(2, 80));
    loaded.run(&syn, 3)?;
    let last = loaded.sensor.forget(&SOURCE.into())?;
    ensure!(last.is_some_and(|state| state.counts[0] == 3), "{last:?}");
    ensure!(loaded.sensor.forget(&SOURCE.into())?.is_none(), "it is still there");
    loaded.run(&syn, 1)?;
    let again = loaded.sensor.forget(&SOURCE.into())?;
    ensure!(
        again
            .is_some_and(|state| state.counts[0] == 1 && Some(state.born_ns) > last.map(|last| last.born_ns)),
        "{again:?}"
    );
    Ok(())
}
