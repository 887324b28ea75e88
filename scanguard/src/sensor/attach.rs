//! Attaches the program to interfaces, and keeps it attached while interfaces come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    time::Duration,
};

use aya::{
    Ebpf,
    programs::{ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode, links::FdLink, xdp::XdpLink},
};
use scanguard_common::abi;

use super::{
    choice::{Choice, default_interface, names},
    egress::{self, Attacher, EgressError, EgressLink, Way},
    links::TcxLink,
    owner::Owner,
    pins::{LinkKind, Pins, PinsError},
    program,
    reason::words,
    settings::{Mode, Settings},
    tcx,
    unwatched::Before,
};
use crate::{
    clock::monotonic,
    network::{
        Interface, Network, NetworkError,
        driver::explained,
        framing::{Framing, LinkType},
    },
};

/// Where the program is attached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
    /// By tc, after GRO.
    Tc,
}

impl AttachedMode {
    /// All.
    pub const ALL: [Self; 3] = [Self::Native, Self::Generic, Self::Tc];

    /// The name in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tc => "tc",
        }
    }
}

impl fmt::Display for AttachedMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The program could not be attached to an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Another program is there. The agent never replaces it.
    #[error(
        "{name} already has an XDP {owner}; ScanGuard does not replace it, and there can be but one: {}; docs/coexistence.md \
         has other ways",
        .owner.way_out(.name)
    )]
    Busy {
        /// Interface.
        name: String,
        /// The owner of that program.
        owner: Owner,
    },
    /// The driver does not support it.
    #[error(
        "{name} (MTU {mtu}) does not take the program in native mode: {reason}; --mode generic works on any \
         interface at a higher cost, --mode auto takes tc or that when native mode fails"
    )]
    NoNative {
        /// Interface.
        name: String,
        /// Its MTU, which some drivers limit for XDP.
        mtu: u32,
        /// The kernel's message.
        reason: String,
    },
    /// It cannot be attached by tc.
    #[error("{name} does not take the program by tc: {reason}; --mode generic works on any interface")]
    NoTc {
        /// Interface.
        name: String,
        /// The kernel's message, or what is missing.
        reason: String,
    },
    /// The program cannot read its packets.
    #[error(
        "{name} (link type {}): {}; watch the interface by which the outer packets come instead: {}",
        .link_type.0, .link_type.why(), .instead.join(", ")
    )]
    Framing {
        /// Interface.
        name: String,
        /// Its link type.
        link_type: LinkType,
        /// Interfaces that can be watched.
        instead: Vec<String>,
    },
    /// The kernel gave another error.
    #[error("{name}: attaching in {mode} mode: {reason}")]
    Refused {
        /// Interface.
        name: String,
        /// The mode that was tried last.
        mode: AttachedMode,
        /// The kernel's message.
        reason: String,
    },
    /// The kernel does not take the program for links without a header, or does not say which program it has loaded.
    #[error("the kernel program: {0}")]
    Program(String),
    /// The interfaces could not be listed.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The link of an interface could not be pinned, or a pinned one could not be used.
    #[error("{name}: {error}")]
    Pins {
        /// Interface.
        name: String,
        /// The reason.
        error: PinsError,
    },
}

/// A change of an interface since the last look.
#[derive(Debug)]
pub enum Change {
    /// The interface went away, or another one took its name.
    Lost,
    /// The interface has another name now.
    Renamed(String),
    /// The interface is there, but somebody removed the program by force (`bpftool link detach`).
    Detached,
    /// The interface is there again, and the program is attached.
    Returned(AttachedMode),
    /// The interface is there again, but the program could not be attached. The agent tries again at each look.
    Failed(AttachError),
    /// Somebody removed the egress program by force.
    EgressDetached,
    /// The egress program is attached again.
    EgressReturned,
    /// The egress program could not be attached again. The agent tries again at each look.
    EgressFailed(EgressError),
}

enum State {
    Attached {
        index: u32,
        mode: AttachedMode,
        link: Incoming,
        /// The egress program is attached, too.
        egress: Option<EgressLink>,
    },
    /// `reported`: the agent has reported why the program could not be attached again.
    Lost { reported: bool },
}

