//! The network namespace by which the interfaces of pinned links are numbered. A link tells the index only.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use super::{layout, meta::MetaMap, names};

/// The inode number of this thread's network namespace, by which namespaces(7) tells one from another; 0: it cannot be told.
pub(super) fn own() -> u64 {
    fs::metadata("/proc/thread-self/ns/net").map_or(0, |namespace| namespace.ino())
}

/// Whether all that is pinned is by agents of this namespace. Those before this was noted do not say.
pub(super) fn is_own(root: &Path) -> bool {
    let layouts = names(root).unwrap_or_default().into_iter().filter(|name| layout::is_name(name));
    let mut noted = layouts
        .filter_map(|name| MetaMap::open(&root.join(name)).ok().flatten())
        .map(|meta| meta.value().namespace)
        .peekable();
    let own = own();
    own != 0 && noted.peek().is_some() && noted.all(|namespace| namespace == own)
}
