//! An actor as it is told: the process that was last seen to act, decoded from what the program read in it, and made safe
//! to show.

use std::net::IpAddr;

use glob::Pattern;
use scanguard_common::{
    actor::{Identity, Key, Kind, Process, marks},
    address::Address,
};

use super::{
    arguments::{self, Arguments},
    container::Container,
    text::{clean, names, until_zero},
    unit,
    users::Users,
};

/// A file by its numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct File {
    /// The device.
    pub device: u32,
    /// The inode.
    pub inode: u64,
    /// When it was last changed (ctime), in seconds since 1970.
    pub changed: u64,
}

/// Who acts: a program of a control group, a control group, or a host behind this one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Actor {
    /// Its name in the kernel's tables.
    pub key: Key,
    /// Its process, as it was seen last; none: nobody knows it.
    pub process: Option<Box<Running>>,
    /// The address of a host behind this one.
    pub address: Option<IpAddr>,
}

/// A process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Running {
    /// Its pid, as this host has it.
    pub pid: u32,
    /// Its pid in its own pid namespace, if that is another one.
    pub inner_pid: Option<u32>,
    /// When it began, in nanoseconds since boot. A pid is used again, this time is not.
    pub start_ns: u64,
    /// Its name (`comm`).
    pub comm: String,
    /// Its effective user.
    pub uid: u32,
    /// The name of this user, if it is one of this host.
    pub user: Option<String>,
    /// The path of its executable; empty for a thread of the kernel.
    pub path: String,
    /// Its executable.
    pub file: File,
    /// See [`marks`].
    pub marks: u32,
    /// Its arguments, as far as they are told.
    pub arguments: Option<String>,
    /// Its parent, the parent's parent, and so on.
    pub parents: Vec<Parent>,
    /// The path of its control group.
    pub group: String,
    /// Its unit of systemd.
    pub unit: Option<String>,
    /// Its container.
    pub container: Option<Container>,
}

/// A process above another one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parent {
    /// Its name.
    pub comm: String,
    /// Its pid.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
}

impl Running {
    fn of(identity: &Identity, users: &Users, told: Arguments) -> Self {
        let has = |mark| identity.marks & mark != 0;
        let path = path(&identity.path, has(marks::PATH_CUT));
        let group = path_of_group(&identity.group_path, has(marks::GROUP_CUT));
        let container = Container::of(&group);
        let words =
            usize::try_from(identity.arguments_len).unwrap_or(usize::MAX).min(identity.arguments.len());
        let Process { start_ns, pid, uid, comm } = identity.process;
        // A user of a container is not the one of this host with that number.
        let user = container.is_none().then(|| users.name(uid)).flatten();
        Self {
            pid,
            inner_pid: Some(identity.inner_pid).filter(|inner| *inner != 0 && *inner != pid),
            start_ns,
            comm: clean(until_zero(&comm)),
            uid,
            user: user.map(str::to_owned),
            path,
            file: File { device: identity.device, inode: identity.inode, changed: identity.changed },
            marks: identity.marks,
            arguments: arguments::told(&identity.arguments[..words], has(marks::ARGUMENTS_CUT), told),
            parents: identity.parents.iter().take_while(|parent| parent.pid != 0).map(parent).collect(),
            unit: unit::of(&group).map(str::to_owned).filter(|_| container.is_none()),
            group,
            container,
        }
    }

    /// Whether it has this mark, see [`marks`].
    pub const fn is(&self, mark: u32) -> bool {
        self.marks & mark != 0
    }

    /// The last name of its path; its own name if there is no path.
    pub fn program(&self) -> &str {
        match self.path.rsplit('/').next() {
            Some(name) if !name.is_empty() => name,
            Some(_) | None => &self.comm,
        }
    }

    /// Whether a user started it who is logged in.
    pub fn is_of_login(&self) -> bool {
        unit::is_login(&self.group)
    }

