//! Whose interfaces pinned links are at: a link tells the index only, which is of a network namespace.

use std::path::Path;

use super::{
    layout,
    meta::{MetaMap, own_namespace},
    names,
};

/// Whether all that is pinned is by agents of this namespace. Those before this was noted do not say.
pub(super) fn is_own(root: &Path) -> bool {
    let layouts = names(root).unwrap_or_default().into_iter().filter(|name| layout::is_name(name));
    let mut noted = layouts
        .filter_map(|name| MetaMap::open(&root.join(name)).ok().flatten())
        .map(|meta| meta.value().namespace)
        .peekable();
    let own = own_namespace();
    own != 0 && noted.peek().is_some() && noted.all(|namespace| namespace == own)
}
