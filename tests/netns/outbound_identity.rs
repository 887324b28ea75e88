//! Who asks for connections: what is read of the processes.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_common::actor::{Identity, Kind, marks};
use scanguard_tests::fixtures::{
    cgroup::Group,
    lab::{Lab, VICTIM, run},
    outbound::{Watch, path, text},
};

use crate::{
    outbound::{CONNECT, PYTHON},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("outbound: a process is told by pid, user, parents, path, arguments and group", fields),
        trial("outbound: a pid in a pid namespace is told beside that of the host", pid_namespace),
        trial("outbound: executables that were deleted, or never had a name, are marked", nameless),
        trial("outbound: names may have newlines and may be no text", odd_names),
        trial("outbound: of long paths and arguments the beginning is told", long),
        trial("outbound: a process in another root is told by its path there", chroot),
        trial("outbound: a connect of io_uring is its process's, whichever thread makes it", io_uring),
        trial("outbound: a scan that goes on is told by a process that takes part", renewed),
    ]
}

/// A command in a group of its own, what it is told by, and what it printed.
struct Told {
    identity: Identity,
    printed: String,
    group: Group,
}

fn told(lab: &Lab, watch: &mut Watch, suffix: &str, mut command: Command) -> Result<Told> {
    let group = Group::new(suffix)?;
    group.hold(&mut command);
    let output = run(&mut command)?;
    let actor = watch.only(group.number()?, Kind::Program)?;
    let identity = watch.identity(&actor)?;
    let namespace = lab.scanner.enter(|| Ok(fs::metadata("/proc/thread-self/ns/net")?.ino()))?;
    ensure!(u64::from(identity.network_namespace) == namespace, "{identity:?}");
    Ok(Told { identity, printed: String::from_utf8(output.stdout)?, group })
}

fn arguments(identity: &Identity) -> Vec<String> {
    let used = &identity.arguments[..identity.arguments_len as usize];
    used.split(|byte| *byte == 0).map(|one| String::from_utf8_lossy(one).into_owned()).collect()
}

fn fields() -> Result<()> {
    let lab = Lab::new()?;
    let mut watch = Watch::new()?;
    let mut command = lab.scanner.command(PYTHON);
    let script = format!("import os; os.seteuid(4711); print(os.getpid())\n{CONNECT}");
    let target = format!("{VICTIM}.8001");
    command.args(["-c", &script, &target]);
    let Told { identity, printed, group } = told(&lab, &mut watch, "-web.service", command)?;
    let process = identity.process;
    ensure!(
        process.pid.to_string() == printed.trim() && identity.inner_pid == process.pid,
        "{process:?}: {printed}"
    );
    ensure!(process.uid == 4_711 && text(&process.comm) == "python3", "{process:?}");
    let since_boot = fs::read_to_string("/proc/uptime")?;
    let since_boot: f64 = since_boot.split(' ').next().context("uptime")?.parse()?;
    let age = since_boot - process.start_ns as f64 / 1e9;
    ensure!((0.0..60.0).contains(&age), "{age}");
    let [first, second, _] = identity.parents;
    ensure!(first.pid == std::process::id() && first.start_ns < process.start_ns, "{first:?}");
    ensure!(second.pid == std::os::unix::process::parent_id(), "{second:?}");
    let executable = fs::canonicalize(PYTHON)?;
    let metadata = fs::metadata(&executable)?;
    ensure!(path(&identity.path) == executable.to_str().context("UTF-8")?, "{:?}", path(&identity.path));
    ensure!(identity.inode == metadata.ino() && identity.changed == metadata.ctime().cast_unsigned());
    let (major, minor) = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    ensure!(identity.device == major << 20 | minor, "{:x}: {major} {minor}", identity.device);
    let arguments = arguments(&identity);
    ensure!(arguments[..2] == [PYTHON, "-c"] && identity.arguments_len == 256, "{arguments:?}");
    ensure!(identity.marks == marks::ARGUMENTS_CUT, "{}", identity.marks);
    ensure!(path(&identity.group_path) == format!("/{}", group.name()), "{:?}", text(&identity.group_path));
    ensure!(identity.group == group.number()? && identity.pid_namespace != 0);
    Ok(())
}

