//! The maps of bans, shields and allowed networks, and the look-up before a drop. `scanguard_common::ban` and
//! `scanguard_common::shield` decide which packets of such a source are dropped.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    btf_maps::{HashMap, LpmTrie},
    macros::btf_map,
};
use scanguard_common::{
    abi::{
        Ban, Control, DEFAULT_MAX_BANS, GATE_DRY_RUN, GATE_ENFORCE, GATE_OFF, MAX_ALLOWED,
        MAX_BANNED_NETWORKS, MAX_SHIELDS,
    },
    address::Address,
    ban, classify,
    oracle::Oracle as _,
    outcome::{Exit, Flow, SegmentKind},
    shield,
};

use crate::{
    argument::{Given, Place, give, given},
    clock, config, deep,
    incoming::{self, Context, Raw},
    lpm::AddressKey,
    oracle::Kernel,
    packet_kind::PacketKind,
    tally,
};

/// Memory is taken when a ban is made.
const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
static BANS: HashMap<Address, Ban, { DEFAULT_MAX_BANS as usize }, ON_DEMAND> = HashMap::new();

#[btf_map]
static BANNED_NETWORKS: LpmTrie<Address, Ban, { MAX_BANNED_NETWORKS as usize }> = LpmTrie::new();

#[btf_map]
static SHIELDS: HashMap<Address, Ban, { MAX_SHIELDS as usize }, ON_DEMAND> = HashMap::new();

#[btf_map]
static SHIELDED_NETWORKS: LpmTrie<Address, Ban, { MAX_SHIELDS as usize }> = LpmTrie::new();

#[btf_map]
static ALLOWED: LpmTrie<Address, u32, { MAX_ALLOWED as usize }> = LpmTrie::new();

/// Whether there is any ban.
#[inline(always)]
pub(crate) fn is_armed(control: &Control) -> bool {
    control.gate != GATE_OFF && control.bans | control.banned_networks != 0
}

/// Whether a packet of this source is dropped, unless `passes` returns true.
#[inline(always)]
fn drops(control: &Control, source: Address, passes: impl FnOnce() -> bool) -> bool {
    if !is_armed(control) {
        return false;
    }
    let Some(ban) = exact(control, source).or_else(|| network(control, source)) else {
        return false;
    };
    !passes() && applies(control, ban)
}

/// Counts a packet for a ban or shield. Returns whether it is dropped.
#[inline(always)]
fn applies(control: &Control, ban: *mut Ban) -> bool {
    // SAFETY: a value of a map, aligned, valid while the program runs. All CPUs change it by plain writes.
    let enforced = unsafe {
        (&raw mut (*ban).dropped).write((&raw const (*ban).dropped).read().wrapping_add(1));
        (&raw mut (*ban).last).write(clock::jiffies());
        (&raw const (*ban).mode).read() == GATE_ENFORCE
    };
    if enforced && control.gate == GATE_ENFORCE {
        return true;
    }
    tally::count_would_drop();
    false
}

/// The ban of exactly this source, if it is in force.
#[inline(always)]
fn exact(control: &Control, source: Address) -> Option<*mut Ban> {
    if control.bans == 0 {
        return None;
    }
    standing(control, source, BANS.get_ptr_mut(config::masked(source))?)
}

/// The shield against exactly this source, if it is in force.
#[inline(always)]
fn shield_of(control: &Control, source: Address) -> Option<*mut Ban> {
    if control.gate == GATE_OFF || control.shields == 0 {
        return None;
    }
    standing(control, source, SHIELDS.get_ptr_mut(config::masked(source))?)
}

/// The shield against a network around this source, if it is in force.
#[inline(always)]
fn shielded_network(control: &Control, source: Address) -> Option<*mut Ban> {
    if control.gate == GATE_OFF || control.shielded_networks == 0 {
        return None;
    }
    around(control, source, |address| SHIELDED_NETWORKS.get(AddressKey::new(address).key()))
}

/// The shield against this source or a network around it.
#[inline(always)]
fn shield_around(control: &Control, source: Address) -> Option<*mut Ban> {
    shield_of(control, source).or_else(|| shielded_network(control, source))
}

/// This ban or shield, if it is in force and the source is not allowed.
#[inline(always)]
fn standing(control: &Control, source: Address, ban: *mut Ban) -> Option<*mut Ban> {
    // SAFETY: as in `drops`.
    let (counts, cleared) = unsafe { (counts(ban), (&raw const (*ban).cleared).read()) };
    if !counts {
        return None;
    }
    // An exact ban of an IPv6 source is the ban of a network. A part of that network may be allowed.
    let is_one_address = source.v4().is_some();
    if is_one_address && cleared == control.allowed_version {
        return Some(ban);
    }
    if is_allowed(control, source) {
        return None;
    }
    if is_one_address {
        // SAFETY: as in `drops`.
        unsafe { (&raw mut (*ban).cleared).write(control.allowed_version) };
    }
    Some(ban)
}

/// The ban of a network around this source, if it is in force.
#[inline(always)]
fn network(control: &Control, source: Address) -> Option<*mut Ban> {
    if control.banned_networks == 0 {
        return None;
    }
    around(control, source, |address| BANNED_NETWORKS.get(AddressKey::new(address).key()))
}

