//! What guards do, once more for an end that runs no guards: SIGINT and SIGTERM.

use std::{
    fs::{self, File},
    io::Read as _,
    os::fd::FromRawFd as _,
    process::Command,
    sync::atomic::{AtomicI32, Ordering},
    thread,
};

use anyhow::{Result, ensure};

use crate::{lab::run, pinned::unmount_all, stage::scratch_root};

/// Where the signal handler writes; -1 until there is one.
static PIPE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_signal(signal: i32) {
    let byte = signal.to_ne_bytes();
    // SAFETY: write(2) is async-signal-safe; the buffer outlives the call.
    unsafe { libc::write(PIPE.load(Ordering::Relaxed), byte.as_ptr().cast(), byte.len()) };
}

/// From now on SIGINT and SIGTERM end this process only after its namespaces, what runs in them, and its
/// directories are gone. A handler, not a blocked signal: tools that are started inherit no handler.
///
/// # Errors
/// There is no pipe, or no handler can be set.
pub fn on_signals() -> Result<()> {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors.
    ensure!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } == 0, "no pipe");
    // SAFETY: the descriptor is new, and nobody else's.
    let mut reader = unsafe { File::from_raw_fd(ends[0]) };
    PIPE.store(ends[1], Ordering::Relaxed);
    thread::spawn(move || {
        let mut signal = [0; 4];
        if reader.read_exact(&mut signal).is_ok() {
            let signal = i32::from_ne_bytes(signal);
            eprintln!("signal {signal}: cleaning up");
            end_all();
            std::process::exit(128 + signal);
        }
    });
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(i32) = on_signal;
        // SAFETY: the handler only calls what is async-signal-safe.
        let before = unsafe { libc::signal(signal, handler as libc::sighandler_t) };
        ensure!(before != libc::SIG_ERR, "no handler for signal {signal}");
    }
    Ok(())
}

fn end_all() {
    let prefix = format!("sg{}-", std::process::id());
    // Twice: another thread may have been about to start or to make something.
    for _ in 0..2 {
        let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
            if name.starts_with(&prefix) {
                kill_all_in(&name);
                let _ = run(Command::new("ip").args(["netns", "del", &name]));
            }
        }
        unmount_all();
        let _ = fs::remove_dir_all(scratch_root());
    }
}

/// Kills every process that is in a namespace, but this one.
pub(crate) fn kill_all_in(namespace: &str) {
    let Ok(output) = run(Command::new("ip").args(["netns", "pids", namespace])) else { return };
    let own = std::process::id();
    for pid in String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.trim().parse().ok()) {
        if i64::from(pid) != i64::from(own) {
            // SAFETY: no memory. Whatever is in a namespace of ours was started by us.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
}
