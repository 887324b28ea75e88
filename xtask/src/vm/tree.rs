//! The file tree that a guest has, as an initramfs: binaries with the libraries that they name, and modules.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{Binaries, kernels::Kernel};
use crate::{process, workspace::Workspace};

/// Tools of this host that the tests call.
const TOOLS: [&str; 5] = ["ip", "nsenter", "nmap", "tcpdump", "busybox"];

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

/// Modules that are there if the kernel has them as such, in an order in which they can be loaded.
pub(super) const MODULES: [&str; 3] =
    ["drivers/net/veth.ko", "net/sched/sch_ingress.ko", "net/sched/cls_bpf.ko"];

/// Programs of busybox that the script calls by name.
pub(super) const APPLETS: [&str; 8] =
    ["sh", "mount", "mkdir", "insmod", "poweroff", "timeout", "cat", "grep"];

/// Makes the initramfs for a kernel; `init` is the script that runs there.
pub(super) fn initramfs(
    ws: &Workspace,
    directory: &Path,
    kernel: &Kernel,
    binaries: &Binaries,
    init: &str,
) -> Result<PathBuf> {
    let root = directory.join("root");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for part in ["proc", "sys", "dev", "tmp", "run/netns", "modules", "bin", "sbin", "etc", "root"] {
        fs::create_dir_all(root.join(part))?;
    }
    let mut libraries = BTreeSet::new();
    for name in TOOLS {
        let program = ws.find_program(name).with_context(|| format!("{name} is not there"))?;
        copy(&program, &root.join("bin").join(name))?;
        libraries.extend(libraries_of(ws, &program));
    }
    for (program, name) in [
        (&binaries.agent, "scanguard"),
        (&binaries.program_tests, "progrun"),
        (&binaries.interface_tests, "netns"),
    ] {
        let to = root.join("bin").join(name);
        libraries.extend(libraries_of(ws, program));
        // A tenth of the size: it all lies in the guest's memory.
        process::run(ws.command("strip").arg("-o").args([&to, program]))?;
    }
    for file in
        libraries.iter().map(PathBuf::as_path).chain(FILES.iter().map(Path::new)).filter(|path| path.exists())
    {
        copy(file, &root.join(file.strip_prefix("/")?))?;
    }
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    for module in MODULES {
        unpack_module(ws, &kernel.modules.join("kernel").join(module), &root.join("modules"))?;
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

/// All libraries that a program is linked with; none where it is linked with none.
fn libraries_of(ws: &Workspace, program: &Path) -> Vec<PathBuf> {
    let said = process::answer(ws.command("ldd").arg(program)).unwrap_or_default();
    said.lines().filter_map(library).collect()
}

/// The path in a line of ldd's.
fn library(line: &str) -> Option<PathBuf> {
    line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from)
}

/// Copies a module, unpacked: not every insmod can do that.
fn unpack_module(ws: &Workspace, module: &Path, into: &Path) -> Result<()> {
    if module.exists() {
        return copy(module, &into.join(module.file_name().context("a module has a name")?));
    }
    let mut packed = module.as_os_str().to_owned();
    packed.push(".xz");
    if !Path::new(&packed).exists() {
        bail!("the kernel has no {}", module.display());
    }
    let to = into.join(module.file_name().context("a module has a name")?);
    let output = fs::File::create(to)?;
    process::run(ws.command("xz").arg("-dc").arg(packed).stdout(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        assert_eq!(library("\tlibc.so.6 => /lib/libc.so.6 (0x1)"), Some(PathBuf::from("/lib/libc.so.6")));
        assert_eq!(
            library("\t/lib64/ld-linux-x86-64.so.2 (0x1)"),
            Some(PathBuf::from("/lib64/ld-linux-x86-64.so.2"))
        );
        assert_eq!(library("\tlinux-vdso.so.1 (0x1)"), None);
    }
}
