//! Attaches the egress program by a link of tcx (Linux 6.6): before all other programs, and only as long as somebody
//! holds the link.

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::FdLink,
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};

use super::{super::reason::shorten, EgressError, program};
use crate::network::Interface;

/// Attaches the loaded program to the outgoing packets of an interface, before all other programs there. The kernel
/// detaches it when the link is dropped, for whatever reason.
pub(super) fn attach(ebpf: &mut Ebpf, interface: &Interface) -> Result<FdLink, EgressError> {
    let program = program(ebpf, interface.framing)?;
    // This does not use aya's choice by the kernel's version, which falls back to filters that outlive a killed agent.
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(&interface.name, TcAttachType::Egress, order)
        .map_err(|error| words(&error))?;
    let link: SchedClassifierLink = program.take_link(id).map_err(|error| words(&error))?;
    FdLink::try_from(link).map_err(|error| EgressError::Tcx(error.to_string()))
}

/// Puts the loaded program into an attached link, in place of the one in it, in one step.
pub(super) fn replace(ebpf: &mut Ebpf, interface: &Interface, link: FdLink) -> Result<FdLink, EgressError> {
    let link = SchedClassifierLink::try_from(link).map_err(|error| EgressError::Tcx(error.to_string()))?;
    let program = program(ebpf, interface.framing)?;
    let id = program.attach_to_link(link).map_err(|error| words(&error))?;
    let link = program.take_link(id).map_err(|error| words(&error))?;
    FdLink::try_from(link).map_err(|error| EgressError::Tcx(error.to_string()))
}

/// Whether this kernel has tcx. The question changes nothing.
pub(super) fn is_supported() -> Result<(), String> {
    SchedClassifier::query_tcx("lo", TcAttachType::Egress).map(drop).map_err(|error| shorten(&error))
}

fn words(error: &ProgramError) -> EgressError {
    EgressError::Tcx(shorten(error))
}
