//! Remembers the reach of probes to a service for the rest of the epoch, and for some seconds of the kernel's clock at
//! most. So the sockets are asked once in an epoch on each CPU, not once for a packet. Most SYNs go to few services.
//!
//! The next epoch sees a socket that came or went within this one: a service that has just started may count as closed
//! until then. A first answer is seen at once. When the agent is gone, no epoch ends for a while.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    macros::btf_map,
};
use scanguard_common::{
    abi::Control,
    account::Memory as _,
    epoch::MEMORY_SHIFT,
    flow::stir,
    oracle::{Oracle, Reach, Socket, without_socket},
    outcome::Flow,
};

use crate::{atomics::Shared, clock, config};

/// Number of places, 8 bytes each; a power of two. A service takes the place of another one with the same place.
const PLACES: usize = 4_096;
/// The bits of an entry with the [`Reach`]. The other bits are the tag of the service.
const REACH_BITS: u64 = 3;
/// 2^64 divided by the golden ratio, odd. It spreads the time over all bits of a tag. So no time with one version of
/// the remembered answers makes the tag of another time with another version (Knuth, The Art of Computer Programming,
/// 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

#[btf_map]
static MET: PerCpuArray<u64, PLACES> = PerCpuArray::new();

/// How often everything remembered was forgotten: once for each first answer.
#[btf_map]
static FORGOTTEN: Array<u32, 1> = Array::new();

/// Forgets everything remembered, on all CPUs.
#[inline(always)]
pub(crate) fn forget() {
    if let Some(times) = FORGOTTEN.get_ptr_mut(0) {
        // SAFETY: an aligned number in a map.
        unsafe { Shared::increment(times) };
    }
}

/// Whether no address and service without a socket here has ever answered. Then the program need not look them up. A
/// port scan would need most of these look-ups, since it asks for each port once.
#[inline(always)]
pub(crate) fn is_nothing_noted() -> bool {
    times_forgotten() == 0
}

#[inline(always)]
fn times_forgotten() -> u32 {
    FORGOTTEN.get(0).copied().unwrap_or_default()
}

/// The reach of a probe that came in by an interface, from memory or by asking. Only a SYN asks for a socket
/// (`is_syn`), see `scanguard_common::oracle::reach`.
#[inline(always)]
pub(crate) fn of<O: Oracle>(
    oracle: &O,
    interface: u32,
    control: &Control,
    is_syn: bool,
    flow: &Flow,
) -> Reach {
    let tag = tag(interface, control, is_syn, flow);
    let Some(entry) = MET.get_ptr_mut((tag >> 50) as u32 & (PLACES as u32 - 1)) else {
        return Reach::Unknown;
    };
    // SAFETY: this CPU's entry of a map.
    let held = unsafe { entry.read() };
    if held | REACH_BITS == tag {
        return match held & REACH_BITS {
            0 => Reach::Open,
            1 => Reach::Closed,
            2 => Reach::Unknown,
            _ => Reach::Dark,
        };
    }
    let is_wanted = is_syn && !matches!(oracle.tcp_here(flow), Socket::None);
    let reach = if is_wanted { Reach::Open } else { without_socket(oracle, flow) };
    // For an address of somebody else, it depends on the frame where this host is the last hop.
    if !matches!(reach, Reach::Dark | Reach::Unknown) || control.forwards != 0 {
        // SAFETY: as above.
        unsafe { entry.write(tag & !REACH_BITS | reach as u64) };
    }
    reach
}

/// 62 bits by which a service at an address is recognized. They are valid only in this epoch, and for [`MEMORY_SHIFT`]
/// at most. The bits of the reach are set.
#[inline(always)]
fn tag(interface: u32, control: &Control, is_syn: bool, flow: &Flow) -> u64 {
    let [high, low] = flow.destination.words();
    let version = control.home_version.wrapping_add(times_forgotten());
    let time = (clock::jiffies() >> MEMORY_SHIFT).wrapping_mul(SPREAD);
    let state = time ^ (u64::from(control.epoch) << 32 | u64::from(version));
    let service = u64::from(interface) << 32
        | u64::from(is_syn) << 24
        | u64::from(flow.service.protocol) << 16
        | u64::from(flow.service.port);
    stir(stir(stir(config::salt() ^ state, low), high), service) | REACH_BITS
}
