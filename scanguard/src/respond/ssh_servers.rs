//! Inspects the processes of this host's SSH servers: they show the ports in use, and whether a user has logged in. An
//! agent that never was root may not look into them: `scanguard prepare` looks for it, and leaves what it has seen.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    num::NonZeroU64,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::Duration,
};

use procfs::{
    Current as _, Uptime,
    process::{FDTarget, Process, Stat},
};

use serde::{Deserialize, Serialize};

use super::{
    sockets::Socket,
    ssh::{LOGGED_IN, LOGGED_IN_DROPBEAR, Login, MAX_PEERS},
};

/// Servers by the names of their processes, and how long a connection has to live to count as logged in.
/// OpenSSH serves a connection by processes of other names from 9.8 (`sshd-session`) and 10.0 (`sshd-auth`) on.
const SERVERS: [(&str, Duration); 4] = [
    ("sshd", LOGGED_IN),
    ("sshd-session", LOGGED_IN),
    ("sshd-auth", LOGGED_IN),
    ("dropbear", LOGGED_IN_DROPBEAR),
];
/// The prefix of the process titles that OpenSSH sets.
const TITLES: [&str; 3] = ["sshd: ", "sshd-session: ", "sshd-auth: "];

/// The role of a process, by its title.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
enum Role {
    /// It waits for connections, or its title does not show the role.
    Listener,
    /// It serves a connection without a login.
    Attempt,
    /// It serves a connection with a login.
    Session,
}

impl Role {
    /// OpenSSH shows the user after the login ("sshd: user@pts/0", "sshd: user"). All its other processes have
    /// brackets: "[accepted]", "user [net]", "user [priv]", "[listener]". A user name before the login also stands
    /// before brackets.
    fn of(title: &str) -> Self {
        let Some(rest) = TITLES.iter().find_map(|prefix| title.strip_prefix(prefix)) else {
            return Self::Listener;
        };
        match rest {
            listener if listener.contains("[listener]") => Self::Listener,
            attempt if attempt.contains('[') => Self::Attempt,
            _ => Self::Session,
        }
    }
}

/// A process of a server.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct ServerProcess {
    /// How long a connection to it has to live to count.
    patience: Duration,
    role: Role,
    /// Whether it runs as root.
    is_root: bool,
    /// Whether it started a process that is no server: a shell or a command.
    has_command: bool,
    /// The time since its start.
    age: Duration,
    /// Its sockets; none if the agent may not read them.
    sockets: Vec<NonZeroU64>,
}

impl ServerProcess {
    fn holds(&self, inode: NonZeroU64) -> bool {
        self.sockets.contains(&inode)
    }

    fn listens(&self, sockets: &[Socket]) -> bool {
        sockets.iter().any(|socket| socket.listens && socket.inode.is_some_and(|inode| self.holds(inode)))
    }
}

/// The processes of this host's SSH servers.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct SshServers(Vec<ServerProcess>);

/// The largest file of what was seen: more than [`MAX_PEERS`] processes with a few sockets each.
const MAX_FILE: u64 = 4 << 20;

impl SshServers {
    /// Finds the processes that run now, as far as the agent may read them.
    pub fn find() -> Self {
        let (Ok(processes), Ok(uptime)) = (procfs::process::all_processes(), Uptime::current()) else {
            return Self::default();
        };
        let processes: Vec<_> = processes
            .filter_map(|process| {
                let process = process.ok()?;
                let stat = process.stat().ok()?;
                Some((process, stat))
            })
            .collect();
        let patience =
            |stat: &Stat| SERVERS.iter().find(|(name, _)| *name == stat.comm).map(|(_, patience)| *patience);
        let others = processes.iter().filter(|(_, stat)| patience(stat).is_none());
        let with_commands: BTreeSet<i32> = others.map(|(_, stat)| stat.ppid).collect();
        let servers = processes.iter().filter_map(|(process, stat)| {
            let started = Duration::from_secs(stat.starttime / procfs::ticks_per_second());
            Some(ServerProcess {
                patience: patience(stat)?,
                role: Role::of(&process.cmdline().ok()?.join(" ")),
                is_root: process.status().ok()?.euid == 0,
                has_command: with_commands.contains(&stat.pid),
                age: uptime.uptime_duration().saturating_sub(started),
                sockets: sockets(process),
            })
        });
        Self(servers.take(MAX_PEERS).collect())
    }

