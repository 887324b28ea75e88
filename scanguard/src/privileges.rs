//! Which privileges the process has, and which ones the sensor lacks.

use caps::{CapSet, Capability};

/// Which capabilities are missing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "missing {}: run as root, or give the binary what it needs: \
     setcap cap_bpf,cap_net_admin,cap_perfmon=ep PATH-TO-scanguard",
    .0.join(", ")
)]
pub struct MissingPrivileges(pub Vec<String>);

/// The capabilities that the sensor needs. CAP_SYS_ADMIN includes all of them except CAP_NET_ADMIN.
const NEEDED: [(Capability, bool); 3] = [
    // bpf(2): load programs, make maps.
    (Capability::CAP_BPF, true),
    // The verifier allows pointer arithmetic on packets at variable offsets.
    (Capability::CAP_PERFMON, true),
    // Attach XDP programs.
    (Capability::CAP_NET_ADMIN, false),
];

/// The effective user of this process.
pub fn effective_user() -> u32 {
    // SAFETY: no arguments; it cannot fail.
    unsafe { libc::geteuid() }
}

/// Checks the effective capabilities of this process.
///
/// # Errors
/// The names of the missing ones.
pub fn check() -> Result<(), MissingPrivileges> {
    let effective = caps::read(None, CapSet::Effective)
        .map_err(|error| MissingPrivileges(vec![format!("(the capabilities cannot be read: {error})")]))?;
    let admin = effective.contains(&Capability::CAP_SYS_ADMIN);
    let missing: Vec<_> = NEEDED
        .iter()
        .filter(|(capability, in_admin)| !(effective.contains(capability) || *in_admin && admin))
        .map(|(capability, _)| capability.to_string())
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(MissingPrivileges(missing)) }
}
