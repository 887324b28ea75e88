//! Machines that the agent is built for, and what a build for another than this one needs.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{process, setup::Purpose, workspace::Workspace};

/// The machine that something is built for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Target<'a> {
    /// Rust's name of it; none: this machine, with its C library.
    triple: Option<&'a str>,
}

/// Prefix of the names of Debian's programs that work on files of arm64.
const ARM_TOOLS: &str = "aarch64-linux-gnu-";

impl<'a> Target<'a> {
    /// This machine.
    pub(crate) const HOST: Self = Self { triple: None };

    /// That of a name, or this machine.
    pub(crate) fn new(triple: Option<&'a str>) -> Self {
        Self { triple }
    }

    /// Whether the program of that target needs no library of the system.
    pub(crate) fn is_static(self) -> bool {
        self.triple.is_some_and(|triple| triple.ends_with("-musl"))
    }

    /// Whether this machine's processor does not run what is built.
    pub(crate) fn is_foreign(self) -> bool {
        self.triple.is_some_and(|triple| !triple.starts_with(env::consts::ARCH))
    }

    /// What its packages need on this machine.
    pub(crate) fn purpose(self) -> Purpose {
        match (self.is_foreign(), self.is_static()) {
            (true, _) => Purpose::Cross,
            (false, true) => Purpose::Static,
            (false, false) => Purpose::Package,
        }
    }

    /// Where cargo puts what it builds for it, below a target directory.
    pub(crate) fn directory(self) -> PathBuf {
        self.triple.map(PathBuf::from).unwrap_or_default()
    }

    /// Options of cargo and of its tools that name it.
    pub(crate) fn options(self) -> impl Iterator<Item = &'a str> {
        self.triple.into_iter().flat_map(|triple| ["--target", triple])
    }

    /// A program of binutils that works on its files.
    pub(crate) fn tool(self, name: &str) -> String {
        if self.is_foreign() { format!("{ARM_TOOLS}{name}") } else { name.to_owned() }
    }

    /// Sets the compiler and linker for it.
    pub(crate) fn configure(self, command: &mut Command) {
        let Some(triple) = self.triple.filter(|_| self.is_foreign()) else { return };
        let name = triple.replace('-', "_");
        let compiler = self.tool("gcc");
        // Also for musl: Rust brings that C library and its beginnings of programs. What ring has in C calls little of
        // one, and nothing by another name than musl's.
        command.env(format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()), &compiler);
        command.env(format!("CC_{name}"), &compiler).env(format!("AR_{name}"), self.tool("ar"));
    }

    /// Installs Rust's libraries for it, unless they are there.
    ///
    /// # Errors
    /// There is no rustup to install them with, or they cannot be had; or this machine cannot be built for from here.
    pub(crate) fn install(self, ws: &Workspace) -> Result<()> {
        let Some(triple) = self.triple else { return Ok(()) };
        ensure!(
            !self.is_foreign() || triple.starts_with("aarch64-"),
            "from here, builds for another processor are for aarch64 only"
        );
        let mut rustc = ws.command("rustc");
        rustc.args(["--print", "target-libdir", "--target", triple]);
        // The compiler is asked, not rustup: they may have come by another way.
        if process::answer(&mut rustc).is_some_and(|path| PathBuf::from(path.trim_end()).exists()) {
            return Ok(());
        }
        ws.find_program("rustup").with_context(|| {
            format!("Rust's libraries for {triple} are missing, and there is no rustup to install them with")
        })?;
        process::run_with_retries(ws.command("rustup").args([
            "target",
            "add",
            "--toolchain",
            ws.toolchain(),
            triple,
        ]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(target: Target<'_>) -> Vec<String> {
        let mut command = Command::new("cargo");
        target.configure(&mut command);
        command.get_envs().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn another_processor_is_built_for_with_another_compiler() {
        let other = if env::consts::ARCH == "aarch64" { "x86_64" } else { "aarch64" };
        let triple = format!("{other}-unknown-linux-gnu");
        let target = Target::new(Some(&triple));
        assert!(target.is_foreign() && !target.is_static());
        assert!(target.purpose() == Purpose::Cross);
        let linker = format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_LINKER", other.to_uppercase());
        assert!(variables(target).contains(&linker), "{:?}", variables(target));
    }

    #[test]
    fn this_processor_is_built_for_with_what_there_is() {
        assert!(variables(Target::HOST).is_empty() && Target::HOST.options().next().is_none());
        let triple = format!("{}-unknown-linux-musl", env::consts::ARCH);
        let target = Target::new(Some(&triple));
        assert!(!target.is_foreign() && target.purpose() == Purpose::Static);
        assert!(variables(target).is_empty());
        assert_eq!(target.tool("strip"), "strip");
    }
}