    /// Leaves what was seen for the agent that root starts next. The agent's user may write to the directory: a file that
    /// is there is removed, not written to.
    ///
    /// # Errors
    /// It could not be written.
    pub fn leave_at(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o644).open(path)?;
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)
    }

    /// What root has left; nothing if there is no such file, or if it is not root's.
    pub fn left_at(path: &Path) -> Self {
        let read = || {
            let file =
                File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
            let about = file.metadata()?;
            if !about.is_file() || about.uid() != 0 {
                return Err(io::Error::other("not a file of root"));
            }
            let mut text = Vec::new();
            file.take(MAX_FILE).read_to_end(&mut text)?;
            serde_json::from_slice(&text).map_err(io::Error::other)
        };
        read()
            .inspect_err(|error: &io::Error| {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("{}: what was seen of SSH servers: {error}", path.display());
                }
            })
            .unwrap_or_default()
    }

    /// Adds what others have seen.
    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The ports at which servers listen, and how long a connection there has to live to count. Only processes of root
    /// count: any user can name a process sshd, and logged-in users can make sshd listen for them (`ssh -R`).
    pub(super) fn ports(&self, sockets: &[Socket]) -> Vec<(u16, Duration)> {
        let servers = self.0.iter().filter(|process| process.is_root && process.role == Role::Listener);
        servers
            .flat_map(|process| {
                let own =
                    |socket: &&Socket| socket.listens && socket.inode.is_some_and(|one| process.holds(one));
                sockets.iter().filter(own).map(|socket| (socket.own.port(), process.patience))
            })
            .collect()
    }

    /// Whether the connection with this number has a login.
    pub(super) fn login(&self, inode: NonZeroU64, sockets: &[Socket]) -> Login {
        let holders = self.0.iter().filter(|process| process.holds(inode));
        let login = holders.map(|process| match process.role {
            Role::Session => Login::Done,
            Role::Attempt => Login::Open(process.age),
            // It has only just accepted the connection, and it started long before.
            Role::Listener if process.listens(sockets) => Login::Open(Duration::ZERO),
            // Dropbear has one title for all processes. It starts no other process before a login.
            Role::Listener if process.has_command => Login::Done,
            Role::Listener => Login::Open(process.age),
        });
        login.reduce(surer).unwrap_or(Login::Unknown)
    }
}

/// Combines the login states of two processes of one connection: the more certain one wins. The oldest process is as
/// old as the connection.
fn surer(one: Login, other: Login) -> Login {
    match (one, other) {
        (Login::Open(one), Login::Open(other)) => Login::Open(one.max(other)),
        (Login::Done, _) | (_, Login::Done) => Login::Done,
        (known, Login::Unknown) | (Login::Unknown, known) => known,
    }
}

