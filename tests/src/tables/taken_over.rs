//! What code would do that has taken over the agent: a row for each call, every one of which must be refused.

use std::{
    ffi::CString,
    fs::{self, Permissions},
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};
use scanguard::privileges::effective_user;

use crate::fixtures::{
    injected::{Argument, Injected},
    lab::run,
    pinned::Bpffs,
    scratch::Scratch,
};

/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
mod command {
    pub(super) const MAP_CREATE: i64 = 0;
    pub(super) const PROG_LOAD: i64 = 5;
    pub(super) const OBJ_PIN: i64 = 6;
    pub(super) const OBJ_GET: i64 = 7;
    pub(super) const PROG_GET_FD_BY_ID: i64 = 13;
    pub(super) const MAP_GET_FD_BY_ID: i64 = 14;
    pub(super) const LINK_GET_FD_BY_ID: i64 = 30;
}

/// `SYS_fchmodat2`, include/uapi/asm-generic/unistd.h: the C library has no number for it yet.
const FCHMODAT2: libc::c_long = 452;

/// The files of root's, with their modes.
const FILES: [(&str, u32); 4] = [("key", 0o600), ("secret", 0o600), ("rootshell", 0o755), ("public", 0o644)];

/// What there is to attack: files and a socket of root's, a pinned map of another tool. As the agent names it, which may
/// run in another root directory.
pub struct Ground {
    root: PathBuf,
    files: PathBuf,
    pins: PathBuf,
    _socket: UnixListener,
    _guards: Option<(Scratch, Bpffs)>,
}

impl Ground {
    /// Makes it in directories that go with it.
    ///
    /// # Errors
    /// It could not be made.
    pub fn new() -> Result<Self> {
        let (files, bpffs) = (Scratch::new()?, Bpffs::mount()?);
        let ground = Self::within(Path::new("/"), files.path(), bpffs.path())?;
        Ok(Self { _guards: Some((files, bpffs)), ..ground })
    }

    /// Makes it in existing directories of another root directory.
    ///
    /// # Errors
    /// It could not be made.
    pub fn within(root: &Path, files: &Path, pins: &Path) -> Result<Self> {
        ensure!(effective_user() == 0, "root's files are root's to make");
        let here = |path: PathBuf| seen(root, &path);
        for (name, mode) in FILES {
            let path = here(files.join(name));
            fs::write(&path, "root's\n")?;
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
        let socket = here(files.join("docker.sock"));
        let listener = UnixListener::bind(&socket)?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600))?;
        let map = here(pins.join("other"));
        let mut bpftool = Command::new("bpftool");
        bpftool.args(["map", "create"]).arg(&map);
        run(bpftool.args(["type", "array", "key", "4", "value", "8", "entries", "1", "name", "other"]))?;
        // Anybody might use it, as far as its own permissions go.
        fs::set_permissions(&map, Permissions::from_mode(0o666))?;
        let (root, files, pins) = (root.to_owned(), files.to_owned(), pins.to_owned());
        Ok(Self { root, files, pins, _socket: listener, _guards: None })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.files.join(name)
    }

    /// Fails if anything has changed in spite of all.
    ///
    /// # Errors
    /// It has.
    pub fn is_unharmed(&self) -> Result<()> {
        for (name, mode) in FILES {
            let about = fs::symlink_metadata(seen(&self.root, &self.file(name)))?;
            let found = about.permissions().mode() & 0o7777;
            ensure!(
                found == mode && about.len() == 7 && about.nlink() == 1 && about.uid() == 0,
                "{name}: {about:?}"
            );
        }
        ensure!(!seen(&self.root, &self.file("new")).exists(), "a file was made");
        ensure!(!seen(&self.root, &self.pins.join("left")).exists(), "a map was pinned");
        Ok(())
    }
}

