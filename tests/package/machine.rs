//! A machine to install on: this one under an overlay, in a mount namespace of its own. What is changed in it is in
//! memory, and goes with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use scanguard_tests::lab::{Namespace, Process, wait_for};

const PATIENCE: Duration = Duration::from_secs(20);

/// `$1` is an empty directory. Ends when nobody holds the other end of its standard input.
const SCRIPT: &str = r#"
set -e
mount -t tmpfs scanguard-test "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" scanguard-test "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs scanguard-test run
mount -t tmpfs scanguard-test tmp
mount -t bpf scanguard-test sys/fs/bpf
echo > tmp/ready
exec chroot . cat
"#;

/// The machine.
pub(crate) struct Machine<'n> {
    network: &'n Namespace,
    holder: Process,
}

impl<'n> Machine<'n> {
    /// Makes one, whose network is that of the namespace.
    pub(crate) fn new(network: &'n Namespace) -> Result<Self> {
        let directory = network.directory().join("machine");
        fs::create_dir_all(&directory)?;
        let log = fs::File::create(network.directory().join("machine.log"))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT, "sh"]).arg(&directory);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn()?;
        let mut machine = Self { network, holder: Process::new(child) };
        let ready = wait_for("the machine is ready", PATIENCE, || {
            let ended = machine.holder.child.try_wait().ok().flatten().is_some();
            (ended || machine.path("/tmp/ready").exists()).then_some(!ended)
        })?;
        let said = || fs::read_to_string(network.directory().join("machine.log")).unwrap_or_default();
        anyhow::ensure!(ready, "the machine cannot be made: {}", said());
        Ok(machine)
    }

    /// Where a file of the machine is, as seen from outside.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        let root = format!("/proc/{}/root", self.holder.child.id());
        Path::new(&root).join(inside.trim_start_matches('/'))
    }

    /// A command that runs inside.
    pub(crate) fn command(&self, program: &str) -> Command {
        let target = format!("--target={}", self.holder.child.id());
        let mut command = self.network.command("nsenter");
        command.args([&target, "--mount", "--root", "--wd", "--", program]).env_remove("SSH_CONNECTION");
        command
    }

    /// Runs a command, split at its spaces, inside; what it said on either output.
    pub(crate) fn run(&self, command: &str) -> Result<String> {
        let (program, arguments) = command.split_once(' ').context("a command with arguments")?;
        let mut inside = self.command(program);
        inside.args(arguments.split(' ')).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        let output = inside.output().with_context(|| format!("{inside:?}"))?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        anyhow::ensure!(output.status.success(), "{command}: {}: {said}", output.status);
        Ok(said)
    }
}
