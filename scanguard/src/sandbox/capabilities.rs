//! Which capabilities the process keeps.

use std::io;

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// The needed capabilities that this process has.
///
/// # Errors
/// They cannot be read.
pub(super) fn at_hand(needed: &CapsHashSet) -> io::Result<CapsHashSet> {
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    Ok(needed.intersection(&permitted).copied().collect())
}

/// Limits this thread, and those that it starts, to these capabilities.
///
/// # Errors
/// The kernel refuses, which only an error in our code can cause.
pub(super) fn keep(kept: &CapsHashSet) -> Result<(), CapsError> {
    // Clearing the bounding set needs a capability itself. Without that capability the set has no effect: no_new_privs
    // is on.
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
