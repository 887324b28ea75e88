//! Loads and attaches the program that looks at outgoing packets. Without it everything else works. The agent reports
//! what it then cannot see.

pub mod clsact;
pub mod keeper;

use std::{
    collections::BTreeSet,
    fmt, io,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::{
    Ebpf,
    programs::{ProgramError, SchedClassifier, TcAttachType},
};
use scanguard_common::{abi, numbered};

use self::keeper::Keeper;
use super::{
    links::TcxLink,
    pins::{LinkKind, Pins, PinsError},
    reason::shorten,
    settings::Egress,
    tcx,
};
use crate::network::{Interface, filters::Filters, framing::Framing};

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
    /// The kernel cannot attach it by a link.
    #[error("the kernel cannot attach the egress program by tcx (Linux 6.6): {0}")]
    Tcx(String),
    /// It cannot be attached as a filter.
    #[error("the egress program cannot be attached by clsact: {0}")]
    Clsact(String),
    /// The link could not be pinned, or a pinned one could not be used.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// Another interface took the name meanwhile.
    #[error("{name} is another interface now: index {attached}, not {wanted}")]
    Renamed {
        /// The name.
        name: String,
        /// The index of the interface that has it.
        attached: u32,
        /// The index of the interface that had it.
        wanted: u32,
    },
    /// The link cannot be looked at.
    #[error("the link of the egress program: {0}")]
    Link(io::Error),
}

