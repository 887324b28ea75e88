//! The process that keeps our filters of tc (`scanguard keep-filters`).
//!
//! The kernel takes filters off for nobody, and changing them needs CAP_NET_ADMIN, which the agent gives up. So the
//! agent starts this process before. It has that capability and nothing else: it puts the agent's two programs at the
//! agent's interfaces when it is asked to, and removes them when the agent ends, in whatever way.

use std::{
    collections::BTreeSet,
    io::{self, BufRead as _, BufReader, Write as _},
    net::Shutdown,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Command, Stdio},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::clsact::{self, Put};
use crate::network::{self, Interface, filters::Filters, framing::Framing};

/// How long an answer may take, and the end of the process.
const PATIENCE: Duration = Duration::from_secs(5);

/// The name of the command.
pub const COMMAND: &str = "keep-filters";

/// The arguments of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Descriptor of the program for links with an Ethernet header.
    #[arg(long)]
    ethernet: RawFd,
    /// Descriptor of the program for links without a header.
    #[arg(long)]
    bare: RawFd,
    /// Leave the filters when the agent ends.
    #[arg(long)]
    persist: bool,
    /// The interfaces.
    interfaces: Vec<String>,
}

/// A request, one line of JSON.
#[derive(Debug, Deserialize, Serialize)]
struct Request {
    /// The index of an interface.
    interface: u32,
    /// Whether its packets have no header before IP.
    is_bare: bool,
}

/// The answer to it.
type Answer = Result<Put, String>;

/// The agent's end.
pub(super) struct Keeper {
    stream: BufReader<UnixStream>,
}

impl Keeper {
    /// Starts the process.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn start(
        programs: [BorrowedFd<'_>; 2],
        interfaces: &[String],
        persist: bool,
    ) -> io::Result<Self> {
        let (ours, its) = UnixStream::pair()?;
        ours.set_read_timeout(Some(PATIENCE))?;
        let [ethernet, bare] = programs.map(|program| program.as_raw_fd());
        let mut command = Command::new("/proc/self/exe");
        command.arg0("scanguard").args(["--log", "error", COMMAND]);
        command.args(["--ethernet", &ethernet.to_string(), "--bare", &bare.to_string()]);
        command.args(persist.then_some("--persist")).arg("--").args(interfaces);
        command.stdin(OwnedFd::from(its)).stdout(Stdio::null());
        let prepare = move || {
            for program in [ethernet, bare] {
                // SAFETY: no memory; the descriptor is open, and from now on stays so in the new process.
                if unsafe { libc::fcntl(program, libc::F_SETFD, 0) } != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            // It ends when the agent does, and not before: a terminal and systemd signal both.
            for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                // SAFETY: no handler.
                unsafe { libc::signal(number, libc::SIG_IGN) };
            }
            Ok(())
        };
        // SAFETY: between fork and exec it only makes system calls.
        unsafe { command.pre_exec(prepare) };
        command.spawn()?;
        Ok(Self { stream: BufReader::new(ours) })
    }

    /// Has a program put at what leaves by an interface, see [`clsact::put`].
    ///
    /// # Errors
    /// It was not; or the process is gone.
    pub(super) fn put(&mut self, interface: &Interface) -> Result<Put, String> {
        let is_bare = interface.framing == Framing::Bare;
        let gone = |error: io::Error| format!("the process that keeps filters does not answer: {error}");
        self.ask(&Request { interface: interface.index, is_bare }).map_err(gone)?
    }

    fn ask(&mut self, request: &Request) -> io::Result<Answer> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut answer = String::new();
        if self.stream.read_line(&mut answer)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Drop for Keeper {
    /// Ends the process, and waits until it has removed the filters.
    fn drop(&mut self) {
        let mut rest = String::new();
        let ended = self.stream.get_ref().shutdown(Shutdown::Write);
        if let Err(error) = ended.and_then(|()| self.stream.read_line(&mut rest)) {
            tracing::warn!("the process that keeps filters does not end: {error}");
        }
    }
}

/// The process itself: answers requests on standard input until the agent is gone.
///
/// # Errors
/// It cannot ask the kernel.
pub fn run(arguments: &Arguments) -> io::Result<()> {
    // SAFETY: the agent left them open for this process, which uses them here only.
    let [ethernet, bare] =
        [arguments.ethernet, arguments.bare].map(|program| unsafe { OwnedFd::from_raw_fd(program) });
    let mut filters = Filters::open()?;
    let mut used = BTreeSet::new();
    // Not `io::stdin`: its lock and buffer are of no use here.
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut lines = BufReader::new(&stream).lines();
    while let Some(Ok(line)) = lines.next() {
        let Ok(Request { interface, is_bare }) = serde_json::from_str(&line) else {
            break;
        };
        let answer: Answer = if is_named(interface, &arguments.interfaces) {
            let program = if is_bare { &bare } else { &ethernet };
            let put = clsact::put(&mut filters, interface, program.as_fd());
            if put.is_ok() {
                used.insert(interface);
            }
            put.map_err(|error| words(&error))
        } else {
            Err(format!("interface {interface} is none of the agent's"))
        };
        let mut line = serde_json::to_string(&answer)?;
        line.push('\n');
        if (&stream).write_all(line.as_bytes()).is_err() {
            break;
        }
    }
    if !arguments.persist {
        for interface in used {
            // If the interface is gone, the filter is, too.
            let _ = clsact::take(&mut filters, interface);
        }
    }
    Ok(())
}

/// An error of the kernel, with what it usually means.
fn words(error: &io::Error) -> String {
    let meaning = match error.raw_os_error() {
        Some(libc::ENOENT) => "; are the kernel's modules sch_ingress and cls_bpf there?",
        _ => "",
    };
    format!("{error}{meaning}")
}

/// Whether an interface has one of these names.
fn is_named(index: u32, names: &[String]) -> bool {
    network::name_of(index).is_some_and(|name| names.contains(&name))
}
