//! How much of the kernel's memory the maps take, and whether there is so much. The maps take all of it when they are
//! made.

use aya_obj::generated::bpf_map_type::{self, *};

use super::{
    object::{self, Shape},
    outbound,
    settings::Settings,
};
use crate::memory::{self, Room};

/// `struct htab_elem` before its key, kernel/bpf/hashtab.c.
const HASH_ELEMENT: u64 = 48;
/// `struct bucket`, as above.
const HASH_BUCKET: u64 = 16;
/// `BPF_F_NO_PREALLOC`, include/uapi/linux/bpf.h.
const NO_PREALLOC: u32 = 1;
/// The map itself, and the rounding to whole pages.
const PAGE: u64 = 4096;

/// There is too little memory.
#[derive(Debug, thiserror::Error)]
#[error(
    "the kernel's tables take {} MiB with sensor.max_sources = {max_sources}, and {} MiB are {}: lower \
     sensor.max_sources, or raise the limit",
    .needed.div_ceil(1 << 20), .room.bytes >> 20, .room.bound
)]
pub struct TooLittle {
    /// The setting.
    pub max_sources: u32,
    /// How many bytes the maps take.
    pub needed: u64,
    /// How much memory there is.
    pub room: Room,
}

/// How many bytes the maps of the embedded program take with these settings, on a host that may have this many CPUs, where
/// what leaves is looked at (`outbound`) or not.
///
/// # Errors
/// The object cannot be read: the reason.
pub fn bytes(settings: &Settings, outbound: bool, possible_cpus: u64) -> Result<u64, String> {
    let mut maps = object::maps()?;
    let small = outbound::MAPS.into_iter().filter(|_| !outbound).map(|name| (name, 1));
    for (name, entries) in object::max_entries(settings).into_iter().chain(small) {
        if let Some(shape) = maps.get_mut(name) {
            shape.max_entries = entries;
        }
    }
    Ok(maps.values().map(|shape| of(shape, possible_cpus)).sum())
}

/// Whether new maps would fit. Returns how much they take. If the host does not say how much memory it has, the kernel
/// decides.
///
/// # Errors
/// They would not fit.
pub fn check(settings: &Settings, outbound: bool) -> Result<u64, TooLittle> {
    let cpus = aya::util::nr_cpus().unwrap_or(1) as u64;
    // A broken object is reported when it is loaded.
    let needed = bytes(settings, outbound, cpus).unwrap_or(0);
    fits(settings.max_sources, needed, memory::room())
}

fn fits(max_sources: u32, needed: u64, room: Option<Room>) -> Result<u64, TooLittle> {
    match room {
        Some(room) if room.bytes < needed => Err(TooLittle { max_sources, needed, room }),
        Some(_) | None => Ok(needed),
    }
}

/// The size of one map in bytes.
fn of(shape: &Shape, possible_cpus: u64) -> u64 {
    let Shape { kind, key_size, value_size, max_entries, flags } = *shape;
    let (key, value) = (u64::from(key_size).next_multiple_of(8), u64::from(value_size).next_multiple_of(8));
    let entries = u64::from(max_entries);
    let buckets = entries.next_power_of_two() * HASH_BUCKET;
    let is = |wanted: bpf_map_type| kind == wanted as u32;
    let content = if is(BPF_MAP_TYPE_LRU_HASH) {
        entries * (HASH_ELEMENT + key + value) + buckets
    } else if is(BPF_MAP_TYPE_HASH) && flags & NO_PREALLOC == 0 {
        // One more for each CPU, so that an update always finds a free element.
        (entries + possible_cpus) * (HASH_ELEMENT + key + value) + buckets
    } else if is(BPF_MAP_TYPE_HASH) {
        buckets
    } else if is(BPF_MAP_TYPE_PERCPU_ARRAY) {
        entries * value * possible_cpus
    } else if is(BPF_MAP_TYPE_LPM_TRIE) {
        // Its entries are allocated one by one.
        0
    } else if is(BPF_MAP_TYPE_RINGBUF) {
        // The size in bytes.
        entries
    } else {
        // Arrays, and other kinds that the program may have later: they take at least this.
        entries * value
    };
    content + PAGE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Bound;

    fn with(max_sources: u32) -> Settings {
        Settings { max_sources, ..Settings::default() }
    }

    #[test]
    fn what_maps_take_grows_with_the_table_and_with_cpus() {
        let (small, large) =
            (bytes(&with(1 << 10), true, 2).unwrap(), bytes(&with(1 << 20), true, 2).unwrap());
        let table = super::super::program::bytes(1 << 20) - super::super::program::bytes(1 << 10);
        let buckets = ((1 << 20) - (1 << 10)) * HASH_BUCKET;
        assert_eq!(large - small, table + buckets);
        // Far more CPUs than there are here: only the maps with an entry on each CPU grow.
        let (few, many) =
            (bytes(&with(1 << 10), true, 1).unwrap(), bytes(&with(1 << 10), true, 1024).unwrap());
        assert!(many > few && many < 1024 * few, "{few}, {many}");
    }

    #[test]
    fn what_leaves_takes_next_to_nothing_where_it_is_not_looked_at() {
        let (on, off) = (bytes(&with(1 << 10), true, 2).unwrap(), bytes(&with(1 << 10), false, 2).unwrap());
        assert!(on - off > 10 << 20, "{on}, {off}");
        let mut maps = object::maps().unwrap();
        let left: u64 = outbound::MAPS
            .iter()
            .map(|name| {
                let shape = maps.get_mut(*name).unwrap();
                shape.max_entries = 1;
                of(shape, 2)
            })
            .sum();
        assert!(left < 100_000, "{left}");
    }

    #[test]
    fn too_little_memory_is_said_with_both_figures() {
        let group = |bytes| {
            Some(Room { bytes, bound: Bound::Group { path: "/sys/fs/cgroup/unit".into(), limit: 256 << 20 } })
        };
        assert!(matches!(fits(7, 64 << 20, group(64 << 20)), Ok(needed) if needed == 64 << 20));
        assert!(fits(7, 64 << 20, None).is_ok());
        let said = fits(1_000_000, (540 << 20) - 1, group(200 << 20)).unwrap_err().to_string();
        assert_eq!(
            said,
            "the kernel's tables take 540 MiB with sensor.max_sources = 1000000, and 200 MiB are left of the limit of \
             256 MiB that /sys/fs/cgroup/unit sets: lower sensor.max_sources, or raise the limit"
        );
        let host = Room { bytes: 1 << 20, bound: Bound::Host };
        let said = fits(1, 2 << 20, Some(host)).unwrap_err().to_string();
        assert!(said.contains("take 2 MiB") && said.contains("1 MiB are available on this host"), "{said}");
    }
}
