//! The name of a layout: the version of the contract, and a hash of everything that makes maps unfit for another
//! program.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
};

use scanguard_common::{abi, actor};

use super::{
    super::{
        object::{self, Shape},
        outbound,
        settings::Settings,
    },
    PinsError,
    bpffs::{self, Pinned},
    meta,
};

/// The prefix of all names of layouts, in all versions.
const PREFIX: &str = "scanguard_abi_";

/// Maps whose contents matter for one packet only: each program has its own.
const SCRATCH: [&str; 7] =
    ["FRESH", "DRAFT", abi::READ, "SCRATCH", "FRESH_ACTOR", "ACTIVE", actor::OUTBOUND_TALLY];

/// The maps of the program in this binary, as these settings make them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Layout {
    pub(super) name: String,
    pub(super) maps: BTreeMap<String, Shape>,
}

impl Layout {
    pub(super) fn of(settings: &Settings) -> Result<Self, PinsError> {
        let mut maps = object::maps().map_err(PinsError::Object)?;
        // The others are sections of the object, and the log of this one program.
        maps.retain(|name, _| {
            !name.starts_with(['.', '_'])
                && !name.starts_with("AYA")
                && !SCRATCH.contains(&name.as_str())
                && !outbound::MAPS.contains(&name.as_str())
        });
        for (name, entries) in object::max_entries(settings) {
            if let Some(shape) = maps.get_mut(name) {
                shape.max_entries = entries;
            }
        }
        let name = name(&maps, settings.ipv6_prefix);
        Ok(Self { name, maps })
    }

    /// Checks that the pins in a directory are of exactly these maps.
    pub(super) fn check(&self, directory: &Path, root: &Path) -> Result<(), PinsError> {
        for (name, shape) in &self.maps {
            let path = directory.join(name);
            let corrupt = |what: &str| PinsError::Corrupt {
                path: path.clone(),
                wanted: format!("the map {name}{what}"),
                root: root.to_owned(),
            };
            match bpffs::open(&path) {
                Ok((_, Pinned::Map(found))) if found == *shape => {}
                Ok((_, Pinned::Map(_))) => return Err(corrupt(" of this version")),
                Ok((_, Pinned::Link { .. } | Pinned::Other)) => return Err(corrupt("")),
                Err(error) => return Err(corrupt(&format!(" ({error})"))),
            }
        }
        Ok(())
    }

    /// Where the maps are pinned, by name.
    pub(super) fn pins(&self, directory: &Path) -> Vec<(String, PathBuf)> {
        self.maps.keys().map(|name| (name.clone(), directory.join(name))).collect()
    }
}

/// Whether a directory with this name belongs to a layout, of any version.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(PREFIX)
}

fn name(maps: &BTreeMap<String, Shape>, ipv6_prefix: u8) -> String {
    let mut text = format!("meta {} prefix {ipv6_prefix}", meta::REVISION);
    for (name, Shape { kind, key_size, value_size, max_entries, flags }) in maps {
        // Writing to a string does not fail.
        let _ = write!(text, " {name} {kind} {key_size} {value_size} {max_entries} {flags}");
    }
    format!("{}-{:016x}", abi::VERSION.to_lowercase(), hash(text.as_bytes()))
}

/// FNV-1a of 64 bits (draft-eastlake-fnv): it is the same in every build, unlike the standard library's hash.
fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensor::settings::Egress;

    fn layout(settings: &Settings) -> Layout {
        Layout::of(settings).unwrap()
    }

    #[test]
    fn the_name_changes_with_what_makes_maps_unfit_and_with_nothing_else() {
        let default = Settings::default();
        let same = Settings { interfaces: vec!["eth7".to_owned()], egress: Egress::Off, ..default.clone() };
        assert_eq!(layout(&default), layout(&same));
        let more = Settings { max_sources: default.max_sources + 1, ..default.clone() };
        let shorter = Settings { ipv6_prefix: 56, ..default.clone() };
        assert_ne!(layout(&default).name, layout(&more).name);
        assert_ne!(layout(&default).name, layout(&shorter).name);
        assert!(is_name(&layout(&default).name) && !layout(&default).name.contains('.'));
    }

    #[test]
    fn what_lasts_is_pinned_and_what_is_the_programs_own_is_not() {
        let maps = layout(&Settings::default()).maps;
        for name in [
            abi::SOURCES,
            abi::CHANGES,
            abi::CHANGE_COUNT,
            abi::TALLY,
            abi::CONTROL,
            abi::BANS,
            abi::BANNED_NETWORKS,
            abi::SHIELDS,
            abi::SHIELDED_NETWORKS,
            abi::ALLOWED,
            abi::HOME,
            abi::LIVE,
            abi::PUBLISHED,
            abi::TRIPS,
            abi::SAMPLES,
        ] {
            assert!(maps.contains_key(name), "{name}: {maps:?}");
        }
        // The agent takes it out of the object, as it does with the other maps for what leaves.
        assert!(!maps.contains_key(actor::NOWHERE), "{maps:?}");
        assert!(
            !maps
                .keys()
                .any(|name| SCRATCH.contains(&name.as_str()) || name.contains("LOG") || name.contains('.')),
            "{maps:?}"
        );
    }

    #[test]
    fn the_hash_is_fnv() {
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
