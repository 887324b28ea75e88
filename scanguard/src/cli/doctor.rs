//! `scanguard doctor`: whether the sensor can run with this kernel, these interfaces and these privileges. It changes
//! nothing: it loads the program, which is the only certain test, but attaches it to nothing.

mod configured;

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{Doctor, exit::Exit};
use crate::{
    config::Config,
    content,
    network::{Interface, Network, framing::Framing, xdp_features},
    privileges, sandbox,
    sensor::{
        build,
        connections::{self, ConnectionsError, Ground},
        egress::{self, Way},
        features, footprint,
        outbound::{
            self, OutboundError, Scope,
            calls::{self, Call, CallError},
        },
        owner::Owner,
        pins::{PinsError, report},
        program::{self, KernelLogLevel, Loaded},
        settings::{Mode, Settings},
    },
    stdio::{OutputError, say},
    user::{self, User},
};

/// The result of a check.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// As it should be.
    Good,
    /// It works, but the line names a loss.
    Loss,
    /// The sensor cannot run.
    Bad,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Loss => "loss",
            Self::Bad => "BAD",
        })
    }
}

/// One line of the report.
struct Line {
    verdict: Verdict,
    subject: String,
    words: String,
}

impl Line {
    fn new(verdict: Verdict, subject: &str, words: impl Into<String>) -> Self {
        Self { verdict, subject: subject.to_owned(), words: words.into() }
    }
}

/// Prints the report for the given configuration file, or for the default one. The exit code is that of the first
/// problem that prevents the sensor from running.
///
/// # Errors
/// The interfaces could not be listed.
pub async fn run(arguments: Doctor) -> Result<Exit> {
    let Doctor { mut interfaces, config, pin, user } = arguments;
    let mut exit = Exit::Success;
    let mut tell = |code: Exit, lines: Vec<Line>| {
        for Line { verdict, subject, words } in lines {
            say(format_args!("{verdict:<5} {subject:<22} {words}"))?;
            if verdict == Verdict::Bad && exit == Exit::Success {
                exit = code;
            }
        }
        Ok::<_, OutputError>(())
    };
    let (line, config) = configuration(config.as_deref(), pin);
    tell(Exit::Config, vec![line])?;
    if interfaces.is_empty() {
        interfaces.clone_from(&config.sensor.interfaces);
    }
    tell(Exit::Privileges, vec![capabilities(), user_line(user.as_ref().unwrap_or(&config.security.user))])?;
    tell(Exit::Kernel, vec![release(), jit(), btf()])?;
    tell(Exit::Kernel, features())?;
    tell(Exit::Kernel, load(&config.sensor))?;
    tell(Exit::Failure, vec![memory_line(&config.sensor, config.outbound.enabled)])?;
    tell(Exit::Success, sandbox_lines(&config))?;
    let (line, own) = pins(&config.sensor);
    tell(Exit::Pins, vec![line])?;
    tell(Exit::Control, configured::files(&config))?;
    tell(Exit::Config, configured::names(&config))?;
    tell(Exit::Success, configured::crowdsec(&config.crowdsec).await)?;
    tell(Exit::Success, configured::agent(&config.control.socket).await)?;
    tell(Exit::Interface, interface_lines(&interfaces, &own, config.sensor.mode).await?)?;
    Ok(exit)
}

/// The configuration that the agent would use; the defaults if it is wrong. If a directory for pins is given, pinning
/// is switched on.
fn configuration(named: Option<&Path>, pin: Option<PathBuf>) -> (Line, Config) {
    let (line, mut config) = match Config::find(named) {
        Ok((config, Some(path))) => {
            (Line::new(Verdict::Good, "configuration", path.display().to_string()), config)
        }
        Ok((config, None)) => (Line::new(Verdict::Good, "configuration", "no file: defaults"), config),
        Err(error) => {
            let words = format!("{error}; the following lines are about the defaults");
            (Line::new(Verdict::Bad, "configuration", words), Config::default())
        }
    };
    if let Some(pin) = pin {
        (config.sensor.pin, config.sensor.persist) = (pin, true);
    }
    (line, config)
}

fn capabilities() -> Line {
    match privileges::check() {
        Ok(()) => Line::new(Verdict::Good, "privileges", "all capabilities that are needed"),
        Err(missing) => Line::new(Verdict::Bad, "privileges", missing.to_string()),
    }
}