fn pid_namespace() -> Result<()> {
    let lab = Lab::new()?;
    let mut watch = Watch::new()?;
    let mut command = lab.scanner.command("unshare");
    let script = format!("import os; print(os.getpid())\n{CONNECT}");
    command.args(["--pid", "--fork", "--", PYTHON, "-c", &script, &format!("{VICTIM}.8001")]);
    let Told { identity, printed, .. } = told(&lab, &mut watch, "-pods", command)?;
    ensure!(printed.trim() == "1" && identity.inner_pid == 1 && identity.process.pid > 1, "{identity:?}");
    let own = fs::metadata("/proc/self/ns/pid")?.ino();
    ensure!(identity.pid_namespace != 0 && u64::from(identity.pid_namespace) != own);
    ensure!(text(&identity.parents[0].comm) == "unshare", "{:?}", identity.parents);
    Ok(())
}

/// Connects from an executable that it makes and that has no name any more.
const NAMELESS: &str = "
import os, sys
how, target = sys.argv[1:]
ip, port = target.rsplit('.', 1)
argv = ['scan', '-c', f'echo > /dev/tcp/{ip}/{port}; true']
if how == 'memfd':
    fd = os.memfd_create('hidden', 0)
else:
    fd = os.open('/tmp/scanguard-nameless-%d' % os.getpid(), os.O_RDWR | os.O_CREAT, 0o755)
with open('/bin/bash', 'rb') as bash:
    os.write(fd, bash.read())
path = os.readlink('/proc/self/fd/%d' % fd)
if how == 'deleted':
    os.close(fd)
    fd = os.open(path, os.O_RDONLY)
    os.unlink(path)
os.execve('/proc/self/fd/%d' % fd, argv, {})
";

fn nameless() -> Result<()> {
    let lab = Lab::new()?;
    let mut watch = Watch::new()?;
    for (how, mark, name) in
        [("memfd", marks::MEMFD, "/memfd:hidden"), ("deleted", marks::DELETED, "/tmp/scanguard-nameless-")]
    {
        let mut command = lab.scanner.command(PYTHON);
        command.args(["-c", NAMELESS, how, &format!("{VICTIM}.8001")]);
        let identity = told(&lab, &mut watch, "-nameless", command)?.identity;
        ensure!(identity.marks == mark, "{how}: {}", identity.marks);
        ensure!(path(&identity.path).starts_with(name), "{how}: {}", path(&identity.path));
        ensure!(arguments(&identity)[0] == "scan", "{how}");
    }
    Ok(())
}

fn odd_names() -> Result<()> {
    let lab = Lab::new()?;
    let mut watch = Watch::new()?;
    let directory = lab.scanner.directory().join(std::ffi::OsStr::from_bytes(b"a\nb\x1b[2J"));
    fs::create_dir(&directory)?;
    let executable = directory.join(std::ffi::OsStr::from_bytes(b"\xff\xfe sc\nan"));
    fs::copy("/bin/bash", &executable)?;
    let mut command = lab.scanner.command("env");
    command.arg(&executable).args(["-c", &format!("echo > /dev/tcp/{VICTIM}/8001; true"), "\n\x1b"]);
    let identity = told(&lab, &mut watch, "-odd\x1bname", command)?.identity;
    ensure!(identity.process.comm.starts_with(b"\xff\xfe sc\nan\0"), "{:?}", identity.process);
    let mut names = identity.path.split(|byte| *byte == 0);
    ensure!(names.next() == Some(b"\xff\xfe sc\nan") && names.next() == Some(b"a\nb\x1b[2J"));
    ensure!(arguments(&identity)[3] == "\n\x1b" && identity.marks == 0, "{identity:?}");
    Ok(())
}

