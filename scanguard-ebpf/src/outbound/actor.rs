//! The actor of the current task: its control group, and its executable.

use aya_ebpf::{btf_maps::PerCpuArray, helpers::bpf_get_current_task, macros::btf_map};
use scanguard_common::{
    actor::{Key, Kind, Seen, marks},
    actor_field::{ActorField, OLD_GROUP, ROOT_GROUP},
    address::Address,
    flow::stir,
    proof::Field,
};

use super::{
    scratch::{self, HOOKS, Hook, Scratch},
    tally,
};
use crate::{
    config,
    fields::{read, read_actor, read_at},
};

/// The current task.
#[inline(always)]
pub(super) fn task() -> *const u8 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_task() as *const u8 }
}

/// What is known of a task. It stays true while the task neither executes another program nor changes its sets of control
/// groups and of namespaces: then it is not read again.
#[repr(C)]
struct Known {
    /// When the task began, and which one it is, as an address.
    start: u64,
    task: u64,
    /// How often it has executed a program.
    executions: u64,
    /// Its set of control groups, as an address.
    groups: u64,
    /// Its set of namespaces, as an address, where only some of them are looked at.
    spaces: u64,
    group: u64,
    inode: u64,
    device: u32,
    marks: u32,
}

/// Places for each [`Hook`] on each CPU; a power of two.
const PLACES: u32 = 64;

#[btf_map]
static ACTIVE: PerCpuArray<Known, { PLACES as usize * HOOKS }> = PerCpuArray::new();

/// Finds the current task's actor, and writes its keys into the scratch of a hook. Gives nothing, and counts why, if the
/// kernel's structures cannot be read, or if the task is not looked at.
///
/// # Safety
/// The scratch is valid.
#[inline(always)]
pub(super) unsafe fn find(hook: Hook, scratch: *mut Scratch, kind: Kind) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        match scanguard_find(hook as u32) {
            FOUND => {}
            ELSEWHERE => {
                tally::count(Seen::Elsewhere);
                return None;
            }
            _ => {
                tally::count(Seen::Unreadable);
                return None;
            }
        }
        let (group, inode, device) = (
            (&raw const (*scratch).group).read(),
            (&raw const (*scratch).inode).read(),
            (&raw const (*scratch).device).read(),
        );
        (&raw mut (*scratch).about).write(scratch::TASK);
        let key = Key::of_program(kind, group, device, inode).address();
        (&raw mut (*scratch).open.keys[0]).write(key);
        // A packet that was made is counted for its program alone.
        let whole =
            if matches!(kind, Kind::Crafter) { Address::UNSPECIFIED } else { Key::of_group(group).address() };
        (&raw mut (*scratch).open.keys[1]).write(whole);
    }
    Some(())
}

/// Results of [`scanguard_find`].
const FOUND: u32 = 1;
/// As above: the task is in a network namespace that is not looked at.
const ELSEWHERE: u32 = 2;
/// A mark of a task that is there. It is none of [`marks`], and leaves this file never.
const IS_ELSEWHERE: u32 = 1 << 31;

/// Writes what is known of the current task into the scratch of a hook. Gives 0 if it cannot be read.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_find(hook: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let Some(scratch) = scratch::of(hook) else {
        return 0;
    };
    // SAFETY: this CPU's scratch and places; the helper checks the kernel's addresses.
    unsafe {
        if find_in(hook, scratch).is_none() {
            return 0;
        }
        let noted = (&raw const (*scratch).marks).read();
        if noted & IS_ELSEWHERE == 0 { FOUND } else { ELSEWHERE }
    }
}

