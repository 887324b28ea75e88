//! Actors: those who use the network from this host. One is a program of a control group, a control group as a whole, or a
//! host behind this one. Its state is the same as that of a source ([`crate::account::SourceState`]), so that one
//! observer and one detector serve both directions.
//!
//! An actor is no process: a loop that starts a process for each probe is one actor.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

#[cfg(doc)]
use crate::sketch;
use crate::{
    address::Address,
    flow::stir,
    numbered,
    outcome::{Flow, Service},
};

/// Map of [`Key::address`] to [`crate::account::SourceState`]: one entry for each actor.
pub const ACTORS: &str = "ACTORS";
/// LRU map of [`Key::address`] to [`Identity`].
pub const IDENTITIES: &str = "IDENTITIES";
/// Array of [`TargetMark::value`]s: the targets that an actor asked for, and those that answered it.
pub const TARGETS: &str = "TARGETS";
/// Map of [`Key::address`] to the time, in jiffies, until which an actor is blocked.
pub const BLOCKED: &str = "BLOCKED";
/// Per-CPU array with one [`Tally`].
pub const OUTBOUND_TALLY: &str = "OUTBOUND_TALLY";

/// Array with one [`Orders`].
pub const OUTBOUND_ORDERS: &str = "OUTBOUND_ORDERS";
/// Hash map of the number of an interface to a number without a meaning: behind it are hosts whose traffic this host
/// forwards, see [`Kind::Inner`].
pub const INNER: &str = "INNER";
/// How many interfaces [`INNER`] has room for.
pub const MAX_INNER: u32 = 256;
/// LPM trie of networks: those with [`LEADS_NOWHERE`] are special-purpose networks to which no route leads from here,
/// those with another number are networks in them that are known here.
pub const NOWHERE: &str = "NOWHERE";
/// See [`NOWHERE`].
pub const LEADS_NOWHERE: u32 = 1;
/// How many networks [`NOWHERE`] has room for.
pub const MAX_NOWHERE: u32 = 16_384;
/// LRU map of [`served`] to [`Served`]: who listens at a port, and who called there.
pub const SERVED: &str = "SERVED";
/// How many listeners [`SERVED`] has room for.
pub const MAX_SERVED: u32 = 1_024;
/// The first port of [`SERVED`]. Below it are services of the superuser, which are no peers of each other.
pub const FIRST_SERVED: u16 = 1_024;

/// The key of a listener in [`SERVED`]: its network namespace and its port.
#[inline(always)]
pub const fn served(namespace: u32, port: u16) -> u64 {
    (namespace as u64) << 16 | port as u64
}

/// A listener of this host.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Served {
    /// [`Key::address`] of the program that listens.
    pub owner: Address,
    /// The hour of the last call, by the kernel's monotonic clock.
    pub hour: u64,
    /// Bitmap of the networks that called in that hour, see [`sketch::caller_bit`].
    pub now: u64,
    /// The same of the hour before it.
    pub before: u64,
}

impl Served {
    /// The same in an hour: what is older than the hour before is forgotten.
    #[inline(always)]
    #[must_use]
    pub const fn at(self, hour: u64) -> Self {
        let Self { owner, hour: last, now, before } = self;
        match hour.wrapping_sub(last) {
            0 => self,
            1 => Self { owner, hour, now: 0, before: now },
            // A call that was under way when the hour ended.
            u64::MAX => Self { owner, hour: last, now, before },
            _ => Self { owner, hour, now: 0, before: 0 },
        }
    }

    /// The networks that called in the last one to two hours.
    pub const fn networks(self, hour: u64) -> u64 {
        let Self { now, before, .. } = self.at(hour);
        now | before
    }
}

/// An hour in nanoseconds.
pub const HOUR_NS: u64 = 60 * 60 * 1_000_000_000;

