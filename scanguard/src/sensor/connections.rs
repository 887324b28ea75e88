//! The program that hears of connections, and what it and the sampler need to know of the kernel's structures. Without
//! them everything else works, and nothing is proven.

use std::os::unix::fs::MetadataExt as _;

use aya::{Ebpf, EbpfLoader, programs::RawTracePoint};
use scanguard_common::{
    abi,
    proof::{FIELDS, Field},
};

use super::btf::{Btf, BtfError};

/// What is lost without it, for logs and doctor.
pub const LOSS: &str = "connections are not counted, and nothing that a client says on the wire is proven: only access \
                        logs are grounds for a ban, all else for a shield";

/// Connections cannot be heard of.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionsError {
    /// The kernel does not say where fields lie.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// The network namespace of this thread has no number.
    #[error("/proc/thread-self/ns/net: {0}")]
    Namespace(std::io::Error),
    /// The object lacks the program.
    #[error("the kernel program in this binary has no part that hears of connections")]
    Absent,
    /// The kernel does not take it.
    #[error("the kernel does not take the program that hears of connections: {0}")]
    Refused(String),
    /// The kernel cannot attach it.
    #[error("the kernel cannot attach to the tracepoint {tracepoint}: {0}", tracepoint = abi::CONNECTIONS_TRACEPOINT)]
    Attach(String),
}

/// What the programs are told of the kernel before they are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    offsets: [u32; FIELDS],
    namespace: u32,
    is_known: u32,
}

impl Ground {
    /// Nothing is known: nothing is proven.
    pub const NONE: Self = Self { offsets: [0; FIELDS], namespace: 0, is_known: 0 };

    /// That of the running kernel, and the network namespace of this thread.
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
        // The kernel's number is C's unsigned int.
        let namespace = namespace.ino() as u32;
        Ok(Self { offsets, namespace, is_known: 1 })
    }

    /// Tells the program.
    pub(super) fn tell<'o>(&'o self, loader: &mut EbpfLoader<'o>) {
        loader
            .override_global(abi::FIELD_OFFSETS, &self.offsets, true)
            .override_global(abi::NAMESPACE, &self.namespace, true)
            .override_global(abi::PROOF, &self.is_known, true);
    }
}

/// Loads the program beside the one that was loaded already.
///
/// # Errors
/// See [`ConnectionsError`].
pub fn load(ebpf: &mut Ebpf) -> Result<(), ConnectionsError> {
    program(ebpf)?.load().map_err(|error| ConnectionsError::Refused(super::reason::shorten(&error)))
}

/// Has the loaded program hear of connections, until it is dropped with the rest of the object.
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