fn long() -> Result<()> {
    let lab = Lab::new()?;
    let mut watch = Watch::new()?;
    let mut directory = lab.scanner.directory().to_owned();
    for _ in 0..18 {
        directory.push("d".repeat(200));
    }
    fs::create_dir_all(&directory)?;
    let executable = directory.join("e".repeat(100));
    fs::copy("/bin/bash", &executable)?;
    let mut command = lab.scanner.command("env");
    command.arg(&executable).args([
        "-c",
        &format!("echo > /dev/tcp/{VICTIM}/8001; true"),
        &"x".repeat(5_000),
    ]);
    let identity = told(&lab, &mut watch, &"g".repeat(200), command)?.identity;
    ensure!(identity.marks == marks::PATH_CUT | marks::ARGUMENTS_CUT, "{}", identity.marks);
    let wanted = format!("{}\0{}\0", "e".repeat(100), "d".repeat(154));
    ensure!(identity.path[..] == *wanted.as_bytes(), "{}", path(&identity.path));
    ensure!(arguments(&identity)[0].starts_with("/") && identity.arguments_len == 256);
    // Two names of a group that are too long together.
    let outer = Group::new(&"o".repeat(150))?;
    let inner = outer.within(&"i".repeat(150))?;
    let mut command = lab.scanner.command(PYTHON);
    command.args(["-c", CONNECT, &format!("{VICTIM}.8002")]);
    inner.hold(&mut command);
    run(&mut command)?;
    let actor = watch.only(inner.number()?, Kind::Program)?;
    let identity = watch.identity(&actor)?;
    ensure!(identity.marks & marks::GROUP_CUT != 0 && text(&identity.group_path) == "i".repeat(150));
    Ok(())
}

fn chroot() -> Result<()> {
    let lab = Lab::new()?;
    let mut watch = Watch::new()?;
    let root = lab.scanner.directory().join("root");
    fs::create_dir(&root)?;
    let script = format!(
        "mount --bind / {root} && mount --bind /dev {root}/dev && exec chroot {root} /bin/bash -c 'echo > /dev/tcp/{VICTIM}/8001; true'",
        root = root.display()
    );
    let mut command = lab.scanner.command("unshare");
    command.args(["--mount", "--", "/bin/sh", "-c", &script]);
    let identity = told(&lab, &mut watch, "-chroot", command)?.identity;
    let executable = fs::canonicalize("/bin/bash")?;
    ensure!(path(&identity.path) == executable.to_str().context("UTF-8")?, "{}", path(&identity.path));
    Ok(())
}

/// Connects by io_uring, in a thread of its own (IOSQE_ASYNC), with the plain system calls of x86 and arm64.
const IO_URING: &str = "
import ctypes, mmap, os, socket, struct, sys
ip, port = sys.argv[1].rsplit('.', 1)
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
params = (ctypes.c_uint32 * 30)()
ring = libc.syscall(425, 4, ctypes.byref(params))
if ring < 0:
    sys.exit(77)
sq = list(params)[10:20]
flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
memory = mmap.mmap(ring, 4096, flags, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
entries = mmap.mmap(ring, 4096, flags, mmap.PROT_READ | mmap.PROT_WRITE, offset=0x10000000)
s = socket.socket()
to = ctypes.create_string_buffer(struct.pack('=H', 2) + struct.pack('!H', int(port)) + socket.inet_aton(ip) + bytes(8))
entries[:32] = struct.pack('=BBHiQQ', 16, 1 << 4, 0, s.fileno(), 16, ctypes.addressof(to)) + bytes(8)
memory[sq[6]:sq[6] + 4] = struct.pack('=I', 0)
memory[sq[1]:sq[1] + 4] = struct.pack('=I', 1)
done = libc.syscall(426, ring, 1, 1, 1, None, 0)
print(os.getpid())
";

fn io_uring() -> Result<()> {
    let lab = Lab::new()?;
    let mut watch = Watch::new()?;
    let mut command = lab.scanner.command(PYTHON);
    command.args(["-c", IO_URING, &format!("{VICTIM}.8001")]);
    let Told { identity, printed, .. } = told(&lab, &mut watch, "-uring", command)?;
    ensure!(identity.process.pid.to_string() == printed.trim(), "{identity:?}");
    ensure!(text(&identity.process.comm) == "python3" && path(&identity.path).contains("/python3"));
    Ok(())
}

fn renewed() -> Result<()> {
    let lab = Lab::new()?;
    let mut watch = Watch::new()?;
    let group = Group::new("-renewed")?;
    let script = format!(
        "for port in $(seq 8001 8020); do /bin/bash -c \"echo > /dev/tcp/{VICTIM}/$port\" 2> /dev/null; done; true"
    );
    let mut command = lab.scanner.command("/bin/bash");
    group.hold(&mut command);
    run(command.args(["-c", &script]))?;
    let actor = watch.only(group.number()?, Kind::Program)?;
    let identity = watch.identity(&actor)?;
    ensure!(arguments(&identity)[2].ends_with("/8016"), "{:?}", arguments(&identity));
    Ok(())
}