/// The link of the program for incoming packets.
enum Incoming {
    /// It is held, and not looked at: the interface tells.
    Xdp(#[expect(dead_code, reason = "the program is attached as long as this lives")] FdLink),
    Tc(TcxLink),
}

struct Wanted {
    name: String,
    state: State,
}

/// What the agent waits for: interfaces that are not there, from the start on or since they went away.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waiting {
    /// The names of the interfaces that it waits for. None: for a default route, which leads through the interface that
    /// it will watch.
    pub names: Vec<String>,
    /// The names of the interfaces that there are.
    pub present: Vec<String>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let present = self.present.join(", ");
        if self.names.is_empty() {
            return write!(
                f,
                "no interface is named and there is no default route: name one with --iface or sensor.interfaces; \
                 there are: {present}"
            );
        }
        write!(f, "there is no interface {}; there are: {present}", self.names.join(", "))
    }
}

/// The program on its interfaces. When this is dropped, the program is detached from all of them, unless its links are
/// pinned.
pub struct Attachments {
    /// Before the programs: until then the filters have them.
    egress: Option<Attacher>,
    ebpf: Ebpf,
    mode: Mode,
    /// The programs of XDP that are loaded; none if it is tc that is used.
    program_ids: Vec<u32>,
    /// Whether the programs for links without a header are loaded.
    reads_bare: bool,
    network: Network,
    wanted: Vec<Wanted>,
    /// The MAC addresses of all interfaces, by their numbers.
    macs: BTreeMap<u32, [u8; 6]>,
    /// The names of all interfaces.
    present: Vec<String>,
    /// The links by which native mode was tried, by the numbers of their interfaces. They do nothing yet.
    tried: BTreeMap<u32, FdLink>,
    /// Why an interface is not watched in native mode, by its name, if the agent chose.
    fallbacks: BTreeMap<String, String>,
    /// The numbers of the interfaces where this program took the place of that of an earlier agent.
    replaced: BTreeSet<u32>,
    /// The program that watched each interface before the start, by its name, and when ours was attached there.
    before: BTreeMap<String, (Before, Duration)>,
    /// Dropped last: if the agent could not start, this removes what it has pinned.
    pins: Pins,
}

impl Attachments {
    /// Finds the interfaces of the loaded program: all interfaces that are named, or that of the default route. Those that
    /// are not there are waited for. Loads the egress program, if it is wanted and possible. Nothing is attached until
    /// [`Self::attach_all`].
    ///
    /// # Errors
    /// The program cannot read the packets of an interface.
    pub async fn new(
        mut ebpf: Ebpf,
        settings: &Settings,
        choice: Choice,
        network: Network,
        pins: Pins,
    ) -> Result<Self, AttachError> {
        let Choice { mode, tried, fallbacks } = choice;
        let present = network.interfaces().await?;
        let names = names(settings, &network, &present).await?;
        let mut wanted: Vec<Wanted> = Vec::new();
        for name in &names {
            if let Some(interface) = find(&present, name) {
                readable(interface, &present)?;
            }
            if wanted.iter().all(|wanted| wanted.name != *name) {
                wanted.push(Wanted { name: name.clone(), state: State::Lost { reported: false } });
            }
        }
        let may_be_bare = |wanted: &Wanted| {
            find(&present, &wanted.name).is_none_or(|interface| interface.framing == Framing::Bare)
        };
        // Later the agent may load nothing any more.
        let reads_bare = mode != Mode::Tc && (wanted.is_empty() || wanted.iter().any(may_be_bare));
        if reads_bare {
            program::load_bare(&mut ebpf).map_err(AttachError::Program)?;
        }
        let egress = Way::of(settings.egress).and_then(|way| {
            // The helper for filters takes both.
            let loaded = egress::load(&mut ebpf, reads_bare || way == Way::Clsact);
            let attacher = loaded.and_then(|()| Attacher::new(&mut ebpf, way, &names, pins.keep()));
            attacher.inspect_err(|error| tracing::warn!("{error}; {}", egress::LOSS)).ok()
        });
        let of_xdp: &[&str] = match (mode, reads_bare) {
            (Mode::Tc, _) => &[],
            (_, false) => &[abi::PROGRAM],
            (_, true) => &[abi::PROGRAM, abi::BARE_PROGRAM],
        };
        let program_ids = program_ids(&ebpf, of_xdp).map_err(|error| AttachError::Program(words(&error)))?;
        Ok(Self {
            egress,
            ebpf,
            mode,
            program_ids,
            reads_bare,
            network,
            wanted,
            macs: macs(&present),
            present: known(&present),
            tried,
            fallbacks,
            replaced: BTreeSet::new(),
            before: BTreeMap::new(),
            pins,
        })
    }

