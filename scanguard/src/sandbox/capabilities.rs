//! Which capabilities are kept.

use std::io;

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// Those that are needed, as far as this process has them.
///
/// # Errors
/// They cannot be read.
pub(super) fn at_hand(needed: &CapsHashSet) -> io::Result<CapsHashSet> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    Ok(needed.intersection(&permitted).copied().collect())
}

/// Has this thread, and those that it starts, keep these capabilities alone.
///
/// # Errors
/// The kernel does not take it, which only a mistake of ours can cause.
pub(super) fn keep(kept: &CapsHashSet) -> Result<(), CapsError> {
    // Clearing the bounding set takes a capability itself. Without it the set means nothing: no_new_privs is on.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::runtime::thread_all_supported().difference(kept) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    if caps::runtime::ambient_set_supported().is_ok() {
        caps::clear(None, CapSet::Ambient)?;
    }
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, kept)?;
    caps::set(None, CapSet::Permitted, kept)
}
