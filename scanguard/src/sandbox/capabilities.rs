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

/// What this kernel wants of a process that uses maps by their descriptors: nothing from Linux 5.19 on. Before, with
/// `kernel.unprivileged_bpf_disabled` set, `CAP_BPF` for any call of bpf(2) (commit c8644cd0efe7). A thread without
/// capabilities asks for a map that does not exist: only the order of the kernel's checks shows.
///
/// # Errors
/// The thread could not be started.
pub(super) fn for_maps() -> io::Result<Option<Capability>> {
    const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
    let ask = || {
        caps::clear(None, CapSet::Effective).map_err(io::Error::other)?;
        let mut attributes = [u64::MAX; 4];
        // SAFETY: the attributes are as long as said; their descriptor is none, so that nothing is written.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_MAP_LOOKUP_ELEM,
                attributes.as_mut_ptr(),
                size_of_val(&attributes),
            )
        };
        let error = io::Error::last_os_error();
        Ok(result == -1 && error.raw_os_error() == Some(libc::EPERM))
    };
    let thread = std::thread::Builder::new().name("asks-bpf".to_owned()).spawn(ask)?;
    let is_refused: io::Result<bool> = thread.join().map_err(|_| io::Error::other("a thread panicked"))?;
    Ok(is_refused?.then_some(Capability::CAP_BPF))
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