    /// Whether its executable has no lasting place: it was deleted, never had a name, or is where everybody may write.
    pub fn is_fleeting(&self) -> bool {
        let everybodys = ["/tmp/", "/dev/shm/", "/var/tmp/", "/run/shm/"];
        self.is(marks::DELETED | marks::MEMFD) || everybodys.iter().any(|place| self.path.starts_with(place))
    }

    /// The class of its control group: the unit or the runtime of the container, without what differs between instances.
    pub fn class(&self) -> String {
        match (&self.container, &self.unit) {
            (Some(container), _) => format!("{} container", container.runtime),
            (None, Some(unit)) => unit::class(unit),
            (None, None) => unit::class(&self.group),
        }
    }

    /// "php-fpm < systemd", or nothing.
    pub fn lineage(&self) -> Option<String> {
        let names: Vec<_> = self.parents.iter().map(|parent| parent.comm.as_str()).collect();
        (!names.is_empty()).then(|| names.join(" < "))
    }

    /// Its executable and arguments: "/usr/bin/python3 scan.py".
    pub fn command(&self) -> String {
        let path = match (self.path.is_empty(), self.is(marks::KERNEL)) {
            (true, true) => "the kernel",
            (true, false) => "an unknown executable",
            (false, _) => &self.path,
        };
        let mut command = path.to_owned();
        if self.is(marks::DELETED) {
            command.push_str(" (deleted)");
        } else if self.is(marks::MEMFD) {
            command.push_str(" (never in a file system)");
        }
        if let Some(arguments) = &self.arguments {
            command.push(' ');
            command.push_str(arguments);
        }
        command
    }

    /// "unit web.service", "container 3f9a0c11d2e4", or the control group.
    pub fn place(&self) -> String {
        match (&self.container, &self.unit) {
            (Some(container), _) => format!("{} container {}", container.runtime, container.short_id()),
            (None, Some(unit)) => format!("unit {unit}"),
            (None, None) => format!("group {}", self.group),
        }
    }
}

fn parent(process: &Process) -> Parent {
    Parent { comm: clean(until_zero(&process.comm)), pid: process.pid, uid: process.uid }
}

/// What stands in the place of names that there was no room for.
const CUT: &str = "/...";

/// A path from its names, the last one first; empty if there is none.
fn path(field: &[u8], cut: bool) -> String {
    let mut path = if cut { CUT.to_owned() } else { String::new() };
    for name in names(field) {
        path.push('/');
        path.push_str(&clean(name));
    }
    path
}

/// The same for a control group, whose root is `/`.
fn path_of_group(field: &[u8], cut: bool) -> String {
    let path = path(field, cut);
    if path.is_empty() { "/".to_owned() } else { path }
}

impl Actor {
    /// An actor with what was read in its process. Without that, only its kind is known.
    pub fn new(key: Key, identity: Option<&Identity>, users: &Users, told: Arguments) -> Self {
        let identity = identity.filter(|identity| **identity != Identity::NONE);
        let process = identity.filter(|identity| key.kind != Kind::Inner && identity.process.pid != 0);
        let address =
            identity.map(|identity| identity.address).filter(|address| *address != Address::UNSPECIFIED);
        Self {
            key,
            process: process.map(|identity| Box::new(Running::of(identity, users, told))),
            address: address.map(Address::to_ip),
        }
    }

    /// An actor of whom nothing was read.
    pub fn unknown(key: Key) -> Self {
        Self { key, process: None, address: None }
    }

    /// Its name, in few words: that of its program, its group, or its address.
    pub fn name(&self) -> String {
        match (&self.process, self.address) {
            (_, Some(address)) => address.to_string(),
            (Some(process), None) if self.key.kind == Kind::Group => process.place(),
            (Some(process), None) => process.program().to_owned(),
            (None, None) => format!("an unknown {}", self.key.kind.label()),
        }
    }

