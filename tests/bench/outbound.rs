//! `cargo xtask bench --outbound`: what the programs for outbound traffic take of connections and datagrams, beside the
//! same in C. By the kernel's own statistics of programs (kernel.bpf_stats_enabled).

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Ebpf,
    programs::{ProgramInfo, RawTracePoint},
    sys,
};
use scanguard_tests::fixtures::{
    clients::{at, serve},
    lab::{Lab, Namespace, SCANNER_INTERFACE, VICTIM},
    outbound::Watch,
};

use crate::{
    c_programs, clients_out,
    machine::Machine,
    model::{Bound, Cell, Part, Report, Table, Target},
    work::Effort,
};

/// Connections and datagrams of one kind in a turn.
const MANY: u16 = 10_000;
/// Runs of the program for a change of state that does not matter.
const RUNS: u32 = 200_000;
/// A service that answers.
const OPEN: u16 = 9;
/// A port where nobody is.
const SHUT: u16 = 10;
/// The program that sees connections.
const CONNECTIONS: &str = "scanguard_connections";
/// The tracepoint that it and the C program are attached to.
const TRACEPOINT: &str = "inet_sock_set_state";
/// The C program.
const C: &str = "c_outbound";

/// The most that an outbound connection may take, in nanoseconds.
const CONNECTION_LIMIT: f64 = 1_000.0;
/// The most that a change of state which does not matter may take.
const CHANGE_LIMIT: f64 = 10.0;
/// The most that our programs may take, as a multiple of the C program's time.
const C_LIMIT: f64 = 1.3;

/// Plays so many calls.
type Play = fn(&Namespace) -> Result<()>;

/// What is played: its name, and whether it is a connection, which the C program counts, too.
const PLAYS: [(&str, bool, Play); 5] = [
    ("refused connection, new target", true, |host| connects(host, |n| 20_000 + n)),
    ("refused connection, known target", true, |host| connects(host, |_| SHUT)),
    ("answered connection, known target", true, |host| connects(host, |_| OPEN)),
    ("datagram by sendto(2), new target", false, |host| datagrams(host, |n| 40_000 + n)),
    ("datagram by sendto(2), known target", false, |host| datagrams(host, |_| SHUT)),
];

/// Changes of state that do not matter to what leaves, from and to.
const CHANGES: [(&str, [u64; 2]); 3] = [
    ("ESTABLISHED to FIN_WAIT1", [1, 4]),
    ("SYN_RECV to ESTABLISHED", [3, 1]),
    ("FIN_WAIT1 to FIN_WAIT2", [4, 5]),
];

/// Programs that are measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Subject {
    /// The C program alone.
    C,
    /// Ours without the code for what leaves: it counts connections of clients, too.
    Without,
    /// Ours.
    With,
}

const SUBJECTS: [Subject; 3] = [Subject::C, Subject::Without, Subject::With];

/// The least time of each thing that was played, in nanoseconds. The least, since all else that the machine does only ever
/// adds.
type Figures = BTreeMap<&'static str, f64>;

/// Measures.
///
/// # Errors
/// The kernel has no statistics, does not take a program, or a tool is missing.
pub(crate) fn run(effort: Effort) -> Result<Report> {
    let mut least: [Figures; SUBJECTS.len()] = Default::default();
    let counts = sys::enable_stats(sys::Stats::RunTime).context("kernel.bpf_stats_enabled")?;
    for turn in 1..=effort.turns {
        eprintln!("what leaves, turn {turn} of {}", effort.turns);
        for (subject, least) in SUBJECTS.into_iter().zip(&mut least) {
            for (name, figure) in measure(subject).with_context(|| format!("{subject:?}"))? {
                let before = least.entry(name).or_insert(f64::INFINITY);
                *before = before.min(figure);
            }
        }
    }
    // They cost time, which clients would be told.
    drop(counts);
    let (table, mut targets) = costs(&least, effort.turns);
    let (clients, of_clients) = clients_out::measure(effort)?;
    targets.extend(of_clients);
    Ok(Report { part: Part::Outbound, machine: Machine::this()?, tables: vec![table, clients], targets })
}

fn costs([c, without, with]: &[Figures; 3], turns: usize) -> (Table, Vec<Target>) {
    let about = format!(
        "Nanoseconds of all programs together for one connection or datagram, by the kernel's statistics of programs; \
         its own two looks at the clock for each run are in them. {MANY} of each kind in a turn, the least of {turns} \
         turns. `without` has outbound off: that program counts connections of clients, and is there in any case. \
         `more` is the difference. `c` is benches/c/c_outbound.c: it finds the program and the control group of the \
         task, keeps known targets and open sockets, and counts, for IPv4 in all namespaces. Neither addresses of this \
         host, nor blocks, nor distinct services, nor identities are known to it."
    );
    let mut table =
        Table::new("What leaves", &about, &["with_outbound", "without", "more", "c", "more_to_c"]);
    let mut targets = Vec::new();
    for (name, is_connection, _) in PLAYS {
        let (Some(with), Some(without)) = (with.get(name), without.get(name)) else { continue };
        let more = with - without;
        let mut cells = vec![*with, *without, more];
        if is_connection {
            let c = c.get(name).copied();
            let ratio = c.map(|c| more / c);
            cells.extend(c.into_iter().chain(ratio));
            let what = format!("what leaves: {name}: more than without");
            targets.push(Target::new(&what, Some(more), Bound::AtMost, CONNECTION_LIMIT, "ns"));
            let what = format!("what leaves: {name}: that / C");
            targets.push(Target::new(&what, ratio, Bound::AtMost, C_LIMIT, ""));
        }
        table.push(name, cells.into_iter().map(Cell::from));
    }
    for (name, _) in CHANGES {
        let (Some(with), Some(without)) = (with.get(name), without.get(name)) else { continue };
        table.push(name, [*with, *without, with - without].map(Cell::from));
        let what = format!("what leaves: {name}: more than without");
        targets.push(Target::new(&what, Some(with - without), Bound::AtMost, CHANGE_LIMIT, "ns"));
    }
    (table, targets)
}

