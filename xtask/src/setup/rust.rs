//! The pinned toolchain and its components.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::Item;
use crate::{process, workspace::Workspace};

/// The compiler that `rust-toolchain.toml` pins.
pub(super) struct Toolchain;

/// A component of that toolchain.
pub(super) struct Component {
    name: &'static str,
    /// A path below rustc's sysroot that exists when the component does.
    witness: &'static str,
}

/// Source of the core library: the eBPF program builds its own (`-Z build-std=core`).
pub(super) const RUST_SRC: Component =
    Component { name: "rust-src", witness: "lib/rustlib/src/rust/library/core" };
/// `cargo fmt`.
pub(super) const RUSTFMT: Component = Component { name: "rustfmt", witness: "bin/rustfmt" };
/// `cargo clippy`.
pub(super) const CLIPPY: Component = Component { name: "clippy", witness: "bin/cargo-clippy" };

/// Interprets programs; it comes with nightly toolchains only.
pub(super) struct Miri;

/// Whichever nightly toolchain there is.
pub(crate) const NIGHTLY: &str = "nightly";

impl Item for Miri {
    fn name(&self, _: &Workspace) -> String {
        format!("miri ({NIGHTLY})")
    }

    fn present(&self, ws: &Workspace) -> Option<String> {
        let mut miri = ws.command("cargo");
        miri.args(["miri", "--version"]).env("RUSTUP_TOOLCHAIN", NIGHTLY);
        process::answer(&mut miri).map(|version| version.trim_end().to_owned())
    }

    fn install(&self, ws: &Workspace) -> Result<()> {
        rustup(ws, &["toolchain", "install", NIGHTLY, "--profile", "minimal", "--no-self-update"])?;
        rustup(ws, &["component", "add", "--toolchain", NIGHTLY, "miri", "rust-src"])
    }

    fn by_hand(&self, _: &Workspace) -> String {
        format!("get rustup, then `rustup toolchain install {NIGHTLY} --component miri --component rust-src`")
    }
}

// The compiler itself is asked, not rustup: so a toolchain that came by another way counts as well.
impl Item for Toolchain {
    fn name(&self, ws: &Workspace) -> String {
        format!("rust {}", ws.toolchain())
    }

    fn present(&self, ws: &Workspace) -> Option<String> {
        let answer = process::answer(ws.command("rustc").arg("--version"))?;
        (rustc_release(&answer)? == ws.toolchain())
            .then(|| sysroot(ws))
            .flatten()
            .map(|path| ws.display(&path))
    }

    fn install(&self, ws: &Workspace) -> Result<()> {
        rustup(ws, &["toolchain", "install", ws.toolchain(), "--profile", "minimal", "--no-self-update"])
    }

    fn by_hand(&self, ws: &Workspace) -> String {
        format!("get rustup, then `rustup toolchain install {} --profile minimal`", ws.toolchain())
    }
}

impl Item for Component {
    fn name(&self, _: &Workspace) -> String {
        self.name.to_owned()
    }

    fn present(&self, ws: &Workspace) -> Option<String> {
        let path = sysroot(ws)?.join(self.witness);
        path.exists().then(|| ws.display(&path))
    }

    fn install(&self, ws: &Workspace) -> Result<()> {
        rustup(ws, &["component", "add", "--toolchain", ws.toolchain(), self.name])
    }

    fn by_hand(&self, ws: &Workspace) -> String {
        format!("`rustup component add --toolchain {} {}`", ws.toolchain(), self.name)
    }
}

fn rustup(ws: &Workspace, args: &[&str]) -> Result<()> {
    if ws.find_program("rustup").is_none() {
        bail!("there is no rustup to install it with");
    }
    process::run_with_retries(ws.command("rustup").args(args))
}

fn sysroot(ws: &Workspace) -> Option<PathBuf> {
    let answer = process::answer(ws.command("rustc").args(["--print", "sysroot"]))?;
    Some(PathBuf::from(answer.trim_end()))
}

/// `1.95.0` of `rustc 1.95.0 (59807616e 2026-04-14)`.
fn rustc_release(version_line: &str) -> Option<&str> {
    version_line.strip_prefix("rustc ")?.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_rustcs_version_line() {
        assert_eq!(rustc_release("rustc 1.95.0 (59807616e 2026-04-14)\n"), Some("1.95.0"));
        assert_eq!(rustc_release("rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\n"), Some("1.97.0-nightly"));
        assert_eq!(rustc_release("error: toolchain is not installed\n"), None);
    }
}
