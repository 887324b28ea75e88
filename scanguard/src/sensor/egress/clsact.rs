//! Attaches the egress program as a filter of tc, where there is no tcx. A filter belongs to the interface, not to a
//! process. So an agent may find filters that an earlier one left behind: it puts its program into one of them, and
//! removes the others.
//!
//! Filters of others are never replaced or removed. Ours go by their name, which also says whether the agent gave the
//! interface its clsact: such a clsact is removed with the filter, if nothing else is in it.

use std::{collections::BTreeSet, io, os::fd::BorrowedFd};

use aya::programs::{ProgramError, SchedClassifier, TcAttachType, loaded_programs};
use scanguard_common::abi;

use crate::network::{
    Interface,
    filters::{Filter, Filters, Place, Side, free_place},
};

/// The name of our filters at a clsact that was there before.
const NAME: &str = "scanguard_egress";
/// The name of our filters at a clsact that the agent made.
const NAME_AT_OWN_CLSACT: &str = "scanguard_egress+clsact";

/// The first handle that is tried. Those who choose handles themselves begin at 1, and may replace whatever has theirs.
const HANDLE: u32 = 0x5ca9;

/// A filter that was put at an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
pub(super) struct Put {
    /// Whether filters of others come first. These may decide about packets that ours then does not see.
    pub(super) is_behind: bool,
}

/// Puts a program at what leaves by an interface: into the filter that an earlier agent left there, or else into a new
/// one.
///
/// # Errors
/// The kernel refuses. Nothing was changed then.
pub(super) fn put(filters: &mut Filters, interface: u32, program: BorrowedFd<'_>) -> io::Result<Put> {
    let made = filters.add_clsact(interface)?;
    let put = put_in(filters, interface, program, made);
    if put.is_err() && made {
        // It has just been made. The first error is the one to tell.
        let _ = remove_if_empty(filters, interface);
    }
    put
}

fn put_in(filters: &mut Filters, interface: u32, program: BorrowedFd<'_>, made: bool) -> io::Result<Put> {
    let present = filters.list(interface, Side::Egress)?;
    let mut ours = present.iter().filter_map(|filter| Some((filter.place, own_name(filter)?)));
    let place = match ours.next() {
        Some((place, name)) => {
            filters.replace(interface, place, name, program)?;
            for (place, _) in ours {
                filters.remove(interface, place)?;
            }
            place
        }
        None => {
            let place =
                free_place(&present, HANDLE).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOSPC))?;
            filters.add(interface, place, if made { NAME_AT_OWN_CLSACT } else { NAME }, program)?;
            place
        }
    };
    Ok(Put { is_behind: is_behind(&present, place) })
}

fn is_behind(present: &[Filter], place: Place) -> bool {
    present.iter().any(|filter| filter.place.priority < place.priority)
}

/// Whether this program is at what leaves by an interface. Others may come before it.
///
/// # Errors
/// The kernel does not say.
pub(super) fn is_there(filters: &mut Filters, interface: u32, program: u32) -> io::Result<bool> {
    let present = filters.list(interface, Side::Egress)?;
    Ok(present.iter().any(|filter| own_name(filter).is_some() && filter.program == Some(program)))
}

/// Takes our filters off an interface, and its clsact, if an agent made it and nothing else is in it. Returns how many
/// filters there were.
///
/// # Errors
/// The kernel refuses.
pub(super) fn take(filters: &mut Filters, interface: u32) -> io::Result<usize> {
    let present = filters.list(interface, Side::Egress)?;
    let ours: Vec<_> = present.iter().filter_map(|filter| Some((filter.place, own_name(filter)?))).collect();
    for (place, _) in &ours {
        filters.remove(interface, *place)?;
    }
    if ours.iter().any(|(_, name)| *name == NAME_AT_OWN_CLSACT) {
        remove_if_empty(filters, interface)?;
    }
    Ok(ours.len())
}

fn remove_if_empty(filters: &mut Filters, interface: u32) -> io::Result<()> {
    for side in [Side::Ingress, Side::Egress] {
        if !filters.list(interface, side)?.is_empty() {
            return Ok(());
        }
    }
    filters.remove_clsact(interface)
}

