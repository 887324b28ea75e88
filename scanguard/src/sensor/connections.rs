//! Loads the program that counts connections, and finds what it and the sampler need to know about the kernel's
//! structures. Without them everything else works, and nothing is proven.

use std::os::unix::fs::MetadataExt as _;

use aya::{Ebpf, EbpfLoader, programs::RawTracePoint};
use scanguard_common::{
    abi,
    proof::{FIELDS, Field},
};

use super::{
    btf::{Btf, BtfError},
    outbound,
};

/// The loss without the program, for logs and doctor.
pub const LOSS: &str = "connections are not counted, and nothing that a client says on the wire is proven: only access \
                        logs are grounds for a ban, all else for a shield";

/// The program that counts connections cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionsError {
    /// The kernel does not give the offsets of its fields.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The network namespace of this thread has no number.
    #[error("/proc/thread-self/ns/net: {0}")]
    Namespace(std::io::Error),
    /// The object lacks the program.
    #[error("the kernel program in this binary has no part that counts connections")]
    Absent,
    /// The kernel refuses the program.
    #[error("the kernel does not take the program that counts connections: {0}")]
    Refused(String),
    /// The kernel cannot attach it.
    #[error("the kernel cannot attach to the tracepoint {tracepoint}: {0}", tracepoint = abi::CONNECTIONS_TRACEPOINT)]
    Attach(String),
}

/// The facts about the kernel that the programs get before they are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    offsets: [u32; FIELDS],
    /// See [`abi::TRANSPARENT`].
    transparent: [u32; 2],
    namespace: u32,
    is_known: u32,
    outbound: outbound::Ground,
}

impl Ground {
    /// Nothing is known, so nothing is proven.
    pub const NONE: Self = Self {
        offsets: [0; FIELDS],
        transparent: [0; 2],
        namespace: 0,
        is_known: 0,
        outbound: outbound::Ground::NONE,
    };

    /// Reads the offsets of the running kernel, and the network namespace of this thread.
    ///
    /// # Errors
    /// See [`ConnectionsError`].
    pub fn of_kernel() -> Result<Self, ConnectionsError> {
        let btf = Btf::of_kernel()?;
        let mut offsets = [0; FIELDS];
        for field in Field::ALL {
            offsets[field.index()] = btf.offset(field.label())?;
        }
        let namespace = std::fs::metadata("/proc/thread-self/ns/net").map_err(ConnectionsError::Namespace)?;
        // The kernel's number is an unsigned int of C.
        let namespace = namespace.ino() as u32;
        let transparent = transparent(&btf)?;
        Ok(Self { offsets, transparent, namespace, is_known: 1, outbound: outbound::Ground::NONE })
    }

    /// The same, with what is known for outbound traffic.
    #[must_use]
    pub const fn with_outbound(self, outbound: outbound::Ground) -> Self {
        Self { outbound, ..self }
    }

    /// Sets these values in the program.
    pub(super) fn tell<'o>(&'o self, loader: &mut EbpfLoader<'o>) {
        loader
            .override_global(abi::FIELD_OFFSETS, &self.offsets, true)
            .override_global(abi::TRANSPARENT, &self.transparent, true)
            .override_global(abi::NAMESPACE, &self.namespace, true)
            .override_global(abi::PROOF, &self.is_known, true);
        self.outbound.tell(loader);
    }
}

/// The byte of a socket with its mark for IP_TRANSPARENT, and the mark: a bit field before Linux 6.6, one of many flags
/// since then. The flags are a word in the order of little-endian bytes, on all processors that the program runs on.
fn transparent(btf: &Btf) -> Result<[u32; 2], BtfError> {
    let bit = match btf.bits("inet_sock.transparent") {
        Ok(bit) => bit,
        Err(_) => btf.bits("inet_sock.inet_flags")? + btf.constant("INET_FLAGS_TRANSPARENT")?,
    };
    Ok([bit / 8, 1 << (bit % 8)])
}

/// Loads this program beside the one that is already loaded.
///
/// # Errors
/// See [`ConnectionsError`].
pub fn load(ebpf: &mut Ebpf) -> Result<(), ConnectionsError> {
    program(ebpf)?.load().map_err(|error| ConnectionsError::Refused(super::reason::shorten(&error)))
}

/// Attaches the loaded program, until it is dropped with the rest of the object.
///
/// # Errors
/// See [`ConnectionsError`].
pub fn attach(ebpf: &mut Ebpf) -> Result<(), ConnectionsError> {
    let attached = program(ebpf)?.attach(abi::CONNECTIONS_TRACEPOINT);
    attached.map(drop).map_err(|error| ConnectionsError::Attach(super::reason::shorten(&error)))
}

fn program(ebpf: &mut Ebpf) -> Result<&mut RawTracePoint, ConnectionsError> {
    let program = ebpf.program_mut(abi::CONNECTIONS_PROGRAM).ok_or(ConnectionsError::Absent)?;
    program.try_into().map_err(|_| ConnectionsError::Absent)
}
