//! The file tree that a guest has, as an initramfs: binaries with the libraries that they name, and modules.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{Binaries, arch::Arch, kernels::Archive};
use crate::{process, workspace::Workspace};

/// Tools that the tests call.
const TOOLS: [&str; 8] = ["ip", "nsenter", "nmap", "tcpdump", "ethtool", "iperf3", "bpftool", "busybox"];

/// Debian's packages of them.
const PACKAGES: [&str; 9] = [
    "iproute2",
    "util-linux",
    "nmap",
    "tcpdump",
    "ethtool",
    "iperf3",
    "bpftool",
    "busybox-static",
    "libc-bin",
];

/// Files that nmap reads.
const FILES: [&str; 7] = [
    "/usr/share/nmap/nmap-services",
    "/usr/share/nmap/nmap-payloads",
    "/usr/share/nmap/nmap-protocols",
    "/usr/share/nmap/nmap-mac-prefixes",
    "/etc/passwd",
    "/etc/protocols",
    "/etc/nsswitch.conf",
];

/// Programs of busybox that the script and the tests call by name.
pub(super) const APPLETS: [&str; 10] =
    ["sh", "mount", "mkdir", "insmod", "poweroff", "timeout", "env", "cat", "grep", "sleep"];

/// Where tools and libraries of guests come from.
pub(super) struct System {
    arch: Arch,
    root: PathBuf,
}

impl System {
    /// This host, if it has such a processor; else Debian's packages, unpacked.
    ///
    /// # Errors
    /// They could not be fetched.
    pub(super) fn of(ws: &Workspace, arch: Arch, archive: &Archive) -> Result<Self> {
        let is_here = arch == Arch::of_host();
        let root = if is_here { PathBuf::from("/") } else { archive.unpacked(ws, &PACKAGES)? };
        Ok(Self { arch, root })
    }

    fn program(&self, ws: &Workspace, name: &str) -> Result<PathBuf> {
        if self.arch == Arch::of_host() {
            return ws.find_program(name).with_context(|| format!("{name} is not there"));
        }
        let places = ["usr/bin", "bin", "usr/sbin", "sbin"].map(|part| self.root.join(part).join(name));
        places.into_iter().find(|path| path.exists()).with_context(|| format!("{name} is not in its package"))
    }

    /// A file, by its path where it is installed.
    fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn library(&self, name: &str) -> Result<PathBuf> {
        let multiarch = self.arch.libraries();
        // The last: where the system chooses among several, by a link that unpacking does not make.
        let places = ["usr/lib/{}", "lib/{}", "usr/lib/{}/blas"]
            .map(|place| self.root.join(place.replace("{}", multiarch)).join(name));
        places.into_iter().find(|path| path.exists()).with_context(|| format!("no library {name}"))
    }

    /// Copies a program, all libraries that it is linked with, and what links them.
    fn install(&self, ws: &Workspace, program: &Path, root: &Path, name: &str) -> Result<()> {
        copy(program, &root.join("bin").join(name))?;
        let mut open = vec![program.to_owned()];
        let mut known = BTreeSet::new();
        while let Some(file) = open.pop() {
            let said = process::answer(
                ws.command("readelf").args(["--wide", "--dynamic", "--program-headers"]).arg(&file),
            )
            .with_context(|| format!("readelf of {}", file.display()))?;
            if let Some(linker) = said.lines().find_map(interpreter) {
                copy(
                    &self.library(linker.rsplit('/').next().unwrap_or(linker))?,
                    &root.join(linker.trim_start_matches('/')),
                )?;
            }
            for needed in said.lines().filter_map(needed).filter(|name| !name.starts_with("ld-linux")) {
                if known.insert(needed.to_owned()) {
                    let path = self.library(needed)?;
                    copy(&path, &root.join("lib").join(self.arch.libraries()).join(needed))?;
                    open.push(path);
                }
            }
        }
        Ok(())
    }
}

/// Makes the initramfs for a kernel, with these modules in it; `init` is the script that runs there.
pub(super) fn initramfs(
    ws: &Workspace,
    directory: &Path,
    system: &System,
    binaries: &Binaries,
    modules: &[PathBuf],
    init: &str,
) -> Result<PathBuf> {
    let root = directory.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for part in ["proc", "sys", "dev", "tmp", "run/netns", "modules", "bin", "sbin", "etc", "root"] {
        fs::create_dir_all(root.join(part))?;
    }
    for name in TOOLS {
        system.install(ws, &system.program(ws, name)?, &root, name)?;
    }
    let strip = system.arch.target().tool("strip");
    for (program, name) in [
        (&binaries.agent, "scanguard"),
        (&binaries.program_tests, "progrun"),
        (&binaries.interface_tests, "netns"),
    ] {
        system.install(ws, program, &root, name)?;
        // A tenth of the size: it all lies in the guest's memory.
        process::run(ws.command(&strip).arg(root.join("bin").join(name)))?;
    }
    for file in FILES {
        let from = system.file(file);
        // Some come with no package.
        let from = if from.exists() { from } else { PathBuf::from(file) };
        if from.exists() {
            copy(&from, &root.join(file.trim_start_matches('/')))?;
        }
    }
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    for module in modules {
        unpack_module(ws, module, &root.join("modules"))?;
    }
    let script = root.join("init");
    fs::write(&script, init)?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let image = directory.join("initramfs");
    let mut pack = ws.command("sh");
    pack.args(["-c", "find . | cpio --quiet -o -H newc > ../initramfs"]).current_dir(&root);
    process::run(&mut pack)?;
    Ok(image)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().context("a file lies in a directory")?;
    fs::create_dir_all(parent)?;
    fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The library in a line of readelf's: `(NEEDED) Shared library: [libc.so.6]`.
fn needed(line: &str) -> Option<&str> {
    line.split_once("(NEEDED)")?.1.split_once('[')?.1.split_once(']').map(|(name, _)| name)
}

/// The program that links the others in, in a line of readelf's.
fn interpreter(line: &str) -> Option<&str> {
    line.split_once("program interpreter: ")?.1.strip_suffix(']')
}

/// Copies a module, unpacked: not every insmod can do that.
fn unpack_module(ws: &Workspace, module: &Path, into: &Path) -> Result<()> {
    let to = into.join(name_of_module(module)?);
    if module.extension().is_some_and(|extension| extension == "xz") {
        return process::run(ws.command("xz").arg("-dc").arg(module).stdout(fs::File::create(to)?));
    }
    copy(module, &to)
}

/// The name of a module's file, unpacked.
pub(super) fn name_of_module(module: &Path) -> Result<String> {
    let name = module.file_name().and_then(|name| name.to_str()).context("a module has a name")?;
    Ok(name.trim_end_matches(".xz").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_readelf_says() {
        let line = " 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]";
        assert_eq!(needed(line), Some("libc.so.6"));
        assert_eq!(needed(" 0x000000000000000c (INIT)               0x1000"), None);
        let line = "      [Requesting program interpreter: /lib/ld-linux-aarch64.so.1]";
        assert_eq!(interpreter(line), Some("/lib/ld-linux-aarch64.so.1"));
    }
}
