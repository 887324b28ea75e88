//! What this kernel has of what the program is made of. Nothing is loaded for good.

use aya::{maps::MapType, programs::ProgramType, sys};

use super::frags;

/// Without it the kernel refuses the program without a word.
const FRAGS: &str = "frags (Linux 5.18)";

/// What is needed, by its name, and whether it is there; or why that cannot be told.
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
    let frags = frags::are_supported().map_err(|error| words(&error));
    programs.chain([(FRAGS, frags)]).chain(maps).collect()
}