/// As whom the agent would run.
fn user_line(wanted: &str) -> Line {
    const NAME: &str = "user";
    if privileges::effective_user() != 0 {
        return Line::new(Verdict::Good, NAME, format!("{}: no root to be given up", user::present()));
    }
    match User::find(wanted) {
        Ok(user) if user.is_root() => Line::new(
            Verdict::Loss,
            NAME,
            "root (security.user): an agent that is taken over reaches what root's files and sockets give away",
        ),
        Ok(user) => Line::new(Verdict::Good, NAME, format!("root becomes {} (uid {})", user.name, user.uid)),
        Err(error) => Line::new(Verdict::Bad, NAME, error.to_string()),
    }
}

fn release() -> Line {
    Line::new(Verdict::Good, "kernel", program::kernel_release())
}

fn jit() -> Line {
    // Kernels that always compile BPF programs do not have this switch.
    match std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").as_deref().map(str::trim) {
        Ok("0") => Line::new(
            Verdict::Loss,
            "bpf compiler",
            "off: each packet costs several times more; sysctl net.core.bpf_jit_enable=1",
        ),
        Ok(_) => Line::new(Verdict::Good, "bpf compiler", "on"),
        Err(error) => Line::new(Verdict::Loss, "bpf compiler", format!("unknown: {error}")),
    }
}

fn btf() -> Line {
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        Line::new(Verdict::Good, "kernel types (BTF)", "present")
    } else {
        Line::new(Verdict::Loss, "kernel types (BTF)", "absent: bpftool shows maps without field names")
    }
}

/// The features that the program uses.
fn features() -> Vec<Line> {
    let line = |(name, supported): (&str, Result<bool, String>)| match supported {
        Ok(true) => Line::new(Verdict::Good, name, "supported"),
        Ok(false) => Line::new(Verdict::Bad, name, "not supported by this kernel"),
        Err(error) => Line::new(Verdict::Loss, name, format!("cannot be determined: {error}")),
    };
    let frags = match features::frags() {
        Ok(false) => Line::new(
            Verdict::Loss,
            features::FRAGS,
            format!("not supported by this kernel: {}", build::LOSS),
        ),
        known => line((features::FRAGS, known)),
    };
    features::needed().into_iter().map(line).chain([frags]).collect()
}

/// Loads all programs.
fn load(wanted: &Settings) -> Vec<Line> {
    const TAKEN: &str = "the kernel takes it (loaded and unloaded again)";
    let small = Settings { max_sources: 16, mode: wanted.mode, ..Settings::default() };
    let sampling = content::sampling::Settings::default();
    let loaded =
        program::load_with_connections(&small, &sampling, 0, KernelLogLevel(0), &[], Some(Scope::All));
    let Loaded { mut ebpf, connections, outbound } = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return vec![Line::new(Verdict::Bad, "program", error.to_string())],
    };
    let by_tc = (wanted.mode == Mode::Auto && features::tcx().is_ok()).then(|| {
        let small = Settings { mode: Mode::Tc, ..small.clone() };
        program::load(&small, &sampling, 0, KernelLogLevel(0), &Ground::NONE).map(drop)
    });
    let calls = outbound.is_ok().then(|| calls::load(&mut ebpf));
    let bare = match wanted.mode {
        Mode::Tc => Ok(()),
        Mode::Native | Mode::Generic | Mode::Auto => program::load_bare(&mut ebpf),
    };
    let lines = [
        match bare {
            Ok(()) => Line::new(Verdict::Good, "program", TAKEN),
            Err(error) => Line::new(Verdict::Bad, "program", format!("that for bare links: {error}")),
        },
        egress_line(egress::check(&mut ebpf, wanted.egress)),
        connections_line(connections),
        outbound_line(outbound),
    ];
    let by_tc = by_tc.map(|loaded| match loaded {
        Ok(()) => Line::new(Verdict::Good, "program for tc", TAKEN),
        Err(error) => Line::new(Verdict::Loss, "program for tc", error.to_string()),
    });
    lines.into_iter().chain(by_tc).chain(calls.into_iter().flatten().map(call_line)).collect()
}

