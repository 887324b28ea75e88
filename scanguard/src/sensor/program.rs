//! Loading the kernel program that is embedded in this binary.

use std::path::PathBuf;

use aya::{
    EbpfError, EbpfLoader,
    programs::{Program, ProgramError},
};
use scanguard_common::{
    abi,
    address::{Address, SourceMask},
    content::PortSet,
};

use super::{
    build::Build,
    connections::{self, ConnectionsError, Ground},
    object::{self, max_entries},
    outbound::{self, OutboundError, Scope},
    reason::shorten,
    settings::{Mode, Settings},
    tcx,
};
use crate::content;

/// The program could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused it.
    #[error("the kernel does not permit loading the program (bpf(2): {0}); see `scanguard doctor`")]
    Denied(String),
    /// The kernel lacks something that the program needs.
    #[error(
        "this kernel ({release}) does not take the program; ScanGuard needs Linux 5.10 or newer. \
         `scanguard doctor` says what is missing. The kernel's words: {reason}"
    )]
    Unsupported {
        /// Kernel release.
        release: String,
        /// The message of the kernel or of aya, shortened.
        reason: String,
    },
    /// The program for tc is wanted, and there is no tcx.
    #[error(
        "the mode tc needs tcx (Linux 6.6), which this kernel ({release}) does not have: {reason}; --mode auto works \
         on any interface"
    )]
    NoTcx {
        /// Kernel release.
        release: String,
        /// The kernel's words.
        reason: String,
    },
    /// The object was built for another agent.
    #[error("the kernel program in this binary has another map layout than the agent: build both together")]
    Layout,
    /// There are too few file descriptors: each map and program takes one.
    #[error(
        "no file descriptors left for the program and its maps: raise the limit (LimitNOFILE= of the unit, or \
         `ulimit -n`) to 1024 or more. The kernel's words: {0}"
    )]
    Descriptors(String),
    /// There is no memory for the maps.
    #[error(
        "no memory for a table of {sources} sources ({mebibytes} MiB): lower sensor.max_sources, \
         or raise the memory limit"
    )]
    Memory {
        /// The number of entries.
        sources: u32,
        /// How much memory they take.
        mebibytes: u64,
    },
}

/// How many bytes the kernel takes for one entry of the table: key, value and a hash element of 48 bytes.
pub const BYTES_PER_SOURCE: u64 = 16 + size_of::<scanguard_common::account::SourceState>() as u64 + 48;

/// The size of the maps that grow with the number of sources: the table, and the ring of changes.
pub fn bytes(max_sources: u32) -> u64 {
    let places = abi::change_places(max_sources);
    u64::from(max_sources) * BYTES_PER_SOURCE + u64::from(places) * size_of::<Address>() as u64
}

/// How much the kernel program may log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KernelLogLevel(pub u8);

impl KernelLogLevel {
    /// The level that `tracing` passes. The verifier removes the rest from the program.
    pub fn from_tracing() -> Self {
        Self(match tracing::level_filters::LevelFilter::current().into_level() {
            None => 0,
            Some(tracing::Level::ERROR) => 1,
            Some(tracing::Level::WARN) => 2,
            Some(tracing::Level::INFO) => 3,
            Some(tracing::Level::DEBUG) => 4,
            Some(tracing::Level::TRACE) => 5,
        })
    }
}

/// Loads the program and makes its maps, but attaches nothing. Everything is gone when the result is dropped. `ground`
/// is the knowledge about the kernel's structures.
///
/// # Errors
/// See [`LoadError`].
pub fn load(
    settings: &Settings,
    sampling: &content::sampling::Settings,
    salt: u64,
    log: KernelLogLevel,
    ground: &Ground,
) -> Result<aya::Ebpf, LoadError> {
    load_with(settings, sampling, salt, log, ground, &[])
}

/// The programs, as far as the kernel takes them.
pub struct Loaded {
    /// All of them.
    pub ebpf: aya::Ebpf,
    /// Whether the program that counts connections is attached.
    pub connections: Result<(), ConnectionsError>,
    /// Whether it looks at outbound traffic, too.
    pub outbound: Result<(), OutboundError>,
}

/// As [`load_with`], and also attaches the program that counts connections, if possible. If not, it loads the program
/// without its code for proofs, and returns the reason, too. The same holds for outbound traffic, if it is wanted
/// (`outbound`): that goes first.
///
/// # Errors
/// See [`LoadError`].
pub fn load_with_connections(
    settings: &Settings,
    sampling: &content::sampling::Settings,
    salt: u64,
    log: KernelLogLevel,
    pinned: &[(String, PathBuf)],
    outbound: Option<Scope>,
) -> Result<Loaded, LoadError> {
    let load = |ground: &Ground| load_with(settings, sampling, salt, log, ground, pinned);
    let ground = match Ground::of_kernel() {
        Ok(ground) => ground,
        Err(error) => {
            let (ebpf, outbound) = (load(&Ground::NONE)?, Err(OutboundError::Connections));
            return Ok(Loaded { ebpf, connections: Err(error), outbound });
        }
    };
    let of_outbound = outbound.map_or(Err(OutboundError::Off), outbound::Ground::of_kernel);
    let outbound = match of_outbound {
        Ok(of_outbound) => match load(&ground.with_outbound(of_outbound)) {
            Ok(mut ebpf) => match connections::load(&mut ebpf) {
                Ok(()) => {
                    let connections = connections::attach(&mut ebpf);
                    let outbound = connections.as_ref().map(|&()| ()).map_err(|_| OutboundError::Connections);
                    return Ok(Loaded { ebpf, connections, outbound });
                }
                Err(error) => OutboundError::Refused(error.to_string()),
            },
            Err(LoadError::Unsupported { reason, .. }) => OutboundError::Refused(reason),
            Err(error) => return Err(error),
        },
        Err(error) => error,
    };
    match load(&ground) {
        Ok(mut ebpf) => {
            let connections = connections::load(&mut ebpf).and_then(|()| connections::attach(&mut ebpf));
            Ok(Loaded { ebpf, connections, outbound: Err(outbound) })
        }
        // On a kernel that is locked down, nobody can read its memory.
        Err(LoadError::Unsupported { reason, .. }) => Ok(Loaded {
            ebpf: load(&Ground::NONE)?,
            connections: Err(ConnectionsError::Refused(reason)),
            outbound: Err(OutboundError::Connections),
        }),
        Err(error) => Err(error),
    }
}

