//! The user that the agent runs as. A process that root starts becomes this user before it does anything else, and
//! keeps for its start only the capabilities that the start needs.

use std::{ffi::CString, sync::OnceLock};

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};
use nix::{
    errno::Errno,
    sys::prctl,
    unistd::{self, Gid, Uid},
};

use crate::privileges::effective_user;

/// The user that the package makes.
pub const DEFAULT: &str = "scanguard";

/// The name that keeps root.
pub const ROOT: &str = "root";

/// The capabilities that a start may need: those of the sensor, and those to read files of others, to look into the
/// processes of SSH servers, to name the owner of another XDP program, to give the control socket its group, to listen
/// at a port below 1024, to lock memory on kernels before 5.11, and to empty the bounding set. None of them lets the
/// process write files of others or become root again.
const STARTING: [Capability; 10] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_CHOWN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_RESOURCE,
    Capability::CAP_SETPCAP,
];

/// The agent cannot run as this user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// There is no such user.
    #[error(
        "there is no user {0}, as whom the agent runs once root has started it: \
         `useradd --system --user-group --no-create-home --shell /usr/sbin/nologin {0}` makes one; `user` in [security], \
         or --user, names another. `--user root` keeps root, so that an agent that is taken over reaches what is root's"
    )]
    Unknown(String),
    /// The users cannot be asked for.
    #[error("the user {name} cannot be looked up: {error}")]
    Lookup {
        /// Its name.
        name: String,
        /// The kernel's or C library's error.
        error: Errno,
    },
    /// This process may not change its user.
    #[error(
        "root has started the agent without {}, so that it cannot become the user {name}: add that, or keep root \
         (`user = \"root\"` in [security], or --user root)", .missing.join(" and ")
    )]
    Forbidden {
        /// The user's name.
        name: String,
        /// The capabilities that it lacks.
        missing: Vec<String>,
    },
    /// The kernel refuses the change.
    #[error("the agent cannot become the user {name}: {what}: {error}")]
    Change {
        /// The user's name.
        name: String,
        /// The call.
        what: &'static str,
        /// The error.
        error: Errno,
    },
    /// The capabilities of the start cannot be set.
    #[error("the capabilities for the start cannot be set: {0}")]
    Capabilities(#[from] CapsError),
}

/// A user, with its groups.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User {
    /// Its name; its number if it has none.
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// The number of its own group.
    pub gid: u32,
    /// The numbers of all its groups.
    groups: Vec<u32>,
}

/// The name of the agent's user, once [`name_agents`] has said it.
static AGENTS: OnceLock<String> = OnceLock::new();

/// Says which user the agent becomes, by name or number. To be called before the configuration is read: the files of
/// secrets that it names may be that user's. Later calls change nothing.
pub fn name_agents(name: &str) {
    AGENTS.get_or_init(|| name.to_owned());
}

/// Whether this is the user that the agent becomes, or the one that the package makes for it.
pub fn is_agents(uid: u32) -> bool {
    let names = [Some(DEFAULT), AGENTS.get().map(String::as_str)];
    names.into_iter().flatten().any(|name| User::find(name).is_ok_and(|user| user.uid == uid))
}

impl User {
    /// The user of this name or number. A number needs no entry in the list of users: then its group has the same
    /// number.
    ///
    /// # Errors
    /// [`UserError::Unknown`], [`UserError::Lookup`].
    pub fn find(name: &str) -> Result<Self, UserError> {
        let failed = |error| UserError::Lookup { name: name.to_owned(), error };
        let number = name.parse::<u32>().ok();
        let found = match number {
            Some(uid) => unistd::User::from_uid(Uid::from_raw(uid)),
            None => unistd::User::from_name(name),
        };
        let found = match (found.map_err(failed)?, number) {
            (Some(found), _) => found,
            (None, Some(uid)) => {
                return Ok(Self { name: name.to_owned(), uid, gid: uid, groups: vec![uid] });
            }
            (None, None) => return Err(UserError::Unknown(name.to_owned())),
        };
        let text = CString::new(found.name.as_str()).map_err(|_| failed(Errno::EINVAL))?;
        let groups = unistd::getgrouplist(&text, found.gid).map_err(failed)?;
        Ok(Self {
            name: found.name,
            uid: found.uid.as_raw(),
            gid: found.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
        })
    }

