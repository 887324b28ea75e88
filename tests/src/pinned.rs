//! What an agent has pinned: file systems to pin in, one for each test, and a sensor on what is pinned while no agent
//! runs.

use std::{
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, ensure};
use scanguard::content::sampling::Settings as Sampling;
use scanguard::sensor::{
    connections::Ground,
    kernel::KernelSensor,
    pins::Plan,
    program::{self, KernelLogLevel},
    settings::Settings,
};

/// A BPF file system of its own: with it, all that is pinned in it goes.
pub struct Bpffs(PathBuf);

impl Bpffs {
    /// Mounts one.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mount() -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("{}{number}", prefix()));
        fs::create_dir_all(&path)?;
        mount(&path, 0)?;
        Ok(Self(path))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A directory in it, which may not be there yet, for an agent to pin in.
    pub fn pin(&self) -> PathBuf {
        self.0.join("agent")
    }

    /// Has it take no more changes.
    ///
    /// # Errors
    /// It cannot be mounted anew.
    pub fn make_read_only(&self) -> Result<()> {
        mount(&self.0, libc::MS_REMOUNT | libc::MS_RDONLY)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

fn prefix() -> String {
    format!("scanguard-bpffs-{}-", std::process::id())
}

fn mount(path: &Path, flags: libc::c_ulong) -> Result<()> {
    let target = CString::new(path.to_str().context("UTF-8")?)?;
    // SAFETY: strings that end with zero; no data.
    let failed =
        unsafe { libc::mount(c"bpf".as_ptr(), target.as_ptr(), c"bpf".as_ptr(), flags, std::ptr::null()) };
    ensure!(failed == 0, "mounting {}: {}", path.display(), io::Error::last_os_error());
    Ok(())
}

fn unmount(path: &Path) {
    if let Ok(target) = CString::new(path.as_os_str().as_encoded_bytes()) {
        // SAFETY: a string that ends with zero. Nobody is left to tell if it fails.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
    let _ = fs::remove_dir(path);
}

/// Unmounts all of this process, for an end that runs no guards.
pub(crate) fn unmount_all() {
    for entry in fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix()) {
            unmount(&entry.path());
        }
    }
}

/// A sensor on pinned maps, while no agent runs: what it changes stays. It attaches nothing.
///
/// # Errors
/// An agent runs, or the maps cannot be used.
pub fn sensor(settings: &Settings) -> Result<KernelSensor> {
    let plan = Plan::new(settings)?;
    ensure!(!plan.reused().is_empty(), "nothing is pinned that these settings go with");
    let mut ebpf = program::load_with(
        settings,
        &Sampling::default(),
        plan.salt(),
        KernelLogLevel(0),
        &Ground::of_kernel()?,
        &plan.reused(),
    )?;
    let mut taken = plan.commit(&ebpf)?;
    let mut sensor = KernelSensor::new(&mut ebpf, settings.ipv6_prefix)?;
    sensor.resume(&mut taken)?;
    Ok(sensor)
}
