//! Loads and attaches the programs that see calls of processes: connect(2), sendto(2) and socket(2). They are attached to
//! the root of the control groups of version 2, beside those of others. Each is there for itself: the loss of one does not
//! end the others.

use std::{fs::File, path::PathBuf};

use aya::{
    Ebpf,
    programs::{CgroupAttachMode, CgroupSock, CgroupSockAddr, ProgramError},
};
use scanguard_common::numbered;

use super::super::reason::shorten;

numbered! {
    /// The programs that see calls. The label is the name in metrics and messages.
    Call[CALLS] {
        /// connect(2), IPv4.
        Connect4 = "connect4",
        /// connect(2), IPv6.
        Connect6 = "connect6",
        /// sendto(2), IPv4.
        Sendmsg4 = "sendmsg4",
        /// sendto(2), IPv6.
        Sendmsg6 = "sendmsg6",
        /// socket(2).
        SockCreate = "sock_create",
    }
}

impl Call {
    /// The name of the program in the object.
    const fn program(self) -> &'static str {
        match self {
            Self::Connect4 => "scanguard_connect4",
            Self::Connect6 => "scanguard_connect6",
            Self::Sendmsg4 => "scanguard_sendmsg4",
            Self::Sendmsg6 => "scanguard_sendmsg6",
            Self::SockCreate => "scanguard_sock_create",
        }
    }

    /// The loss without it, for logs and doctor.
    pub const fn loss(self) -> &'static str {
        match self {
            Self::Connect4 | Self::Connect6 => {
                "an actor that is blocked may go on to connect, and datagrams of connected sockets are not counted"
            }
            Self::Sendmsg4 | Self::Sendmsg6 => "datagrams of sockets that are not connected are not counted",
            Self::SockCreate => "raw sockets are told by what leaves only",
        }
    }
}

/// A program cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The object lacks it.
    #[error("the kernel program in this binary has no such part")]
    Absent,
    /// The kernel refuses it.
    #[error("the kernel does not take it: {0}")]
    Refused(String),
    /// There are no control groups of version 2.
    #[error("no control groups of version 2 are mounted")]
    NoGroups,
    /// The kernel cannot attach it.
    #[error("the kernel cannot attach it to the control groups of version 2 (CONFIG_CGROUP_BPF): {0}")]
    Attach(String),
}

/// Which of the programs run.
pub type Calls = [(Call, Result<(), CallError>); CALLS];

/// Loads the programs beside those that are already loaded.
pub fn load(ebpf: &mut Ebpf) -> Calls {
    Call::ALL.map(|call| (call, load_one(ebpf, call)))
}

/// Loads and attaches the programs, until they are dropped with the rest of the object.
pub fn attach(ebpf: &mut Ebpf) -> Calls {
    let root = root().and_then(|path| File::open(&path).map_err(|_| CallError::NoGroups));
    Call::ALL.map(|call| {
        let attached = load_one(ebpf, call).and_then(|()| match &root {
            Ok(root) => attach_one(ebpf, call, root),
            Err(_) => Err(CallError::NoGroups),
        });
        (call, attached)
    })
}

fn load_one(ebpf: &mut Ebpf, call: Call) -> Result<(), CallError> {
    let program = ebpf.program_mut(call.program()).ok_or(CallError::Absent)?;
    let loaded = if call == Call::SockCreate {
        <&mut CgroupSock>::try_from(program).map_err(absent)?.load()
    } else {
        <&mut CgroupSockAddr>::try_from(program).map_err(absent)?.load()
    };
    loaded.map_err(|error| CallError::Refused(shorten(&error)))
}

fn attach_one(ebpf: &mut Ebpf, call: Call, root: &File) -> Result<(), CallError> {
    let program = ebpf.program_mut(call.program()).ok_or(CallError::Absent)?;
    // The kernel's own links stand beside those of others, and take no other mode.
    let mode = CgroupAttachMode::Single;
    let attached = if call == Call::SockCreate {
        <&mut CgroupSock>::try_from(program).map_err(absent)?.attach(root, mode).map(drop)
    } else {
        <&mut CgroupSockAddr>::try_from(program).map_err(absent)?.attach(root, mode).map(drop)
    };
    attached.map_err(|error| CallError::Attach(shorten(&error)))
}

fn absent(_: ProgramError) -> CallError {
    CallError::Absent
}

/// Where the control groups of version 2 are mounted.
fn root() -> Result<PathBuf, CallError> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").map_err(|_| CallError::NoGroups)?;
    root_in(&mounts).ok_or(CallError::NoGroups)
}

fn root_in(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let path = words.next()?;
        (words.next()? == "cgroup2").then(|| path.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_of_version_2_are_found_wherever_they_are_mounted() {
        let old = "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n";
        assert_eq!(root_in(old), None);
        let both = format!("{old}cgroup2 /sys/fs/cgroup/unified cgroup2 rw,nsdelegate 0 0\n");
        assert_eq!(root_in(&both), Some("/sys/fs/cgroup/unified".into()));
    }
}
