//! Which capabilities are kept: none, on kernels that let anybody use the maps whose descriptors he has.

use std::io;

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

use crate::{config::Config, sensor::privileges};

/// The capabilities that the agent needs after it has attached; at most those that it has.
///
/// # Errors
/// They cannot be read, or what this kernel asks for cannot be found out.
pub(super) fn needed(config: &Config) -> io::Result<CapsHashSet> {
    let mut needed = CapsHashSet::new();
    if !maps_are_free()? {
        // Before Linux 5.19, kernel.unprivileged_bpf_disabled closes all of bpf(2).
        needed.extend([Capability::CAP_BPF, Capability::CAP_NET_ADMIN]);
    }
    if !config.logs.files.is_empty() {
        // Logs belong to their servers, and logrotate makes new ones.
        needed.insert(Capability::CAP_DAC_READ_SEARCH);
    }
    let permitted = caps::read(None, CapSet::Permitted).map_err(io::Error::other)?;
    Ok(needed.intersection(&permitted).copied().collect())
}

/// Whether a thread without any capability may use maps.
fn maps_are_free() -> io::Result<bool> {
    let thread = std::thread::Builder::new().name("capabilities".to_owned());
    let asked = thread.spawn(|| {
        keep(&CapsHashSet::new()).map_err(io::Error::other)?;
        Ok(privileges::may_use_maps())
    })?;
    asked.join().unwrap_or_else(|_| Err(io::Error::other("the thread that asks panicked")))
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