/// Whether one logs in at a port, or finds the data of others there: SSH, Telnet, SMB, RDP, VNC, WinRM, and databases.
#[inline(always)]
pub const fn is_login(port: u16) -> bool {
    matches!(
        port,
        22 | 23
            | 445
            | 1_433
            | 1_521
            | 2_222
            | 3_306
            | 3_389
            | 5_432
            | 5_900
            | 5_985
            | 5_986
            | 6_379
            | 9_042
            | 9_200
            | 11_211
            | 27_017
    )
}

/// The agent's settings for outbound traffic, which the programs take while they run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Orders {
    /// [`crate::abi::GATE_OFF`], [`crate::abi::GATE_DRY_RUN`] or [`crate::abi::GATE_ENFORCE`].
    pub mode: u32,
    /// Number of entries of [`BLOCKED`]. Where it is 0, the programs skip the look-up.
    pub blocked: u32,
}

/// How many actors there is room for, and how many identities.
pub const MAX_ACTORS: u32 = 4_096;
/// How many connections of this host can wait for an answer at once, so that what comes of them is known; a power of two.
pub const OPEN_PLACES: u32 = 32_768;
/// How many places [`TARGETS`] has, 8 bytes each; a power of two.
pub const TARGET_PLACES: u32 = 1 << TARGET_BITS;
/// The bits of a place.
const TARGET_BITS: u32 = 19;
/// How many actors can be blocked at once.
pub const MAX_BLOCKED: u32 = 1_024;

numbered! {
    /// The kind of an actor.
    Kind[KINDS] {
        /// A program of a control group, by its sockets: connections, and datagrams.
        Program = "program",
        /// A control group as a whole, by the same: a copy of the program for each probe would evade the kind before.
        Group = "group",
        /// A program of a control group that makes packets itself, with a raw or a packet socket (nmap -sS, masscan).
        Crafter = "crafter",
        /// A host behind this one, by its address: what this host forwards for it.
        Inner = "inner",
    }
}

/// The name of an actor in maps.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Number of the control group; 0 for [`Kind::Inner`].
    pub group: u64,
    /// A hash of the device and the inode of the executable, or of the address for [`Kind::Inner`]; 0 for [`Kind::Group`].
    pub of: u64,
}

/// Where [`Kind`] lies in the first word of a key. The kernel counts control groups from 1, and reaches no such number.
const KIND_SHIFT: u32 = 60;

impl Key {
    /// The key of a program, see [`Kind::Program`] and [`Kind::Crafter`].
    #[inline(always)]
    pub const fn of_program(kind: Kind, group: u64, device: u32, inode: u64) -> Self {
        Self { kind, group, of: stir(device as u64, inode) | 1 }
    }

    /// The key of a control group as a whole.
    #[inline(always)]
    pub const fn of_group(group: u64) -> Self {
        Self { kind: Kind::Group, group, of: 0 }
    }

    /// The key of a host behind this one.
    #[inline(always)]
    pub fn of_inner(address: Address, salt: u64) -> Self {
        let [high, low] = address.words();
        Self { kind: Kind::Inner, group: 0, of: stir(stir(salt, high), low) }
    }

    /// The key in the form of an address, since tables of sources have addresses as their keys. It is none on the wire.
    #[inline(always)]
    pub const fn address(self) -> Address {
        Address::from_words([(self.kind as u64) << KIND_SHIFT | self.group, self.of])
    }

    /// The key of such an address.
    pub fn from_address(address: Address) -> Self {
        let [first, of] = address.words();
        let kind = Kind::ALL[(first >> KIND_SHIFT) as usize % KINDS];
        Self { kind, group: first & ((1 << KIND_SHIFT) - 1), of }
    }
}

/// The name of a target of an actor in [`TARGETS`]: a service at an address.
#[inline(always)]
pub fn target(actor: Address, address: Address, service: Service, salt: u64) -> u64 {
    let [actor_high, actor_low] = actor.words();
    let [high, low] = address.words();
    let service = u64::from(service.protocol) << 16 | u64::from(service.port);
    stir(stir(stir(stir(stir(salt, actor_high), actor_low), high), low), service)
}

