//! Who acts: read within the process itself, since the agent may not look at others', and since the process may be gone
//! before anybody asks.

use aya_ebpf::{
    btf_maps::LruHashMap,
    helpers::{bpf_ktime_get_ns, generated::bpf_probe_read_kernel},
    macros::btf_map,
};
use scanguard_common::{
    actor::{ARGUMENTS_LEN, COMM_LEN, GROUP_LEN, Identity, MAX_ACTORS, PARENTS, PATH_LEN, Process, marks},
    actor_field::{ActorField, NUMBER_LEN},
    address::Address,
    proof::Field,
};

use super::{
    actor, names,
    scratch::{self, Scratch},
};
use crate::{
    config,
    fields::{read, read_actor},
};

#[btf_map]
static IDENTITIES: LruHashMap<Address, Identity, { MAX_ACTORS as usize }> = LruHashMap::new();

/// Reads who the actor is into the scratch. Gives whether that is known.
#[inline(always)]
pub(super) fn take(hook: u32) -> bool {
    let Some(scratch) = scratch::of(hook) else {
        return false;
    };
    // SAFETY: this CPU's scratch.
    let about = unsafe { (&raw const (*scratch).about).read() };
    if about == scratch::NOBODY {
        return false;
    }
    scanguard_process(hook);
    if about == scratch::HOST {
        return true;
    }
    // SAFETY: this CPU's scratch.
    unsafe {
        let mut found = (&raw const (*scratch).marks).read();
        if found & marks::KERNEL == 0 {
            found |= names::read(hook);
            // The last name may have reached into the arguments.
            clear((&raw mut (*scratch).identity.arguments).cast(), ARGUMENTS_LEN / 8);
            if found & marks::PATH_CUT != 0 {
                (&raw mut (*scratch).identity.path[PATH_LEN - 1]).write(0);
            }
            found |= names::read_arguments(hook);
        }
        found |= names::read_group(hook);
        if found & marks::GROUP_CUT != 0 {
            (&raw mut (*scratch).identity.group_path[GROUP_LEN - 1]).write(0);
        }
        (&raw mut (*scratch).identity.marks).write(found);
    }
    true
}

/// Keeps what [`take`] read for one of the two actors of the scratch.
#[inline(always)]
pub(super) fn keep(scratch: *const Scratch, which: u32) {
    // SAFETY: this CPU's scratch. It is a reference, since the stack has no room for a copy.
    unsafe {
        // There is room: the map evicts.
        let identity = &(*scratch).identity;
        _ = IDENTITIES.insert(Scratch::key(scratch, which), identity, 0);
    }
}

/// Empties some words.
///
/// # Safety
/// There are so many, and they are aligned.
#[inline(always)]
unsafe fn clear(words: *mut u64, count: usize) {
    let mut place = 0;
    while place < count {
        // SAFETY: the caller's promise. Volatile, as in `scanguard_common::account`.
        unsafe { words.add(place).write_volatile(0) };
        place += 1;
    }
}

/// Empties the identity of a scratch, and writes everything into it but names.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_process(hook: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let Some(scratch) = scratch::of(hook) else {
        return 0;
    };
    // SAFETY: this CPU's scratch; the helper checks the kernel's addresses.
    unsafe {
        let identity = &raw mut (*scratch).identity;
        clear(identity.cast(), size_of::<Identity>() / 8);
        (&raw mut (*identity).at_ns).write(bpf_ktime_get_ns());
        if (&raw const (*scratch).about).read() == scratch::HOST {
            (&raw mut (*identity).address).write((*scratch).flow.source);
            return 0;
        }
        (&raw mut (*identity).group).write((&raw const (*scratch).group).read());
        (&raw mut (*identity).inode).write((&raw const (*scratch).inode).read());
        (&raw mut (*identity).device).write((&raw const (*scratch).device).read());
        let task = actor::task();
        _ = namespaces(task, identity);
        _ = changed(task, identity);
        _ = processes(task, identity);
    }
    0
}

/// The process, and its parents.
#[inline(always)]
unsafe fn processes(task: *const u8, identity: *mut Identity) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let mut leader = process(task, &raw mut (*identity).process)?;
        let mut place = 0;
        while place < PARENTS {
            let parent = read_actor::<*const u8>(leader, ActorField::Parent)?;
            leader = process(parent, &raw mut (*identity).parents[place])?;
            place += 1;
        }
    }
    Some(())
}

/// One process, whose main thread it gives. Nothing where there is no process: the first one has no parent.
#[inline(always)]
unsafe fn process(task: *const u8, into: *mut Process) -> Option<*const u8> {
    // SAFETY: the caller's promise.
    unsafe {
        let leader = read_actor::<*const u8>(task, ActorField::Leader)?;
        let pid = read_actor::<u32>(leader, ActorField::Pid)?;
        if pid == 0 {
            return None;
        }
        (&raw mut (*into).start_ns).write(read_actor(leader, ActorField::Start)?);
        let credentials = read_actor::<*const u8>(leader, ActorField::Credentials)?;
        (&raw mut (*into).uid).write(read_actor(credentials, ActorField::EffectiveUser)?);
        let comm = leader.wrapping_add(config::actor_offset(ActorField::Comm));
        if bpf_probe_read_kernel((&raw mut (*into).comm).cast(), COMM_LEN as u32, comm.cast()) != 0 {
            return None;
        }
        // Last: without a pid there is no process.
        (&raw mut (*into).pid).write(pid);
        Some(leader)
    }
}

/// Its namespaces, and its pid within its own.
#[inline(always)]
unsafe fn namespaces(task: *const u8, identity: *mut Identity) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let all = read_actor::<*const u8>(task, ActorField::Namespaces)?;
        let network = read_actor::<*const u8>(all, ActorField::NetworkNamespace)?;
        (&raw mut (*identity).network_namespace).write(read(network, Field::NamespaceNumber)?);
        let leader = read_actor::<*const u8>(task, ActorField::Leader)?;
        let numbers = read_actor::<*const u8>(leader, ActorField::Numbers)?;
        let level = read_actor::<u32>(numbers, ActorField::PidLevel)? as usize;
        let offset = config::actor_offset(ActorField::PidNumbers) + level * NUMBER_LEN;
        let innermost = numbers.wrapping_add(offset);
        (&raw mut (*identity).inner_pid).write(read_actor(innermost, ActorField::Number)?);
        let namespace = read_actor::<*const u8>(innermost, ActorField::NumberNamespace)?;
        (&raw mut (*identity).pid_namespace).write(read_actor(namespace, ActorField::PidNamespaceNumber)?);
    }
    Some(())
}

/// When the executable was last changed.
#[inline(always)]
unsafe fn changed(task: *const u8, identity: *mut Identity) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let memory = read_actor::<*const u8>(task, ActorField::Memory)?;
        let file = read_actor::<*const u8>(memory, ActorField::Executable)?;
        let inode = read_actor::<*const u8>(file, ActorField::FileInode)?;
        (&raw mut (*identity).changed).write(read_actor(inode, ActorField::InodeChanged)?);
    }
    Some(())
}