/// The programs of a subject while they are attached.
enum Attached {
    C(Ebpf),
    Ours(Box<Watch>),
}

impl Attached {
    fn new(subject: Subject, lab: &Lab) -> Result<Self> {
        if subject == Subject::C {
            let mut ebpf = c_programs::load(C)?;
            let program: &mut RawTracePoint = ebpf.program_mut(C).context(C)?.try_into()?;
            program.load()?;
            program.attach(TRACEPOINT)?;
            return Ok(Self::C(ebpf));
        }
        let mut watch =
            Watch::loaded(subject == Subject::With)?.with_egress(&lab.scanner, SCANNER_INTERFACE)?;
        if subject == Subject::With {
            watch = watch.with_calls()?;
        }
        Ok(Self::Ours(Box::new(watch)))
    }

    /// Nanoseconds of all its programs so far.
    fn time(&self) -> f64 {
        let of = |info: ProgramInfo| info.run_time().as_nanos() as f64;
        match self {
            Self::C(ebpf) => ebpf.programs().filter_map(|(_, program)| program.info().ok()).map(of).sum(),
            Self::Ours(watch) => watch.programs().map(|(_, info)| of(info)).sum(),
        }
    }

    /// An epoch ends, where there are epochs.
    fn poll(&mut self) -> Result<()> {
        match self {
            Self::C(_) => Ok(()),
            Self::Ours(watch) => watch.poll(),
        }
    }
}

fn measure(subject: Subject) -> Result<Figures> {
    let lab = Lab::new()?;
    let _server = serve(&lab.victim, [OPEN])?;
    let mut attached = Attached::new(subject, &lab)?;
    // Once, so that what is to be known is known.
    datagrams(&lab.scanner, |n| if n == 0 { SHUT } else { 1 })?;
    let mut figures = Figures::new();
    for (name, is_connection, play) in PLAYS {
        if subject == Subject::C && !is_connection {
            continue;
        }
        let before = attached.time();
        play(&lab.scanner)?;
        attached.poll()?;
        figures.insert(name, (attached.time() - before) / f64::from(MANY));
    }
    if let Attached::Ours(watch) = &attached {
        let program = watch.program(CONNECTIONS)?;
        for (name, states) in CHANGES {
            let before = info(watch, CONNECTIONS)?;
            for _ in 0..RUNS {
                run_once(&program, states)?;
            }
            let after = info(watch, CONNECTIONS)?;
            let runs = (after.run_count() - before.run_count()) as f64;
            let time = (after.run_time() - before.run_time()).as_nanos() as f64;
            figures.insert(name, time / runs);
        }
    }
    Ok(figures)
}

fn info(watch: &Watch, program: &str) -> Result<ProgramInfo> {
    Ok(watch.programs().find(|(name, _)| *name == program).context(program.to_owned())?.1)
}

fn connects(host: &Namespace, port: fn(u16) -> u16) -> Result<()> {
    host.enter(|| {
        for n in 0..MANY {
            // Whether somebody is there does not matter.
            drop(TcpStream::connect_timeout(&at(VICTIM, port(n)), Duration::from_secs(1)));
        }
        Ok(())
    })
}

fn datagrams(host: &Namespace, port: fn(u16) -> u16) -> Result<()> {
    host.enter(|| {
        let socket = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0)))?;
        for n in 0..MANY {
            socket.send_to(b"x", at(VICTIM, port(n)))?;
        }
        Ok(())
    })
}

/// `union bpf_attr`, the struct named `test`, up to what a raw tracepoint takes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    program: u32,
    verdict: u32,
    sizes: [u32; 2],
    data: [u64; 2],
    repeat: u32,
    duration: u32,
    context_size: u32,
    context_size_out: u32,
    context: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// Runs the program as for a change of state of a socket that cannot be read.
fn run_once(program: &OwnedFd, [before, now]: [u64; 2]) -> Result<()> {
    /// `enum bpf_cmd`.
    const BPF_PROG_TEST_RUN: libc::c_long = 10;
    let arguments = [0u64, before, now];
    let attributes = Attributes {
        program: program.as_fd().as_raw_fd().cast_unsigned(),
        context_size: size_of_val(&arguments) as u32,
        context: arguments.as_ptr() as u64,
        ..Attributes::default()
    };
    // SAFETY: the attributes are those of the command; the arguments outlive the call.
    let failed = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw const attributes, size_of::<Attributes>())
    } != 0;
    ensure!(!failed, "BPF_PROG_TEST_RUN: {}", std::io::Error::last_os_error());
    Ok(())
}
