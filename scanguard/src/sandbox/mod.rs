//! Least privilege: the agent gives up what it does not need any more after attaching.
//!
//! ```text
//! access: what is read and written -> landlock     (files, listening, signals)
//!         what is still needed     -> capabilities
//!                                     seccomp      (system calls)
//! ```
//! All three belong to threads, not to the process. Each worker of the runtime applies them to itself, then the main
//! thread does, and threads that start later inherit them. At the end, the code checks every thread.

mod access;
mod capabilities;
pub mod landlock;
pub mod metrics;
mod seccomp;
pub mod settings;
#[cfg(test)]
mod tests;
mod threads;

use std::{collections::BTreeSet, io, path::PathBuf};

use ::landlock::{RulesetCreated, RulesetError};
use caps::{CapsHashSet, errors::CapsError};
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use crate::{privileges::effective_user, user};

pub use self::access::{Access, Calls};
use self::landlock::Enforced;

/// The agent could not give up privileges.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// Capabilities.
    #[error("capabilities cannot be dropped: {0}{HINT}")]
    Capabilities(#[from] CapsError),
    /// Files.
    #[error("Landlock's rules are not taken: {0}{HINT}")]
    Landlock(#[from] RulesetError),
    /// System calls.
    #[error("the filter of system calls is not taken: {0}{HINT}")]
    Seccomp(#[from] seccompiler::Error),
    /// A requirement of the sandbox failed.
    #[error("{0}{HINT}")]
    Io(#[from] io::Error),
    /// A thread of the runtime was busy.
    #[error("the worker threads could not be confined within {0} s{HINT}")]
    Busy(u64),
    /// A thread was found that is not confined.
    #[error("thread {name} ({id}) is not confined: {what}{HINT}")]
    Free {
        /// Its id.
        id: String,
        /// Its name.
        name: String,
        /// The fault.
        what: String,
    },
    /// A reload names files that are out of reach.
    #[error(
        "{}: out of reach of the sandbox, since it was not named when the agent started: restart the agent",
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    OutOfReach(BTreeSet<PathBuf>),
    /// A reload configures the first sink that sends to a Unix socket.
    #[error(
        "the sandbox lets the agent send to Unix sockets only if a sink needed one when the agent started: restart the agent"
    )]
    UnixSockets,
}

const HINT: &str = "; `sandbox = false` in [security] does without";

/// The restrictions in force.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Report {
    /// `security.sandbox`.
    pub enabled: bool,
    /// The user that the agent runs as.
    #[serde(default)]
    pub user: String,
    /// Whether that is root.
    #[serde(default)]
    pub is_root: bool,
    /// The capabilities that are kept. If the sandbox is off, all that the process had.
    pub capabilities: Vec<String>,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// How much of the rules for files is enforced.
    pub landlock: Enforced,
}

/// The sandbox of this process.
#[derive(Debug)]
pub struct Sandbox {
    /// There is none: it is off.
    access: Option<Access>,
    report: Report,
}

impl Sandbox {
    /// No sandbox: this process keeps all its privileges.
    ///
    /// # Errors
    /// The capabilities cannot be read.
    pub fn off() -> Result<Self, SandboxError> {
        tracing::warn!("security.sandbox is off: the agent keeps all its privileges");
        let had = caps::read(None, caps::CapSet::Effective)?;
        let report = Report {
            capabilities: names(&had),
            seccomp: false,
            landlock: Enforced::Not,
            ..Report::of_user()
        };
        Ok(Self { access: None, report })
    }

    /// Confines all threads of this process to this access: those of the runtime, and this one.
    ///
    /// # Errors
    /// See [`SandboxError`]. Missing support in the kernel is no error: it is logged.
    pub async fn enter(access: Access) -> Result<Self, SandboxError> {
        let confinement = Confinement::new(&access)?;
        // The list of users is out of reach afterwards.
        let user = user::present();
        let (report, confinement) = threads::confine_all(confinement).await?;
        let report = Report { user, ..report };
        threads::check(&confinement)?;
        if report.landlock == Enforced::Not {
            let why = landlock::kernel().err().unwrap_or_default();
            tracing::warn!("files are not kept out of reach: no Landlock: {why}");
        }
        if !report.seccomp {
            tracing::warn!(
                "system calls are not filtered: this kernel has no seccomp, or none for this architecture"
            );
        }
        tracing::info!(
            user = report.user,
            capabilities = kept(&report.capabilities),
            seccomp = report.seccomp,
            landlock = ?report.landlock,
            "confined"
        );
        Ok(Self { access: Some(access), report })
    }

