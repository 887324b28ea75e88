//! The table of sources. `scanguard_common::account` has the state of one source and changes it.

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    btf_maps::{LruHashMap, PerCpuArray},
    helpers::bpf_ktime_get_ns,
    macros::btf_map,
};
use aya_log_ebpf::{debug, warn};
use scanguard_common::{
    abi::{Control, DEFAULT_MAX_SOURCES},
    account::{self, Around, SourceState},
    address::Address,
    oracle::Reach,
    outcome::{Answer, Exit, Flow, ProbeClass, Service},
    syn::Fingerprint,
};

use crate::{
    admission,
    argument::{Place, give},
    atomics::Shared,
    changes, config, epoch, hold, listeners,
    opaque::opaque,
    oracle::{Kernel, scanguard_is_bad_source},
    tally, wakeup,
};

/// When the table is full, the kernel evicts sources that sent no probes lately.
#[btf_map]
static SOURCES: LruHashMap<Address, SourceState, { DEFAULT_MAX_SOURCES as usize }> = LruHashMap::new();

/// Room to build the state of a new source, which is too large for the stack.
#[btf_map]
static FRESH: PerCpuArray<SourceState, 1> = PerCpuArray::new();

/// The log is a ring buffer and needs no context. The compiler would remove an unused argument, and the verifier would
/// refuse the result.
const NO_CONTEXT: &() = &();

/// Counts a probe for its source, and gives its exit. If the probe meets nobody (`holds`), its source may be held.
#[inline(always)]
pub(crate) fn count(
    control: &Control,
    kernel: &Kernel<'_>,
    class: usize,
    reach: Reach,
    flow: &Flow,
    holds: bool,
    fingerprint: Fingerprint,
) -> Exit {
    let source = config::source(flow.source);
    let epoch = epoch::running(control);
    let state = match SOURCES.get_ptr_mut(source) {
        Some(state) => {
            list_first(state, &source, epoch);
            state
        }
        None if !admission::admits(source, control) => {
            admission::note_turned_away(flow, epoch);
            return Exit::AtTheDoor;
        }
        // Asked once, when a source enters, not for each packet.
        // An embedded IPv4 address must be one that another host can have, too.
        None if kernel.is_bad_source(&flow.source)
            || !flow.source.is_v4() && source.is_v4() && kernel.is_bad_source(&source) =>
        {
            return Exit::BadSource;
        }
        None => match insert(&source, epoch) {
            Some(state) => state,
            None => return Exit::TableFull,
        },
    };
    let may_be_overheard = class == ProbeClass::Syn as usize && matches!(reach, Reach::Unknown);
    let around = Around {
        epoch,
        salt: config::salt(),
        sees_answers: control.sees_answers != 0,
        is_overheard: may_be_overheard && kernel.overhears(),
        is_new: false,
    };
    // SAFETY: a value of the map, aligned to 8 bytes, valid while the program runs; other CPUs
    // change it by the same operations.
    let novelties = unsafe {
        account::record::<Shared>(state, opaque(class), reach, flow, around, || {
            listeners::was_there(control, flow.service.port)
        })
    };
    if !fingerprint.is_none() {
        // SAFETY: as above.
        unsafe { account::record_fingerprint(state, fingerprint, reach) };
    }
    list_late(control, &source, epoch);
    if let Some(novelties) = novelties {
        wakeup::wake(control, source, novelties);
    }
    // SAFETY: a value of the table.
    if holds && unsafe { hold::drops(control, state, flow.source) } { Exit::Held } else { Exit::Probe }
}

/// Notes that a connection with a source was completed, and with which service of this host, if it was one. Does
/// nothing if the source is not in the table.
#[inline(always)]
pub(crate) fn completed(control: &Control, source: Address, service: Option<Service>) {
    let _is_known = change(control, source, Place::PeerSource, |state, epoch| {
        // SAFETY: as in `count`.
        unsafe { account::record_completed::<Shared>(state, service, epoch, config::salt()) };
    });
}

/// Notes that a service was there for a source after all, if the source is in the table.
#[inline(always)]
pub(crate) fn met(control: &Control, flow: &Flow) {
    let _is_known = change(control, flow.source, Place::Source, |state, epoch| {
        // SAFETY: as in `count`.
        unsafe { account::record_met::<Shared>(state, flow, epoch, config::salt()) };
    });
}

/// Notes that a connection has ended in which a source said nothing to a service, if the source is in the table.
#[inline(always)]
pub(crate) fn was_silent(control: &Control, source: Address, service: Service) {
    let _is_known = change(control, source, Place::PeerSource, |state, epoch| {
        // SAFETY: as in `count`.
        unsafe { account::record_silent::<Shared>(state, service, epoch, config::salt()) };
    });
}

