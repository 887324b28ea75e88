//! Notes that an agent leaves to the next one, beside the maps of the program: an array of one entry. It has its own
//! layout, so that an agent can read the notes of another version.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use aya::maps::{Array, Map, MapData};
use scanguard_common::abi::Control;

use super::PinsError;

/// Name of its pin.
pub(super) const NAME: &str = "META";

/// "SGPN". An array of somebody else is very unlikely to begin like this.
const MAGIC: u32 = u32::from_be_bytes(*b"SGPN");
/// Version of [`Meta`].
pub(super) const REVISION: u32 = 1;
/// Version of `scanguard_common::abi::Ban` and of the meaning of its numbers. A change there needs a new number here:
/// bans of another number are not carried over.
const BAN_REVISION: u32 = 1;

/// The notes. With another [`REVISION`], only the first two fields are at the same place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub(super) struct Meta {
    magic: u32,
    revision: u32,
    ban_revision: u32,
    /// How many bits of an IPv6 source are kept.
    pub(super) ipv6_prefix: u32,
    /// The salt of sketches and tags of flows.
    pub(super) salt: u64,
    /// When an agent last finished reading the table of sources, by the monotonic clock; 0: never.
    pub(super) polled_ns: u64,
    /// As in [`Control`].
    pub(super) gate: u32,
    /// As above.
    pub(super) drop_all: u32,
    /// The network namespace of the last agent, as [`own_namespace`] gives it; 0: it was not noted.
    pub(super) namespace: u64,
    /// The epoch that was running when an agent last finished reading the table of sources; 0: it was not noted.
    pub(super) stopped: u32,
    reserved: [u32; 19],
}

const _: () = assert!(size_of::<Meta>() == 128);

// SAFETY: plain data without padding, valid for all bytes.
unsafe impl aya::Pod for Meta {}

impl Meta {
    pub(super) fn new(ipv6_prefix: u8, salt: u64) -> Self {
        Self {
            magic: MAGIC,
            revision: REVISION,
            ban_revision: BAN_REVISION,
            ipv6_prefix: ipv6_prefix.into(),
            salt,
            polled_ns: 0,
            gate: 0,
            drop_all: 0,
            namespace: own_namespace(),
            stopped: 0,
            reserved: [0; 19],
        }
    }

    /// Whether this version can read the bans there.
    pub(super) fn has_known_bans(&self) -> bool {
        self.ban_revision == BAN_REVISION && self.ipv6_prefix <= 128
    }
}

/// The inode number of this thread's network namespace, which distinguishes namespaces (namespaces(7)). 0: it is not
/// known.
pub(super) fn own_namespace() -> u64 {
    fs::metadata("/proc/thread-self/ns/net").map_or(0, |namespace| namespace.ino())
}

/// The pinned array. Notes are written at once.
pub(in crate::sensor) struct MetaMap {
    map: Array<MapData, Meta>,
    value: Meta,
}

impl MetaMap {
    /// Makes the array and pins it. This marks the layout as complete.
    pub(super) fn create(directory: &Path, value: Meta) -> Result<Self, PinsError> {
        let path = directory.join(NAME);
        let mut map = Array::create(1, 0).map_err(|error| PinsError::map(&path, &error))?;
        map.set(0, value, 0).map_err(|error| PinsError::map(&path, &error))?;
        map.pin(&path).map_err(|error| PinsError::map(&path, &error))?;
        Self::open(directory)
            .and_then(|map| map.ok_or_else(|| PinsError::map(&path, &std::io::Error::other("not there"))))
    }

    /// Opens the array of a layout. Returns nothing if there is none that this version can read.
    pub(super) fn open(directory: &Path) -> Result<Option<Self>, PinsError> {
        let path = directory.join(NAME);
        let Ok((_, super::bpffs::Pinned::Map(_))) = super::bpffs::open(&path) else {
            return Ok(None);
        };
        let map = MapData::from_pin(&path).map_err(|error| PinsError::map(&path, &error))?;
        let map = Map::from_map_data(map).map_err(|error| PinsError::map(&path, &error))?;
        // Another type or size: it belongs to another version.
        let Ok(map) = Array::<_, Meta>::try_from(map) else {
            return Ok(None);
        };
        let value: Meta = map.get(&0, 0).map_err(|error| PinsError::map(&path, &error))?;
        let is_known = value.magic == MAGIC && value.revision == REVISION;
        Ok(is_known.then_some(Self { map, value }))
    }

    pub(super) fn value(&self) -> &Meta {
        &self.value
    }

    /// Notes the program's settings.
    pub(in crate::sensor) fn note_settings(&mut self, settings: &Control) {
        self.change(|meta| (meta.gate, meta.drop_all) = (settings.gate, settings.drop_all));
    }

    /// Notes which agent uses it now.
    pub(super) fn note_namespace(&mut self) {
        self.change(|meta| meta.namespace = own_namespace());
    }

    /// Notes that all sources were read by this time, and which epoch was running then.
    pub(in crate::sensor) fn note_polled(&mut self, at: Duration, epoch: u32) {
        self.change(|meta| {
            (meta.polled_ns, meta.stopped) = (u64::try_from(at.as_nanos()).unwrap_or(u64::MAX), epoch);
        });
    }

    fn change(&mut self, change: impl FnOnce(&mut Meta)) {
        let before = self.value;
        change(&mut self.value);
        if self.value == before {
            return;
        }
        if let Err(error) = self.map.set(0, self.value, 0) {
            tracing::warn!("the data for the next agent could not be written: {error}");
        }
    }
}
