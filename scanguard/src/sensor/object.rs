//! The objects with the kernel programs, and the maps in them.

use std::collections::BTreeMap;

use scanguard_common::abi;

use super::{
    build::Build,
    reason::shorten,
    settings::{Mode, Settings},
};

/// The object for XDP that `build.rs` built, aligned as the ELF parser needs it.
static XDP: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/scanguard-xdp"));
/// The same for tc: it differs in the context of incoming packets alone, and has the same maps.
static TC: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/scanguard-tc"));
/// That for XDP, for older kernels. It has one more map, which is nobody else's.
static OLD: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/scanguard-old"));
/// Programs that do nothing, to try what an interface takes.
static TRIAL: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/scanguard-trial"));
/// The same for older kernels.
static OLD_TRIAL: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/scanguard-old-trial"));

/// The object for a way to attach. No older kernel has the way by tc.
pub(super) const fn of(mode: Mode, build: Build) -> &'static [u8] {
    match (mode, build) {
        (Mode::Native | Mode::Generic | Mode::Auto, Build::Full) => XDP,
        (Mode::Native | Mode::Generic | Mode::Auto, Build::Old) => OLD,
        (Mode::Tc, _) => TC,
    }
}

/// The object to try interfaces with.
pub(super) const fn trial(build: Build) -> &'static [u8] {
    match build {
        Build::Full => TRIAL,
        Build::Old => OLD_TRIAL,
    }
}

/// The name of the program for incoming packets in it.
pub(super) const fn incoming(mode: Mode) -> &'static str {
    match mode {
        Mode::Native | Mode::Generic | Mode::Auto => abi::PROGRAM,
        Mode::Tc => abi::TC_PROGRAM,
    }
}

/// The properties of a map that cannot change later.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Shape {
    /// `enum bpf_map_type`.
    pub(super) kind: u32,
    pub(super) key_size: u32,
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    pub(super) flags: u32,
}

/// Number of entries of the maps whose size is set when they are made.
pub(super) fn max_entries(settings: &Settings) -> [(&'static str, u32); 2] {
    [(abi::SOURCES, settings.max_sources), (abi::CHANGES, abi::change_places(settings.max_sources))]
}

/// The maps of all objects, by name, as they are defined there.
pub(super) fn maps() -> Result<BTreeMap<String, Shape>, String> {
    let object = aya_obj::Object::parse(XDP).map_err(|error| shorten(&error))?;
    let shape = |map: &aya_obj::Map| Shape {
        kind: map.map_type(),
        key_size: map.key_size(),
        value_size: map.value_size(),
        max_entries: map.max_entries(),
        flags: map.map_flags(),
    };
    Ok(object.maps.iter().map(|(name, map)| (name.clone(), shape(map))).collect())
}