/// The mark of a target: its place in [`TARGETS`] and its fingerprint.
///
/// Marks are overwritten, never cleared, as those of [`crate::used`]: with `m` places and `r` new targets a second, a
/// target is still known after `t` seconds with a probability of `exp(-r t / m)`. Two targets with the same place and
/// fingerprint are taken for one, one pair in 2^50, and both depend on a secret. Compared with a map that evicts, this holds
/// eight times as many targets in the same memory, and a new one takes a twentieth of the time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TargetMark {
    /// A number below [`TARGET_PLACES`].
    pub place: u32,
    /// Never 0, because 0 is the value of an empty place.
    fingerprint: u32,
}

impl TargetMark {
    /// The mark of the target with this name, see [`target`].
    #[inline(always)]
    pub const fn new(name: u64) -> Self {
        // One more turn, since more than the upper half of the hash is used.
        let hash = stir(0, name);
        Self {
            place: (hash >> (u64::BITS - TARGET_BITS)) as u32 & (TARGET_PLACES - 1),
            fingerprint: (hash >> (u32::BITS - TARGET_BITS)) as u32 | 1,
        }
    }

    /// The value at its place until a time, of which the lowest 31 bits count.
    #[inline(always)]
    pub const fn value(self, until: u32, has_answered: bool) -> u64 {
        (self.fingerprint as u64) << 32 | ((until << 1) | has_answered as u32) as u64
    }

    /// Whether the target is known at this time. `held` is the value at its place.
    #[inline(always)]
    pub const fn is_known(self, held: u64, now: u32) -> bool {
        (held >> 32) as u32 == self.fingerprint && (held as u32 & !1).wrapping_sub(now << 1).cast_signed() > 0
    }

    /// Whether the value at a place is that of another target, which is still known at this time.
    #[inline(always)]
    pub const fn replaces(self, held: u64, now: u32) -> bool {
        held != 0
            && (held >> 32) as u32 != self.fingerprint
            && (held as u32 & !1).wrapping_sub(now << 1).cast_signed() > 0
    }

    /// Whether the target with this value has answered.
    #[inline(always)]
    pub const fn has_answered(held: u64) -> bool {
        held & 1 != 0
    }
}

/// For how long a target that did not answer counts as known: whoever tries again meanwhile looks for nothing new.
pub const FAILED_SECONDS: u64 = 60 * 60;
/// For how long a target counts as known that answered, after it was last asked.
pub const ANSWERED_SECONDS: u64 = 14 * 24 * 60 * 60;

/// Bytes of the name that a process gives itself (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// A process, as the kernel names it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Process {
    /// When it began, in nanoseconds since boot, suspended time included. A pid is used again, this time is not.
    pub start_ns: u64,
    /// Its pid in the first pid namespace: that of its main thread (tgid). 0: there is none.
    pub pid: u32,
    /// Its effective user, in the first user namespace.
    pub uid: u32,
    /// Its name (`comm`), ended by zeros.
    pub comm: [u8; COMM_LEN],
}

/// How many parents of a process are told.
pub const PARENTS: usize = 3;
/// Bytes of [`Identity::path`].
pub const PATH_LEN: usize = 256;
/// Bytes of [`Identity::arguments`].
pub const ARGUMENTS_LEN: usize = 256;
/// Bytes of [`Identity::group_path`].
pub const GROUP_LEN: usize = 256;

/// Marks in [`Identity::marks`].
pub mod marks {
    /// The executable was deleted.
    pub const DELETED: u32 = 1;
    /// The executable never had a name in a file system (`memfd_create`).
    pub const MEMFD: u32 = 2;
    /// [`super::Identity::path`] has not all of the path.
    pub const PATH_CUT: u32 = 4;
    /// [`super::Identity::arguments`] has not all arguments.
    pub const ARGUMENTS_CUT: u32 = 8;
    /// [`super::Identity::group_path`] has not all of the path.
    pub const GROUP_CUT: u32 = 16;
    /// It has a raw socket.
    pub const RAW: u32 = 32;
    /// It has a packet socket.
    pub const PACKET: u32 = 64;
    /// It is a thread of the kernel, without an executable.
    pub const KERNEL: u32 = 128;
}

