//! Room for what is too large for the stack.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use scanguard_common::{
    actor::{GROUP_LEN, Identity, Seen},
    actor_field::SOCKET_HEAD,
    address::Address,
    outcome::Flow,
};

use super::{open::Open, tally};

/// Which kind of program uses a scratch: one of another kind may interrupt it on the same CPU.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum Hook {
    /// A tracepoint. The kernel does not run it within itself.
    Tracepoint = 0,
    /// A packet that leaves.
    Egress = 1,
    /// A call of a process in a control group. Another process may interrupt it, see [`take`].
    Group = 2,
}

/// How many [`Hook`]s there are.
pub(super) const HOOKS: usize = 3;

/// One attempt of an actor, from the first look to the last.
#[repr(C)]
pub(super) struct Scratch {
    /// The process, if it is read.
    pub(super) identity: Identity,
    /// A name that is written at the end of [`Identity::group_path`] may reach into this.
    spill: [u8; GROUP_LEN],
    /// What is kept of it while nobody has answered.
    pub(super) open: Open,
    /// As [`scanguard_common::actor::attempt`] makes it.
    pub(super) flow: Flow,
    /// The beginning of a socket.
    pub(super) head: [u64; SOCKET_HEAD / 8],
    /// Number of the control group.
    pub(super) group: u64,
    /// Inode of the executable.
    pub(super) inode: u64,
    /// Device of the executable.
    pub(super) device: u32,
    /// As in [`Identity::marks`], as far as they are known from the start.
    pub(super) marks: u32,
    /// Whom the identity is about: one of the constants below.
    pub(super) about: u32,
    /// Somebody uses it.
    busy: u32,
}

/// The current task is the actor.
pub(super) const TASK: u32 = 0;
/// It is not: nobody can be read.
pub(super) const NOBODY: u32 = 1;
/// The actor is a host.
pub(super) const HOST: u32 = 2;

#[btf_map]
static SCRATCH: PerCpuArray<Scratch, HOOKS> = PerCpuArray::new();

/// The scratch of this CPU for a [`Hook`], which is a number because global functions take it.
#[inline(always)]
pub(super) fn of(hook: u32) -> Option<*mut Scratch> {
    SCRATCH.get_ptr_mut(hook)
}

/// The scratch of [`Hook::Group`], unless a process that was interrupted on this CPU uses it.
#[inline(always)]
pub(super) fn take() -> Option<*mut Scratch> {
    let scratch = of(Hook::Group as u32)?;
    // SAFETY: this CPU's scratch. The accesses are volatile, since they are about who may use the rest.
    unsafe {
        let busy = &raw mut (*scratch).busy;
        if busy.read_volatile() != 0 {
            tally::count(Seen::Busy);
            return None;
        }
        busy.write_volatile(1);
    }
    Some(scratch)
}

/// Ends the use of a scratch from [`take`].
#[inline(always)]
pub(super) fn give_back(scratch: *mut Scratch) {
    // SAFETY: as above.
    unsafe { (&raw mut (*scratch).busy).write_volatile(0) };
}

impl Scratch {
    /// One of the two keys: that of the program, or that of its control group.
    ///
    /// # Safety
    /// `this` is valid for reads.
    #[inline(always)]
    pub(super) unsafe fn key<'k>(this: *const Self, which: u32) -> &'k Address {
        // SAFETY: the caller's promise; map values live as long as the program runs.
        unsafe { if which == 0 { &(*this).open.keys[0] } else { &(*this).open.keys[1] } }
    }
}
