//! What the programs for outbound traffic read of processes, and the settings that they get before they are loaded.

use crate::{outcome::numbered, proof::Field};

/// Global, `[u32; ACTOR_FIELDS]`: the offsets of the [`ActorField`]s in their structures, in bytes.
pub const ACTOR_OFFSETS: &str = "ACTOR_OFFSETS";
/// Global, `u32`: 0 where outbound traffic is not looked at. Then the verifier removes the code for it from all programs.
/// Otherwise [`ALL_NAMESPACES`] or [`OWN_NAMESPACE`].
pub const OUTBOUND: &str = "OUTBOUND";
/// The processes of all network namespaces are looked at.
pub const ALL_NAMESPACES: u32 = 1;
/// Those of the agent's network namespace are looked at.
pub const OWN_NAMESPACE: u32 = 2;
/// Global, `u32`: where a set of control groups (`struct css_set`) has its group of a hierarchy of version 1, in bytes; 0
/// where there is no such hierarchy. It is asked if a process is in the root of version 2.
pub const OLD_GROUPS: &str = "OLD_GROUPS";

/// Global, `u32`: how many jiffies a second has.
pub const TICKS_PER_SECOND: &str = "TICKS_PER_SECOND";

/// Added to the number of a control group that lies in a hierarchy of version 1: the hierarchies count apart.
pub const OLD_GROUP: u64 = 1 << 59;
/// The number of the root of a hierarchy.
pub const ROOT_GROUP: u64 = 1;

numbered! {
    /// Fields of the kernel's structures, beside those of [`crate::proof::Field`]. The label is the path to the field, or
    /// several paths of which each kernel has one, with `|` between them. The agent finds the offsets.
    ActorField[ACTOR_FIELDS] {
        /// The error of a socket.
        SocketError = "sock.sk_err",
        /// An error that came while its process held it, or that does not end it.
        SoftError = "sock.sk_err_soft",
        /// How many bytes were sent in a connection.
        Sent = "tcp_sock.bytes_sent",
        /// The memory of a process; nothing for a thread of the kernel.
        Memory = "task_struct.mm",
        /// How often it has executed a program.
        Executions = "task_struct.self_exec_id",
        /// Its set of control groups.
        GroupSet = "task_struct.cgroups",
        /// Its main thread.
        Leader = "task_struct.group_leader",
        /// The process that started it.
        Parent = "task_struct.real_parent",
        /// Its rights.
        Credentials = "task_struct.cred",
        /// Its pid in the first pid namespace.
        Pid = "task_struct.tgid",
        /// When it began, since boot.
        Start = "task_struct.start_boottime",
        /// Its name.
        Comm = "task_struct.comm",
        /// Its numbers in all pid namespaces.
        Numbers = "task_struct.thread_pid",
        /// Its root and working directory.
        Directories = "task_struct.fs",
        /// Its namespaces.
        Namespaces = "task_struct.nsproxy",
        /// Effective user.
        EffectiveUser = "cred.euid",
        /// The executable.
        Executable = "mm_struct.exe_file",
        /// Where the arguments begin.
        ArgumentsStart = "mm_struct.arg_start",
        /// Where they end.
        ArgumentsEnd = "mm_struct.arg_end",
        /// The inode of a file.
        FileInode = "file.f_inode",
        /// The mount of a file.
        FileMount = "file.f_path.mnt",
        /// The name of a file.
        FileDentry = "file.f_path.dentry",
        /// The number of an inode.
        InodeNumber = "inode.i_ino",
        /// Its file system.
        InodeSuper = "inode.i_sb",
        /// How many names it has.
        InodeLinks = "inode.i_nlink",
        /// When it was last changed, in seconds.
        InodeChanged = "inode.i_ctime_sec|inode.__i_ctime.tv_sec|inode.i_ctime.tv_sec",
        /// The device of a file system.
        SuperDevice = "super_block.s_dev",
        /// The directory of a name.
        DentryParent = "dentry.d_parent",
        /// The name itself.
        DentryName = "dentry.d_name.name",
        /// Nothing where the name was removed.
        DentryHashed = "dentry.d_hash.pprev",
        /// The part of a mount to which files point.
        MountPart = "mount.mnt",
        /// The mount around a mount.
        MountParent = "mount.mnt_parent",
        /// The directory that it covers.
        MountPoint = "mount.mnt_mountpoint",
        /// The directory that it shows.
        MountRoot = "vfsmount.mnt_root",
        /// The mount of a process's root.
        RootMount = "fs_struct.root.mnt",
        /// The name of that root.
        RootDentry = "fs_struct.root.dentry",
        /// The control group of version 2.
        Group = "css_set.dfl_cgrp",
        /// The control group of a hierarchy of version 1.
        OldGroup = "cgroup_subsys_state.cgroup",
        /// The directory of a control group.
        GroupNode = "cgroup.kn",
        /// The number of such a directory.
        NodeNumber = "kernfs_node.id",
        /// The directory around it.
        NodeParent = "kernfs_node.__parent|kernfs_node.parent",
        /// Its name.
        NodeName = "kernfs_node.name",
        /// How deep in pid namespaces a process is.
        PidLevel = "pid.level",
        /// Its numbers, from the outside in.
        PidNumbers = "pid.numbers",
        /// One of them.
        Number = "upid.nr",
        /// The namespace of the number.
        NumberNamespace = "upid.ns",
        /// The number of a pid namespace.
        PidNamespaceNumber = "pid_namespace.ns.inum",
        /// The network namespace of a process.
        NetworkNamespace = "nsproxy.net_ns",
    }
}

/// How many bytes of a socket are read at once. All fields that outbound traffic needs of it for each connection begin
/// [`SOCKET_HEAD_LAST`] or less after its beginning.
pub const SOCKET_HEAD: usize = 128;
/// As above: an IPv6 address that begins there ends within.
pub const SOCKET_HEAD_LAST: u32 = 112;
/// Those fields.
pub const SOCKET_HEAD_FIELDS: [Field; 6] =
    [Field::RemotePort, Field::Family, Field::LocalV4, Field::RemoteV4, Field::LocalV6, Field::RemoteV6];

/// Bytes of `struct upid`.
pub const NUMBER_LEN: usize = 16;

impl ActorField {
    /// The paths to the field, of which the kernel has one.
    pub fn paths(self) -> impl Iterator<Item = &'static str> {
        self.label().split('|')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_a_structure_and_a_member() {
        let mut paths = ActorField::ALL.iter().flat_map(|field| field.paths());
        assert!(paths.all(|path| path.split('.').count() >= 2));
    }
}