/// The process that was last seen to act as an actor, read within that process.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Identity {
    /// The process.
    pub process: Process,
    /// Its parent, the parent's parent, and so on.
    pub parents: [Process; PARENTS],
    /// The address of an actor of [`Kind::Inner`]; else `::`.
    pub address: Address,
    /// Number of its control group.
    pub group: u64,
    /// Inode of the executable.
    pub inode: u64,
    /// When the executable was last changed (ctime), in seconds since 1970.
    pub changed: u64,
    /// When this was read, by the kernel's monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// Device of the executable.
    pub device: u32,
    /// Inode of its pid namespace.
    pub pid_namespace: u32,
    /// Inode of its network namespace.
    pub network_namespace: u32,
    /// Its pid within its own pid namespace.
    pub inner_pid: u32,
    /// See [`marks`].
    pub marks: u32,
    /// How many bytes of [`Self::arguments`] are used.
    pub arguments_len: u32,
    /// Path of the executable, the last name first: names that end by zeros, the root of the file system left out. The
    /// rest is 0.
    pub path: [u8; PATH_LEN],
    /// Arguments, each ended by a zero, with that of the program's name. They may hold secrets.
    pub arguments: [u8; ARGUMENTS_LEN],
    /// Path of the control group in the same form as [`Self::path`].
    pub group_path: [u8; GROUP_LEN],
}

impl Identity {
    /// Nobody.
    pub const NONE: Self = Self {
        process: Process { start_ns: 0, pid: 0, uid: 0, comm: [0; COMM_LEN] },
        parents: [Process { start_ns: 0, pid: 0, uid: 0, comm: [0; COMM_LEN] }; PARENTS],
        address: Address::UNSPECIFIED,
        group: 0,
        inode: 0,
        changed: 0,
        at_ns: 0,
        device: 0,
        pid_namespace: 0,
        network_namespace: 0,
        inner_pid: 0,
        marks: 0,
        arguments_len: 0,
        path: [0; PATH_LEN],
        arguments: [0; ARGUMENTS_LEN],
        group_path: [0; GROUP_LEN],
    };
}

numbered! {
    /// What became of something that the programs for outbound traffic looked at.
    Seen[SEEN] {
        /// A connection was asked for at a new target.
        New = "new",
        /// A connection was asked for at a target that is known to the actor.
        Known = "known",
        /// It went to this host itself, by loopback or to an own address.
        Own = "own",
        /// A connection was established.
        Answered = "answered",
        /// A connection was established with a target that is known to the actor to answer.
        Again = "again",
        /// A connection was refused, or did not come about.
        Failed = "failed",
        /// A connection with a new target has ended in which this host said nothing.
        Silent = "silent",
        /// A packet was made by a raw or packet socket.
        Crafted = "crafted",
        /// A datagram went to a new target.
        Datagram = "datagram",
        /// A packet of a host behind this one opened a flow.
        Forwarded = "forwarded",
        /// A process of another network namespace did something, and those are not looked at.
        Elsewhere = "elsewhere",
        /// Something could not be attributed: the kernel's structures could not be read.
        Unreadable = "unreadable",
        /// The table of actors had no room.
        NoRoom = "no_room",
        /// An attempt of a blocked actor was refused.
        Blocked = "blocked",
        /// The same, if blocking were on.
        WouldBlock = "would_block",
        /// The first attempt of a host behind this one, which is not counted: anybody may have forged its address, and a
        /// flood of such addresses must not push others out of the table.
        AtTheDoor = "at_the_door",
        /// A raw socket was opened.
        RawSocket = "raw_socket",
        /// An actor came into the table of actors.
        Entered = "entered",
        /// A call came while another process on the same CPU was looked at, and was not looked at.
        Busy = "busy",
        /// What comes of a connection stays unknown: another one took its place among those that wait.
        Displaced = "displaced",
        /// A target was forgotten before its time: another one took its place. If it is asked again, it counts as new.
        Overwritten = "overwritten",
    }
}

