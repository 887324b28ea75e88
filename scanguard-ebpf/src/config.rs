//! Settings from the agent: before the program is loaded (constants to the verifier) and while it runs.

use core::arch::asm;

use aya_ebpf::{
    Global,
    btf_maps::{Array, LpmTrie},
    macros::btf_map,
};
use scanguard_common::{
    abi::{Control, DEFAULT_MAX_SOURCES, MAX_TRANSLATORS, change_places},
    actor_field::{ACTOR_FIELDS, ActorField, OWN_NAMESPACE},
    address::{Address, SourceMask},
    content::PortSet,
    proof::{FIELDS, Field},
    sample,
    translator::{self, Filter},
};

use crate::{
    argument::{Lent, Place, given_back, lend, lent},
    lpm::AddressKey,
};

/// Nothing reads it: its name is the version of the contract, see `scanguard_common::abi`.
#[used]
#[unsafe(no_mangle)]
static SCANGUARD_ABI_14: Global<u32> = Global::new(14);

#[unsafe(no_mangle)]
static SOURCE_MASK: Global<[u64; 2]> = Global::new(SourceMask::new(64).words());

#[unsafe(no_mangle)]
static SALT: Global<u64> = Global::new(0);

#[unsafe(no_mangle)]
static FIELD_OFFSETS: Global<[u32; FIELDS]> = Global::new([0; FIELDS]);

#[unsafe(no_mangle)]
static TRANSPARENT: Global<[u32; 2]> = Global::new([0; 2]);

#[unsafe(no_mangle)]
static ACTOR_OFFSETS: Global<[u32; ACTOR_FIELDS]> = Global::new([0; ACTOR_FIELDS]);

#[unsafe(no_mangle)]
static OUTBOUND: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static TICKS_PER_SECOND: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static OLD_GROUPS: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static PROOF: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static NAMESPACE: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static SAMPLING: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static TCP_PORTS: Global<PortWords> = Global::new([0; sample::PORT_WORDS]);

#[unsafe(no_mangle)]
static WEB_PORTS: Global<PortWords> = Global::new([0; sample::PORT_WORDS]);

#[unsafe(no_mangle)]
static UDP_PORTS: Global<PortWords> = Global::new([0; sample::PORT_WORDS]);

#[unsafe(no_mangle)]
static DNS_PORTS: Global<PortWords> = Global::new([0; sample::PORT_WORDS]);

type PortWords = [u64; sample::PORT_WORDS];

#[unsafe(no_mangle)]
static CHANGES_MASK: Global<u32> = Global::new(change_places(DEFAULT_MAX_SOURCES) - 1);

#[btf_map]
static TRANSLATORS: LpmTrie<Address, u32, { MAX_TRANSLATORS as usize }> = LpmTrie::new();

#[btf_map]
static CONTROL: Array<Control, 1> = Array::new();

/// The source for which the probes of an address count.
#[inline(always)]
pub(crate) fn source(address: Address) -> Address {
    source_at(address, Place::Source)
}

/// As above; the place is another one at the tracepoint, which packets interrupt.
#[inline(always)]
pub(crate) fn source_at(address: Address, place: Place) -> Address {
    if address.is_v4() { address } else { source6(address, true, place) }
}

/// The embedded IPv4 address or the prefix of an address, wherever it is. Bans and shields are looked up by it, and then
/// by the whole address.
#[inline(always)]
pub(crate) fn masked(address: Address) -> Address {
    if address.is_v4() { address } else { source6(address, false, Place::Source) }
}

#[inline(always)]
fn source6(mut address: Address, alone: bool, place: Place) -> Address {
    scanguard_source(lend(place, &mut address), alone.into());
    given_back(place, &mut address);
    address
}

/// Replaces an IPv6 address by its source; `alone`: at this host's links it is the address itself. A global function,
/// for the reason that [`crate::judge`] gives: it is called in many places, and has many paths.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_source(address: Lent<Address>, alone: u32) -> u32 {
    let (Some(address), Some(control)) = (lent::<Address>(address), control()) else {
        return 0;
    };
    if alone != 0 && control.on_link.contains(*address) {
        return 0;
    }
    let (mask, named) = (SourceMask::from_words(SOURCE_MASK.load()), Filter::from_bits(control.translators));
    *address = translator::source(*address, mask, named, |address| embedded(control, address));
    0
}