    /// Attaches the programs to the interfaces that are there. If an earlier agent left its links pinned, this replaces the programs in them, so that
    /// no packet passes uncounted. It detaches links that are not needed any more.
    ///
    /// # Errors
    /// The first interface that failed. Dropping this value then detaches from all others.
    pub async fn attach_all(&mut self) -> Result<(), AttachError> {
        let present = self.network.interfaces().await?;
        self.macs = macs(&present);
        self.present = known(&present);
        for place in 0..self.wanted.len() {
            if let Some(interface) = find(&present, &self.wanted[place].name) {
                let name = self.wanted[place].name.clone();
                let (was_watched, began) = (self.is_watched(interface.index), monotonic());
                self.wanted[place].state = self.attach(readable(interface, &present)?)?;
                let attached = monotonic();
                let before = match (self.replaced.contains(&interface.index), was_watched) {
                    (true, _) => Before::Replaced,
                    (false, true) => Before::TakenOff(attached.saturating_sub(began)),
                    (false, false) => Before::Nothing,
                };
                self.before.insert(name, (before, attached));
            }
        }
        // Of interfaces that have changed meanwhile.
        self.tried.clear();
        let links = self.links();
        if let Err(error) = self.pins.settle(&links) {
            tracing::warn!("objects that are no longer needed stay pinned: {error}");
        }
        // Only now the links of earlier agents have gone, beside which filters stay.
        egress::sweep(&self.network.interfaces().await?, &self.by_clsact(), &self.indices());
        Ok(())
    }

    /// The indices of the interfaces that have the egress program as a filter.
    fn by_clsact(&self) -> BTreeSet<u32> {
        let index = |wanted: &Wanted| match &wanted.state {
            State::Attached { index, egress: Some(EgressLink::Clsact(_)), .. } => Some(*index),
            State::Attached { .. } | State::Lost { .. } => None,
        };
        self.wanted.iter().filter_map(index).collect()
    }

    /// The directory of the pinned program and maps, if they stay when the agent ends.
    pub fn persists_at(&self) -> Option<&Path> {
        self.pins.root()
    }

    fn links(&self) -> BTreeSet<(LinkKind, u32)> {
        let mut links = BTreeSet::new();
        for wanted in &self.wanted {
            if let State::Attached { index, egress, link, .. } = &wanted.state {
                let kind = match link {
                    Incoming::Xdp(_) => LinkKind::Xdp,
                    Incoming::Tc(_) => LinkKind::Ingress,
                };
                links.insert((kind, *index));
                let has_link = matches!(egress, Some(EgressLink::Tcx(_)));
                links.extend(has_link.then_some((LinkKind::Egress, *index)));
            }
        }
        links
    }

    /// What is waited for, if there is something.
    pub fn waiting(&self) -> Option<Waiting> {
        let lost = self.states().filter(|(_, mode)| mode.is_none());
        let names: Vec<_> = lost.map(|(name, _)| name.to_owned()).collect();
        let is_waiting = self.wanted.is_empty() || !names.is_empty();
        is_waiting.then(|| Waiting { names, present: self.present.clone() })
    }

    /// Every wanted interface, with the mode of its attachment if it has one.
    pub fn states(&self) -> impl Iterator<Item = (&str, Option<AttachedMode>)> {
        self.wanted.iter().map(|wanted| {
            let mode = match wanted.state {
                State::Attached { mode, .. } => Some(mode),
                State::Lost { .. } => None,
            };
            (wanted.name.as_str(), mode)
        })
    }

    /// Why interfaces are not watched in native mode, by their names, where `auto` has chosen.
    pub fn fallbacks(&self) -> &BTreeMap<String, String> {
        &self.fallbacks
    }

