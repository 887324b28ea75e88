//! The actor of the current task: its control group, and its executable.

use aya_ebpf::helpers::bpf_get_current_task;
use scanguard_common::{
    actor::{Key, Kind, marks},
    actor_field::{ActorField, OLD_GROUP, ROOT_GROUP},
    address::Address,
};

use super::scratch::{self, Scratch};
use crate::{
    config,
    fields::{read_actor, read_at},
};

/// The current task.
#[inline(always)]
pub(super) fn task() -> *const u8 {
    // SAFETY: no arguments.
    unsafe { bpf_get_current_task() as *const u8 }
}

/// Finds the current task's actor, and writes its keys into a scratch. Gives nothing if the kernel's structures cannot be
/// read.
///
/// # Safety
/// The scratch is valid.
#[inline(always)]
pub(super) unsafe fn find(scratch: *mut Scratch, kind: Kind) -> Option<()> {
    let task = task();
    // SAFETY: the caller's promise; the helper checks the kernel's addresses, and the offsets come from its BTF.
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
        (&raw mut (*scratch).group).write(number);
        (&raw mut (*scratch).inode).write(inode);
        (&raw mut (*scratch).device).write(device);
        (&raw mut (*scratch).marks).write(noted);
        (&raw mut (*scratch).about).write(scratch::TASK);
        let key = Key::of_program(kind, number, device, inode).address();
        (&raw mut (*scratch).open.keys[0]).write(key);
        // A packet that was made is counted for its program alone.
        let whole = if matches!(kind, Kind::Crafter) {
            Address::UNSPECIFIED
        } else {
            Key::of_group(number).address()
        };
        (&raw mut (*scratch).open.keys[1]).write(whole);
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
