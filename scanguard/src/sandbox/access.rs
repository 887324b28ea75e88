//! The files and capabilities that a process may still use.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use caps::CapsHashSet;

/// The files and capabilities that the process needs after it has entered the sandbox. A directory includes
/// everything beneath it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Access {
    /// The paths that it reads.
    pub read: BTreeSet<PathBuf>,
    /// The paths that it reads and writes.
    pub write: BTreeSet<PathBuf>,
    /// The capabilities that it needs.
    pub capabilities: CapsHashSet,
    /// The system calls that it needs beyond those that every agent needs.
    pub calls: Calls,
}

/// System calls that only some configurations need.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Calls {
    /// To pin links in a BPF file system.
    pub pin: bool,
    /// To send datagrams to Unix sockets: to the journal, to a local syslog, or to a service manager.
    pub unix_datagrams: bool,
}

impl Access {
    /// Those of these paths that exist and must not be read.
    pub(super) fn unreadable(&self, paths: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        paths.into_iter().filter(|path| path.exists() && !self.has_in_reach(path)).collect()
    }

    /// Those of these directories that must not be written to.
    pub(super) fn unwritable(&self, directories: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
        let beneath = |path: &PathBuf| !path.ancestors().any(|above| self.write.contains(above));
        directories.into_iter().filter(beneath).collect()
    }

    fn has_in_reach(&self, path: &Path) -> bool {
        path.ancestors().any(|above| self.read.contains(above) || self.write.contains(above))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beneath_a_place_is_in_reach_and_its_neighbour_is_not() {
        let set = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        let access = Access {
            read: set(&["/etc/scanguard"]),
            write: set(&["/var/lib/scanguard"]),
            ..Access::default()
        };
        assert!(access.has_in_reach(Path::new("/etc/scanguard/feeds/a")));
        assert!(!access.has_in_reach(Path::new("/etc/scanguard2")));
        let wanted = set(&["/var/lib/scanguard", "/etc/scanguard"]);
        assert_eq!(access.unwritable(wanted), set(&["/etc/scanguard"]));
    }
}
