//! Attaches a program of tc by a link of tcx (Linux 6.6): before all other programs, and only as long as somebody holds
//! the link.

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::FdLink,
    tc::{SchedClassifierLink, TcAttachOptions},
};

use super::reason::shorten;

/// Attaches a loaded program to the packets of an interface, before all other programs there. The kernel detaches it
/// when the link is dropped, for whatever reason.
///
/// # Errors
/// The kernel's words.
pub(super) fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    side: TcAttachType,
) -> Result<FdLink, String> {
    // This does not use aya's choice by the kernel's version, which falls back to filters that outlive a killed agent.
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(interface, side, order).map_err(|error| words(&error))?;
    let link: SchedClassifierLink = program.take_link(id).map_err(|error| words(&error))?;
    FdLink::try_from(link).map_err(|error| error.to_string())
}

/// Puts a loaded program into an attached link, in place of the one in it, in one step.
///
/// # Errors
/// The kernel's words.
pub(super) fn replace(program: &mut SchedClassifier, link: FdLink) -> Result<FdLink, String> {
    let link = SchedClassifierLink::try_from(link).map_err(|error| error.to_string())?;
    let id = program.attach_to_link(link).map_err(|error| words(&error))?;
    let link = program.take_link(id).map_err(|error| words(&error))?;
    FdLink::try_from(link).map_err(|error| error.to_string())
}

/// Whether this kernel has tcx. The question changes nothing.
///
/// # Errors
/// The kernel's words, if it has not.
pub(super) fn is_supported() -> Result<(), String> {
    SchedClassifier::query_tcx("lo", TcAttachType::Egress).map(drop).map_err(|error| shorten(&error))
}

fn words(error: &ProgramError) -> String {
    shorten(error)
}
