//! `cargo xtask bench --outbound`: what the programs for outbound traffic take of connections and datagrams, by the
//! kernel's own statistics of programs (kernel.bpf_stats_enabled). A measurement, never a test.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aya::{programs::ProgramInfo, sys};
use scanguard_tests::fixtures::{
    clients::{at, serve},
    lab::{Lab, Namespace, SCANNER_INTERFACE, VICTIM},
    outbound::Watch,
};

/// Connections and datagrams of one kind.
const MANY: u16 = 10_000;
/// Runs of the program for a change of state that does not matter.
const RUNS: u32 = 200_000;
/// A service that answers.
const OPEN: u16 = 9;
/// A port where nobody is.
const SHUT: u16 = 10;
/// The program that sees connections.
const CONNECTIONS: &str = "scanguard_connections";

/// What is played: its name, and how often what it counts happens.
type Play = fn(&Namespace) -> Result<()>;

const PLAYS: [(&str, Play); 5] = [
    ("a connection that is refused, each to a new target", |host| connects(host, |n| 20_000 + n)),
    ("a connection that is refused, to a known target", |host| connects(host, |_| SHUT)),
    ("a connection that is answered, to a known target", |host| connects(host, |_| OPEN)),
    ("a datagram of sendto(2), each to a new target", |host| datagrams(host, |n| 40_000 + n)),
    ("a datagram of sendto(2), to a known target", |host| datagrams(host, |_| SHUT)),
];

/// Changes of state that do not matter, from and to.
const CHANGES: [(&str, [u64; 2]); 3] = [
    ("ESTABLISHED to FIN_WAIT1", [1, 4]),
    ("SYN_RECV to ESTABLISHED", [3, 1]),
    ("FIN_WAIT1 to FIN_WAIT2", [4, 5]),
];

/// Measures and prints.
pub(crate) fn run() -> Result<()> {
    let _counts = sys::enable_stats(sys::Stats::RunTime).context("kernel.bpf_stats_enabled")?;
    println!(
        "nanoseconds of all programs together; the kernel's own two looks at the clock for each run are in them"
    );
    let without = measure(false)?;
    let with = measure(true)?;
    for ((name, with), (_, without)) in with.iter().zip(&without) {
        println!("{name:60} {with:7.0} with outbound, {without:7.0} without, {:7.0} more", with - without);
    }
    Ok(())
}

fn measure(outbound: bool) -> Result<Vec<(String, f64)>> {
    let lab = Lab::new()?;
    let _server = serve(&lab.victim, [OPEN])?;
    let mut watch = Watch::loaded(outbound)?.with_egress(&lab.scanner, SCANNER_INTERFACE)?;
    if outbound {
        watch = watch.with_calls()?;
    }
    let mut figures = Vec::new();
    for (name, play) in PLAYS {
        // Once, so that what is to be known is known.
        datagrams(&lab.scanner, |n| if n == 0 { SHUT } else { 1 })?;
        let before = times(&watch);
        play(&lab.scanner)?;
        watch.poll()?;
        let after = times(&watch);
        let each = |name: &str| (after[name] - before.get(name).unwrap_or(&0.0)) / f64::from(MANY);
        figures.push((name.to_owned(), after.keys().map(|name| each(name)).sum()));
        for program in after.keys().filter(|program| each(program) >= 1.0) {
            println!("    {outbound:5} {name}: {program} {:.0}", each(program));
        }
    }
    for (name, states) in CHANGES {
        let before = info(&watch, CONNECTIONS)?;
        let program = watch.program(CONNECTIONS)?;
        for _ in 0..RUNS {
            run_once(&program, states)?;
        }
        let after = info(&watch, CONNECTIONS)?;
        let runs = (after.run_count() - before.run_count()) as f64;
        let time = (after.run_time() - before.run_time()).as_nanos() as f64;
        figures.push((format!("a change of state: {name}"), time / runs));
    }
    Ok(figures)
}

fn info(watch: &Watch, program: &str) -> Result<ProgramInfo> {
    Ok(watch.programs().find(|(name, _)| *name == program).context(program.to_owned())?.1)
}

/// Nanoseconds that each program took so far.
fn times(watch: &Watch) -> BTreeMap<String, f64> {
    watch.programs().map(|(name, info)| (name.to_owned(), info.run_time().as_nanos() as f64)).collect()
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
        program: program.as_raw_fd().cast_unsigned(),
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
