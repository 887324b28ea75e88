//! The container of a process, from the path of its control group.
//!
//! | runtime | names of control groups |
//! |---|---|
//! | Docker | `docker-ID.scope`, `/docker/ID` (cgroup v1, or the cgroupfs driver) |
//! | containerd | `cri-containerd-ID.scope`, `...:cri-containerd:ID`, `nerdctl-ID.scope` |
//! | CRI-O | `crio-ID.scope` |
//! | Podman | `libpod-ID.scope`, `/libpod_parent/libpod-ID` |
//! | Kubernetes | `/kubepods/.../podUID/ID` (the cgroupfs driver) |
//! | LXC, Incus | `lxc.payload.NAME`, `/lxc/NAME` |
//! | systemd-nspawn | `machine-NAME.scope`, `systemd-nspawn@NAME.service` |

/// A container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    /// What runs it.
    pub runtime: &'static str,
    /// Its id: 64 hexadecimal digits; for LXC and systemd-nspawn its name.
    pub id: String,
}

/// Digits of a whole id.
const DIGITS: usize = 64;
/// Digits of an id as people use it.
const SHORT: usize = 12;

/// What stands before an id in the name of a scope, and what runs it.
const SCOPES: [(&str, &str); 5] = [
    ("docker-", "docker"),
    ("cri-containerd-", "containerd"),
    ("nerdctl-", "containerd"),
    ("crio-", "cri-o"),
    ("libpod-", "podman"),
];

impl Container {
    /// The container in whose control group this path lies, if it is one's. The innermost one counts.
    pub fn of(group: &str) -> Option<Self> {
        let names: Vec<_> = group.split('/').filter(|name| !name.is_empty()).collect();
        (0..names.len()).rev().find_map(|place| Self::at(&names, place))
    }

    fn at(names: &[&str], place: usize) -> Option<Self> {
        let name = *names.get(place)?;
        let stem = name.strip_suffix(".scope").unwrap_or(name);
        for (prefix, runtime) in SCOPES {
            if let Some(id) = stem.strip_prefix(prefix).filter(|id| is_id(id)) {
                return Some(Self { runtime, id: id.to_owned() });
            }
        }
        if let Some((_, id)) = name.rsplit_once(":cri-containerd:").filter(|(_, id)| is_id(id)) {
            return Some(Self { runtime: "containerd", id: id.to_owned() });
        }
        let above = place.checked_sub(1).and_then(|above| names.get(above)).copied().unwrap_or_default();
        if is_id(name) {
            let runtime = match above {
                "docker" => "docker",
                _ if names[..place].iter().any(|name| name.starts_with("kubepods")) => "kubernetes",
                _ => "container",
            };
            return Some(Self { runtime, id: name.to_owned() });
        }
        let named = |runtime, id: &str| Some(Self { runtime, id: unescaped(id) });
        if let Some(id) = name.strip_prefix("lxc.payload.").filter(|id| !id.is_empty()) {
            return named("lxc", id);
        }
        if above == "lxc" {
            return named("lxc", name);
        }
        let machine = name.strip_prefix("machine-").and_then(|name| name.strip_suffix(".scope"));
        let nspawn = name.strip_prefix("systemd-nspawn@").and_then(|name| name.strip_suffix(".service"));
        machine.or(nspawn).and_then(|id| named("nspawn", id))
    }

    /// Its id as people use it: the first twelve digits, or its name.
    pub fn short_id(&self) -> &str {
        if is_id(&self.id) { self.id.get(..SHORT).unwrap_or(&self.id) } else { &self.id }
    }
}

fn is_id(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A name without the escapes of systemd for `-` and `/`.
fn unescaped(name: &str) -> String {
    name.replace("\\x2d", "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_told_by_the_paths_of_their_groups() {
        let id = "3f9a0c11d2e4".repeat(6)[..64].to_owned();
        for (path, runtime) in [
            (format!("/system.slice/docker-{id}.scope"), "docker"),
            (format!("/docker/{id}"), "docker"),
            (format!("/docker/{id}/init.scope"), "docker"),
            (format!("/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-{id}.scope"), "containerd"),
            (
                format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}"),
                "containerd",
            ),
            (format!("/kubepods.slice/kubepods-burstable.slice/crio-{id}.scope"), "cri-o"),
            (format!("/machine.slice/libpod-{id}.scope/container"), "podman"),
            (format!("/libpod_parent/libpod-{id}"), "podman"),
            (format!("/kubepods/besteffort/pod9b1e/{id}"), "kubernetes"),
            (format!("/system.slice/nerdctl-{id}.scope"), "containerd"),
            (format!("/other/{id}"), "container"),
        ] {
            let container = Container::of(&path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!((container.runtime, container.short_id()), (runtime, "3f9a0c11d2e4"), "{path}");
        }
        for (path, runtime, name) in [
            ("/lxc.payload.web-1/system.slice/nginx.service", "lxc", "web-1"),
            ("/lxc/web/init.scope", "lxc", "web"),
            ("/machine.slice/machine-my\\x2dhost.scope", "nspawn", "my-host"),
            ("/machine.slice/systemd-nspawn@db.service/payload", "nspawn", "db"),
        ] {
            let container = Container::of(path).unwrap();
            assert_eq!((container.runtime, container.short_id()), (runtime, name), "{path}");
        }
    }

    #[test]
    fn other_groups_are_none() {
        for path in [
            "/",
            "",
            "/system.slice/docker.service",
            "/system.slice/libpod-conmon-3f9a0c11d2e4.scope",
            "/user.slice/user-1000.slice/session-3.scope",
            "/docker/short",
        ] {
            assert_eq!(Container::of(path), None, "{path}");
        }
    }
}