    /// Whether one of its names matches: that of its program, its executable's path, its unit, its class or its container,
    /// its pid, or its address.
    pub fn matches(&self, pattern: &Pattern) -> bool {
        let is = |name: &str| pattern.matches(name);
        if self.address.is_some_and(|address| is(&address.to_string())) {
            return true;
        }
        self.process.as_ref().is_some_and(|process| {
            let container = process.container.as_ref();
            let of_group = process.unit.as_deref().is_some_and(is)
                || is(&process.class())
                || container.is_some_and(|container| is(&container.id) || is(container.short_id()));
            let is_program = || is(process.program()) || is(&process.path) || is(&process.pid.to_string());
            of_group || self.key.kind != Kind::Group && is_program()
        })
    }

    /// Where it runs, and as whom: "unit web.service, uid 33, pid 4711". Empty if nobody knows.
    pub fn place(&self) -> String {
        let Some(process) = &self.process else {
            return if self.key.group == 0 {
                String::new()
            } else {
                format!("group number {}", self.key.group)
            };
        };
        if self.key.kind == Kind::Group {
            return format!("several programs, the last one {}, pid {}", process.program(), process.pid);
        }
        let user = match &process.user {
            Some(user) => format!("uid {} {user}", process.uid),
            None => format!("uid {}", process.uid),
        };
        let inner = process.inner_pid.map_or_else(String::new, |inner| format!(", pid {inner} within"));
        format!("{}, {user}, pid {}{inner}", process.place(), process.pid)
    }

    /// Its name and where it runs, without what differs from one process to the next: "python3 (web.service)".
    pub fn class(&self) -> String {
        match &self.process {
            Some(process) => format!("{} ({})", process.program(), process.class()),
            None => self.name(),
        }
    }

    /// What it runs and who started it: "from /usr/bin/python3 scan.py; started by php-fpm < systemd". Nothing if nobody
    /// knows.
    pub fn origin(&self) -> Option<String> {
        let process = self.process.as_ref()?;
        let started = process.lineage().map_or_else(String::new, |lineage| format!("; started by {lineage}"));
        Some(format!("from {}{started}", process.command()))
    }
}

impl std::fmt::Display for Actor {
    /// "python3 (unit web.service, uid 33, pid 4711)"
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = self.place();
        f.write_str(&self.name())?;
        if place.is_empty() { Ok(()) } else { write!(f, " ({place})") }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use scanguard_common::actor;

    use super::*;

    /// An identity with these names, as the program writes them.
    pub(crate) struct Draft {
        pub(crate) identity: Identity,
    }

    fn put(field: &mut [u8], path: &str) {
        let mut place = 0;
        for name in path.split('/').rev().filter(|name| !name.is_empty()) {
            field[place..place + name.len()].copy_from_slice(name.as_bytes());
            place += name.len() + 1;
        }
    }

    pub(crate) fn process(pid: u32, uid: u32, name: &str) -> Process {
        let mut comm = [0; actor::COMM_LEN];
        let length = name.len().min(actor::COMM_LEN - 1);
        comm[..length].copy_from_slice(&name.as_bytes()[..length]);
        Process { start_ns: u64::from(pid) * 1_000, pid, uid, comm }
    }

    impl Draft {
        /// A process of this executable and control group.
        pub(crate) fn new(path: &str, group: &str) -> Self {
            let comm = path.rsplit('/').next().unwrap_or_default();
            let mut identity =
                Identity { process: process(4711, 33, comm), inner_pid: 4711, inode: 7, ..Identity::NONE };
            put(&mut identity.path, path);
            put(&mut identity.group_path, group);
            Self { identity }.words(&[path])
        }

        pub(crate) fn words(mut self, words: &[&str]) -> Self {
            let joined = words.join("\0") + "\0";
            self.identity.arguments = [0; actor::ARGUMENTS_LEN];
            self.identity.arguments[..joined.len()].copy_from_slice(joined.as_bytes());
            self.identity.arguments_len = u32::try_from(joined.len()).unwrap();
            self
        }

        pub(crate) fn parents(mut self, names: &[&str]) -> Self {
            for (place, (parent, name)) in self.identity.parents.iter_mut().zip(names).enumerate() {
                *parent = process(100 - u32::try_from(place).unwrap(), 0, name);
            }
            self
        }

