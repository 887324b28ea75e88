use std::{fs, io, path::PathBuf, ptr::null, thread, time::Duration};

use super::*;
use crate::config::{Config, access};

/// Runs something in a thread with the confinement of this configuration.
fn confined<T: Send + 'static>(
    config: Config,
    file: PathBuf,
    inside: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = thread::spawn(move || {
        let confinement = Confinement::new(&access::needed(&config, &file)).expect("it can be made");
        confinement.put_on().expect("it can be put on");
        inside()
    });
    thread.join().expect("no panic")
}

fn errno(result: libc::c_long) -> Option<i32> {
    (result == -1).then(|| io::Error::last_os_error().raw_os_error().unwrap_or_default())
}

#[test]
fn what_the_agent_has_no_use_for_is_refused() {
    let nowhere = c"/nonexistent-scanguard";
    let results = confined(Config::default(), PathBuf::new(), move || {
        let path = nowhere.as_ptr();
        // SAFETY: paths that end with zero, no memory otherwise. A call that would succeed without a sandbox has no
        // effect.
        unsafe {
            [
                ("execve", errno(libc::syscall(libc::SYS_execve, path, null::<u8>(), null::<u8>()))),
                ("mount", errno(libc::syscall(libc::SYS_mount, path, path, path, 0, 0))),
                ("ptrace", errno(libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, 1, 0, 0))),
                ("unshare", errno(libc::syscall(libc::SYS_unshare, 0))),
                ("setns", errno(libc::syscall(libc::SYS_setns, -1, 0))),
                ("init_module", errno(libc::syscall(libc::SYS_init_module, path, 0, path))),
                ("io_uring", errno(libc::syscall(libc::SYS_io_uring_setup, 0, 0))),
                ("setuid", errno(libc::syscall(libc::SYS_setresuid, -1, -1, -1))),
                ("kill", errno(libc::syscall(libc::SYS_kill, std::process::id(), 0))),
                ("process", errno(libc::syscall(libc::SYS_clone, libc::CLONE_VFORK, 0, 0, 0, 0))),
                ("raw socket", errno(libc::syscall(libc::SYS_socket, libc::AF_PACKET, libc::SOCK_RAW, 0))),
                ("map", errno(libc::syscall(libc::SYS_bpf, 0, 0, 0))),
                ("program", errno(libc::syscall(libc::SYS_bpf, 5, 0, 0))),
            ]
        }
    });
    for (call, error) in results {
        assert_eq!(error, Some(libc::EPERM), "{call}");
    }
}

#[test]
fn threads_can_still_be_made_and_names_resolved() {
    use std::net::ToSocketAddrs as _;
    let worked = confined(Config::default(), PathBuf::new(), || {
        let thread = thread::spawn(|| ("localhost", 80).to_socket_addrs().map(Iterator::count));
        thread.join().expect("no panic")
    });
    assert!(worked.expect("localhost has an address") > 0);
}

#[test]
fn files_that_are_not_named_are_out_of_reach() {
    if let Err(why) = landlock::kernel() {
        assert!(std::env::var_os("SCANGUARD_NO_SKIP").is_none(), "{why}, and skipping is forbidden here");
        return;
    }
    let directory = std::env::temp_dir().join(format!("scanguard-sandbox-{}", std::process::id()));
    for name in ["state", "config", "other"] {
        fs::create_dir_all(directory.join(name)).unwrap();
        fs::write(directory.join(name).join("file"), name).unwrap();
    }
    let config_file = directory.join("config/scanguard.toml");
    fs::write(&config_file, "").unwrap();
    let mut config = Config::default();
    config.response.state = directory.join("state/state.json");
    config.control.socket = directory.join("state/control.sock");
    let inside = directory.clone();
    let results = confined(config, config_file, move || {
        let kind = |result: io::Result<()>| result.map_err(|error| error.kind());
        let read = |path: PathBuf| kind(fs::read(path).map(drop));
        let listen = std::net::TcpListener::bind("127.0.0.1:0").map(drop);
        [
            ("the configuration", read(inside.join("config/file"))),
            ("the state", kind(fs::write(inside.join("state/new"), "new"))),
            ("its renaming", kind(fs::rename(inside.join("state/new"), inside.join("state/file")))),
            ("proc", read("/proc/self/net/tcp".into())),
            ("shadow", read("/etc/shadow".into())),
            ("another file", read(inside.join("other/file"))),
            ("writing the configuration", kind(fs::write(inside.join("config/file"), ""))),
            ("removing it", kind(fs::remove_file(inside.join("config/file")))),
            ("listing", kind(fs::read_dir("/root").map(drop))),
            ("listening", kind(listen)),
        ]
    });
    fs::remove_dir_all(&directory).unwrap();
    let (allowed, refused) = results.split_at(4);
    for (what, result) in allowed {
        assert_eq!(*result, Ok(()), "{what}");
    }
    for (what, result) in refused {
        assert_eq!(*result, Err(io::ErrorKind::PermissionDenied), "{what}");
    }
}

#[test]
fn a_thread_that_is_just_ending_is_waited_for_and_one_that_stays_is_named() {
    let threads = std::env::temp_dir().join(format!("scanguard-threads-{}", std::process::id()));
    let ending = threads.join("7");
    fs::create_dir_all(&ending).expect("it can be made");
    fs::write(ending.join("status"), "Name:\tasked\nNoNewPrivs:\t0\n").expect("it can be written");
    let wanted = [("NoNewPrivs", "1".to_owned())];

    let error = threads::check_all(&threads, &wanted, Duration::ZERO).expect_err("it is free");
    assert!(
        error.to_string().starts_with("thread asked (7) is not confined: NoNewPrivs is 0, not 1"),
        "{error}"
    );

    let end = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        fs::remove_dir_all(ending)
    });
    threads::check_all(&threads, &wanted, Duration::from_secs(60)).expect("it has ended");
    end.join().expect("no panic").expect("it can be removed");
    fs::remove_dir(threads).expect("it is empty");
}
