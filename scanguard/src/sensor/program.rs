//! Loading the kernel program that is embedded in this binary.

use aya::{
    EbpfError, EbpfLoader,
    programs::{ProgramError, Xdp},
};
use scanguard_common::{abi, address::SourceMask};

use super::settings::Settings;

/// The object that `build.rs` built, aligned as the ELF parser wants it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/scanguard-xdp"));

/// The program could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel says no.
    #[error("the kernel does not permit loading the program (bpf(2): {0}); see `scanguard doctor`")]
    Denied(String),
    /// The kernel lacks something that the program needs.
    #[error(
        "this kernel ({release}) does not take the program; ScanGuard needs Linux 5.18 or newer. \
         `scanguard doctor` says what is missing. The kernel's words: {reason}"
    )]
    Unsupported {
        /// Kernel release.
        release: String,
        /// What the kernel or aya said, shortened.
        reason: String,
    },
    /// The object was built for another agent.
    #[error("the kernel program in this binary has another map layout than the agent: build both together")]
    Layout,
    /// No memory for the maps.
    #[error(
        "no memory for a table of {sources} sources ({mebibytes} MiB): lower sensor.max_sources, \
         or raise the memory limit"
    )]
    Memory {
        /// Entries asked for.
        sources: u32,
        /// What they take.
        mebibytes: u64,
    },
}

/// What the kernel takes for one entry of the table: key, value and its hash element of 48 bytes.
pub const BYTES_PER_SOURCE: u64 = 16 + size_of::<scanguard_common::account::SourceState>() as u64 + 48;

/// How loud the kernel program may log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KernelLogLevel(pub u8);

impl KernelLogLevel {
    /// What `tracing` lets through. The verifier removes the rest from the program.
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

/// Loads the program and makes its maps; attaches nothing. All is gone when the result is dropped.
///
/// # Errors
/// See [`LoadError`].
pub fn load(settings: &Settings, salt: u64, log: KernelLogLevel) -> Result<aya::Ebpf, LoadError> {
    let mask = SourceMask::new(settings.ipv6_prefix).words();
    let mut ebpf = EbpfLoader::new()
        .override_global(abi::VERSION, &1u32, true)
        .override_global(abi::SOURCE_MASK, &mask, true)
        .override_global(abi::SALT, &salt, true)
        .override_global(aya_log::LEVEL, &log.0, false)
        .map_max_entries(abi::SOURCES, settings.max_sources)
        .load(OBJECT)
        .map_err(|error| explain(&error, settings))?;
    for name in [abi::PROGRAM, abi::CLOCK_PROGRAM] {
        let program: &mut Xdp = ebpf
            .program_mut(name)
            .ok_or(LoadError::Layout)?
            .try_into()
            .map_err(|_: ProgramError| LoadError::Layout)?;
        program.load().map_err(|error| explain(&error, settings))?;
    }
    Ok(ebpf)
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
        Some(libc::EPERM | libc::EACCES) => LoadError::Denied(shorten(error)),
        Some(libc::ENOMEM) => LoadError::Memory {
            sources: settings.max_sources,
            mebibytes: (u64::from(settings.max_sources) * BYTES_PER_SOURCE).div_ceil(1 << 20),
        },
        _ => LoadError::Unsupported { release: kernel_release(), reason: shorten(error) },
    }
}

/// Characters of the kernel's words that are shown.
const MAX_REASON: usize = 600;

/// The chain of causes in one line.
pub(super) fn shorten(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let text = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // The verifier says last what it did not like.
    let skipped = line.chars().count().saturating_sub(MAX_REASON);
    let dots = if skipped == 0 { "" } else { "... " };
    format!("{dots}{}", line.chars().skip(skipped).collect::<String>())
}

/// `uname -r`.
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}