/// Exact numbers of what was looked at, on one CPU.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Tally {
    /// By [`Seen`].
    pub seen: [u64; SEEN],
}

/// The place of an attempt among the targets of an actor: the flow is turned, so that the remote side is the destination
/// as in a probe of a source.
#[inline(always)]
pub const fn attempt(actor: Address, local_port: u16, remote: Address, service: Service) -> Flow {
    Flow { source: actor, destination: remote, service, source_port: local_port, reserved: 0 }
}

#[cfg(feature = "user")]
mod pod {
    // SAFETY: plain data without padding (`IntoBytes`), valid for all bytes (`FromBytes`), `Copy`.
    unsafe impl aya::Pod for super::Tally {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Orders {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Served {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_from_their_addresses() {
        let address = Address::from_v6(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        for key in [
            Key::of_program(Kind::Program, 77, 0xfd00_0001, 123),
            Key::of_program(Kind::Crafter, 77, 0xfd00_0001, 123),
            Key::of_group(77),
            Key::of_inner(address, 5),
        ] {
            assert_eq!(Key::from_address(key.address()), key);
        }
    }

    #[test]
    fn who_called_is_known_for_an_hour_or_two() {
        let served = Served { hour: 10, now: 1, before: 2, ..Served::default() };
        let at = |hour| served.networks(hour);
        assert_eq!([at(9), at(10), at(11), at(12), at(500)], [3, 3, 1, 0, 0]);
        assert_eq!(served.at(11).at(12).networks(12), 0);
    }

    #[test]
    fn a_target_is_known_until_its_time_and_no_other_is() {
        for until in [10, u32::MAX >> 1, u32::MAX] {
            let mark = TargetMark::new(7);
            for has_answered in [false, true] {
                let held = mark.value(until, has_answered);
                assert_eq!(TargetMark::has_answered(held), has_answered);
                for (before, known) in [(1, true), (1 << 29, true), (0, false), (1u32.wrapping_neg(), false)]
                {
                    assert_eq!(
                        mark.is_known(held, until.wrapping_sub(before)),
                        known,
                        "{before} before {until}"
                    );
                }
                assert!(!TargetMark::new(8).is_known(held, until - 1));
            }
        }
        assert!((0..1_000).all(|name| !TargetMark::new(name).is_known(0, 1_u32.wrapping_neg())));
    }

    #[test]
    fn a_target_replaces_another_one_that_is_still_known() {
        let (mark, other) = (TargetMark::new(7), TargetMark::new(8));
        assert!(mark.replaces(other.value(10, false), 9) && mark.replaces(other.value(10, true), 9));
        assert!(!mark.replaces(other.value(10, false), 10), "its time is over");
        assert!(!mark.replaces(mark.value(10, false), 9), "it is the same");
        assert!(!mark.replaces(0, 9) && !mark.replaces(0, 0), "nobody is there");
    }

    #[test]
    fn targets_of_different_actors_and_services_have_different_names() {
        let actors = [Key::of_group(1).address(), Key::of_group(2).address()];
        let addresses = [1u8, 2].map(|last| Address::from_v4(&[192, 0, 2, last]));
        let services = [Service { protocol: 6, port: 22 }, Service { protocol: 17, port: 22 }];
        let mut names = [0; 8];
        for (place, name) in names.iter_mut().enumerate() {
            *name = target(actors[place & 1], addresses[place >> 1 & 1], services[place >> 2], 7);
        }
        names.sort_unstable();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
    }
}
