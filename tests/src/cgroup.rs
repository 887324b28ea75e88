//! A control group of its own with a limit of memory, of either version of the kernel's interface.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

/// The group; it goes with this, once nobody is in it.
pub struct MemoryGroup {
    path: PathBuf,
    limit: &'static str,
    usage: &'static str,
}

impl MemoryGroup {
    /// Makes one without a limit, below the root of whichever hierarchy has the memory controller.
    ///
    /// # Errors
    /// There is none, or it takes no group.
    pub fn new() -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("scanguard-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let unified = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new).into_iter().find(|root| {
            let children = fs::read_to_string(root.join("cgroup.subtree_control"));
            children.is_ok_and(|names| names.split_whitespace().any(|name| name == "memory"))
        });
        let group = match unified {
            Some(root) => Self { path: root.join(name), limit: "memory.max", usage: "memory.current" },
            None => Self {
                path: Path::new("/sys/fs/cgroup/memory").join(name),
                limit: "memory.limit_in_bytes",
                usage: "memory.usage_in_bytes",
            },
        };
        fs::create_dir(&group.path).with_context(|| group.path.display().to_string())?;
        Ok(group)
    }

    /// Sets the limit in bytes.
    ///
    /// # Errors
    /// The kernel could not free so much.
    pub fn limit(&self, bytes: u64) -> Result<()> {
        fs::write(self.path.join(self.limit), bytes.to_string()).context(self.limit)
    }

    /// What is in use, in bytes.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn usage(&self) -> Result<u64> {
        Ok(fs::read_to_string(self.path.join(self.usage))?.trim().parse()?)
    }

    /// Has a command run in it.
    pub fn hold(&self, command: &mut Command) {
        let processes = self.path.join("cgroup.procs");
        // SAFETY: writes a file; the child has no other thread whose lock it could wait for but the allocator's, which the
        // C library makes fit for a child.
        unsafe { command.pre_exec(move || fs::write(&processes, "0")) };
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Those who were in it have just been killed: the kernel takes a moment.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
