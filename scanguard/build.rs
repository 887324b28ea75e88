//! Builds the kernel programs, for XDP, for tc and to try which of both can be used, and puts them where
//! `sensor::object` embeds them.
//!
//! Needs `rust-src` and `bpf-linker`, which `cargo xtask setup` installs. For those who package ScanGuard
//! without a BPF toolchain: `SCANGUARD_EBPF_OBJECTS=DIRECTORY` takes objects that were built elsewhere, with the names of
//! [`OBJECTS`].

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow};
use aya_build::{Package, Toolchain};
use object::build::elf::SectionData;

const OBJECTS_VARIABLE: &str = "SCANGUARD_EBPF_OBJECTS";
/// The object for XDP, as cargo calls it, that for tc, and that by which the agent tries which of both an interface takes.
/// Then the first and the third for older kernels.
const OBJECTS: [&str; 5] =
    ["scanguard-xdp", "scanguard-tc", "scanguard-trial", "scanguard-old", "scanguard-old-trial"];

fn main() -> Result<()> {
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?)
        .parent()
        .context("the crate lies in its workspace")?
        .to_owned();
    println!("cargo:rerun-if-env-changed={OBJECTS_VARIABLE}");
    revision(&workspace);
    let out = PathBuf::from(variable("OUT_DIR")?);
    if let Some(directory) = env::var_os(OBJECTS_VARIABLE) {
        for name in OBJECTS {
            let object = Path::new(&directory).join(name);
            println!("cargo:rerun-if-changed={}", object.display());
            fs::copy(&object, out.join(name))
                .with_context(|| format!("{OBJECTS_VARIABLE}: {}", object.display()))?;
        }
        return Ok(());
    }

    let tools = workspace.join("target/tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths(std::iter::once(tools).chain(env::split_paths(&path)))?;
    let ebpf = workspace.join("scanguard-ebpf");
    let common = workspace.join("scanguard-common");
    println!("cargo:rerun-if-changed={}", common.join("src").display());

    // SAFETY: a build script has one thread at this point.
    unsafe {
        env::set_var("PATH", path);
        // The pinned stable compiler builds `core` for the BPF target; besides, only the next is unstable.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // Else the object, which is part of the agent, has the paths of the machine that it was built on.
        env::set_var("CARGO_UNSTABLE_TRIM_PATHS", "true");
        env::set_var("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all");
        // aya-build hands on every line as a warning: errors only, please.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    let toolchain = toolchain(&workspace)?;
    // That for XDP comes last: cargo calls both alike.
    let [xdp, tc, trial, old, old_trial] = OBJECTS;
    for (features, names) in [
        (["tc"].as_slice(), [tc, trial]),
        (["old"].as_slice(), [old, old_trial]),
        ([].as_slice(), [xdp, trial]),
    ] {
        let package = Package {
            name: "scanguard-ebpf",
            root_dir: ebpf.to_str().context("the path of the workspace is not UTF-8")?,
            features,
            ..Package::default()
        };
        aya_build::build_ebpf([package], Toolchain::Custom(&toolchain)).map_err(|error| {
            anyhow!("the kernel program did not build; `cargo xtask setup` installs what it needs: {error:#}")
        })?;
        for (built, name) in [xdp, trial].into_iter().zip(names) {
            if built != name {
                fs::rename(out.join(built), out.join(name)).context(name)?;
            }
        }
    }
    OBJECTS.iter().try_for_each(|name| {
        strip(&out.join(name)).with_context(|| format!("{name}: without debug information"))
    })
}

/// Takes the sections away that only debuggers read: three quarters of an object. The kernel and aya read BTF, which stays;
/// the compiler makes it from the same information.
fn strip(path: &Path) -> Result<()> {
    let object = fs::read(path)?;
    let mut object = object::build::elf::Builder::read(&*object)?;
    for section in &mut object.sections {
        let name = section.name.as_slice();
        section.delete = [b".debug_".as_slice(), b".rel.debug_"].iter().any(|of| name.starts_with(of));
    }
    object.delete_orphans();
    // LLVM has the names of sections in the table of those of symbols, which this writer does not.
    let names = object.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    object.write(&mut stripped)?;
    fs::write(path, stripped)?;
    Ok(())
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("cargo sets {name}"))
}

/// The channel that rust-toolchain.toml pins.
fn toolchain(workspace: &Path) -> Result<String> {
    let file = workspace.join("rust-toolchain.toml");
    println!("cargo:rerun-if-changed={}", file.display());
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    text.lines()
        .find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .with_context(|| format!("{}: no channel", file.display()))
}

/// The commit, for `scanguard --version` and the build-info metric; "unknown" outside a checkout.
fn revision(workspace: &Path) {
    let head = workspace.join(".git/HEAD");
    // In a further work tree of git's it is elsewhere; what is watched and not there would have this run every time.
    if head.exists() {
        println!("cargo:rerun-if-changed={}", head.display());
    }
    let revision = std::process::Command::new("git")
        .args([
            "-C".as_ref(),
            workspace.as_os_str(),
            "rev-parse".as_ref(),
            "--short=12".as_ref(),
            "HEAD".as_ref(),
        ])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned());
    println!("cargo:rustc-env=SCANGUARD_REVISION={revision}");
}