/// As above.
#[inline(always)]
unsafe fn find_in(hook: u32, scratch: *mut Scratch) -> Option<()> {
    let task = task();
    // Its pid is known to programs of each kind since Linux 6.10 only.
    let place = (stir(0, task as u64) >> 32) as u32 & (PLACES - 1);
    let known = ACTIVE.get_ptr_mut(hook * PLACES + place)?;
    // SAFETY: the caller's promise.
    unsafe {
        let start = read_actor::<u64>(task, ActorField::Start)?;
        let executions = u64::from(read_actor::<u32>(task, ActorField::Executions)?);
        let groups = read_actor::<u64>(task, ActorField::GroupSet)?;
        let spaces =
            if config::outbound_is_own() { read_actor::<u64>(task, ActorField::Namespaces)? } else { 0 };
        let is_same = (*known).start == start
            && (*known).spaces == spaces
            && (*known).task == task as u64
            && (*known).executions == executions
            && (*known).groups == groups;
        if !is_same {
            // Half of it is never true.
            (&raw mut (*known).start).write_volatile(0);
            learn(task, known)?;
            (&raw mut (*known).task).write(task as u64);
            (&raw mut (*known).executions).write(executions);
            (&raw mut (*known).groups).write(groups);
            (&raw mut (*known).spaces).write(spaces);
            (&raw mut (*known).start).write_volatile(start);
        }
        (&raw mut (*scratch).group).write((*known).group);
        (&raw mut (*scratch).inode).write((*known).inode);
        (&raw mut (*scratch).device).write((*known).device);
        (&raw mut (*scratch).marks).write((*known).marks);
    }
    Some(())
}

/// Reads the control group and the executable of a task.
#[inline(always)]
unsafe fn learn(task: *const u8, known: *mut Known) -> Option<()> {
    // SAFETY: the caller's promise.
    unsafe {
        let node = read_actor::<*const u8>(group(task)?, ActorField::GroupNode)?;
        let mut number = read_actor::<u64>(node, ActorField::NodeNumber)?;
        if number == ROOT_GROUP
            && let Some(old) = old_group(task)
        {
            let node = read_actor::<*const u8>(old, ActorField::GroupNode)?;
            let old = read_actor::<u64>(node, ActorField::NodeNumber)?;
            if old != ROOT_GROUP {
                number = old | OLD_GROUP;
            }
        }
        let (mut device, mut inode, mut noted) = (0, 0, marks::KERNEL);
        let memory = read_actor::<*const u8>(task, ActorField::Memory)?;
        if !memory.is_null() {
            noted = 0;
            let file = read_actor::<*const u8>(memory, ActorField::Executable)?;
            if !file.is_null() {
                let of = read_actor::<*const u8>(file, ActorField::FileInode)?;
                inode = read_actor::<u64>(of, ActorField::InodeNumber)?;
                let of = read_actor::<*const u8>(of, ActorField::InodeSuper)?;
                device = read_actor::<u32>(of, ActorField::SuperDevice)?;
            }
        }
        if config::outbound_is_own() {
            let all = read_actor::<*const u8>(task, ActorField::Namespaces)?;
            let network = read_actor::<*const u8>(all, ActorField::NetworkNamespace)?;
            if read::<u32>(network, Field::NamespaceNumber)? != config::namespace() {
                noted |= IS_ELSEWHERE;
            }
        }
        (&raw mut (*known).group).write(number);
        (&raw mut (*known).inode).write(inode);
        (&raw mut (*known).device).write(device);
        (&raw mut (*known).marks).write(noted);
    }
    Some(())
}

/// A task's control group of version 2.
///
/// # Safety
/// It is a task.
#[inline(always)]
pub(super) unsafe fn group(task: *const u8) -> Option<*const u8> {
    // SAFETY: as above.
    unsafe { read_actor(read_actor(task, ActorField::GroupSet)?, ActorField::Group) }
}

/// A task's control group of the hierarchy of version 1 that the agent chose, if there is one.
///
/// # Safety
/// It is a task.
#[inline(always)]
pub(super) unsafe fn old_group(task: *const u8) -> Option<*const u8> {
    let offset = config::old_groups();
    if offset == 0 {
        return None;
    }
    // SAFETY: as above.
    unsafe {
        let set = read_actor::<*const u8>(task, ActorField::GroupSet)?;
        read_actor(read_at(set, offset)?, ActorField::OldGroup)
    }
}
