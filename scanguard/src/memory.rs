//! How much memory is left on this host, and within the limits of this process's control groups.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use procfs::{Current as _, Meminfo, ProcResult, process::Process};

/// Available memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Room {
    /// How many bytes, without taking memory from others.
    pub bytes: u64,
    /// The limit that decides.
    pub bound: Bound,
}

/// A limit of memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Bound {
    /// The available memory of the host: `MemAvailable`, proc(5).
    Host,
    /// The limit of a control group.
    Group {
        /// Its directory.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("available on this host"),
            Self::Group { path, limit } => {
                write!(f, "left of the limit of {} MiB that {} sets", limit >> 20, path.display())
            }
        }
    }
}

/// The least room within all limits of this process; nothing if the host does not give it.
pub fn room() -> Option<Room> {
    let host = Meminfo::current().ok().and_then(|memory| memory.mem_available);
    let host = host.map(|bytes| Room { bytes, bound: Bound::Host });
    let groups = groups().unwrap_or_default();
    let groups = groups.iter().flat_map(Group::rooms);
    host.into_iter().chain(groups).min_by_key(|room| room.bytes)
}

/// Names of files and of a field, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
#[derive(Clone, Copy, Debug)]
struct Names {
    limit: &'static str,
    usage: &'static str,
    /// Field of memory.stat: memory that the kernel takes back first.
    reclaimable: &'static str,
}

const UNIFIED: Names = Names { limit: "memory.max", usage: "memory.current", reclaimable: "inactive_file" };
const LEGACY: Names = Names {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};

/// A control group that accounts for memory.
struct Group {
    path: PathBuf,
    /// The mount point of the hierarchy: no group is above it.
    top: PathBuf,
    names: Names,
}

/// The groups of this process, one in each hierarchy.
fn groups() -> ProcResult<Vec<Group>> {
    let process = Process::myself()?;
    let mounts = process.mountinfo()?;
    let mut groups = Vec::new();
    for group in process.cgroups()? {
        let is_unified = group.hierarchy == 0;
        if !is_unified && !group.controllers.iter().any(|name| name == "memory") {
            continue;
        }
        let mount = mounts.0.iter().find(|mount| {
            let is_memory = || mount.super_options.contains_key("memory");
            if is_unified { mount.fs_type == "cgroup2" } else { mount.fs_type == "cgroup" && is_memory() }
        });
        let Some(mount) = mount else { continue };
        groups.push(Group {
            path: below(&mount.mount_point, &mount.root, &group.pathname),
            top: mount.mount_point.clone(),
            names: if is_unified { UNIFIED } else { LEGACY },
        });
    }
    Ok(groups)
}

/// The directory of a group. In a container, the mount may begin at the group itself, though the group's path is still
/// that of the host.
fn below(mount_point: &Path, root: &str, path: &str) -> PathBuf {
    let inner = Path::new(path).strip_prefix(root).or_else(|_| Path::new(path).strip_prefix("/"));
    let seen = mount_point.join(inner.unwrap_or(Path::new("")));
    if seen.is_dir() { seen } else { mount_point.to_owned() }
}

impl Group {
    /// The room within the limits of this group and of each one above. Groups without a limit do not count.
    fn rooms(&self) -> impl Iterator<Item = Room> {
        let levels = self.path.ancestors().take_while(|path| path.starts_with(&self.top));
        levels.filter_map(|path| self.names.room(path))
    }
}

impl Names {
    fn room(&self, group: &Path) -> Option<Room> {
        // "max" is no number.
        let limit = number(&group.join(self.limit))?;
        let usage = number(&group.join(self.usage))?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let fields = stat.lines().filter_map(|line| line.split_once(' '));
        let reclaimable = fields.filter(|(name, _)| *name == self.reclaimable);
        let reclaimable = reclaimable.filter_map(|(_, value)| value.trim().parse().ok()).next().unwrap_or(0);
        Some(Room {
            bytes: limit.saturating_sub(usage.saturating_sub(reclaimable)),
            bound: Bound::Group { path: group.to_owned(), limit },
        })
    }
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let root = std::env::temp_dir().join(format!("scanguard-memory-{name}-{}", std::process::id()));
            for (file, text) in files {
                let path = root.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            Self(root)
        }

        fn rooms(&self, leaf: &str, names: Names) -> Vec<(u64, PathBuf)> {
            let group = Group { path: self.0.join(leaf), top: self.0.clone(), names };
            let path = |room: Room| match room.bound {
                Bound::Group { path, .. } => (room.bytes, path.strip_prefix(&self.0).unwrap().to_owned()),
                Bound::Host => panic!("the host is no group"),
            };
            group.rooms().map(path).collect()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn each_level_with_a_limit_leaves_what_is_not_in_use_or_can_be_taken_back() {
        let tree = Tree::new(
            "unified",
            &[
                ("system/memory.max", "1000\n"),
                ("system/memory.current", "300\n"),
                ("system/memory.stat", "anon 7\ninactive_file 100\nactive_file 90\n"),
                ("system/unit/memory.max", "max\n"),
                ("system/unit/memory.current", "200\n"),
                ("system/unit/deep/memory.max", "50\n"),
                ("system/unit/deep/memory.current", "90\n"),
            ],
        );
        let rooms = tree.rooms("system/unit/deep", UNIFIED);
        // If the limit was lowered below the usage, no room is left.
        assert_eq!(rooms, [(0, "system/unit/deep".into()), (800, "system".into())]);
    }

    #[test]
    fn the_old_hierarchy_has_other_names() {
        let tree = Tree::new(
            "legacy",
            &[
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.usage_in_bytes", "10\n"),
                ("unit/memory.limit_in_bytes", "1000\n"),
                ("unit/memory.usage_in_bytes", "600\n"),
                ("unit/memory.stat", "inactive_file 1\ntotal_inactive_file 50\n"),
            ],
        );
        let rooms = tree.rooms("unit", LEGACY);
        assert_eq!(rooms, [(450, "unit".into()), (9_223_372_036_854_771_702, "".into())]);
    }

    #[test]
    fn a_group_is_looked_for_where_its_hierarchy_is_mounted() {
        let tree = Tree::new("mounted", &[("unit/memory.max", "1\n")]);
        assert_eq!(below(&tree.0, "/", "/unit"), tree.0.join("unit"));
        // A container may see its own group as the root, and the path of the host or its own.
        assert_eq!(below(&tree.0, "/docker/7", "/docker/7/unit"), tree.0.join("unit"));
        assert_eq!(below(&tree.0, "/docker/7", "/docker/7"), tree.0);
        assert_eq!(below(&tree.0, "/docker/7", "/elsewhere"), tree.0);
    }

    #[test]
    fn this_host_has_room() {
        let room = room().unwrap();
        assert!(room.bytes > 1 << 20, "{room:?}");
    }
}