/// The ban or shield of a network around this source, or around the IPv4 address that is embedded in it, if it is in
/// force.
#[inline(always)]
fn around<'b>(
    control: &Control,
    source: Address,
    get: impl Fn(Address) -> Option<&'b Ban>,
) -> Option<*mut Ban> {
    let ban = match current(get(source)) {
        Some(ban) => ban,
        None => current(get(config::behind_translator(control, source)?))?,
    };
    if is_allowed(control, source) { None } else { Some(ban) }
}

/// This ban or shield of a network, if it has not ended.
#[inline(always)]
fn current(ban: Option<&Ban>) -> Option<*mut Ban> {
    let ban = core::ptr::from_ref(ban?).cast_mut();
    // SAFETY: as in `drops`.
    unsafe { counts(ban) }.then_some(ban)
}

/// Whether a ban or shield has a known mode and has not ended.
#[inline(always)]
unsafe fn counts(ban: *const Ban) -> bool {
    // SAFETY: as in `drops`.
    unsafe {
        let mode = (&raw const (*ban).mode).read();
        matches!(mode, GATE_DRY_RUN | GATE_ENFORCE) && (&raw const (*ban).expires).read() > clock::jiffies()
    }
}

/// Whether a source is never dropped.
#[inline(always)]
pub(crate) fn is_allowed(control: &Control, source: Address) -> bool {
    let lists = |address| ALLOWED.get(AddressKey::new(address).key()).is_some();
    let allowed = lists(source) || config::behind_translator(control, source).is_some_and(lists);
    if allowed {
        tally::count_spared();
    }
    allowed
}

/// Whether a probe that meets nobody is dropped because its source is shielded.
#[inline(always)]
pub(crate) fn is_shielded(control: &Control, source: Address) -> bool {
    shield_around(control, source).is_some_and(|shield| applies(control, shield))
}

/// The same for a packet that leaves as ordinary by this exit. The sockets are asked only if its source is shielded.
#[inline(always)]
pub(crate) fn answers_nobody(control: &Control, kernel: &Kernel<'_>, exit: Exit, flow: &Flow) -> bool {
    if !matches!(exit, Exit::UdpReply) {
        return false;
    }
    let Some(standing) = shield_around(control, flow.source) else {
        return false;
    };
    shield::answers_nobody(exit, kernel.unwanted(flow)) && applies(control, standing)
}

/// Whether a probe is dropped.
#[inline(always)]
pub(crate) fn drops_probe(control: &Control, source: Address) -> bool {
    drops(control, source, || false)
}

/// Whether a probe or segment is dropped.
#[inline(always)]
pub(crate) fn drops_any(ctx: &Context, packet: PacketKind, flow: &Flow) -> bool {
    scanguard_gate(incoming::raw(ctx), packet.word(), give(Place::Flow, flow)) != 0
}

/// A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_gate(ctx: *mut Raw, packet: u32, flow: Given<Flow>) -> u32 {
    let (Some(flow), Some(control)) = (given::<Flow>(flow), config::control()) else {
        return 0;
    };
    let drops = match PacketKind::from_word(packet) {
        PacketKind::Segment(kind) => drops_segment(control, &Kernel::new(ctx, control), kind, flow),
        PacketKind::Probe(_) => drops_probe(control, flow.source),
        PacketKind::Exit(_) => false,
    };
    drops.into()
}

/// Whether a segment or datagram is dropped.
#[inline(always)]
fn drops_segment(control: &Control, kernel: &Kernel<'_>, kind: SegmentKind, flow: &Flow) -> bool {
    drops(control, flow.source, || control.drop_all == 0 && ban::passes(kernel, kind, flow))
}

/// Whether a segment is dropped that the early decision took for one of a connection.
#[inline(always)]
pub(crate) fn drops_early(ctx: &Context) -> bool {
    scanguard_gate_early(incoming::raw(ctx)) != 0
}

/// A global function, for the reason that [`crate::judge`] gives.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_gate_early(ctx: *mut Raw) -> u32 {
    let (Some(control), Some(flow)) = (config::control(), classify::early_flow(&incoming::packet(ctx)))
    else {
        return 0;
    };
    u32::from(drops_segment(control, &Kernel::new(ctx, control), SegmentKind::Acknowledgment, &flow))
}

/// Whether a packet is dropped that begins nothing. It is dropped only if all packets of its source are, or if it
/// cannot be read, since anything may be in it.
#[inline(always)]
pub(crate) fn drops_other(ctx: &Context, control: &Control, exit: Exit) -> bool {
    (control.drop_all != 0 || matches!(exit, Exit::TruncatedIp)) && drops_unread(ctx)
}

/// Whether a packet is dropped of which the program knows only that its headers lie deep.
#[inline(always)]
pub(crate) fn drops_unread(ctx: &Context) -> bool {
    scanguard_gate_other(incoming::raw(ctx)) != 0
}

/// As above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_gate_other(ctx: *mut Raw) -> u32 {
    let (Some(control), Some(source)) = (config::control(), deep::source(ctx)) else {
        return 0;
    };
    drops(control, source, || ban::is_discovery(&incoming::packet(ctx))).into()
}