/// Takes filters off all interfaces where a dead agent left them. Those of running agents stay: they have an XDP program
/// beside them. So do those at the interfaces `kept`; `own` are the other interfaces of this agent. Returns the names of
/// the interfaces where something was removed.
pub fn sweep(present: &[Interface], kept: &BTreeSet<u32>, own: &BTreeSet<u32>) -> Vec<String> {
    let mut filters = match Filters::open() {
        Ok(filters) => filters,
        Err(error) => {
            tracing::warn!("filters of earlier agents are not looked for: {error}");
            return Vec::new();
        }
    };
    let mut swept = Vec::new();
    for interface in present.iter().filter(|interface| !kept.contains(&interface.index)) {
        // Most interfaces have none, and then nothing else has to be asked.
        let has_ours = |filters: &[Filter]| filters.iter().any(|filter| own_name(filter).is_some());
        if !filters.list(interface.index, Side::Egress).is_ok_and(|filters| has_ours(&filters)) {
            continue;
        }
        if !own.contains(&interface.index) && may_be_watched(interface) {
            continue;
        }
        match take(&mut filters, interface.index) {
            Ok(_) => swept.push(interface.name.clone()),
            Err(error) => tracing::warn!(
                interface = interface.name,
                "a filter of an earlier agent stays (`tc filter show dev {} egress` shows it): {error}",
                interface.name
            ),
        }
    }
    swept
}

/// Whether a running agent may watch an interface, by XDP or by tc.
fn may_be_watched(interface: &Interface) -> bool {
    interface.xdp_program.is_some_and(may_be_an_agents) || may_be_watched_by_tc(&interface.name)
}

/// As above, for the links of tcx. A kernel without these says so.
fn may_be_watched_by_tc(interface: &str) -> bool {
    match SchedClassifier::query_tcx(interface, TcAttachType::Ingress) {
        Ok((_, programs)) => {
            programs.iter().any(|program| program.name_as_str().is_none_or(|name| name == abi::TC_PROGRAM))
        }
        Err(ProgramError::SyscallError(error)) => error.io_error.kind() == io::ErrorKind::PermissionDenied,
        Err(_) => false,
    }
}

/// Whether an XDP program may be that of a running agent. The kernel tells names only to processes with CAP_SYS_ADMIN.
fn may_be_an_agents(id: u32) -> bool {
    let found = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id);
    let name = found.as_ref().and_then(|program| program.name_as_str());
    name.is_none_or(|name| [abi::PROGRAM, abi::BARE_PROGRAM].contains(&name))
}

/// The name of a filter, if it is one of ours.
fn own_name(filter: &Filter) -> Option<&'static str> {
    let name = filter.name.as_deref()?;
    [NAME, NAME_AT_OWN_CLSACT].into_iter().find(|own| *own == name)
}

/// Whether this kernel can attach filters with programs: tries it, in a network namespace of its own, which goes away
/// afterwards.
///
/// # Errors
/// It cannot; or, for who may not make such a namespace, nobody can tell.
pub(super) fn is_supported(program: BorrowedFd<'_>) -> Result<(), String> {
    /// `LOOPBACK_IFINDEX`, include/net/flow.h: every namespace has it.
    const LOOPBACK: u32 = 1;
    let tried = std::thread::scope(|scope| {
        let attempt = || {
            // SAFETY: no memory; it changes the namespace of this thread only, which ends with the attempt.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                let error = io::Error::last_os_error();
                return Err(format!("it cannot be tried: no network namespace: {error}"));
            }
            let put = Filters::open().and_then(|mut filters| put(&mut filters, LOOPBACK, program));
            put.map(drop).map_err(|error| format!("no clsact with programs (sch_ingress, cls_bpf): {error}"))
        };
        scope.spawn(attempt).join()
    });
    tried.unwrap_or_else(|_| Err("the attempt ended early".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(name: Option<&str>, priority: u16) -> Filter {
        Filter {
            place: Place { priority, handle: 1 },
            protocol: 3,
            kind: "bpf".to_owned(),
            name: name.map(str::to_owned),
            program: Some(1),
        }
    }

    #[test]
    fn only_filters_with_our_very_name_are_ours() {
        for own in [NAME, NAME_AT_OWN_CLSACT] {
            assert_eq!(own_name(&filter(Some(own), 1)), Some(own));
        }
        for other in [None, Some(""), Some("scanguard"), Some("scanguard_egress2")] {
            assert_eq!(own_name(&filter(other, 1)), None, "{other:?}");
        }
    }

    #[test]
    fn whoever_has_a_lower_priority_comes_first() {
        let present = [filter(Some("other"), 3)];
        assert!(!is_behind(&present, Place { priority: 3, handle: 2 }));
        assert!(is_behind(&present, Place { priority: 4, handle: 2 }));
    }
}
