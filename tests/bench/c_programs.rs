//! The programs of benches/c: compiled by clang when they are wanted, loaded like any other.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf,
    maps::{HashMap, ProgramArray},
    programs::{ProgramFd, Xdp},
};
use scanguard::sensor::test_run::{self, Run};
use scanguard_common::abi::DEFAULT_MAX_SOURCES;
use scanguard_tests::fixtures::{
    frames::{SOURCE, tcp, v4},
    program::XDP_PASS,
};

use crate::packets::{Measure, Subject, nanoseconds};

/// Where the sources are.
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../benches/c");
/// Advice where the compiler is missing.
pub(crate) const NO_CLANG: &str =
    "clang is missing; `cargo xtask setup --for packets` installs it, as does `apt-get install clang`";

/// Whether there is a compiler.
pub(crate) fn has_clang() -> bool {
    Command::new("clang").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// Compiles `benches/c/NAME.c`.
fn compile(name: &str) -> Result<Vec<u8>> {
    ensure!(has_clang(), NO_CLANG);
    let source = Path::new(DIRECTORY).join(name).with_extension("c");
    // Debian's headers of a machine are where only the compiler for that machine looks.
    let headers = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    let output = Command::new("clang")
        .args(["-O2", "-g", "-Wall", "-Wno-unused-const-variable", "-target", "bpf", "-idirafter", &headers])
        .args(["-o", "-", "-c"])
        .arg(&source)
        .output()?;
    if !output.status.success() {
        bail!("clang {name}.c: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}

/// Compiles a file and makes its maps.
///
/// # Errors
/// There is no clang, or the file is not in order.
pub(crate) fn load(name: &str) -> Result<Ebpf> {
    Ebpf::load(&compile(name)?).with_context(|| format!("{name}.c"))
}

/// Loads one of its programs.
///
/// # Errors
/// There is none of that name, or the verifier does not take it.
pub(crate) fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program: &mut Xdp = ebpf.program_mut(name).with_context(|| name.to_owned())?.try_into()?;
    program.load().with_context(|| name.to_owned())?;
    Ok(program)
}

/// A program that is alone in its file, run on one frame again and again.
fn same_packet(name: &'static str, frame: Vec<u8>, prepare: fn(&mut Ebpf) -> Result<()>) -> Subject {
    Subject::of(name, move || {
        let mut ebpf = load(name)?;
        let descriptor: OwnedFd = program(&mut ebpf, name)?.fd()?.as_fd().try_clone_to_owned()?;
        prepare(&mut ebpf)?;
        // Whatever fills up is full, and what is to be known is known.
        test_run::measure(descriptor.as_fd(), &frame, 2 * DEFAULT_MAX_SOURCES)?;
        let run = move |packets| Ok(test_run::measure(descriptor.as_fd(), &frame, packets)?);
        Ok(Box::new(move |packets| nanoseconds(packets, &run)) as Measure)
    })
}

/// Parses and passes.
pub(crate) fn parse() -> Subject {
    same_packet("c_parse", v4(6, &tcp(0x10, 443)), |_| Ok(()))
}

/// Counts a known source and asks the sockets.
pub(crate) fn syn_known() -> Subject {
    same_packet("c_syn_known", v4(6, &tcp(0x02, 443)), |_| Ok(()))
}

/// Inserts a source in every run.
pub(crate) fn syn_new() -> Subject {
    same_packet("c_syn_new", v4(6, &tcp(0x02, 443)), |_| Ok(()))
}

/// Drops what a banned source sends.
pub(crate) fn dropped() -> Subject {
    same_packet("c_dropped", v4(6, &tcp(0x02, 443)), |ebpf| {
        let mut bans: HashMap<_, u32, u64> = HashMap::try_from(ebpf.map_mut("BANS").context("BANS")?)?;
        Ok(bans.insert(u32::from_ne_bytes(SOURCE.octets()), 0, 0)?)
    })
}

/// Gives a frame another source before each run of a program: `benches/c/fresh.c`.
pub(crate) struct Fresh {
    /// Also keeps the array of programs, which is emptied with its last descriptor.
    ebpf: Ebpf,
    descriptor: OwnedFd,
}

impl Fresh {
    /// Before a program of ours; that must take packets in several buffers.
    ///
    /// # Errors
    /// There is no clang, or the kernel does not take it.
    pub(crate) fn before(next: &ProgramFd) -> Result<Self> {
        let mut fresh = Self::load()?;
        fresh.set(next)?;
        Ok(fresh)
    }

    /// Before a program that does nothing.
    ///
    /// # Errors
    /// As [`Self::before`].
    pub(crate) fn before_nothing() -> Result<Self> {
        let mut fresh = Self::load()?;
        let nothing = program(&mut fresh.ebpf, "nothing")?.fd()?.try_clone()?;
        fresh.set(&nothing)?;
        Ok(fresh)
    }

    fn load() -> Result<Self> {
        let mut ebpf = load("fresh")?;
        let descriptor = program(&mut ebpf, "fresh")?.fd()?.as_fd().try_clone_to_owned()?;
        Ok(Self { ebpf, descriptor })
    }

    fn set(&mut self, next: &ProgramFd) -> Result<()> {
        let mut array = ProgramArray::try_from(self.ebpf.map_mut("NEXT").context("NEXT")?)?;
        Ok(array.set(0, next, 0)?)
    }

    /// Runs it so many times on a frame.
    ///
    /// # Errors
    /// The kernel does not run it, or it does not go on to the next program.
    pub(crate) fn run(&self, frame: &[u8], packets: u32) -> Result<Run> {
        let run = test_run::measure(self.descriptor.as_fd(), frame, packets)?;
        ensure!(run.verdict == XDP_PASS, "verdict {}: the next program did not run", run.verdict);
        Ok(run)
    }
}
