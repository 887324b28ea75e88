//! Confines every thread of the process.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use caps::CapsHashSet;
use tokio::{runtime::Handle, task::JoinSet};

use super::{Confinement, Report, SandboxError};
use crate::privileges::effective_user;

/// How long the workers may take to arrive, and ended threads to disappear.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time between two looks at the threads.
const PAUSE: Duration = Duration::from_millis(2);

/// Applies a confinement to each worker of the runtime, and to this thread. There is one task for each worker, and
/// none of them ends before all have begun: so no worker can have taken two.
pub(super) async fn confine_all(
    confinement: Confinement,
) -> Result<(Report, Arc<Confinement>), SandboxError> {
    let confinement = Arc::new(confinement);
    let workers = Handle::current().metrics().num_workers();
    let arrived = Arc::new((Mutex::new(0), Condvar::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (confinement, arrived) = (Arc::clone(&confinement), Arc::clone(&arrived));
        tasks.spawn(async move {
            meet(&arrived, workers)?;
            confinement.put_on()
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.map_err(io::Error::other)??;
    }
    Ok((confinement.put_on()?, confinement))
}

/// Waits until all workers have arrived.
fn meet((arrived, all_are): &(Mutex<usize>, Condvar), workers: usize) -> Result<(), SandboxError> {
    let mut number = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    *number += 1;
    all_are.notify_all();
    let met = all_are.wait_timeout_while(number, PATIENCE, |number| *number < workers);
    let (number, late) = met.unwrap_or_else(PoisonError::into_inner);
    drop(number);
    if late.timed_out() { Err(SandboxError::Busy(PATIENCE.as_secs())) } else { Ok(()) }
}

/// Checks every thread: one that is not confined would be a way out for all of them.
pub(super) fn check(confinement: &Confinement) -> Result<(), SandboxError> {
    let capabilities = mask(&confinement.capabilities);
    // Real, effective and saved, and that of files.
    let user = [effective_user().to_string().as_str(); 4].join("\t");
    let mut wanted = vec![
        ("Uid", user),
        ("CapPrm", capabilities.clone()),
        ("CapEff", capabilities),
        ("NoNewPrivs", "1".to_owned()),
    ];
    if confinement.filters.is_some() {
        // SECCOMP_MODE_FILTER.
        wanted.push(("Seccomp", "2".to_owned()));
    }
    check_all(Path::new("/proc/self/task"), &wanted, PATIENCE)
}

/// A joined thread is still listed until the kernel has removed it. So threads that are not confined may take this
/// long to disappear.
pub(super) fn check_all(
    threads: &Path,
    wanted: &[(&str, String)],
    patience: Duration,
) -> Result<(), SandboxError> {
    let until = Instant::now() + patience;
    loop {
        match free(threads, wanted)? {
            None => return Ok(()),
            Some(thread) if Instant::now() >= until => return Err(thread),
            Some(_) => thread::sleep(PAUSE),
        }
    }
}

/// A thread that is not confined, if there is one.
fn free(threads: &Path, wanted: &[(&str, String)]) -> io::Result<Option<SandboxError>> {
    for entry in fs::read_dir(threads)? {
        let entry = entry?;
        // The thread may have ended.
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.unwrap_or_default().trim().to_owned()
        };
        if let Some((name, value)) = wanted.iter().find(|(name, value)| field(name) != *value) {
            return Ok(Some(SandboxError::Free {
                id: entry.file_name().to_string_lossy().into_owned(),
                name: field("Name"),
                what: format!("{name} is {}, not {value}", field(name)),
            }));
        }
    }
    Ok(None)
}

/// The thread's state in /proc.
fn mask(capabilities: &CapsHashSet) -> String {
    let bits = capabilities.iter().fold(0_u64, |bits, capability| bits | capability.bitmask());
    format!("{bits:016x}")
}