    /// Whether it is root.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Makes this process one of this user, for good. To be called before there are other threads. Of its capabilities
    /// it keeps those that the start needs.
    ///
    /// # Errors
    /// See [`UserError`].
    pub fn become_it(&self) -> Result<(), UserError> {
        let permitted = caps::read(None, CapSet::Permitted)?;
        let missing = [Capability::CAP_SETUID, Capability::CAP_SETGID]
            .into_iter()
            .filter(|capability| !permitted.contains(capability));
        let missing: Vec<_> = missing.map(|capability| capability.to_string()).collect();
        if !missing.is_empty() {
            return Err(UserError::Forbidden { name: self.name.clone(), missing });
        }
        let failed = |what| move |error| UserError::Change { name: self.name.clone(), what, error };
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let groups: Vec<_> = self.groups.iter().copied().map(Gid::from_raw).collect();
        prctl::set_keepcaps(true).map_err(failed("prctl(PR_SET_KEEPCAPS)"))?;
        unistd::setgroups(&groups).map_err(failed("setgroups"))?;
        unistd::setresgid(gid, gid, gid).map_err(failed("setresgid"))?;
        unistd::setresuid(uid, uid, uid).map_err(failed("setresuid"))?;
        prctl::set_keepcaps(false).map_err(failed("prctl(PR_SET_KEEPCAPS)"))?;
        let kept: CapsHashSet = permitted.intersection(&STARTING.into()).copied().collect();
        caps::set(None, CapSet::Effective, &kept)?;
        caps::set(None, CapSet::Permitted, &kept)?;
        // For the helper that keeps filters of tc, which is another process. The sandbox clears both.
        let handed_on = CapsHashSet::from([Capability::CAP_NET_ADMIN]);
        let handed_on = handed_on.intersection(&kept).copied().collect();
        caps::set(None, CapSet::Inheritable, &handed_on)?;
        if caps::runtime::ambient_set_supported().is_ok() {
            caps::set(None, CapSet::Ambient, &handed_on)?;
        }
        // Otherwise its own entries in /proc belong to root.
        prctl::set_dumpable(true).map_err(failed("prctl(PR_SET_DUMPABLE)"))
    }
}

/// The user of this process in words: its name, if it has one, and its number.
pub fn present() -> String {
    let uid = effective_user();
    match unistd::User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("{} (uid {uid})", user.name),
        Ok(None) | Err(_) => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number_and_one_that_is_missing_is_said_with_what_to_do() {
        let root = User::find("root").expect("there is one");
        assert!(root.is_root() && root.gid == 0 && root.groups.contains(&0), "{root:?}");
        assert_eq!(User::find("0").expect("there is one"), root);
        let nameless = User::find("3999999999").expect("a number is enough");
        assert_eq!(
            (nameless.uid, nameless.gid, nameless.groups),
            (3_999_999_999, 3_999_999_999, vec![3_999_999_999])
        );
        let said = User::find("no-such-user").expect_err("there is none").to_string();
        assert!(said.contains("useradd") && said.contains("--user root"), "{said}");
    }

    #[test]
    fn what_the_start_keeps_neither_writes_files_of_others_nor_becomes_root() {
        for capability in [
            Capability::CAP_SETUID,
            Capability::CAP_SETGID,
            Capability::CAP_DAC_OVERRIDE,
            Capability::CAP_FOWNER,
            Capability::CAP_SETFCAP,
            Capability::CAP_SYS_MODULE,
        ] {
            assert!(!STARTING.contains(&capability), "{capability}");
        }
    }
}