    /// The program that watched each interface that was there at the start, by its name, and when ours was attached
    /// there, by the monotonic clock.
    pub fn before(&self) -> &BTreeMap<String, (Before, Duration)> {
        &self.before
    }

    /// Whether an earlier agent left its program for incoming packets attached to an interface.
    fn is_watched(&self, index: u32) -> bool {
        let is_there = |kind| self.pins.find(kind, index).is_ok_and(|found| found.is_some());
        [LinkKind::Xdp, LinkKind::Ingress].into_iter().any(is_there)
    }

    /// The indices of the interfaces that the program is attached to.
    pub fn indices(&self) -> BTreeSet<u32> {
        let index = |wanted: &Wanted| match wanted.state {
            State::Attached { index, .. } => Some(index),
            State::Lost { .. } => None,
        };
        self.wanted.iter().filter_map(index).collect()
    }

    /// The MAC addresses of the interfaces that the program is attached to, by their numbers.
    pub fn macs(&self) -> BTreeMap<u32, [u8; 6]> {
        self.indices().into_iter().filter_map(|index| Some((index, *self.macs.get(&index)?))).collect()
    }

    /// Every wanted interface, and how the egress program is attached to it, if it is.
    pub fn egress_states(&self) -> impl Iterator<Item = (&str, Option<Way>)> {
        self.wanted.iter().map(|wanted| {
            let way = match &wanted.state {
                State::Attached { egress, .. } => egress.as_ref().map(EgressLink::way),
                State::Lost { .. } => None,
            };
            (wanted.name.as_str(), way)
        })
    }

    /// Whether the egress program sees all that leaves by the interfaces at which the program is. By others nothing comes.
    pub fn sees_leaving(&self) -> bool {
        self.wanted.iter().all(|wanted| !matches!(wanted.state, State::Attached { egress: None, .. }))
    }

    /// Looks for interfaces that have gone, or that are there now, and attaches to the latter. Does the same for the egress
    /// program where it was removed or could not be attached before. If no interface is named, the first default route
    /// names one.
    ///
    /// # Errors
    /// The interfaces could not be listed; nothing was changed.
    pub async fn supervise(&mut self) -> Result<Vec<(String, Change)>, AttachError> {
        let present = self.network.interfaces().await?;
        self.macs = macs(&present);
        self.present = known(&present);
        if self.wanted.is_empty() {
            let name = default_interface(&self.network, &present).await?;
            self.wanted.extend(name.map(|name| Wanted { name, state: State::Lost { reported: false } }));
        }
        let mut changes = Vec::new();
        for place in 0..self.wanted.len() {
            let name = self.wanted[place].name.clone();
            let interface = present.iter().find(|interface| interface.name == name);
            if let State::Attached { index, link, .. } = &self.wanted[place].state
                && let index = *index
                && let Some(change) = loss(index, link, &self.program_ids, interface, &present)
            {
                let lost = State::Lost { reported: false };
                // By its descriptor: the process may open no pin any more.
                if let State::Attached { egress: Some(egress), .. } =
                    std::mem::replace(&mut self.wanted[place].state, lost)
                    && let Err(error) = egress.detach()
                {
                    tracing::debug!("{name}: BPF_LINK_DETACH: {error}");
                }
                for kind in LinkKind::ALL {
                    self.pins.forget(kind, index);
                }
                changes.push((name.clone(), change));
            }
            let Some(interface) = interface else { continue };
            let reported = match self.wanted[place].state {
                State::Lost { reported } => reported,
                State::Attached { .. } => {
                    let of_egress = self.supervise_egress(place, interface);
                    changes.extend(of_egress.into_iter().map(|change| (name.clone(), change)));
                    continue;
                }
            };
            let attached = readable(interface, &present).and_then(|interface| self.attach(interface));
            match attached {
                Ok(state) => {
                    if let State::Attached { mode, .. } = state {
                        changes.push((name, Change::Returned(mode)));
                    }
                    self.wanted[place].state = state;
                }
                Err(error) => {
                    self.wanted[place].state = State::Lost { reported: true };
                    if !reported {
                        changes.push((name, Change::Failed(error)));
                    }
                }
            }
        }
        Ok(changes)
    }