fn sockets(process: &Process) -> Vec<NonZeroU64> {
    let Ok(descriptors) = process.fd() else {
        return Vec::new();
    };
    let inode = |target| match target {
        FDTarget::Socket(inode) => NonZeroU64::new(inode),
        _ => None,
    };
    descriptors.filter_map(|descriptor| inode(descriptor.ok()?.target)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inode(number: u64) -> NonZeroU64 {
        NonZeroU64::new(number).unwrap()
    }

    fn process(title: &str, age: u64, sockets: &[u64]) -> ServerProcess {
        ServerProcess {
            patience: LOGGED_IN,
            role: Role::of(title),
            is_root: true,
            has_command: false,
            age: Duration::from_secs(age),
            sockets: sockets.iter().copied().map(inode).collect(),
        }
    }

    fn listening(port: u16, number: u64) -> Socket {
        let own = ([0, 0, 0, 0], port).into();
        Socket { own, peer: ([0, 0, 0, 0], 0).into(), listens: true, inode: Some(inode(number)) }
    }

    const LISTENER: &str = "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups";

    #[test]
    fn what_root_has_seen_is_left_for_the_agent_and_nobody_else_is_believed() {
        let directory = std::env::temp_dir().join(format!("sg-ssh-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (path, other) = (directory.join("ssh.json"), directory.join("other"));
        fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        let seen = SshServers(vec![process("sshd: root@pts/0", 7, &[12])]);
        let left = seen.leave_at(&path);
        let read = SshServers::left_at(&path).login(inode(12), &[]);
        let is_root = crate::privileges::effective_user() == 0;
        let of_others = is_root.then(|| {
            std::os::unix::fs::chown(&path, Some(64_023), None).unwrap();
            SshServers::left_at(&path).login(inode(12), &[])
        });
        let kept = fs::read_to_string(&other);
        fs::remove_dir_all(&directory).unwrap();
        left.unwrap();
        assert_eq!(kept.unwrap(), "precious", "a link was followed");
        assert_eq!(read, if is_root { Login::Done } else { Login::Unknown });
        assert_eq!(of_others.unwrap_or(Login::Unknown), Login::Unknown);
    }

    #[test]
    fn titles_of_openssh_are_understood() {
        for (title, role) in [
            (LISTENER, Role::Listener),
            ("/usr/sbin/sshd -D", Role::Listener),
            ("/usr/sbin/dropbear -F", Role::Listener),
            ("/usr/lib/openssh/sshd-session -D -R", Role::Listener),
            ("sshd: [accepted]", Role::Attempt),
            ("sshd: [net]", Role::Attempt),
            ("sshd: unknown [priv]", Role::Attempt),
            ("sshd: root [net]", Role::Attempt),
            ("sshd-session: root [priv]", Role::Attempt),
            ("sshd-auth: root [net]", Role::Attempt),
            ("sshd: root@pts/0", Role::Session),
            ("sshd: user@notty", Role::Session),
            ("sshd-session: user@pts/0,pts/1", Role::Session),
            ("sshd: user", Role::Session),
        ] {
            assert_eq!(Role::of(title), role, "{title}");
        }
    }

    #[test]
    fn a_login_is_what_the_processes_of_its_connection_say() {
        let seconds = Duration::from_secs;
        let mut dropbear = process("/usr/sbin/dropbear -F", 80, &[14]);
        dropbear.has_command = true;
        let servers = SshServers(vec![
            process(LISTENER, 9_000, &[1, 15]),
            process("sshd: user [priv]", 20, &[11]),
            process("sshd: user@pts/0", 19, &[11]),
            process("sshd: unknown [priv]", 100, &[12]),
            process("sshd: unknown [net]", 99, &[12]),
            process("/usr/sbin/dropbear -F", 80, &[13]),
            dropbear,
        ]);
        let login = |number| servers.login(inode(number), &[listening(22, 1)]);
        assert_eq!(login(11), Login::Done);
        assert_eq!(login(12), Login::Open(seconds(100)));
        assert_eq!(login(13), Login::Open(seconds(80)), "as old as its process");
        assert_eq!(login(14), Login::Done, "a shell");
        assert_eq!(login(15), Login::Open(Duration::ZERO), "the listener is older than what it accepts");
        assert_eq!(login(99), Login::Unknown);
    }

    #[test]
    fn only_what_root_listens_for_is_an_ssh_server() {
        let sockets = [listening(22, 1), listening(2_222, 2), listening(4_444, 3), listening(8_080, 4)];
        let mut of_user = process("sshd: ./sshd [listener]", 10, &[3]);
        of_user.is_root = false;
        let forwarding = process("sshd: root@pts/0", 10, &[4]);
        let two = process("/usr/sbin/dropbear", 10, &[2]);
        let servers = SshServers(vec![process(LISTENER, 10, &[1]), two, of_user, forwarding]);
        let ports: Vec<_> = servers.ports(&sockets).into_iter().map(|(port, _)| port).collect();
        assert_eq!(ports, [22, 2_222]);
    }
}
