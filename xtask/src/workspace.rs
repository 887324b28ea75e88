//! Where things are: the work tree, the toolchain it pins, its own tools, programs of the system.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

/// Where distributions keep programs meant for root, which a user's `PATH` often lacks.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The work tree that `cargo xtask` was called in.
pub(crate) struct Workspace {
    root: PathBuf,
    toolchain: String,
}

impl Workspace {
    /// Finds the work tree and reads the toolchain it pins.
    ///
    /// # Errors
    /// When not started by cargo, or when `rust-toolchain.toml` names no channel.
    pub(crate) fn find() -> Result<Self> {
        // Asked at run time: a target directory shared by two clones holds one xtask for both.
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
        let root = Path::new(&manifest_dir).parent().context("xtask has no parent directory")?.to_owned();
        let file = root.join("rust-toolchain.toml");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let toolchain =
            channel(&text).with_context(|| format!("no channel in {}", file.display()))?.to_owned();
        Ok(Self { root, toolchain })
    }

    /// The pinned toolchain, such as `1.95.0`.
    pub(crate) fn toolchain(&self) -> &str {
        &self.toolchain
    }

    /// The work tree itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the project's own tools are installed (`bin` below it); scanguard's build script looks there too.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join("target/tools")
    }

    /// Where cargo puts what it builds.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| OsString::from("target")))
    }

    /// The workspace of the fuzzers.
    pub(crate) fn fuzz(&self) -> PathBuf {
        self.root.join("fuzz")
    }

    /// Pages for people.
    pub(crate) fn docs(&self) -> PathBuf {
        self.root.join("docs")
    }

    /// The path of `Cargo.lock`.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("Cargo.lock")
    }

    /// A path as people of this work tree would write it.
    pub(crate) fn display(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// The first program of that name among the project's tools, on `PATH`, or in the system directories.
    pub(crate) fn find_program(&self, name: &str) -> Option<PathBuf> {
        self.search_path().into_iter().map(|dir| dir.join(name)).find(|path| is_program(path))
    }

    /// A command in the root of the work tree that finds the same programs as [`Self::find_program`], and
    /// whose rustc is the pinned one.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        if let Ok(path) = env::join_paths(self.search_path()) {
            command.env("PATH", path);
        }
        // Set by the rustup proxy that started us; it would overrule rust-toolchain.toml.
        command.env_remove("RUSTUP_TOOLCHAIN");
        // Set by `cargo run` for xtask alone. Build scripts that watch one of these would run again whenever
        // cargo is called by hand and through xtask in turn.
        command.env_remove("CARGO");
        for (name, _) in env::vars_os() {
            let of_package = ["CARGO_MANIFEST_", "CARGO_PKG_"];
            if name.to_str().is_some_and(|name| of_package.iter().any(|prefix| name.starts_with(prefix))) {
                command.env_remove(name);
            }
        }
        command
    }

    /// `cargo SUBCOMMAND` of the pinned toolchain.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = self.command("cargo");
        command.arg(subcommand);
        command
    }

    fn search_path(&self) -> Vec<PathBuf> {
        let mut dirs = vec![self.tools().join("bin")];
        let path = env::var_os("PATH").unwrap_or_default();
        for dir in env::split_paths(&path).chain(SYSTEM_DIRS.map(PathBuf::from)) {
            if !dirs.contains(&dir) {
                dirs.push(dir);
            }
        }
        dirs
    }
}

/// Whether this process has the effective user id 0.
pub(crate) fn is_root() -> bool {
    // The owner of /proc/self is the effective user; this spares xtask a crate for one system call.
    fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The value of `channel = "..."` in a `rust-toolchain.toml`.
fn channel(toml: &str) -> Option<&str> {
    toml.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == "channel")
        .and_then(|(_, value)| value.split('"').nth(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channel_is_read_from_the_toolchain_file() {
        let text = "# channel = \"0.1\"\n[toolchain]\nchannel = \"1.95.0\" # pinned\nprofile = \"minimal\"\n";
        assert_eq!(channel(text), Some("1.95.0"));
    }

    #[test]
    fn a_toolchain_file_without_a_channel_has_none() {
        assert_eq!(channel("[toolchain]\npath = \"/opt/rust\"\n"), None);
    }

    #[test]
    fn a_program_is_an_executable_file() {
        assert!(is_program(&env::current_exe().unwrap()));
        assert!(!is_program(Path::new("/")));
        assert!(!is_program(Path::new("/proc/version")));
    }
}