    /// Attaches the egress program to an interface, if it is wanted there and not attached.
    fn supervise_egress(&mut self, place: usize, interface: &Interface) -> Vec<Change> {
        let (State::Attached { egress, .. }, Some(attacher)) =
            (&mut self.wanted[place].state, &mut self.egress)
        else {
            return Vec::new();
        };
        let was_detached = egress.take_if(|link| attacher.is_off(link, interface)).is_some();
        if egress.is_some() {
            return Vec::new();
        }
        if was_detached {
            self.pins.forget(LinkKind::Egress, interface.index);
        }
        let attached = attacher.attach(&mut self.ebpf, &self.pins, interface);
        let outcome = match attached {
            Ok(link) => {
                if let State::Attached { egress, .. } = &mut self.wanted[place].state {
                    *egress = Some(link);
                }
                Some(Change::EgressReturned)
            }
            // Otherwise this was reported before.
            Err(error) => was_detached.then_some(Change::EgressFailed(error)),
        };
        was_detached.then_some(Change::EgressDetached).into_iter().chain(outcome).collect()
    }

    fn attach(&mut self, interface: &Interface) -> Result<State, AttachError> {
        let modes: &[AttachedMode] = match self.mode {
            Mode::Tc => return self.attach_by_tc(interface),
            // No driver runs programs on packets without a link header.
            _ if interface.framing == Framing::Bare => &[AttachedMode::Generic],
            Mode::Native => &[AttachedMode::Native],
            Mode::Generic => &[AttachedMode::Generic],
            Mode::Auto => &[AttachedMode::Native, AttachedMode::Generic],
        };
        if let Some(link) = self.tried.remove(&interface.index) {
            return self.follow(interface, link);
        }
        let Some(id) = interface.xdp_program else {
            return self.attach_first(interface, modes);
        };
        let found = self.pins.find(LinkKind::Xdp, interface.index).map_err(pins_error(interface))?;
        let Some((link, _)) = found.filter(|(_, program)| *program == id) else {
            return Err(AttachError::Busy { name: interface.name.clone(), owner: Owner::of(id, interface) });
        };
        let mode = if interface.xdp_generic { AttachedMode::Generic } else { AttachedMode::Native };
        if modes.contains(&mode) {
            return self.take_over(interface, mode, link);
        }
        tracing::warn!(
            interface = interface.name,
            "was attached in {mode} mode, which is not the one wanted: attaching anew, packets pass in between"
        );
        drop(link);
        self.pins.forget(LinkKind::Xdp, interface.index);
        self.attach_first(interface, modes).inspect_err(|_| {
            // This is better than nothing until somebody has read the error.
            if self.attach_first(interface, &[mode]).is_ok() {
                tracing::warn!(interface = interface.name, "attached in {mode} mode again, and left so");
            }
        })
    }

    /// Attaches the program of tc, or puts it in place of that of an earlier agent. Programs of XDP may be there: they see
    /// packets before.
    fn attach_by_tc(&mut self, interface: &Interface) -> Result<State, AttachError> {
        let index = interface.index;
        let failed = |reason: String| AttachError::NoTc { name: interface.name.clone(), reason };
        if interface.framing == Framing::Bare {
            return Err(failed("its packets have no Ethernet header".to_owned()));
        }
        // One of XDP would count what this one counts.
        self.pins.forget(LinkKind::Xdp, index);
        let found = self.pins.find(LinkKind::Ingress, index).map_err(pins_error(interface))?;
        let program = self.ebpf.program_mut(abi::TC_PROGRAM).and_then(|program| program.try_into().ok());
        let program: &mut SchedClassifier =
            program.ok_or_else(|| failed("the program is not in the object".to_owned()))?;
        let link = match found {
            Some((link, _)) => {
                let link = tcx::replace(program, link).map_err(failed)?;
                self.took_over(interface);
                link
            }
            None => {
                let link = tcx::attach(program, &interface.name, TcAttachType::Ingress)
                    .map_err(|reason| failed(format!("{reason} (by tcx, which needs Linux 6.6)")))?;
                self.pins.pin(LinkKind::Ingress, index, link).map_err(pins_error(interface))?
            }
        };
        let link = TcxLink::new(link).map_err(|error| failed(error.to_string()))?;
        // The kernel attaches by name, and names change.
        if link.interface().map_err(|error| failed(error.to_string()))? != index {
            self.pins.forget(LinkKind::Ingress, index);
            return Err(failed("another interface has its name now".to_owned()));
        }
        let egress = self.attach_egress(interface);
        Ok(State::Attached { index, mode: AttachedMode::Tc, link: Incoming::Tc(link), egress })
    }