numbered! {
    /// How the egress program is attached.
    Way {
        /// By a link of tcx, which ends with the agent.
        Tcx = "tcx",
        /// By a filter of tc, which the agent's helper removes.
        Clsact = "clsact",
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

impl Way {
    /// The way that is wanted, or the best one that this kernel has.
    pub fn of(setting: Egress) -> Option<Self> {
        match setting {
            Egress::Off => None,
            Egress::Tcx => Some(Self::Tcx),
            Egress::Clsact => Some(Self::Clsact),
            Egress::Auto => Some(match tcx::is_supported() {
                Ok(()) => Self::Tcx,
                Err(_) => Self::Clsact,
            }),
        }
    }
}

/// Loads the program, and finds out how it can be attached. Attaches nothing that stays.
///
/// # Errors
/// The reason why it cannot, or why nobody can tell.
pub fn check(ebpf: &mut Ebpf, setting: Egress) -> Result<Way, String> {
    load(ebpf, true).map_err(|error| error.to_string())?;
    let way = Way::of(setting).ok_or("off (sensor.egress)")?;
    match way {
        Way::Tcx => tcx::is_supported().map_err(|error| format!("no tcx (Linux 6.6): {error}"))?,
        Way::Clsact => {
            let [ethernet, _] = descriptors(ebpf).map_err(|error| error.to_string())?;
            clsact::is_supported(ethernet)?;
        }
    }
    Ok(way)
}

/// Loads this program beside the one that is already loaded; `reads_bare`: that for links without a header, too.
///
/// # Errors
/// See [`EgressError`].
pub fn load(ebpf: &mut Ebpf, reads_bare: bool) -> Result<(), EgressError> {
    for framing in std::iter::once(Framing::Ethernet).chain(reads_bare.then_some(Framing::Bare)) {
        program(ebpf, framing)?.load().map_err(|error| EgressError::Refused(shorten(&error)))?;
    }
    Ok(())
}

/// The means to attach the loaded program.
pub(super) struct Attacher {
    /// The helper, and a socket to look at filters; only for clsact.
    clsact: Option<(Keeper, Filters)>,
}

/// The program at an interface.
pub(super) enum EgressLink {
    Tcx(TcxLink),
    /// As a filter: the id of the program in it.
    Clsact(u32),
}

impl EgressLink {
    /// Detaches a link at once. A filter stays until its interface goes, or the next program is put into it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn detach(self) -> io::Result<()> {
        match self {
            Self::Tcx(link) => link.detach(),
            Self::Clsact(_) => Ok(()),
        }
    }

    pub(super) const fn way(&self) -> Way {
        match self {
            Self::Tcx(_) => Way::Tcx,
            Self::Clsact(_) => Way::Clsact,
        }
    }
}

impl Attacher {
    /// Gets ready to attach the program to interfaces of these names. With `persist`, it stays there when the agent
    /// ends.
    pub(super) fn new(
        ebpf: &mut Ebpf,
        way: Way,
        interfaces: &[String],
        persist: bool,
    ) -> Result<Self, EgressError> {
        let clsact = match way {
            Way::Tcx => None,
            Way::Clsact => {
                let failed = |error: io::Error| EgressError::Clsact(format!("no helper: {error}"));
                let keeper = Keeper::start(descriptors(ebpf)?, interfaces, persist).map_err(failed)?;
                Some((keeper, Filters::open().map_err(failed)?))
            }
        };
        Ok(Self { clsact })
    }

    /// Attaches the program to an interface, or puts it in place of that of an earlier agent.
    pub(super) fn attach(
        &mut self,
        ebpf: &mut Ebpf,
        pins: &Pins,
        interface: &Interface,
    ) -> Result<EgressLink, EgressError> {
        let index = interface.index;
        let Some((keeper, _)) = &mut self.clsact else {
            let program = program(ebpf, interface.framing)?;
            let link = match pins.find(LinkKind::Egress, index)? {
                Some((link, _)) => tcx::replace(program, link).map_err(EgressError::Tcx)?,
                None => {
                    let link = tcx::attach(program, &interface.name, TcAttachType::Egress);
                    pins.pin(LinkKind::Egress, index, link.map_err(EgressError::Tcx)?)?
                }
            };
            let link = TcxLink::new(link).map_err(EgressError::Link)?;
            // The kernel attaches by name, and names change.
            let attached = link.interface().map_err(EgressError::Link)?;
            if attached != index {
                pins.forget(LinkKind::Egress, index);
                return Err(EgressError::Renamed { name: interface.name.clone(), attached, wanted: index });
            }
            return Ok(EgressLink::Tcx(link));
        };
        let info = program(ebpf, interface.framing)?.info();
        let id = info.map_err(|error| EgressError::Clsact(shorten(&error)))?.id();
        let put = keeper.put(interface).map_err(EgressError::Clsact)?;
        // An earlier agent may have left a link. Until now the packets were seen by that.
        pins.forget(LinkKind::Egress, index);
        if put.is_behind {
            tracing::warn!(
                interface = interface.name,
                "filters of others come before the egress program (`tc filter show dev {} egress`): packets that \
                 these decide about are not seen",
                interface.name
            );
        }
        Ok(EgressLink::Clsact(id))
    }

    /// Whether the program has left an interface. If the kernel does not answer, it has not.
    pub(super) fn is_off(&mut self, link: &EgressLink, interface: &Interface) -> bool {
        match (link, &mut self.clsact) {
            (EgressLink::Tcx(link), _) => link.interface().is_ok_and(|index| index != interface.index),
            (EgressLink::Clsact(program), Some((_, filters))) => {
                clsact::is_there(filters, interface.index, *program).is_ok_and(|is_there| !is_there)
            }
            (EgressLink::Clsact(_), None) => false,
        }
    }
}

/// Removes what agents before have left at interfaces where nothing is attached now, see [`clsact::sweep`].
pub(super) fn sweep(present: &[Interface], by_clsact: &BTreeSet<u32>, own: &BTreeSet<u32>) {
    for interface in clsact::sweep(present, by_clsact, own) {
        tracing::info!(interface, "removed the filter of an earlier agent");
    }
}

fn descriptors(ebpf: &mut Ebpf) -> Result<[BorrowedFd<'_>; 2], EgressError> {
    let descriptor = |name: &str| {
        let program: &SchedClassifier =
            ebpf.program(name).ok_or(EgressError::Absent)?.try_into().map_err(|_| EgressError::Absent)?;
        let descriptor = program.fd().map_err(|error: ProgramError| EgressError::Clsact(shorten(&error)))?;
        Ok::<_, EgressError>(descriptor.as_fd())
    };
    Ok([descriptor(abi::EGRESS_PROGRAM)?, descriptor(abi::BARE_EGRESS_PROGRAM)?])
}

fn program(ebpf: &mut Ebpf, framing: Framing) -> Result<&mut SchedClassifier, EgressError> {
    let name = match framing {
        Framing::Bare => abi::BARE_EGRESS_PROGRAM,
        Framing::Ethernet | Framing::Unread(_) => abi::EGRESS_PROGRAM,
    };
    let program = ebpf.program_mut(name).ok_or(EgressError::Absent)?;
    program.try_into().map_err(|_: ProgramError| EgressError::Absent)
}