/// As [`load`], but with these pinned maps, by name, in place of new ones.
///
/// # Errors
/// See [`LoadError`].
pub fn load_with(
    settings: &Settings,
    sampling: &content::sampling::Settings,
    salt: u64,
    log: KernelLogLevel,
    ground: &Ground,
    pinned: &[(String, PathBuf)],
) -> Result<aya::Ebpf, LoadError> {
    // Older kernels take that program, but it could not be attached.
    if settings.mode == Mode::Tc {
        tcx::is_supported().map_err(|reason| LoadError::NoTcx { release: kernel_release(), reason })?;
    }
    let mask = SourceMask::new(settings.ipv6_prefix).words();
    let enabled = u32::from(sampling.enabled);
    let ports = PortSet::ALL.map(|set| sampling.ports(set));
    let mut loader = EbpfLoader::new();
    for (name, entries) in max_entries(settings) {
        loader.map_max_entries(name, entries);
    }
    for (name, path) in pinned {
        loader.map_pin_path(name, path);
    }
    ground.tell(&mut loader);
    for (set, ports) in PortSet::ALL.into_iter().zip(&ports) {
        loader.override_global(set.label(), ports.words(), true);
    }
    let mut ebpf = loader
        .override_global(abi::VERSION, &1u32, true)
        .override_global(abi::SOURCE_MASK, &mask, true)
        .override_global(abi::SALT, &salt, true)
        .override_global(abi::SAMPLING, &enabled, true)
        .override_global(abi::CHANGES_MASK, &(abi::change_places(settings.max_sources) - 1), true)
        .override_global(aya_log::LEVEL, &log.0, false)
        .load(object::of(settings.mode, Build::of_kernel()))
        .map_err(|error| explain(&error, settings))?;
    for name in [object::incoming(settings.mode), abi::CLOCK_PROGRAM, abi::READ_PROGRAM] {
        let loaded = match ebpf.program_mut(name).ok_or(LoadError::Layout)? {
            Program::Xdp(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => return Err(LoadError::Layout),
        };
        loaded.map_err(|error| explain(&error, settings))?;
    }
    Ok(ebpf)
}

/// Loads the program for links without a header beside the others. The kernel takes as long to check it as for the one
/// for links with a header, so that it is loaded only where it may be needed.
///
/// # Errors
/// The kernel's words.
pub fn load_bare(ebpf: &mut aya::Ebpf) -> Result<(), String> {
    match ebpf.program_mut(abi::BARE_PROGRAM) {
        Some(Program::Xdp(program)) => program.load().map_err(|error| shorten(&error)),
        _ => Err("the program is not in the object".to_owned()),
    }
}

fn explain(error: &(dyn std::error::Error + 'static), settings: &Settings) -> LoadError {
    if let Some(EbpfError::ParseError(aya_obj_error)) = error.downcast_ref::<EbpfError>() {
        tracing::debug!("{aya_obj_error}");
        return LoadError::Layout;
    }
    let chain = || std::iter::successors(Some(error), |error| error.source());
    let os_error = chain()
        .find_map(|error| error.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::raw_os_error);
    match os_error {
        // The verifier also says EACCES about a program, together with its reason.
        Some(libc::EACCES) if chain().any(is_verdict) => unsupported(error),
        Some(libc::EPERM | libc::EACCES) => LoadError::Denied(shorten(error)),
        Some(libc::EMFILE | libc::ENFILE) => LoadError::Descriptors(shorten(error)),
        Some(libc::ENOMEM) => LoadError::Memory {
            sources: settings.max_sources,
            mebibytes: bytes(settings.max_sources).div_ceil(1 << 20),
        },
        _ => unsupported(error),
    }
}

fn unsupported(error: &(dyn std::error::Error + 'static)) -> LoadError {
    LoadError::Unsupported { release: kernel_release(), reason: shorten(error) }
}

/// Whether the verifier has looked at the program before the kernel refused it.
fn is_verdict(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(
        error.downcast_ref(),
        Some(ProgramError::LoadError { verifier_log, .. }) if !verifier_log.to_string().trim().is_empty()
    )
}

/// The kernel release, as `uname -r` has it.
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
