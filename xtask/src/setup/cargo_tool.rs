//! Tools from crates.io, in exact versions, kept below `target/tools`.

use std::{fs, path::Path, process::Command};

use anyhow::Result;

use super::Item;
use crate::{process, workspace::Workspace};

/// A crate whose binary has the same name.
pub(super) struct CargoTool {
    name: &'static str,
    version: &'static str,
}

/// The linker of the eBPF program. Its LLVM must not be older than rustc's: this version uses the LLVM 22
/// inside rustc 1.95, and later ones need an LLVM of the system.
pub(super) const BPF_LINKER: CargoTool = CargoTool { name: "bpf-linker", version: "0.10.3" };

/// Looks at licences, sources and duplicates of dependencies.
pub(super) const CARGO_DENY: CargoTool = CargoTool { name: "cargo-deny", version: "0.20.2" };

/// Builds fuzzers with libFuzzer and runs them.
pub(super) const CARGO_FUZZ: CargoTool = CargoTool { name: "cargo-fuzz", version: "0.13.1" };

/// Makes the Debian package.
pub(super) const CARGO_DEB: CargoTool = CargoTool { name: "cargo-deb", version: "3.8.0" };

/// Makes the RPM package.
pub(super) const CARGO_GENERATE_RPM: CargoTool = CargoTool { name: "cargo-generate-rpm", version: "0.21.1" };

/// Lists what is in a package (CycloneDX).
pub(super) const CARGO_CYCLONEDX: CargoTool = CargoTool { name: "cargo-cyclonedx", version: "0.5.9" };

/// Scans ports, for the matrix. Debian does not have it.
pub(super) const RUSTSCAN: CargoTool = CargoTool { name: "rustscan", version: "2.4.1" };

impl Item for CargoTool {
    fn name(&self, _: &Workspace) -> String {
        format!("{} {}", self.name, self.version)
    }

    /// Only the first one found counts: that is the one which would be used.
    fn present(&self, ws: &Workspace) -> Option<String> {
        let path = ws.find_program(self.name)?;
        (version_of(&path, self.name)? == self.version).then(|| ws.display(&path))
    }

    fn install(&self, ws: &Workspace) -> Result<()> {
        let scratch = ws.tools().join("build");
        let mut install = ws.cargo("install");
        install.args([self.name, "--version", self.version, "--locked", "--force"]);
        install.arg("--root").arg(ws.tools());
        // A directory of its own, so that a second try goes on where the first one ended.
        install.arg("--target-dir").arg(&scratch);
        // Their own release profiles (fat LTO, full debug info) multiply the wait and gain us nothing.
        install.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
        install.env("CARGO_PROFILE_RELEASE_LTO", "false");
        install.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        install.env("CARGO_PROFILE_RELEASE_DEBUG", "0");
        process::run_with_retries(&mut install)?;
        // Hundreds of megabytes that nobody needs again; a failure to remove them harms nobody.
        _ = fs::remove_dir_all(scratch);
        Ok(())
    }

    fn by_hand(&self, ws: &Workspace) -> String {
        let root = ws.display(&ws.tools());
        format!("`cargo install {} --version {} --locked --root {root}`", self.name, self.version)
    }
}

fn version_of(path: &Path, name: &str) -> Option<String> {
    // Some know that only as cargo calls them: `cargo-NAME NAME --version`.
    let answer = process::answer(Command::new(path).arg("--version")).or_else(|| {
        let command = name.strip_prefix("cargo-")?;
        process::answer(Command::new(path).args([command, "--version"]))
    })?;
    parse_version(&answer, name).map(str::to_owned)
}

/// `0.10.3` of `bpf-linker 0.10.3`. Such commands then call themselves `cargo-NAME-NAME`.
fn parse_version<'a>(version_line: &'a str, name: &str) -> Option<&'a str> {
    let rest = version_line.strip_prefix(name)?;
    let again = name.strip_prefix("cargo").and_then(|command| rest.strip_prefix(command));
    again.unwrap_or(rest).strip_prefix(' ')?.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_follows_the_name() {
        assert_eq!(parse_version("bpf-linker 0.10.3\n", "bpf-linker"), Some("0.10.3"));
        assert_eq!(parse_version("cargo-deny 0.20.2 (LLVM 22)\n", "cargo-deny"), Some("0.20.2"));
        assert_eq!(parse_version("cargo-cyclonedx-cyclonedx 0.5.9\n", "cargo-cyclonedx"), Some("0.5.9"));
    }

    #[test]
    fn another_programs_version_is_not_taken_for_ours() {
        assert_eq!(parse_version("bpf-linker-next 0.10.3\n", "bpf-linker"), None);
        assert_eq!(parse_version("", "bpf-linker"), None);
    }
}
