//! Where the programs of peers run: in the victim's network namespace, with the packages that `cargo xtask bench --peers`
//! has unpacked laid over the system, and what they write in memory. So nothing of them is installed, no service is
//! started by a package, and nothing is left.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use scanguard_tests::fixtures::{
    cleanup::kill_all_in,
    lab::{Lab, Process, wait_for},
};

/// The unpacked packages.
const PACKAGES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers");

/// Lays them over the system, in a mount namespace. Programs write to the system's log by /dev/log.
const LAY: &str = r#"set -e
root=$1 dir=$2; shift 2
mount -t tmpfs tmpfs "$dir/over"
for part in usr etc var; do
    mkdir -p "$dir/over/$part/up" "$dir/over/$part/work"
    mount -t overlay overlay \
        -o "lowerdir=$root/$part:/$part,upperdir=$dir/over/$part/up,workdir=$dir/over/$part/work" "/$part"
done
mount -t tmpfs tmpfs /run
mkdir "$dir/over/dev"
for node in null zero random urandom; do
    : > "$dir/over/dev/$node"
    mount --bind "/dev/$node" "$dir/over/dev/$node"
done
ln -s /proc/self/fd "$dir/over/dev/fd"
ln -s "$dir/log" "$dir/over/dev/log"
mount --rbind "$dir/over/dev" /dev
exec sh -c "$1"
"#;

/// Whether a program is there, unpacked or installed.
///
/// # Errors
/// It is not.
pub(super) fn require(program: &str) -> Result<()> {
    let is_there = |root: &str| {
        ["usr/sbin", "usr/bin"].iter().any(|bin| Path::new(root).join(bin).join(program).exists())
    };
    ensure!(is_there(PACKAGES) || is_there("/"), "not installed");
    Ok(())
}

/// A place for one peer. When this is dropped, whatever runs on the victim is ended.
pub(super) struct Place<'l> {
    lab: &'l Lab,
    directory: PathBuf,
    /// The lines that were written to the system's log.
    syslog: Arc<Mutex<Vec<String>>>,
    process: Option<Process>,
}

impl<'l> Place<'l> {
    /// Makes one for a program.
    ///
    /// # Errors
    /// The program is not installed.
    pub(super) fn new(lab: &'l Lab, program: &str) -> Result<Self> {
        require(program)?;
        for part in ["usr", "etc", "var"] {
            fs::create_dir_all(Path::new(PACKAGES).join(part))?;
        }
        let directory = lab.victim.directory().join("peer");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(directory.join("over"))?;
        let socket = UnixDatagram::bind(directory.join("log"))?;
        let syslog = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&syslog);
        // It ends with this process.
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(length) = socket.recv(&mut buffer) {
                let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
                lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Ok(Self { lab, directory, syslog, process: None })
    }

    /// A file of this place, as programs in it have it, too.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Runs a script in it, whose process may be that of the program in the end.
    ///
    /// # Errors
    /// It could not be started.
    pub(super) fn run(&mut self, script: &str) -> Result<()> {
        let said = fs::File::create(self.path("said"))?;
        let packages = fs::canonicalize(PACKAGES).context("the packages of peers")?;
        let mut command: Command = self.lab.victim.command("unshare");
        command.args(["--mount", "sh", "-c", LAY, "lay"]).arg(packages).arg(&self.directory).arg(script);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        self.process = Some(Process::new(command.spawn()?));
        Ok(())
    }

    /// The running program.
    pub(super) fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("nothing was started")
    }

    /// The contents of a file of this place; empty if there is no such file.
    pub(super) fn read(&self, name: &str) -> String {
        fs::read(self.path(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Whether the system's log has a line with this.
    pub(super) fn is_logged(&self, words: &str) -> bool {
        self.syslog.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|line| line.contains(words))
    }

    /// Waits until the program has said this in a file of this place.
    ///
    /// # Errors
    /// It has ended, or takes too long.
    pub(super) fn await_words(&mut self, file: &str, words: &str) -> Result<()> {
        self.await_that(|place| place.read(file).contains(words))
    }

    /// Waits for a file of this place.
    ///
    /// # Errors
    /// As above.
    pub(super) fn await_file(&mut self, file: &str) -> Result<()> {
        self.await_that(|place| place.path(file).exists())
    }

    /// Waits for a line in the system's log.
    ///
    /// # Errors
    /// As above.
    pub(super) fn await_log(&mut self, words: &str) -> Result<()> {
        self.await_that(|place| place.is_logged(words))
    }

    fn await_that(&mut self, mut is_so: impl FnMut(&Self) -> bool) -> Result<()> {
        let outcome = wait_for("it starts", Duration::from_secs(60), || match self.check() {
            Ok(()) => is_so(self).then_some(Ok(())),
            Err(error) => Some(Err(error)),
        });
        outcome?
    }

    /// Whether the program has ended before its time; what it said last is the error then.
    pub(super) fn check(&mut self) -> Result<()> {
        let ended = self.process()?.child.try_wait()?;
        let said = self.read("said");
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned();
        ensure!(ended.is_none(), "it ended, and had said: {last}");
        Ok(())
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        kill_all_in(self.lab.victim.name());
    }
}
