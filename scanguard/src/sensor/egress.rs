//! Loads and attaches the program that looks at outgoing packets. Without it everything else works. The agent reports
//! what it then cannot see.

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::FdLink,
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use scanguard_common::abi;

use crate::network::{Interface, framing::Framing};

/// The loss without the program, for logs.
pub const LOSS: &str = "answers of this host are not seen: services published by NAT or to containers are not \
                        recognized, every address of networks routed to this host counts as dark, and late \
                        answers to its datagrams are told by their ports only";

/// The program could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The object lacks it.
    #[error("the kernel program in this binary has no egress part")]
    Absent,
    /// The kernel refuses it.
    #[error("the kernel does not take the egress program: {0}")]
    Refused(String),
    /// The kernel cannot attach it.
    #[error("the kernel cannot attach the egress program by tcx (Linux 6.6): {0}")]
    Attach(String),
}

/// Loads this program beside the one that is already loaded.
///
/// # Errors
/// See [`EgressError`].
pub fn load(ebpf: &mut Ebpf) -> Result<(), EgressError> {
    for framing in [Framing::Ethernet, Framing::Bare] {
        program(ebpf, framing)?
            .load()
            .map_err(|error| EgressError::Refused(super::reason::shorten(&error)))?;
    }
    Ok(())
}

/// Attaches the loaded program to the outgoing packets of an interface, before all other programs there. The kernel
/// detaches it when the link is dropped, for whatever reason.
pub(super) fn attach(ebpf: &mut Ebpf, interface: &Interface) -> Result<FdLink, EgressError> {
    let words = |error: &ProgramError| EgressError::Attach(super::reason::shorten(error));
    let program = program(ebpf, interface.framing)?;
    // This does not use aya's choice by the kernel's version, which falls back to filters that outlive a killed agent.
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(&interface.name, TcAttachType::Egress, order)
        .map_err(|error| words(&error))?;
    let link: SchedClassifierLink = program.take_link(id).map_err(|error| words(&error))?;
    FdLink::try_from(link).map_err(|error| EgressError::Attach(error.to_string()))
}

/// Puts the loaded program into an attached link, in place of the one in it, in one step.
pub(super) fn replace(ebpf: &mut Ebpf, interface: &Interface, link: FdLink) -> Result<FdLink, EgressError> {
    let link = SchedClassifierLink::try_from(link).map_err(|error| EgressError::Attach(error.to_string()))?;
    let words = |error: &ProgramError| EgressError::Attach(super::reason::shorten(error));
    let program = program(ebpf, interface.framing)?;
    let id = program.attach_to_link(link).map_err(|error| words(&error))?;
    let link = program.take_link(id).map_err(|error| words(&error))?;
    FdLink::try_from(link).map_err(|error| EgressError::Attach(error.to_string()))
}

fn program(ebpf: &mut Ebpf, framing: Framing) -> Result<&mut SchedClassifier, EgressError> {
    let name = match framing {
        Framing::Bare => abi::BARE_EGRESS_PROGRAM,
        Framing::Ethernet | Framing::Unread(_) => abi::EGRESS_PROGRAM,
    };
    let program = ebpf.program_mut(name).ok_or(EgressError::Absent)?;
    program.try_into().map_err(|_: ProgramError| EgressError::Absent)
}

/// Whether this kernel has tcx. The question changes nothing.
///
/// # Errors
/// It has not: the kernel's answer.
pub fn is_supported() -> Result<(), String> {
    SchedClassifier::query_tcx("lo", TcAttachType::Egress)
        .map(drop)
        .map_err(|error| super::reason::shorten(&error))
}