    /// The restrictions in force.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Whether all of these files that exist can be read.
    ///
    /// # Errors
    /// [`SandboxError::OutOfReach`].
    pub fn check_reading(&self, paths: BTreeSet<PathBuf>) -> Result<(), SandboxError> {
        in_reach(self.access.as_ref().map(|access| access.unreadable(paths)))
    }

    /// Whether these system calls can be made.
    ///
    /// # Errors
    /// [`SandboxError::UnixSockets`].
    pub fn check_calls(&self, wanted: Calls) -> Result<(), SandboxError> {
        match &self.access {
            Some(access) if wanted.unix_datagrams && !access.calls.unix_datagrams => {
                Err(SandboxError::UnixSockets)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether these directories can be written to.
    ///
    /// # Errors
    /// [`SandboxError::OutOfReach`].
    pub fn check_writing(&self, directories: BTreeSet<PathBuf>) -> Result<(), SandboxError> {
        in_reach(self.access.as_ref().map(|access| access.unwritable(directories)))
    }
}

impl Report {
    /// The user of this process, and no restriction.
    fn of_user() -> Self {
        Self {
            enabled: false,
            user: user::present(),
            is_root: effective_user() == 0,
            capabilities: Vec::new(),
            seccomp: false,
            landlock: Enforced::Not,
        }
    }
}

fn in_reach(out_of_reach: Option<BTreeSet<PathBuf>>) -> Result<(), SandboxError> {
    match out_of_reach {
        Some(paths) if !paths.is_empty() => Err(SandboxError::OutOfReach(paths)),
        Some(_) | None => Ok(()),
    }
}

/// The names of capabilities, sorted.
fn names(capabilities: &CapsHashSet) -> Vec<String> {
    let mut names: Vec<_> = capabilities.iter().map(ToString::to_string).collect();
    names.sort();
    names
}

/// Capabilities in words.
pub fn kept(capabilities: &[String]) -> String {
    if capabilities.is_empty() { "none".to_owned() } else { capabilities.join(", ") }
}

/// The parts of the sandbox that this kernel supports, for `scanguard doctor`: the name, and what is lost without it.
pub fn of_this_kernel() -> Vec<(&'static str, Result<String, String>)> {
    let seccomp = match (seccomp::is_supported(), seccomp::filters(Calls::default())) {
        (false, _) => Err("this kernel has no filters of system calls".to_owned()),
        (true, Err(error)) => Err(format!("no filter for this architecture: {error}")),
        (true, Ok(_)) => Ok("system calls are filtered".to_owned()),
    };
    let lost = |why: String| format!("{why}: files are not kept out of the agent's reach");
    let mut parts = vec![("seccomp", seccomp), ("landlock", landlock::kernel().map_err(lost))];
    if matches!(capabilities::for_maps(), Ok(Some(_))) {
        let words = "CAP_BPF stays: before Linux 5.19, with kernel.unprivileged_bpf_disabled set, the kernel wants it \
                     for each look into a map";
        parts.push(("capabilities", Err(words.to_owned())));
    }
    parts
}

/// The restrictions that a thread applies to itself.
struct Confinement {
    rules: RulesetCreated,
    capabilities: CapsHashSet,
    /// Nothing: this kernel has no such filters.
    filters: Option<[BpfProgram; 2]>,
}

impl Confinement {
    fn new(access: &Access) -> Result<Self, SandboxError> {
        let filters = if seccomp::is_supported() { seccomp::filters(access.calls).ok() } else { None };
        let mut needed = access.capabilities.clone();
        needed.extend(capabilities::for_maps()?);
        let capabilities = capabilities::at_hand(&needed)?;
        Ok(Self { rules: landlock::rules(access)?, capabilities, filters })
    }

    /// Confines this thread and the threads that it will start.
    fn put_on(&self) -> Result<Report, SandboxError> {
        // This also sets no_new_privs, even without Landlock.
        let status = self.rules.try_clone()?.restrict_self()?;
        capabilities::keep(&self.capabilities)?;
        // This comes last: the filter forbids all of the above.
        for filter in self.filters.iter().flatten() {
            seccompiler::apply_filter(filter)?;
        }
        Ok(Report {
            enabled: true,
            capabilities: names(&self.capabilities),
            seccomp: self.filters.is_some(),
            landlock: status.ruleset.into(),
            ..Report::of_user()
        })
    }
}
