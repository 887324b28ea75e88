//! Reads and writes maps in batches, and removes an entry: calls of bpf(2) that aya does not make.
//!
//! A batch needs one system call for thousands of entries. A walk from key to key starts over when an entry is removed
//! under it; a batch does not (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6).

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::bpf;

/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
/// As above.
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
/// As above.
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
/// As above.
const BPF_MAP_LOOKUP_AND_DELETE_ELEM: libc::c_long = 21;
/// As above.
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
/// As above.
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;

/// `union bpf_attr`, the struct named `batch`.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// `union bpf_attr`, the anonymous struct of single-element commands.
#[repr(C)]
struct ElementAttributes {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl ElementAttributes {
    /// The attributes for one entry; `value` is the address of its value.
    fn new<K>(map: BorrowedFd<'_>, key: &K, value: u64) -> Self {
        let key = std::ptr::from_ref(key) as u64;
        Self { map_fd: map.as_raw_fd().cast_unsigned(), padding: 0, key, value, flags: 0 }
    }
}

/// Buffers for reading a map whose keys are `K` and values are `V`; kept between polls.
pub(in crate::sensor) struct BatchReader<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K, V> BatchReader<K, V>
where
    K: FromBytes + IntoBytes + Immutable,
    V: FromBytes + IntoBytes + Immutable,
{
    /// Room for `size` entries at once. It grows if a bucket of the map has more.
    pub(in crate::sensor) fn new(size: usize) -> io::Result<Self> {
        let mut reader = Self { keys: Vec::new(), values: Vec::new() };
        reader.grow(size)?;
        Ok(reader)
    }

    fn grow(&mut self, size: usize) -> io::Result<()> {
        let no_memory = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        self.keys = K::new_vec_zeroed(size).map_err(no_memory)?;
        self.values = V::new_vec_zeroed(size).map_err(no_memory)?;
        Ok(())
    }

    /// Calls `each` for every entry, and returns their number. Entries that come or go meanwhile may be seen or not;
    /// all others are seen once.
    pub(in crate::sensor) fn read(
        &mut self,
        map: BorrowedFd<'_>,
        mut each: impl FnMut(&K, &V),
    ) -> io::Result<u64> {
        let mut place = Place::default();
        let mut seen = 0;
        loop {
            let (keys, values) = self.next(map, &mut place)?;
            for (key, value) in keys.iter().zip(values) {
                each(key, value);
            }
            seen += keys.len() as u64;
            if place == Place::default() {
                return Ok(seen);
            }
        }
    }

    /// The entries from a place in the map on, as many as the buffers have room for. Moves the place on; after the
    /// last entry, it is the beginning again.
    pub(in crate::sensor) fn next(
        &mut self,
        map: BorrowedFd<'_>,
        place: &mut Place,
    ) -> io::Result<(&[K], &[V])> {
        let mut next = 0u32;
        let end = loop {
            let mut attributes = BatchAttributes {
                in_batch: place.0.as_ref().map_or(0, |place| std::ptr::from_ref(place) as u64),
                out_batch: (&raw mut next) as u64,
                keys: self.keys.as_mut_ptr() as u64,
                values: self.values.as_mut_ptr() as u64,
                count: u32::try_from(self.keys.len()).unwrap_or(u32::MAX),
                map_fd: map.as_raw_fd().cast_unsigned(),
                element_flags: 0,
                flags: 0,
            };
            // SAFETY: the attributes of this command; the buffers are as long as `count` says.
            match unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) } {
                Ok(_) => {
                    place.0 = Some(next);
                    break attributes.count;
                }
                // The end of the map. The entries that were read before it count.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    place.0 = None;
                    break attributes.count;
                }
                // One bucket has more entries than the buffers have room for.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => self.grow(self.keys.len() * 2)?,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        };
        let end = (end as usize).min(self.keys.len());
        Ok((&self.keys[..end], &self.values[..end]))
    }
}

/// Writes entries of a hash map or trie in one call, as many of `keys` as there are `values`.
///
/// # Errors
/// The map refused one of them, whose place comes with the error. Those before it were written.
pub(in crate::sensor) fn write<K: aya::Pod, V: aya::Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<(), (usize, io::Error)> {
    let count = keys.len().min(values.len());
    if count == 0 {
        return Ok(());
    }
    let mut attributes = BatchAttributes {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: u32::try_from(count).map_err(|error| (0, io::Error::other(error)))?,
        map_fd: map.as_raw_fd().cast_unsigned(),
        element_flags: 0,
        flags: 0,
    };
    // SAFETY: the attributes of this command; both slices are at least as long as `count` says, and of the types that
    // the map has.
    match unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut attributes) } {
        Ok(_) => Ok(()),
        // Tries take no batches before Linux 5.13.
        Err(error) if error.raw_os_error() == Some(NOT_SUPPORTED) => {
            let mut entries = keys.iter().zip(values).enumerate();
            entries
                .try_for_each(|(place, (key, value))| update(map, key, value).map_err(|error| (place, error)))
        }
        Err(error) => Err(((attributes.count as usize).min(count), error)),
    }
}

/// Writes one entry.
fn update<K: aya::Pod, V: aya::Pod>(map: BorrowedFd<'_>, key: &K, value: &V) -> io::Result<()> {
    let mut attributes = ElementAttributes::new(map, key, std::ptr::from_ref(value) as u64);
    // SAFETY: the attributes of this command; key and value are of the types that the map has.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut attributes) }.map(drop)
}

/// A place in a map: the number of a bucket, for hash maps. The default is the beginning.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::sensor) struct Place(Option<u32>);

/// Reads one entry of a hash map.
pub(in crate::sensor) fn look<K, V>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>>
where
    K: IntoBytes + Immutable,
    V: FromBytes + IntoBytes,
{
    element(BPF_MAP_LOOKUP_ELEM, map, key)
}

/// `ENOTSUPP`, an error of the kernel's own (include/linux/errno.h).
const NOT_SUPPORTED: i32 = 524;

/// Removes one entry of a hash map, atomically with reading it (Linux 5.14). Older kernels read it before: what is changed
/// in between is lost.
pub(in crate::sensor) fn take<K, V>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>>
where
    K: IntoBytes + Immutable,
    V: FromBytes + IntoBytes,
{
    match element(BPF_MAP_LOOKUP_AND_DELETE_ELEM, map, key) {
        Err(error) if error.raw_os_error() == Some(NOT_SUPPORTED) => {}
        taken => return taken,
    }
    let Some(value) = look(map, key)? else {
        return Ok(None);
    };
    Ok(delete(map, key)?.then_some(value))
}

/// Removes one entry. Returns whether it was there.
fn delete<K: IntoBytes + Immutable>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    // The kernel refuses this command if anything behind the key is set.
    let mut attributes = ElementAttributes::new(map, key, 0);
    // SAFETY: the attributes of this command; the key is of the type that the map has.
    match unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut attributes) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn element<K, V>(command: libc::c_long, map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>>
where
    K: IntoBytes + Immutable,
    V: FromBytes + IntoBytes,
{
    let mut value = V::new_zeroed();
    let mut attributes = ElementAttributes::new(map, key, (&raw mut value) as u64);
    // SAFETY: the attributes of these commands; key and value are of the types that the map has.
    match unsafe { bpf(command, &mut attributes) } {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
