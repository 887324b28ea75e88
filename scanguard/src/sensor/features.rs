//! Which parts of the program this kernel supports. Nothing stays loaded.

use aya::{maps::MapType, programs::ProgramType, sys};

use super::{frags, tcx};

/// Without this, the kernel takes only the build for older ones.
pub const FRAGS: &str = "frags (Linux 5.18)";

/// The needed features by name, and whether each is there, or why nobody can tell.
pub fn needed() -> Vec<(&'static str, Result<bool, String>)> {
    let programs = [("XDP programs", ProgramType::Xdp)];
    let maps = [
        ("table of sources", MapType::LruHash),
        ("per-CPU totals", MapType::PerCpuArray),
        ("kernel log", MapType::RingBuf),
    ];
    let words = |error: &dyn std::error::Error| error.to_string();
    let programs = programs
        .into_iter()
        .map(|(name, kind)| (name, sys::is_program_supported(kind).map_err(|error| words(&error))));
    let maps = maps
        .into_iter()
        .map(|(name, kind)| (name, sys::is_map_supported(kind).map_err(|error| words(&error))));
    programs.chain(maps).collect()
}

/// Whether this kernel has frags ([`FRAGS`]).
///
/// # Errors
/// Nobody can tell: the kernel's words.
pub fn frags() -> Result<bool, String> {
    frags::are_supported().map_err(|error| error.to_string())
}

/// Whether this kernel has tcx.
///
/// # Errors
/// The kernel's words, if it has not.
pub fn tcx() -> Result<(), String> {
    tcx::is_supported()
}