/// The IPv4 address for which an IPv6 address counts, if it does.
#[inline(always)]
pub(crate) fn behind_translator(control: &Control, address: Address) -> Option<Address> {
    let may_embed =
        !address.is_v4() && translator::may_embed(address, Filter::from_bits(control.translators));
    may_embed.then(|| source6(address, false, Place::Source)).filter(Address::is_v4)
}

/// The IPv4 address in an IPv6 address, if there is one.
#[inline(always)]
fn embedded(control: &Control, address: Address) -> Option<Address> {
    let named = Filter::from_bits(control.translators);
    translator::embedded(address, named, |address| {
        TRANSLATORS.get(AddressKey::new(address).key()).map(|length| *length as u8)
    })
}

/// The salt of the bitmaps.
#[inline(always)]
pub(crate) fn salt() -> u64 {
    SALT.load()
}

/// The number of places of the ring of changes, less one.
#[inline(always)]
pub(crate) fn changes_mask() -> u32 {
    CHANGES_MASK.load()
}

/// All settings. The agent replaces them as a whole, so that parts may come from two versions for an instant.
#[inline(always)]
pub(crate) fn control() -> Option<&'static Control> {
    CONTROL.get(0)
}

/// Whether the offsets of the kernel's fields are known.
#[inline(always)]
pub(crate) fn proof() -> bool {
    PROOF.load() != 0
}

/// The number of the network namespace whose connections count.
#[inline(always)]
pub(crate) fn namespace() -> u32 {
    NAMESPACE.load()
}

/// The offset of a field in its structure. The code reads one word, not all of them.
#[inline(always)]
pub(crate) fn offset(field: Field) -> usize {
    let words = core::ptr::from_ref(&FIELD_OFFSETS).cast::<u32>();
    // SAFETY: there are as many words as fields. The read is volatile: the agent has set them before the load.
    unsafe { words.add(field as usize).read_volatile() as usize }
}

/// As above, for the fields that outbound traffic needs.
#[inline(always)]
pub(crate) fn actor_offset(field: ActorField) -> usize {
    let words = core::ptr::from_ref(&ACTOR_OFFSETS).cast::<u32>();
    // SAFETY: as above.
    unsafe { words.add(field as usize).read_volatile() as usize }
}

/// Whether outbound traffic is looked at.
#[inline(always)]
pub(crate) fn outbound() -> bool {
    OUTBOUND.load() != 0
}

/// Whether only processes of the agent's network namespace are looked at.
#[inline(always)]
pub(crate) fn outbound_is_own() -> bool {
    OUTBOUND.load() == OWN_NAMESPACE
}

/// How many jiffies a second has.
#[inline(always)]
pub(crate) fn ticks_per_second() -> u64 {
    TICKS_PER_SECOND.load().into()
}

/// Where a process has its control group of a hierarchy of version 1, see `scanguard_common::actor_field::OLD_GROUPS`.
#[inline(always)]
pub(crate) fn old_groups() -> usize {
    OLD_GROUPS.load() as usize
}

/// The offset of the byte in a socket with its mark for IP_TRANSPARENT, and the mark.
#[inline(always)]
pub(crate) fn transparent() -> (usize, u8) {
    let [offset, mark] = TRANSPARENT.load();
    (offset as usize, mark as u8)
}

/// Whether anything is sampled.
#[inline(always)]
pub(crate) fn sampling() -> bool {
    SAMPLING.load() != 0
}

/// Whether a set has this port, see [`PortSet`].
#[inline(always)]
pub(crate) fn is_in(set: PortSet, port: u16) -> bool {
    match set {
        PortSet::Tcp => contains(&TCP_PORTS, port),
        PortSet::Web => contains(&WEB_PORTS, port),
        PortSet::Dns => contains(&DNS_PORTS, port),
        PortSet::Udp => contains(&UDP_PORTS, port),
    }
}

/// The code reads one word, not the set.
#[inline(always)]
fn contains(ports: &'static Global<PortWords>, port: u16) -> bool {
    let (mut word, bit) = sample::place(port);
    // The compiler knows the bound from the type of a port and would leave the comparison out. The verifier of Linux
    // 6.1 does not know the bound of a port after its byte order was swapped.
    // SAFETY: it changes a register, and does not change a number that lies within the set.
    unsafe { asm!("{word} &= {mask}", word = inout(reg) word, mask = const sample::PORT_WORDS - 1) };
    let words = core::ptr::from_ref(ports).cast::<u64>();
    // SAFETY: a word of the set, which has one for each 64 ports. The read is volatile: the agent has set it before
    // the load.
    unsafe { words.add(word).read_volatile() & bit != 0 }
}
