//! The network namespace of pinned links. A link gives only the index of its interface, which depends on the
//! namespace.

use std::path::Path;

use super::{
    layout,
    meta::{MetaMap, own_namespace},
    names,
};

/// Whether agents of this namespace made all pins. Agents of older versions did not note their namespace.
pub(super) fn is_own(root: &Path) -> bool {
    let layouts = names(root).unwrap_or_default().into_iter().filter(|name| layout::is_name(name));
    let mut noted = layouts
        .filter_map(|name| MetaMap::open(&root.join(name)).ok().flatten())
        .map(|meta| meta.value().namespace)
        .peekable();
    let own = own_namespace();
    own != 0 && noted.peek().is_some() && noted.all(|namespace| namespace == own)
}