/// Notes that a source aborted a handshake, if the source is in the table.
#[inline(always)]
pub(crate) fn aborted(control: &Control, flow: &Flow) {
    let novelties = change(control, flow.source, Place::Source, |state, epoch| {
        // SAFETY: as in `count`.
        unsafe { account::record_aborted::<Shared>(state, flow.service, epoch, config::salt()) }
    });
    if let Some(Some(novelties)) = novelties {
        wakeup::wake(control, config::source(flow.source), novelties);
    }
}

/// Notes an answer to a source. Returns whether the source is in the table.
#[inline(always)]
pub(crate) fn answered(control: &Control, answer: Answer, flow: &Flow) -> bool {
    let noted = change(control, flow.source, Place::Source, |state, epoch| {
        // SAFETY: as in `count`.
        unsafe { account::record_answer::<Shared>(state, answer, flow, epoch, config::salt()) };
    });
    noted.is_some()
}

/// Notes that this host refused a segment of no connection to a service that listens here.
#[inline(always)]
pub(crate) fn refused(control: &Control, flow: &Flow) {
    let source = config::source(flow.source);
    let epoch = epoch::running(control);
    let state = match SOURCES.get_ptr_mut(source) {
        Some(state) => {
            list_first(state, &source, epoch);
            state
        }
        None if !admission::admits(source, control)
            || scanguard_is_bad_source(give(Place::BadSource, &source)) != 0 =>
        {
            return;
        }
        None => match insert(&source, epoch) {
            Some(state) => state,
            None => return,
        },
    };
    // SAFETY: as in `count`.
    let novelties =
        unsafe { account::record_refused::<Shared>(state, flow.destination, epoch, config::salt()) };
    list_late(control, &source, epoch);
    if let Some(novelties) = novelties {
        wakeup::wake(control, source, novelties);
    }
}

/// Changes the state of a source in the running epoch, if the source is in the table.
#[inline(always)]
fn change<R>(
    control: &Control,
    source: Address,
    place: Place,
    record: impl FnOnce(*mut SourceState, u32) -> R,
) -> Option<R> {
    let source = config::source_at(source, place);
    let epoch = epoch::running(control);
    let state = SOURCES.get_ptr_mut(source)?;
    list_first(state, &source, epoch);
    let recorded = record(state, epoch);
    list_late(control, &source, epoch);
    Some(recorded)
}

/// Lists a source with the first thing that it does in an epoch. This comes before the counting: a reader that finds
/// it counted also finds the source listed. Several CPUs may list it at once.
#[inline(always)]
fn list_first(state: *const SourceState, source: &Address, epoch: u32) {
    // SAFETY: as in `count`.
    if unsafe { (&raw const (*state).epoch).read() } != epoch {
        changes::list(source);
    }
}

/// Lists a source once more if the epoch ended before everything was counted, because the agent may have read the
/// source by then. Locked additions keep the order of memory accesses on x86. Elsewhere a count may become visible a
/// moment after the epoch was read. That is far less time than the agent takes between ending an epoch and reading.
#[inline(always)]
fn list_late(control: &Control, source: &Address, epoch: u32) {
    if epoch::has_ended(control, epoch) {
        changes::list(source);
    }
}

/// The state of a source, for readers.
#[inline(always)]
pub(crate) fn of(source: &Address) -> Option<*mut SourceState> {
    SOURCES.get_ptr_mut(source)
}

#[inline(always)]
fn insert(source: &Address, epoch: u32) -> Option<*mut SourceState> {
    let fresh = FRESH.get_ptr_mut(0)?;
    // SAFETY: this CPU's entry of a map. Only these two fields of it are ever written, the rest stays 0.
    unsafe {
        (&raw mut (*fresh).born_ns).write(bpf_ktime_get_ns());
        (&raw mut (*fresh).epoch).write(epoch);
    }
    // SAFETY: as above; it is only read here. It is a reference, since the stack has no room for a copy.
    let fresh = unsafe { &*fresh };
    let inserted = SOURCES.insert(source, fresh, u64::from(BPF_NOEXIST));
    // If this failed, another CPU was faster, or the look-up below fails.
    if inserted.is_ok() {
        tally::count_insert();
        changes::list(source);
        debug!(NO_CONTEXT, "new source");
    }
    let state = SOURCES.get_ptr_mut(source);
    if state.is_none() {
        warn!(NO_CONTEXT, "no room for a source: its probes are counted by class only");
    }
    state
}