/// Whether the tables of a newly started agent would fit into memory.
fn memory_line(settings: &Settings, outbound: bool) -> Line {
    match footprint::check(settings, outbound) {
        Ok(bytes) => {
            let words = format!("the kernel's tables take {} MiB", bytes.div_ceil(1 << 20));
            Line::new(Verdict::Good, "memory", words)
        }
        Err(error) => Line::new(Verdict::Bad, "memory", error.to_string()),
    }
}

/// The confinement that this kernel offers, see [`sandbox`].
fn sandbox_lines(config: &Config) -> Vec<Line> {
    if !config.security.sandbox {
        return vec![Line::new(
            Verdict::Loss,
            "sandbox",
            "off (security.sandbox): the agent keeps all it has",
        )];
    }
    let line = |(part, found): (&str, Result<String, String>)| match found {
        Ok(words) => Line::new(Verdict::Good, part, words),
        Err(lost) => Line::new(Verdict::Loss, part, lost),
    };
    sandbox::of_this_kernel().into_iter().map(line).collect()
}

fn connections_line(connections: Result<(), ConnectionsError>) -> Line {
    const NAME: &str = "proof of connections";
    match connections {
        Ok(()) => Line::new(
            Verdict::Good,
            NAME,
            "the kernel says when one is established, and its numbers can be read",
        ),
        Err(error) => Line::new(Verdict::Loss, NAME, format!("{error}; {}", connections::LOSS)),
    }
}

fn outbound_line(outbound: Result<(), OutboundError>) -> Line {
    const NAME: &str = "outbound connections";
    match outbound {
        Ok(()) => Line::new(Verdict::Good, NAME, "the kernel says which process asks for one"),
        Err(error) => Line::new(Verdict::Loss, NAME, format!("{error}; {}", outbound::LOSS)),
    }
}

fn call_line((call, loaded): (Call, Result<(), CallError>)) -> Line {
    let name = format!("outbound {}", call.label());
    match loaded {
        Ok(()) => Line::new(Verdict::Good, &name, "the kernel takes it"),
        Err(error) => Line::new(Verdict::Loss, &name, format!("{error}; {}", call.loss())),
    }
}

/// Whether what leaves can be seen, and in which way.
fn egress_line(way: Result<Way, String>) -> Line {
    const NAME: &str = "egress program";
    match way {
        Ok(Way::Tcx) => Line::new(Verdict::Good, NAME, "the kernel takes it and can attach it (tcx)"),
        Ok(Way::Clsact) => {
            let words = "the kernel takes it and can attach it (clsact): as a filter of tc, which a process beside the \
                         agent removes at the end";
            Line::new(Verdict::Good, NAME, words)
        }
        Err(error) => Line::new(Verdict::Loss, NAME, format!("{error}; {}", egress::LOSS)),
    }
}

/// Whether pins can be made, and which exist; only an agent that persists needs them. Also returns the programs that
/// an earlier agent left attached.
fn pins(settings: &Settings) -> (Line, BTreeSet<u32>) {
    let path = settings.pin.display();
    let line = match report::look(&settings.pin) {
        Ok(report) => {
            let words = format!("{path}: {report}");
            return (Line::new(Verdict::Good, "pins", words), report.programs);
        }
        Err(error @ (PinsError::NotBpffs { .. } | PinsError::ReadOnly { .. })) if !settings.persist => {
            let words = format!("dropping can only last as long as the agent: {error}");
            Line::new(Verdict::Loss, "pins", words)
        }
        Err(error) => Line::new(Verdict::Bad, "pins", error.to_string()),
    };
    (line, BTreeSet::new())
}