    /// Puts this program into the link by which native mode was tried.
    fn follow(&mut self, interface: &Interface, link: FdLink) -> Result<State, AttachError> {
        let (index, mode) = (interface.index, AttachedMode::Native);
        let refused = |reason| AttachError::Refused { name: interface.name.clone(), mode, reason };
        let link = self.replace(interface, link).map_err(refused)?;
        let link = self.pins.pin(LinkKind::Xdp, index, link).map_err(pins_error(interface))?;
        let egress = self.attach_egress(interface);
        Ok(State::Attached { index, mode, link: Incoming::Xdp(link), egress })
    }

    /// Puts this program into a pinned link, in place of the one in it.
    fn take_over(
        &mut self,
        interface: &Interface,
        mode: AttachedMode,
        link: FdLink,
    ) -> Result<State, AttachError> {
        let replaced = self.replace(interface, link).map_err(|reason| AttachError::Refused {
            name: interface.name.clone(),
            mode,
            reason: format!(
                "the program in the pinned link cannot be replaced, and goes on; `scanguard detach` ends it: {reason}"
            ),
        });
        let link = replaced?;
        let egress = self.attach_egress(interface);
        self.took_over(interface);
        Ok(State::Attached { index: interface.index, mode, link: Incoming::Xdp(link), egress })
    }

    /// Attaches in the first mode that works.
    fn attach_first(&mut self, interface: &Interface, modes: &[AttachedMode]) -> Result<State, AttachError> {
        let mut refusal = None;
        for &mode in modes {
            match self.attach_in(interface, mode) {
                Ok(link) => {
                    let link =
                        self.pins.pin(LinkKind::Xdp, interface.index, link).map_err(pins_error(interface))?;
                    if mode == AttachedMode::Native {
                        self.fallbacks.remove(&interface.name);
                    }
                    let egress = self.attach_egress(interface);
                    return Ok(State::Attached {
                        index: interface.index,
                        mode,
                        link: Incoming::Xdp(link),
                        egress,
                    });
                }
                Err(mut reason) => {
                    if mode == AttachedMode::Native {
                        reason = explained(interface, &reason);
                    }
                    if matches!((self.mode, mode), (Mode::Auto, AttachedMode::Native))
                        && !self.fallbacks.contains_key(&interface.name)
                    {
                        let why = format!("no native mode: {reason}; tc is tried at the start only");
                        tracing::warn!(
                            interface = interface.name,
                            "{why}; trying generic mode, which costs more per packet"
                        );
                        self.fallbacks.insert(interface.name.clone(), why);
                    }
                    refusal = Some(match mode {
                        AttachedMode::Native => {
                            AttachError::NoNative { name: interface.name.clone(), mtu: interface.mtu, reason }
                        }
                        AttachedMode::Generic | AttachedMode::Tc => {
                            AttachError::Refused { name: interface.name.clone(), mode, reason }
                        }
                    });
                }
            }
        }
        Err(refusal.unwrap_or_else(|| AttachError::Refused {
            name: interface.name.clone(),
            mode: AttachedMode::Native,
            reason: "no mode to try".to_owned(),
        }))
    }

    fn took_over(&mut self, interface: &Interface) {
        tracing::info!(interface = interface.name, "took over from the agent before");
        self.replaced.insert(interface.index);
    }

    fn attach_egress(&mut self, interface: &Interface) -> Option<EgressLink> {
        let attached = self.egress.as_mut()?.attach(&mut self.ebpf, &self.pins, interface);
        attached
            .inspect_err(|error| tracing::warn!(interface = interface.name, "{error}; {}", egress::LOSS))
            .ok()
    }

