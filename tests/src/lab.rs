//! Two hosts in network namespaces, joined by a veth pair. Everything goes away with its guard, also when a
//! test panics.

use std::{
    fs::File,
    io::Read as _,
    os::fd::AsRawFd as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{cleanup::kill_all_in, stage::scratch_root};

/// The interface of the host that is scanned.
pub const VICTIM_INTERFACE: &str = "edge0";
/// Its address.
pub const VICTIM: &str = "10.77.0.1";
/// As above.
pub const VICTIM6: &str = "fd77::1";
/// A network that is routed to it, every address of which it answers for.
pub const ROUTED: &str = "10.78.0";
/// The interface of the host that scans.
pub const SCANNER_INTERFACE: &str = "scan0";
/// Its address.
pub const SCANNER: &str = "10.77.0.2";
/// As above.
pub const SCANNER6: &str = "fd77::2";

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A network namespace.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one, named after this process, so that two runs do not meet.
    ///
    /// # Errors
    /// `ip` could not.
    pub fn new(role: &str) -> Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("sg{}-{number}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// A command that runs inside.
    pub fn command(&self, program: &str) -> Command {
        // Not `ip netns exec`, which makes a mount namespace of its own too.
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg("--").arg(program);
        command
    }

    /// Runs `ip` inside, with these arguments.
    ///
    /// # Errors
    /// It failed.
    pub fn ip(&self, arguments: &str) -> Result<Output> {
        run(self.command("ip").args(arguments.split(' ')))
    }

    /// Sets a variable below /proc/sys/net.
    ///
    /// # Errors
    /// There is none of that name, or it does not take the value.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.enter(|| std::fs::write(format!("/proc/sys/net/{name}"), value).with_context(|| name.to_owned()))
    }

    /// Runs a closure in a thread that is inside.
    ///
    /// # Errors
    /// The namespace could not be entered, or what the closure says.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = File::open(self.path())?;
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: the descriptor is that of a namespace; only this thread moves into it.
                let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
                ensure!(result == 0, "setns: {}", std::io::Error::last_os_error());
                inside()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The MAC address of an interface.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn mac(&self, interface: &str) -> Result<String> {
        let output = self.ip(&format!("-j link show dev {interface}"))?;
        let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        links[0]["address"].as_str().map(str::to_owned).context("the interface has a MAC address")
    }

    /// The same as six bytes.
    ///
    /// # Errors
    /// As above.
    pub fn mac_bytes(&self, interface: &str) -> Result<[u8; 6]> {
        let text = self.mac(interface)?;
        let bytes: Result<Vec<_>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
        bytes?.try_into().ok().context("six bytes")
    }

    /// Joins an interface of this host to a new one of another host, both up with their addresses.
    ///
    /// # Errors
    /// `ip` could not.
    pub fn join(&self, ends: [(&str, &str); 2], other: &Self) -> Result<()> {
        let [(interface, address), (peer, peer_address)] = ends;
        self.ip(&format!("link add {interface} type veth peer name {peer} netns {}", other.name))?;
        for (host, interface, address) in [(self, interface, address), (other, peer, peer_address)] {
            host.ip(&format!("addr add {address} dev {interface}"))?;
            host.ip(&format!("link set {interface} up"))?;
        }
        Ok(())
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A directory for files of those who run inside; it is made when it is needed and goes with the namespace.
    pub fn directory(&self) -> PathBuf {
        scratch_root().join(&self.name)
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Servers have children that no guard knows; with one left the namespace would live on unseen.
        kill_all_in(&self.name);
        // Nobody is left to tell, and a test that failed already has its reason.
        let _ = run(Command::new("ip").args(["netns", "del", &self.name]));
        let _ = std::fs::remove_dir_all(self.directory());
        // The last one takes the directory of all.
        let _ = std::fs::remove_dir(scratch_root());
    }
}

/// The two hosts.
pub struct Lab {
    /// Is scanned; the sensor runs here.
    pub victim: Namespace,
    /// Scans.
    pub scanner: Namespace,
}

impl Lab {
    /// Makes both, with addresses of both families and neighbours known, so that no traffic but that of
    /// the test appears.
    ///
    /// # Errors
    /// `ip` could not.
    pub fn new() -> Result<Self> {
        let lab = Self { victim: Namespace::new("victim")?, scanner: Namespace::new("scanner")? };
        for host in [&lab.victim, &lab.scanner] {
            // Multicast groups are announced within milliseconds, not for seconds among the test's packets.
            host.sysctl("ipv6/conf/default/mldv2_unsolicited_report_interval", "1")?;
            // Answers to closed ports are not limited: scans would take minutes.
            host.sysctl("ipv4/icmp_ratelimit", "0")?;
            host.sysctl("ipv6/icmp/ratelimit", "0")?;
        }
        lab.connect()?;
        lab.victim.ip(&format!("route add local {ROUTED}.0/24 dev lo"))?;
        Ok(lab)
    }

    /// Joins the two by a new veth pair.
    ///
    /// # Errors
    /// `ip` could not.
    pub fn connect(&self) -> Result<()> {
        self.victim.ip(&format!(
            "link add {VICTIM_INTERFACE} type veth peer name {SCANNER_INTERFACE} netns {}",
            self.scanner.name
        ))?;
        let ends = [
            (&self.victim, VICTIM_INTERFACE, VICTIM, VICTIM6),
            (&self.scanner, SCANNER_INTERFACE, SCANNER, SCANNER6),
        ];
        for (host, interface, ip, ip6) in ends {
            host.ip(&format!("link set {interface} addrgenmode none"))?;
            host.ip(&format!("addr add {ip}/24 dev {interface}"))?;
            host.ip(&format!("addr add {ip6}/64 dev {interface} nodad"))?;
            host.ip(&format!("link set {interface} up"))?;
        }
        self.scanner.ip(&format!("route add {ROUTED}.0/24 via {VICTIM}"))?;
        let (victim, scanner) = (self.victim.mac(VICTIM_INTERFACE)?, self.scanner.mac(SCANNER_INTERFACE)?);
        for (host, interface, peers, mac) in [
            (&self.victim, VICTIM_INTERFACE, [SCANNER, SCANNER6], scanner),
            (&self.scanner, SCANNER_INTERFACE, [VICTIM, VICTIM6], victim),
        ] {
            for peer in peers {
                host.ip(&format!("neigh replace {peer} lladdr {mac} dev {interface} nud permanent"))?;
            }
        }
        Ok(())
    }

    /// The MAC address of the victim's interface, as text.
    ///
    /// # Errors
    /// `ip` could not.
    pub fn victim_mac(&self) -> Result<String> {
        self.victim.mac(VICTIM_INTERFACE)
    }

    /// The MAC address of the victim's interface.
    ///
    /// # Errors
    /// `ip` could not.
    pub fn victim_mac_bytes(&self) -> Result<[u8; 6]> {
        self.victim.mac_bytes(VICTIM_INTERFACE)
    }

    /// Ids of the XDP programs on the victim's interface.
    ///
    /// # Errors
    /// `ip` could not.
    pub fn xdp_programs(&self) -> Result<Vec<u64>> {
        let output = self.victim.ip(&format!("-j -d link show dev {VICTIM_INTERFACE}"))?;
        let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let attached = links[0]["xdp"]["attached"].as_array().cloned().unwrap_or_default();
        Ok(attached.iter().filter_map(|program| program["prog"]["id"].as_u64()).collect())
    }
}

/// Runs a command to its end.
///
/// # Errors
/// It could not be started, or failed; its own words are part of the error.
pub fn run(command: &mut Command) -> Result<Output> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}", output.status, said.trim());
    }
    Ok(output)
}

/// Runs a command that must end within a time; what it prints is dropped, but for its complaints.
///
/// # Errors
/// As [`run`], or it took too long and was killed.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{command:?}"))?;
    let mut process = Process::new(child);
    let mut pipe = process.child.stderr.take().context("stderr")?;
    let complaints = thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).map(|_| text)
    });
    let status = process.wait_within(limit).with_context(|| format!("{command:?}"))?;
    let text = complaints.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    ensure!(status.success(), "{command:?}: {status}: {}", text.trim());
    Ok(())
}

/// A running process, killed when it is dropped.
pub struct Process {
    /// The process.
    pub child: Child,
}

impl Process {
    /// Guards a child.
    pub fn new(child: Child) -> Self {
        Self { child }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: no memory; the child has not been waited for, so that the id is still its own.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn wait_within(&mut self, limit: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "still running after {limit:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done` gives something.
///
/// # Errors
/// It gave nothing in time; `what` was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, mut done: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = done() {
            return Ok(value);
        }
        ensure!(Instant::now() < deadline, "{what}: not within {limit:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
