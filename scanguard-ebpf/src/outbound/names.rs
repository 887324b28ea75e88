//! Paths of executables and control groups, and arguments: the last name first, since that is how the kernel knows them.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};
use scanguard_common::{
    actor::{ARGUMENTS_LEN, PATH_LEN, marks},
    actor_field::{ActorField, ROOT_GROUP},
};

use super::{actor, scratch};
use crate::{
    config,
    fields::read_actor,
    opaque::{bounded, masked},
};

/// How many names and mounts are followed at most.
const MAX_STEPS: usize = 32;
/// The first bytes of the name of a file that was made by memfd_create(2).
const MEMFD: u32 = u32::from_ne_bytes(*b"memf");

/// Writes a name behind those that are already there, and gives where the next one begins. From [`PATH_LEN`] on, there
/// was no room for all of it.
///
/// # Safety
/// From `names` on there are twice [`PATH_LEN`] bytes.
#[inline(always)]
unsafe fn append(names: *mut u8, at: usize, name: *const u8) -> usize {
    let at = masked::<{ PATH_LEN - 1 }>(at);
    // SAFETY: the place is within the first half; as much as that again follows it.
    let len = unsafe { bpf_probe_read_kernel_str(names.add(at).cast(), PATH_LEN as u32, name.cast()) };
    if len <= 0 { PATH_LEN } else { at + len as usize }
}

/// Writes the path of the executable of the current task into the identity of a scratch, and gives the marks that belong
/// to it. The path is as the process itself sees it: up to its root directory.
///
/// The arguments lie behind it, and are written after it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_path(hook: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let Some(scratch) = scratch::of(hook) else {
        return 0;
    };
    // SAFETY: this CPU's scratch; behind the path lie the arguments, which are as long.
    unsafe { path((&raw mut (*scratch).identity.path).cast()).unwrap_or(marks::PATH_CUT) }
}

/// As above.
#[inline(always)]
unsafe fn path(names: *mut u8) -> Option<u32> {
    let task = actor::task();
    // SAFETY: the caller's promise; the helper checks the kernel's addresses.
    unsafe {
        let memory = read_actor::<*const u8>(task, ActorField::Memory)?;
        let file = read_actor::<*const u8>(memory, ActorField::Executable)?;
        let mut name = read_actor::<*const u8>(file, ActorField::FileDentry)?;
        let mut mount = read_actor::<*const u8>(file, ActorField::FileMount)?;
        let directories = read_actor::<*const u8>(task, ActorField::Directories)?;
        let root = read_actor::<*const u8>(directories, ActorField::RootDentry)?;
        let root_mount = read_actor::<*const u8>(directories, ActorField::RootMount)?;
        let mut found = 0;
        let inode = read_actor::<*const u8>(file, ActorField::FileInode)?;
        let links = read_actor::<u32>(inode, ActorField::InodeLinks)?;
        let hashed = read_actor::<u64>(name, ActorField::DentryHashed)?;
        if links == 0 || hashed == 0 {
            found = marks::DELETED;
        }
        let mut at = 0;
        let mut step = 0;
        while step < MAX_STEPS {
            step += 1;
            if name == root && mount == root_mount {
                return Some(found);
            }
            let top = read_actor::<*const u8>(mount, ActorField::MountRoot)?;
            let parent = read_actor::<*const u8>(name, ActorField::DentryParent)?;
            if name == top {
                let whole = mount.wrapping_sub(config::actor_offset(ActorField::MountPart));
                let around = read_actor::<*const u8>(whole, ActorField::MountParent)?;
                if around == whole {
                    return Some(found);
                }
                name = read_actor::<*const u8>(whole, ActorField::MountPoint)?;
                mount = around.wrapping_add(config::actor_offset(ActorField::MountPart));
                continue;
            }
            let text = read_actor::<*const u8>(name, ActorField::DentryName)?;
            let is_first = at == 0;
            at = append(names, at, text);
            if at >= PATH_LEN {
                break;
            }
            // A file that lies in no directory.
            if parent == name {
                if is_first && names.cast::<u32>().read_unaligned() == MEMFD {
                    found = marks::MEMFD;
                }
                return Some(found);
            }
            name = parent;
        }
        Some(found | marks::PATH_CUT)
    }
}

/// Writes the path of the control group of the current task into the identity of a scratch, and gives the marks that
/// belong to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_group_path(hook: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let Some(scratch) = scratch::of(hook) else {
        return 0;
    };
    // SAFETY: this CPU's scratch; as much room as the path takes lies behind it.
    unsafe { group_path((&raw mut (*scratch).identity.group_path).cast()).unwrap_or(marks::GROUP_CUT) }
}

/// As above.
#[inline(always)]
unsafe fn group_path(names: *mut u8) -> Option<u32> {
    let task = actor::task();
    // SAFETY: as in `path`.
    unsafe {
        let mut node = read_actor::<*const u8>(actor::group(task)?, ActorField::GroupNode)?;
        if read_actor::<u64>(node, ActorField::NodeNumber)? == ROOT_GROUP
            && let Some(old) = actor::old_group(task)
        {
            node = read_actor::<*const u8>(old, ActorField::GroupNode)?;
        }
        let mut at = 0;
        let mut step = 0;
        while step < MAX_STEPS {
            step += 1;
            let parent = read_actor::<*const u8>(node, ActorField::NodeParent)?;
            if parent.is_null() {
                return Some(0);
            }
            at = append(names, at, read_actor::<*const u8>(node, ActorField::NodeName)?);
            if at >= PATH_LEN {
                break;
            }
            node = parent;
        }
        Some(marks::GROUP_CUT)
    }
}

/// Writes the arguments of the current task into the identity of a scratch, and gives the marks that belong to them.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_arguments(hook: u32) -> u32 {
    if !config::outbound() {
        return 0;
    }
    let Some(scratch) = scratch::of(hook) else {
        return 0;
    };
    // SAFETY: this CPU's scratch; the helper checks the addresses.
    unsafe {
        let names = (&raw mut (*scratch).identity.arguments).cast::<u8>();
        let Some(memory) = read_actor::<*const u8>(actor::task(), ActorField::Memory) else {
            return 0;
        };
        let (start, end) = (
            read_actor::<u64>(memory, ActorField::ArgumentsStart).unwrap_or(0),
            read_actor::<u64>(memory, ActorField::ArgumentsEnd).unwrap_or(0),
        );
        let whole = end.wrapping_sub(start) as usize;
        let Some(len) = bounded(whole, ARGUMENTS_LEN) else {
            return 0;
        };
        if bpf_probe_read_user(names.cast(), len as u32, start as *const _) != 0 {
            return marks::ARGUMENTS_CUT;
        }
        (&raw mut (*scratch).identity.arguments_len).write(len as u32);
        if whole > ARGUMENTS_LEN { marks::ARGUMENTS_CUT } else { 0 }
    }
}

/// Reads all names, and gives the marks that belong to them.
#[inline(always)]
pub(super) fn read(hook: u32) -> u32 {
    scanguard_path(hook)
}

/// As above, for the arguments.
#[inline(always)]
pub(super) fn read_arguments(hook: u32) -> u32 {
    scanguard_arguments(hook)
}

/// As above, for the control group.
#[inline(always)]
pub(super) fn read_group(hook: u32) -> u32 {
    scanguard_group_path(hook)
}
