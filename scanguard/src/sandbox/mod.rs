//! Least privilege: what the agent gives up once it is attached.
//!
//! ```text
//! configuration -> places (what is read and written)   -> landlock     (files, listening, signals)
//!               -> capabilities (what is still needed)  -> capabilities
//!                                                          seccomp      (system calls)
//! ```
//! All three belong to threads, not to the process: each worker of the runtime puts them on itself, then the main
//! thread does, and whatever is started later inherits them. In the end every thread is looked at.

mod capabilities;
pub mod landlock;
pub mod metrics;
mod places;
mod seccomp;
pub mod settings;
#[cfg(test)]
mod tests;
mod threads;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use ::landlock::{RulesetCreated, RulesetError};
use caps::{CapsHashSet, errors::CapsError};
use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use self::{landlock::Enforced, places::Places};
use crate::config::Config;

/// The agent could not give up what it does not need.
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
    /// Something that is needed for it.
    #[error("{0}{HINT}")]
    Io(#[from] io::Error),
    /// A thread of the runtime was busy.
    #[error("the worker threads could not be confined within {0} s{HINT}")]
    Busy(u64),
    /// A thread was found that is not confined.
    #[error("thread {name} ({id}) is not confined: {what}{HINT}")]
    Free {
        /// Its number.
        id: String,
        /// Its name.
        name: String,
        /// What is not as it has to be.
        what: String,
    },
    /// A reload names what is out of reach.
    #[error(
        "{}: out of reach of the sandbox, since it was not named when the agent started: restart the agent",
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    OutOfReach(BTreeSet<PathBuf>),
}

const HINT: &str = "; `sandbox = false` in [security] does without";

/// What is in force.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Report {
    /// `security.sandbox`.
    pub enabled: bool,
    /// The capabilities that are kept; all that there were if it is off.
    pub capabilities: Vec<String>,
    /// Whether system calls are filtered.
    pub seccomp: bool,
    /// How much of the rules for files is enforced.
    pub landlock: Enforced,
}

/// The sandbox that this process is in.
#[derive(Debug)]
pub struct Sandbox {
    /// None: it is off.
    places: Option<Places>,
    report: Report,
}

impl Sandbox {
    /// Confines all threads of this process, which are those of the runtime and this one.
    ///
    /// # Errors
    /// See [`SandboxError`]. What a kernel does not have is no error: it is logged.
    pub async fn enter(config: &Config, file: Option<&Path>) -> Result<Self, SandboxError> {
        if !config.security.sandbox {
            tracing::warn!("security.sandbox is off: the agent keeps all its privileges");
            let had = caps::read(None, caps::CapSet::Effective)?;
            let report =
                Report { enabled: false, capabilities: names(&had), seccomp: false, landlock: Enforced::Not };
            return Ok(Self { places: None, report });
        }
        let places = Places::of(config, places::configuration(file));
        for directory in &places.missing {
            tracing::warn!(
                "{} is not there: the sandbox will not let anything be written to it; make it, and restart the agent",
                directory.display()
            );
        }
        for warning in too_wide(config) {
            tracing::warn!("{warning}");
        }
        let confinement = Confinement::new(config, &places)?;
        let (report, confinement) = threads::confine_all(confinement).await?;
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
            capabilities = kept(&report.capabilities),
            seccomp = report.seccomp,
            landlock = ?report.landlock,
            "confined"
        );
        Ok(Self { places: Some(places), report })
    }

    /// What is in force.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Before a file is read again: whether all that it names can be read.
    ///
    /// # Errors
    /// [`SandboxError::OutOfReach`].
    pub fn check_file(&self, file: Option<&Path>) -> Result<(), SandboxError> {
        let places = self.places.as_ref();
        in_reach(places.map(|places| places.unreadable(places::configuration(file))))
    }

    /// Whether a configuration can be written for.
    ///
    /// # Errors
    /// [`SandboxError::OutOfReach`].
    pub fn check_config(&self, config: &Config, file: Option<&Path>) -> Result<(), SandboxError> {
        let new = |places: &Places| places.unwritable(&Places::of(config, places::configuration(file)));
        in_reach(self.places.as_ref().map(new))
    }
}

fn in_reach(out_of_reach: Option<BTreeSet<PathBuf>>) -> Result<(), SandboxError> {
    match out_of_reach {
        Some(paths) if !paths.is_empty() => Err(SandboxError::OutOfReach(paths)),
        Some(_) | None => Ok(()),
    }
}

/// Where the agent may write more than it needs, because of where a file is to be.
pub fn too_wide(config: &Config) -> Vec<String> {
    if !config.security.sandbox {
        return Vec::new();
    }
    let warning = |(file, directory): (&Path, PathBuf)| {
        format!(
            "{}: the sandbox lets the agent write anything in {}, which others use: give the file a directory of its own",
            file.display(),
            directory.display()
        )
    };
    places::among_others(config).map(warning).collect()
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

/// What this kernel has of it, for `scanguard doctor`: what it is called, and what is lost without it.
pub fn of_this_kernel() -> [(&'static str, Result<String, String>); 2] {
    let seccomp = match (seccomp::is_supported(), seccomp::filters()) {
        (false, _) => Err("this kernel has no filters of system calls".to_owned()),
        (true, Err(error)) => Err(format!("no filter for this architecture: {error}")),
        (true, Ok(_)) => Ok("system calls are filtered".to_owned()),
    };
    let lost = |why: String| format!("{why}: files are not kept out of the agent's reach");
    [("seccomp", seccomp), ("landlock", landlock::kernel().map_err(lost))]
}

/// What a thread puts on.
struct Confinement {
    rules: RulesetCreated,
    capabilities: CapsHashSet,
    /// None: this kernel has no such filters.
    filters: Option<[BpfProgram; 2]>,
}

impl Confinement {
    fn new(config: &Config, places: &Places) -> Result<Self, SandboxError> {
        let filters = if seccomp::is_supported() { seccomp::filters().ok() } else { None };
        let capabilities = capabilities::needed(config)?;
        Ok(Self { rules: landlock::rules(places)?, capabilities, filters })
    }

    /// Confines this thread, and those that it will start.
    fn put_on(&self) -> Result<Report, SandboxError> {
        // Sets no_new_privs, too, also where there is no Landlock.
        let status = self.rules.try_clone()?.restrict_self()?;
        capabilities::keep(&self.capabilities)?;
        // The last: it allows none of the above.
        for filter in self.filters.iter().flatten() {
            seccompiler::apply_filter(filter)?;
        }
        Ok(Report {
            enabled: true,
            capabilities: names(&self.capabilities),
            seccomp: self.filters.is_some(),
            landlock: status.ruleset.into(),
        })
    }
}