    fn program(&mut self, interface: &Interface) -> Result<&mut Xdp, String> {
        let name = match interface.framing {
            Framing::Bare if !self.reads_bare => {
                return Err(
                    "its packets have no link header, which no interface had at the start: the program for \
                            that is loaded at the start only, so restart the agent"
                        .to_owned(),
                );
            }
            Framing::Bare => abi::BARE_PROGRAM,
            Framing::Ethernet | Framing::Unread(_) => abi::PROGRAM,
        };
        let program = self.ebpf.program_mut(name).ok_or("the program is not in the object")?;
        program.try_into().map_err(|error| words(&error))
    }

    fn replace(&mut self, interface: &Interface, link: FdLink) -> Result<FdLink, String> {
        let link = XdpLink::try_from(link).map_err(|error| error.to_string())?;
        let program = self.program(interface)?;
        let id = program.attach_to_link(link).map_err(|error| words(&error))?;
        let link = program.take_link(id).map_err(|error| words(&error))?;
        FdLink::try_from(link).map_err(|error| error.to_string())
    }

    fn attach_in(&mut self, interface: &Interface, mode: AttachedMode) -> Result<FdLink, String> {
        let xdp = match mode {
            AttachedMode::Native => XdpMode::Driver,
            AttachedMode::Generic => XdpMode::Skb,
            AttachedMode::Tc => return Err("tc has a program of its own".to_owned()),
        };
        let program = self.program(interface)?;
        let id = program.attach_to_if_index(interface.index, xdp).map_err(|error| words(&error))?;
        let link: XdpLink = program.take_link(id).map_err(|error| words(&error))?;
        // Kernels before 5.9 have no XDP links. There aya attaches in the old way, which outlives a killed agent.
        // Turning that into a link fails and detaches it.
        FdLink::try_from(link).map_err(|_| "the kernel has no XDP links (Linux 5.9)".to_owned())
    }
}

/// The way in which the program left an interface; none if it is still there.
fn loss(
    index: u32,
    link: &Incoming,
    program_ids: &[u32],
    interface: Option<&Interface>,
    present: &[Interface],
) -> Option<Change> {
    match interface {
        Some(interface) if interface.index == index => {
            let is_there = match link {
                Incoming::Xdp(_) => interface.xdp_program.is_some_and(|id| program_ids.contains(&id)),
                // If the kernel does not answer, it is.
                Incoming::Tc(link) => !link.interface().is_ok_and(|attached| attached != index),
            };
            (!is_there).then_some(Change::Detached)
        }
        _ => {
            let renamed = present.iter().find(|interface| interface.index == index);
            Some(renamed.map_or(Change::Lost, |interface| Change::Renamed(interface.name.clone())))
        }
    }
}

fn program_ids(ebpf: &Ebpf, names: &[&str]) -> Result<Vec<u32>, ProgramError> {
    let id = |name: &&str| {
        let program: &Xdp = ebpf.program(name).ok_or(ProgramError::NotLoaded)?.try_into()?;
        Ok(program.info()?.id())
    };
    names.iter().map(id).collect()
}

fn pins_error(interface: &Interface) -> impl FnOnce(PinsError) -> AttachError {
    let name = interface.name.clone();
    move |error| AttachError::Pins { name, error }
}

fn macs(present: &[Interface]) -> BTreeMap<u32, [u8; 6]> {
    // What comes by a link without a header is for this host.
    let mac = |interface: &Interface| match interface.framing {
        Framing::Bare => Some([0; 6]),
        Framing::Ethernet | Framing::Unread(_) => interface.mac,
    };
    present.iter().filter_map(|interface| Some((interface.index, mac(interface)?))).collect()
}

/// An interface whose packets the program can read.
fn readable<'p>(interface: &'p Interface, present: &[Interface]) -> Result<&'p Interface, AttachError> {
    let Framing::Unread(link_type) = interface.framing else {
        return Ok(interface);
    };
    let others = present.iter().filter(|other| {
        other.name != interface.name && other.name != "lo" && !matches!(other.framing, Framing::Unread(_))
    });
    let instead = others.map(|other| other.name.clone()).collect();
    Err(AttachError::Framing { name: interface.name.clone(), link_type, instead })
}

fn find<'p>(present: &'p [Interface], name: &str) -> Option<&'p Interface> {
    present.iter().find(|interface| interface.name == name)
}

fn known(present: &[Interface]) -> Vec<String> {
    present.iter().map(|interface| interface.name.clone()).collect()
}
