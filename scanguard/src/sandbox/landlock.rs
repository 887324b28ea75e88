//! Limits which files can be reached, by Landlock. The agent reports what a kernel does not support, and works without
//! it.

use ::landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use serde::{Deserialize, Serialize};

use super::Access;

/// The rules are written for this version: Linux 6.12. Older kernels enforce the part that they know.
const RULES: ABI = ABI::V6;

/// How much of the rules the kernel enforces.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforced {
    /// All of them.
    Fully,
    /// The part that this kernel knows.
    Partly,
    /// None of them.
    Not,
}

impl From<RulesetStatus> for Enforced {
    fn from(status: RulesetStatus) -> Self {
        match status {
            RulesetStatus::FullyEnforced => Self::Fully,
            RulesetStatus::PartiallyEnforced => Self::Partly,
            RulesetStatus::NotEnforced => Self::Not,
        }
    }
}

/// The rules for this access. The process can listen on no TCP port, execute nothing, and send no signal to other
/// processes.
///
/// # Errors
/// The kernel refuses them.
pub(super) fn rules(access: &Access) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    Ruleset::default()
        .handle_access(AccessFs::from_all(RULES))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(RULES))?
        .create()?
        .add_rules(path_beneath_rules(&access.read, read))?
        .add_rules(path_beneath_rules(&access.write, read | writing()))
}

fn writing() -> BitFlags<AccessFs> {
    AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSock
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
}

/// The kernel's version of Landlock, or why there is none. The kernel tells only a restricted thread: here, one that
/// ends at once.
pub(super) fn kernel() -> Result<String, String> {
    let restrict = || Ruleset::default().handle_access(AccessFs::Execute)?.create()?.restrict_self();
    let thread = std::thread::Builder::new().name("landlock".to_owned()).spawn(restrict);
    let status = thread.map_err(|error| error.to_string())?.join();
    match status.map_err(|_| "the thread that asks panicked")?.map_err(|error| error.to_string())?.landlock {
        LandlockStatus::Available { effective_abi, .. } => Ok(format!("version {}", effective_abi as i32)),
        LandlockStatus::NotEnabled => Err("switched off at boot (lsm=)".to_owned()),
        LandlockStatus::NotImplemented => Err("this kernel is built without it (Linux 5.13)".to_owned()),
    }
}