        pub(crate) fn marks(mut self, marks: u32) -> Self {
            self.identity.marks = marks;
            self
        }

        pub(crate) fn actor(&self, kind: Kind) -> Actor {
            let key = match kind {
                Kind::Group => Key::of_group(42),
                _ => Key::of_program(kind, 42, self.identity.device, self.identity.inode),
            };
            Actor::new(
                key,
                Some(&self.identity),
                &Users::parse(b"www-data:x:33:33::/:/bin/sh\n"),
                Arguments::Redacted,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::Draft, *};

    fn scan() -> Draft {
        Draft::new("/usr/bin/python3", "/system.slice/web.service")
            .words(&["python3", "scan.py", "--token", "x"])
            .parents(&["php-fpm", "systemd"])
    }

    #[test]
    fn a_process_is_told_with_its_unit_and_those_who_started_it() {
        let actor = scan().actor(Kind::Program);
        assert_eq!(actor.to_string(), "python3 (unit web.service, uid 33 www-data, pid 4711)");
        let origin = actor.origin().unwrap();
        assert_eq!(origin, "from /usr/bin/python3 scan.py --token ***; started by php-fpm < systemd");
        let group = scan().actor(Kind::Group);
        assert_eq!(group.to_string(), "unit web.service (several programs, the last one python3, pid 4711)");
    }

    #[test]
    fn a_container_is_told_by_its_id_and_its_users_have_no_names_here() {
        let id = "3f9a0c11d2e4".repeat(6)[..64].to_owned();
        let mut draft = Draft::new("/app/scan", &format!("/system.slice/docker-{id}.scope"));
        draft.identity.inner_pid = 7;
        let actor = draft.actor(Kind::Program);
        assert_eq!(actor.to_string(), "scan (docker container 3f9a0c11d2e4, uid 33, pid 4711, pid 7 within)");
        let process = actor.process.unwrap();
        assert_eq!((process.unit.as_deref(), process.class().as_str()), (None, "docker container"));
    }

    #[test]
    fn what_was_cut_deleted_or_never_there_is_said() {
        let told = |draft: Draft| draft.actor(Kind::Program).origin().unwrap();
        let marks = marks::PATH_CUT | marks::DELETED | marks::ARGUMENTS_CUT;
        assert_eq!(told(Draft::new("/b/c", "/").marks(marks)), "from /.../b/c (deleted) [...]");
        let memfd = Draft::new("/memfd:x", "/").marks(marks::MEMFD);
        assert!(memfd.actor(Kind::Program).process.unwrap().is_fleeting());
        assert_eq!(told(memfd), "from /memfd:x (never in a file system)");
        let mut none = Draft::new("", "/");
        none.identity.arguments_len = 0;
        assert_eq!(told(none), "from an unknown executable");
        let key = Key::of_group(3);
        let unknown = Actor::new(key, None, &Users::default(), Arguments::Redacted);
        assert_eq!(unknown.to_string(), "an unknown group (group number 3)");
        assert_eq!(unknown, Actor::unknown(key));
    }

    #[test]
    fn a_host_behind_this_one_is_told_by_its_address() {
        let address = Address::from("192.0.2.9".parse::<IpAddr>().unwrap());
        let identity = Identity { address, ..Identity::NONE };
        let actor =
            Actor::new(Key::of_inner(address, 5), Some(&identity), &Users::default(), Arguments::Redacted);
        assert_eq!((actor.to_string().as_str(), actor.origin()), ("192.0.2.9", None));
    }

    #[test]
    fn any_bytes_are_taken() {
        use zerocopy::FromBytes as _;
        for byte in [0xff, b'\n', 0x1b, b'/'] {
            let bytes = [byte; size_of::<Identity>()];
            let identity = Identity::read_from_bytes(&bytes).unwrap();
            let actor = Actor::new(Key::of_group(1), Some(&identity), &Users::default(), Arguments::Full);
            let text = format!("{actor} {}", actor.origin().unwrap());
            assert!(!text.chars().any(char::is_control), "{text}");
        }
    }
}
