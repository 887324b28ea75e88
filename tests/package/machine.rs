//! A machine to install on: this one under an overlay, with a systemd of its own as its first process, in namespaces of its own.
//! Its changes are in memory, and go with it; whatever belongs to the kernel, and so to everybody, is read-only for it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use scanguard_tests::fixtures::lab::{Namespace, Process, wait_for};

/// A whole system starts.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// `$1` is an empty directory. Of this machine's own services none is started: what its administrator enabled is not there,
/// nor are its disks, its timers, and its way to forbid that packages start theirs.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs scanguard-test "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" scanguard-test "$1/root"
# A package manager at work on this machine would change files beneath the overlay, which that does not stand.
cp -a /var/lib/dpkg "$1/dpkg"
mount --bind "$1/dpkg" "$1/root/var/lib/dpkg"
cd "$1/root"
rm -rf etc/systemd/system/* usr/sbin/policy-rc.d
: > etc/fstab
ln -s /dev/null etc/systemd/system/timers.target
mount -t proc proc proc
mount -o bind,ro proc/sys proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t bpf scanguard-test sys/fs/bpf
mount -t tmpfs -o mode=0755 scanguard-test dev
for node in null zero full random urandom tty; do
    : > "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=0755 scanguard-test run
mount -t tmpfs -o mode=1777 scanguard-test tmp
exec setpriv --bounding-set=-sys_module,-sys_time,-sys_boot,-sys_rawio,-syslog,-audit_control,-audit_read -- \
    chroot . env -i container=scanguard-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=basic.target
"#;

/// The machine. Its first process is killed with the guard, and with it all others.
pub(crate) struct Machine {
    /// The process that has the machine's first process as its only child.
    _holder: Process,
    /// That, as it is called outside.
    init: u32,
}

impl Machine {
    /// Starts one, whose network is that of the namespace.
    pub(crate) fn start(network: &Namespace) -> Result<Self> {
        let directory = network.directory().join("machine");
        fs::create_dir_all(&directory)?;
        let log = network.directory().join("machine.log");
        let mut command = network.command("unshare");
        command.args(["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--fork", "--kill-child"]);
        command.args(["--propagation", "private", "sh", "-c", SCRIPT, "sh"]).arg(&directory);
        let output = fs::File::create(&log)?;
        let child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        let mut holder = Process::new(child);
        let said = || fs::read_to_string(&log).unwrap_or_default();
        let pid = holder.child.id();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let init = wait_for("the machine's first process", BOOT_LIMIT, || {
            let ended = holder.child.try_wait().ok().flatten().is_some();
            let child = fs::read_to_string(&children).ok().and_then(|pids| pids.trim().parse().ok());
            (ended || child.is_some()).then_some(child)
        });
        let init = init.ok().flatten().with_context(|| format!("the machine cannot be made: {}", said()))?;
        let machine = Self { _holder: holder, init };
        wait_for("the machine has started", BOOT_LIMIT, || {
            let state = machine.command("systemctl").arg("is-system-running").output().ok()?;
            let state = String::from_utf8_lossy(&state.stdout).into_owned();
            // Degraded: something of this machine's own could not be had, which is not what is tested.
            ["running", "degraded"].contains(&state.trim()).then_some(())
        })
        .with_context(said)?;
        Ok(machine)
    }

    /// Its first process, as it is called outside.
    pub(crate) fn init(&self) -> u32 {
        self.init
    }

    /// Where a file of the machine is, as seen from outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.init);
        Path::new(&root).join(inside.trim_start_matches('/'))
    }

    /// A command that runs inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.init));
        command.args(["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net", "--root", "--wd", "--"]);
        command.arg(program).stdin(Stdio::null());
        // Nothing of whoever runs the tests.
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Runs a line of the shell inside; what it said on either output.
    pub(crate) fn run(&self, line: &str) -> Result<String> {
        let output = self.command("sh").args(["-c", line]).output().context("sh")?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        anyhow::ensure!(output.status.success(), "{line}: {}: {said}", output.status);
        Ok(said)
    }
}