/// A path in another root directory, as this process sees it.
fn seen(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// A string that ends with zero.
fn text(path: &Path) -> Result<Vec<u8>> {
    Ok(CString::new(path.as_os_str().as_bytes())?.into_bytes_with_nul())
}

/// A row that was not refused.
#[derive(Debug, Eq, PartialEq)]
pub struct Succeeded {
    /// What was tried.
    pub row: String,
    /// What the kernel said.
    pub result: i64,
}

/// Makes the calls inside, and gives the rows that were not refused. Each call that succeeds opens something, so a number
/// that is not negative is a success. `pid` is of another process of root's, as the agent would call it.
///
/// # Errors
/// The process could not be made to call.
pub fn tried(agent: &Injected, ground: &Ground, pid: u32) -> Result<Vec<Succeeded>> {
    // The last: in the unit, most of the host is mounted to be read only.
    const ERRORS: [i32; 5] = [libc::EPERM, libc::EACCES, libc::ENOENT, libc::EBADF, libc::EROFS];
    let mut succeeded = Vec::new();
    let mut row = |name: String, number: libc::c_long, arguments: &[Argument<'_>]| {
        let result = agent.call(number, arguments)?;
        // Refused as something that must not be, or as something that is hidden; an error of another kind may be one of
        // this test.
        if !ERRORS.iter().any(|error| result == -i64::from(*error)) {
            succeeded.push(Succeeded { row: name, result });
        }
        anyhow::Ok(result)
    };
    let here = libc::AT_FDCWD;
    let key = ground.file("key");
    let read = [
        Path::new("/etc/shadow"),
        key.as_path(),
        &ground.file("public"),
        &PathBuf::from(format!("/proc/{pid}/environ")),
        &PathBuf::from(format!("/proc/{pid}/mem")),
        &PathBuf::from(format!("/proc/{pid}/fd")),
        Path::new("/root"),
        Path::new("/etc/ssl/private"),
        Path::new("/etc/passwd"),
    ]
    .map(Path::to_owned);
    for path in read {
        let text = text(&path)?;
        row(
            format!("reading {}", path.display()),
            libc::SYS_openat,
            &[here.into(), text[..].into(), libc::O_RDONLY.into()],
        )?;
    }
    let new = text(&ground.file("new"))?;
    let flags = libc::O_WRONLY | libc::O_CREAT;
    row(
        "making a file elsewhere".into(),
        libc::SYS_openat,
        &[here.into(), new[..].into(), flags.into(), 0o600.into()],
    )?;
    for (name, mode) in [("rootshell", 0o4755), ("secret", 0o644)] {
        let path = text(&ground.file(name))?;
        // Newer architectures have no call of that name.
        #[cfg(target_arch = "x86_64")]
        row(format!("chmod of {name}"), libc::SYS_chmod, &[path[..].into(), mode.into()])?;
        row(format!("fchmodat of {name}"), libc::SYS_fchmodat, &[here.into(), path[..].into(), mode.into()])?;
        let at = [here.into(), path[..].into(), mode.into(), 0.into()];
        row(format!("fchmodat2 of {name}"), FCHMODAT2, &at)?;
        let owner = [here.into(), path[..].into(), 0.into(), 0.into(), 0.into()];
        row(format!("chown of {name}"), libc::SYS_fchownat, &owner)?;
        row(format!("removing {name}"), libc::SYS_unlinkat, &[here.into(), path[..].into(), 0.into()])?;
        row(
            format!("a link to {name}"),
            libc::SYS_linkat,
            &[here.into(), path[..].into(), here.into(), new[..].into(), 0.into()],
        )?;
    }
    // Its own file: a program of its user with the set-user-ID bit, for others to be had by.
    row("fchmod of an open file".into(), libc::SYS_fchmod, &[0.into(), 0o4755.into()])?;

    // AF_UNIX, the path; connecting needs a socket, which is refused already.
    let mut address = i16::try_from(libc::AF_UNIX)?.to_ne_bytes().to_vec();
    address.extend(text(&ground.file("docker.sock"))?);
    let length = i32::try_from(address.len())?;
    let stream = [libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0.into()];
    let socket = row("a Unix socket".into(), libc::SYS_socket, &stream)?;
    let socket = Argument::Number(if socket < 0 { -1 } else { socket });
    row(
        "connecting to root's socket".into(),
        libc::SYS_connect,
        &[socket, address[..].into(), length.into()],
    )?;
    let hello = b"hello from the sandbox";
    let words = [socket, hello[..].into(), i64::try_from(hello.len())?.into(), 0.into(), 0.into(), 0.into()];
    row("sending over it".into(), libc::SYS_sendto, &words)?;
    let pair = [libc::AF_UNIX.into(), libc::SOCK_DGRAM.into(), 0.into(), [0; 8][..].into()];
    row("a pair of sockets".into(), libc::SYS_socketpair, &pair)?;
    let raw = [libc::AF_PACKET.into(), libc::SOCK_RAW.into(), 0.into()];
    row("a packet socket".into(), libc::SYS_socket, &raw)?;
    let raw = [libc::AF_INET.into(), libc::SOCK_RAW.into(), libc::IPPROTO_TCP.into()];
    row("a raw socket".into(), libc::SYS_socket, &raw)?;

    bpf(&mut row, agent, ground)?;

    let program = text(Path::new("/bin/true"))?;
    row("executing a program".into(), libc::SYS_execve, &[program[..].into(), 0.into(), 0.into()])?;
    row("becoming root".into(), libc::SYS_setresuid, &[0.into(), 0.into(), 0.into()])?;
    let other = i64::from(pid);
    row(
        "tracing a process".into(),
        libc::SYS_ptrace,
        &[i64::from(libc::PTRACE_ATTACH).into(), other.into(), 0.into(), 0.into()],
    )?;
    row("a signal to a process".into(), libc::SYS_kill, &[other.into(), 0.into()])?;
    row("limits of a process".into(), libc::SYS_prlimit64, &[other.into(), 7.into(), 0.into(), 0.into()])?;
    row("a user namespace".into(), libc::SYS_unshare, &[libc::CLONE_NEWUSER.into()])?;
    row("a key ring".into(), libc::SYS_keyctl, &[0.into(), (-3).into(), 1.into()])?;
    row("io_uring".into(), libc::SYS_io_uring_setup, &[8.into(), [0; 128][..].into()])?;
    row(
        "a file by its handle".into(),
        libc::SYS_open_by_handle_at,
        &[here.into(), [0; 16][..].into(), 0.into()],
    )?;
    Ok(succeeded)
}

/// What pins and objects of others there are for. The attributes begin with what the command wants.
fn bpf(
    row: &mut impl FnMut(String, libc::c_long, &[Argument<'_>]) -> Result<i64>,
    agent: &Injected,
    ground: &Ground,
) -> Result<()> {
    let mut call = |name: &str, command: i64, attributes: &[u8]| {
        let length = i64::try_from(attributes.len())?;
        row(name.to_owned(), libc::SYS_bpf, &[command.into(), attributes.into(), length.into()])
    };
    // The address of a path, a descriptor, flags.
    let pin = |path: &Path, descriptor: u32| {
        let address = agent.put(&text(path)?)?;
        anyhow::Ok([&address.to_ne_bytes()[..], &descriptor.to_ne_bytes(), &[0; 4]].concat())
    };
    let other = pin(&ground.pins.join("other"), 0)?;
    call("opening another tool's pinned map", command::OBJ_GET, &other)?;
    let own = pin(&ground.pins.join("left"), map_of(agent.pid())?)?;
    call("pinning a map where nobody said", command::OBJ_PIN, &own)?;
    call("making a map", command::MAP_CREATE, &[0; 72])?;
    call("loading a program", command::PROG_LOAD, &[0; 72])?;
    for (name, command) in [
        ("another's program by its number", command::PROG_GET_FD_BY_ID),
        ("another's map by its number", command::MAP_GET_FD_BY_ID),
        ("another's link by its number", command::LINK_GET_FD_BY_ID),
    ] {
        call(name, command, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
    }
    Ok(())
}

/// The descriptor of a map of the process.
fn map_of(pid: libc::pid_t) -> Result<u32> {
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        if fs::read_link(entry.path()).is_ok_and(|target| target == Path::new("anon_inode:bpf-map")) {
            let name = entry.file_name();
            return Ok(name.to_str().context("a number")?.parse()?);
        }
    }
    bail!("{pid} has no map")
}