async fn interface_lines(names: &[String], own: &BTreeSet<u32>, mode: Mode) -> Result<Vec<Line>> {
    let network = Network::connect()?;
    let present = network.interfaces().await?;
    let defaults = network.default_route_interfaces().await?;
    let wanted: Vec<_> = if names.is_empty() {
        present
            .iter()
            .filter(|interface| interface.name != "lo")
            .map(|interface| interface.name.clone())
            .collect()
    } else {
        names.to_vec()
    };
    let drivers = xdp_features::with_native_xdp().await.ok();
    let has_native = |index: u32| drivers.as_ref().map(|drivers| drivers.contains(&index));
    let mut lines = Vec::new();
    for name in &wanted {
        lines.push(match present.iter().find(|interface| interface.name == *name) {
            None => {
                let is_any = wanted.iter().any(|name| present.iter().any(|one| one.name == *name));
                let known: Vec<_> = present.iter().map(|interface| interface.name.as_str()).collect();
                let words = format!(
                    "there is no such interface: the agent would wait for it; is the name right? There are: {}",
                    known.join(", ")
                );
                Line::new(if is_any { Verdict::Loss } else { Verdict::Bad }, name, words)
            }
            Some(interface) => {
                let is_default = defaults.contains(&interface.index);
                interface_line(interface, is_default, own, mode, has_native(interface.index))
            }
        });
    }
    if defaults.is_empty() && names.is_empty() {
        lines.push(Line::new(
            Verdict::Loss,
            "default route",
            "none: `scanguard run` waits for one, or needs --iface",
        ));
    }
    Ok(lines)
}

/// `has_native`: whether its driver has native XDP, if the kernel says it.
fn interface_line(
    interface: &Interface,
    is_default: bool,
    own: &BTreeSet<u32>,
    mode: Mode,
    has_native: Option<bool>,
) -> Line {
    let driver = driver(&interface.name);
    let mut words = format!("index {}, MTU {}, driver {driver}", interface.index, interface.mtu);
    if is_default {
        words.push_str(", default route");
    }
    match interface.framing {
        Framing::Ethernet => {}
        Framing::Bare if mode == Mode::Tc => {
            words.push_str(", bare IP: mode tc does not read it, --mode generic does");
            return Line::new(Verdict::Bad, &interface.name, words);
        }
        Framing::Bare => words.push_str(", bare IP: generic mode"),
        Framing::Unread(kind) => {
            words.push_str(&format!("; link type {}: {}", kind.0, kind.why()));
            return Line::new(Verdict::Loss, &interface.name, words);
        }
    }
    match interface.xdp_program {
        Some(id) if own.contains(&id) => {
            Line::new(Verdict::Good, &interface.name, format!("{words}; ScanGuard is attached, and pinned"))
        }
        Some(id) if mode == Mode::Tc => {
            let owner = Owner::of(id, interface);
            let words = format!("{words}; what XDP {owner} drops or redirects is not seen (mode tc)");
            Line::new(Verdict::Good, &interface.name, words)
        }
        Some(id) => {
            let owner = Owner::of(id, interface);
            let way_out = owner.way_out(&interface.name);
            Line::new(Verdict::Bad, &interface.name, format!("{words}; XDP is taken: {owner}; {way_out}"))
        }
        None if mode == Mode::Tc => Line::new(Verdict::Good, &interface.name, format!("{words}; mode tc")),
        None if interface.framing == Framing::Bare || mode == Mode::Generic => {
            Line::new(Verdict::Good, &interface.name, format!("{words}; XDP is free"))
        }
        None => {
            let (verdict, native) = native(mode, has_native);
            Line::new(verdict, &interface.name, format!("{words}; XDP is free{native}"))
        }
    }
}

/// The verdict and the words about native mode at an Ethernet link.
fn native(mode: Mode, has_native: Option<bool>) -> (Verdict, String) {
    let words = match (has_native, mode) {
        (None, _) => return (Verdict::Good, " (whether native mode works, only `run` can tell)".to_owned()),
        (Some(true), _) => {
            let words =
                ", and its driver has native mode (whether it takes the program now, only `run` can tell)";
            return (Verdict::Good, words.to_owned());
        }
        (Some(false), Mode::Auto) => match features::tcx() {
            Ok(()) => "mode auto goes by tc, if all interfaces can".to_owned(),
            Err(error) => format!("mode auto takes generic mode, since there is no tcx: {error}"),
        },
        (Some(false), _) => "mode native is refused; --mode auto goes by tc or takes generic mode".to_owned(),
    };
    (Verdict::Loss, format!(", but its driver has no native mode: {words}"))
}

/// The driver's name; virtual devices have no entry there.
fn driver(interface: &str) -> String {
    std::fs::read_link(format!("/sys/class/net/{interface}/device/driver"))
        .ok()
        .and_then(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .unwrap_or_else(|| "none (virtual)".to_owned())
}
