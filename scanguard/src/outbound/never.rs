//! Actors that are never blocked: without them the host, or the way to it, is lost.
//!
//! A program counts by the whole path of its executable and only outside of containers, so that nobody is spared for a
//! name.

use scanguard_common::actor::{Kind, marks};

use super::{Actor, identity::Running};

/// Where packages of the system have their programs.
const PLACES: [&str; 10] = [
    "/bin/",
    "/sbin/",
    "/usr/bin/",
    "/usr/sbin/",
    "/usr/lib/",
    "/usr/libexec/",
    "/lib/systemd/",
    "/usr/local/bin/",
    "/usr/local/sbin/",
    "/opt/containerd/",
];

/// Programs, and what they are.
const PROGRAMS: [(&str, &str); 30] = [
    ("sshd", "the SSH server"),
    ("sshd-session", "the SSH server"),
    ("sshd-auth", "the SSH server"),
    ("dropbear", "the SSH server"),
    ("systemd", "the first process"),
    ("systemd-resolved", "a resolver"),
    ("systemd-networkd", "the network's configuration"),
    ("NetworkManager", "the network's configuration"),
    ("dhclient", "the network's configuration"),
    ("dhcpcd", "the network's configuration"),
    ("unbound", "a resolver"),
    ("named", "a resolver"),
    ("dnsmasq", "a resolver"),
    ("pdns_recursor", "a resolver"),
    ("kresd", "a resolver"),
    ("nscd", "a resolver"),
    ("dockerd", "a container runtime"),
    ("docker-proxy", "a container runtime"),
    ("containerd", "a container runtime"),
    ("containerd-shim", "a container runtime"),
    ("containerd-shim-runc-v2", "a container runtime"),
    ("runc", "a container runtime"),
    ("crun", "a container runtime"),
    ("conmon", "a container runtime"),
    ("crio", "a container runtime"),
    ("podman", "a container runtime"),
    ("kubelet", "a container runtime"),
    ("k3s", "a container runtime"),
    ("buildkitd", "a container runtime"),
    ("scanguard", "this agent"),
];

/// Units that are spared as a whole.
const UNITS: [&str; 16] = [
    "init.scope",
    "ssh.service",
    "sshd.service",
    "dropbear.service",
    "systemd-resolved.service",
    "systemd-networkd.service",
    "NetworkManager.service",
    "unbound.service",
    "named.service",
    "dnsmasq.service",
    "docker.service",
    "containerd.service",
    "crio.service",
    "podman.service",
    "kubelet.service",
    "scanguard.service",
];

/// Why an actor is never blocked; none: it may be. `agent` is this agent's pid.
pub fn why(actor: &Actor, agent: u32) -> Option<&'static str> {
    let Some(process) = &actor.process else {
        // A host behind this one has no process.
        return (actor.key.kind != Kind::Inner).then_some("nobody knows who it is");
    };
    if actor.key.kind == Kind::Group && process.group == "/" {
        return Some("it is the control group of all");
    }
    if process.container.is_none() && process.unit.as_deref().is_some_and(|unit| UNITS.contains(&unit)) {
        return Some("its unit is one that this host depends on");
    }
    if actor.key.kind != Kind::Group {
        return of_process(process, agent);
    }
    None
}

fn of_process(process: &Running, agent: u32) -> Option<&'static str> {
    if process.pid == 1 {
        return Some("the first process");
    }
    if process.pid == agent {
        return Some("this agent");
    }
    if process.is(marks::KERNEL) {
        return Some("the kernel");
    }
    let is_of_system = process.container.is_none()
        && !process.is(marks::MEMFD)
        && PLACES.iter().any(|place| process.path.starts_with(place));
    let program = process.program();
    PROGRAMS.iter().find(|(name, _)| is_of_system && *name == program).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::identity::testing::{Draft, process};

    const AGENT: u32 = 77;

    #[test]
    fn those_that_the_host_depends_on_are_spared_by_their_place_and_not_by_name_alone() {
        let id = "a1".repeat(32);
        for (path, group, kind, spared) in [
            ("/usr/sbin/sshd", "/system.slice/other.service", Kind::Program, true),
            ("/tmp/sshd", "/system.slice/other.service", Kind::Program, false),
            ("/usr/sbin/sshd", &*format!("/docker/{id}"), Kind::Program, false),
            ("/usr/bin/dockerd", "/system.slice/docker.service", Kind::Group, true),
            ("/usr/bin/python3", "/system.slice/docker.service", Kind::Crafter, true),
            ("/usr/bin/python3", "/system.slice/web.service", Kind::Program, false),
            ("/usr/bin/python3", "/system.slice/web.service", Kind::Group, false),
            ("/usr/bin/python3", "/", Kind::Group, true),
            ("/usr/bin/python3", "/", Kind::Program, false),
        ] {
            let actor = Draft::new(path, group).actor(kind);
            assert_eq!(why(&actor, AGENT).is_some(), spared, "{path} in {group}");
        }
        for pid in [1, AGENT] {
            let mut draft = Draft::new("/opt/x", "/x");
            draft.identity.process = process(pid, 0, "x");
            assert!(why(&draft.actor(Kind::Program), AGENT).is_some(), "{pid}");
        }
        assert!(why(&Draft::new("", "/x").marks(marks::KERNEL).actor(Kind::Program), AGENT).is_some());
    }
}
