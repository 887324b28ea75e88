//! Which addresses are ours, and what has answered there. The oracle asks this file, and the program for what leaves notes here.

use aya_ebpf::{
    btf_maps::{LpmTrie, LruHashMap},
    macros::btf_map,
};
use scanguard_common::{
    abi::{Control, HOME_LOCAL, HOME_ROUTED, MAX_HOME, MAX_LIVE, MAX_PUBLISHED, ServiceKey},
    address::Address,
    epoch::is_fresh,
    oracle::Home,
    outcome::{Flow, Service},
};

use crate::{config, lpm::AddressKey, reach};

#[btf_map]
static HOME: LpmTrie<Address, u32, { MAX_HOME as usize }> = LpmTrie::new();

#[btf_map]
static LIVE: LruHashMap<Address, u32, { MAX_LIVE as usize }> = LruHashMap::new();

#[btf_map]
static PUBLISHED: LruHashMap<ServiceKey, u32, { MAX_PUBLISHED as usize }> = LruHashMap::new();

/// The owner of an address.
#[inline(always)]
pub(crate) fn of(address: Address, control: &Control) -> Home {
    match HOME.get(AddressKey::new(address).key()).copied() {
        Some(HOME_LOCAL) => Home::Local,
        Some(HOME_ROUTED) if is_live(address, control) => Home::Live,
        Some(HOME_ROUTED) => Home::Dark,
        // A namespace that shares this host's interface (ipvlan), or a program with a stack of its own.
        _ if control.forwards == 0 && is_live(address, control) => Home::Live,
        _ => Home::Elsewhere,
    }
}

/// Whether this is one of this host's own addresses.
#[inline(always)]
pub(crate) fn is_own(address: Address) -> bool {
    HOME.get(AddressKey::new(address).key()).copied() == Some(HOME_LOCAL)
}

/// Whether a service without a socket here has answered at this address.
#[inline(always)]
pub(crate) fn published(address: Address, service: Service, control: &Control) -> bool {
    if reach::is_nothing_noted() {
        return false;
    }
    // SAFETY: a number that other CPUs may change. Any of its values is fine.
    unsafe { PUBLISHED.get(key(address, service)) }
        .is_some_and(|noted| is_fresh(*noted, control.epoch, control.published_epochs))
}

#[inline(always)]
fn is_live(address: Address, control: &Control) -> bool {
    if reach::is_nothing_noted() {
        return false;
    }
    // SAFETY: a number that other CPUs may change. Any of its values is fine.
    unsafe { LIVE.get(address) }.is_some_and(|noted| is_fresh(*noted, control.epoch, control.live_epochs))
}

#[inline(always)]
fn key(address: Address, service: Service) -> ServiceKey {
    let Service { protocol, port } = service;
    ServiceKey { address, port, protocol, ..ServiceKey::NONE }
}

/// Notes that an address that is routed to this host is in use.
#[inline(always)]
pub(crate) fn note_live(address: Address) {
    if HOME.get(AddressKey::new(address).key()).copied() != Some(HOME_ROUTED) {
        return;
    }
    note(LIVE.get_ptr_mut(address), |control| control.live_epochs, |epoch| LIVE.insert(address, epoch, 0));
}

/// Notes that an address that is neither this host's nor routed to it has answered from here.
#[inline(always)]
pub(crate) fn note_guest(address: Address) {
    if HOME.get(AddressKey::new(address).key()).is_some() {
        return;
    }
    note(LIVE.get_ptr_mut(address), |control| control.live_epochs, |epoch| LIVE.insert(address, epoch, 0));
}

/// Notes that a service answered at one of this host's own addresses, unless a socket here belongs to it
/// (`has_socket`). Returns whether it is such a service.
#[inline(always)]
pub(crate) fn note_published(flow: &Flow, has_socket: impl FnOnce() -> bool) -> bool {
    if HOME.get(AddressKey::new(flow.destination).key()).copied() != Some(HOME_LOCAL) || has_socket() {
        return false;
    }
    let key = key(flow.destination, flow.service);
    note(
        PUBLISHED.get_ptr_mut(key),
        |control| control.published_epochs,
        |epoch| PUBLISHED.insert(key, epoch, 0),
    );
    true
}

/// Brings an entry up to the running epoch. It is written only once in an epoch, because the CPUs would compete for it
/// otherwise. If it was not valid before, an answer that was remembered as closed or dark may be wrong now.
#[inline(always)]
fn note(
    noted: Option<*mut u32>,
    max_age: impl FnOnce(&Control) -> u32,
    insert: impl FnOnce(u32) -> Result<(), i32>,
) {
    let Some(control) = config::control() else {
        return;
    };
    let epoch = control.epoch;
    let was_fresh = match noted {
        // SAFETY: a value of a map, aligned; other CPUs write the same.
        Some(noted) => unsafe {
            let before = noted.read();
            if before != epoch {
                noted.write(epoch);
            }
            is_fresh(before, epoch, max_age(control))
        },
        None => {
            // There is room: the map evicts.
            _ = insert(epoch);
            false
        }
    };
    if !was_fresh {
        reach::forget();
    }
}
