//! Finds the owner of an XDP program that is already attached to an interface, and the way to remove it.

use std::fmt;

use aya::programs::loaded_programs;
use scanguard_common::abi;

use super::links::{self, Target};
use crate::network::Interface;

/// libxdp gives this name to the program by which it runs several others. Managers that copied it do the same
/// (bpfman).
const DISPATCHER: &str = "xdp_dispatcher";

/// A program that somebody else attached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owner {
    /// Program id, as `bpftool prog show id N` takes it.
    pub program_id: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// How it is attached.
    pub attachment: Attachment,
    /// If it is a dispatcher: the id and name of each program that it runs.
    pub runs: Vec<(u32, String)>,
    /// Id and name of each process that holds it. The list is empty if only a pin or the interface keeps it.
    pub holders: Vec<(u32, String)>,
}

/// How a program is attached to an interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Attachment {
    /// By rtnetlink, as iproute2 and libxdp do it. It stays until somebody removes it.
    Netlink {
        /// In the network stack, not in the driver.
        generic: bool,
    },
    /// By the BPF link with this id. It stays as long as somebody holds the link.
    Link(u32),
    /// Unknown: the kernel lists links only for processes with CAP_SYS_ADMIN.
    Unknown,
}

impl Owner {
    /// Finds out what it can about the program with this id, which is attached to an interface.
    pub fn of(program_id: u32, interface: &Interface) -> Self {
        let names: Vec<(u32, String)> = loaded_programs()
            .filter_map(Result::ok)
            .filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned())))
            .filter(|(_, name)| !name.is_empty())
            .collect();
        let name = |id| names.iter().find(|(named, _)| *named == id).map(|(_, name)| name.clone());
        let links = links::all();
        let attachment = match &links {
            Ok(links) => links
                .iter()
                .find(|link| link.program == program_id && link.target == Target::Interface(interface.index))
                .map_or(Attachment::Netlink { generic: interface.xdp_generic }, |link| {
                    Attachment::Link(link.id)
                }),
            Err(_) => Attachment::Unknown,
        };
        let runs = links
            .iter()
            .flatten()
            .filter(|link| link.target == Target::Program(program_id))
            .map(|link| (link.program, name(link.program).unwrap_or_default()))
            .collect();
        Self { program_id, name: name(program_id), attachment, runs, holders: holders(program_id) }
    }

    fn is_dispatcher(&self) -> bool {
        self.name.as_deref() == Some(DISPATCHER)
    }

    fn is_own(&self) -> bool {
        [abi::PROGRAM, abi::BARE_PROGRAM].map(Some).contains(&self.name.as_deref())
    }

    /// How its owner can remove it from the interface of that name: a command, or words.
    pub fn way_out(&self, interface: &str) -> String {
        match self.attachment {
            _ if self.is_own() && self.holders.is_empty() => {
                "`scanguard detach --pin DIRECTORY` ends a program that an agent has left pinned".to_owned()
            }
            Attachment::Netlink { .. } if self.is_dispatcher() => {
                format!("`xdp-loader unload {interface} --all` ends the programs that libxdp has loaded")
            }
            Attachment::Netlink { generic: false } => {
                format!("stop its owner, or `ip link set dev {interface} xdpdrv off`")
            }
            Attachment::Netlink { generic: true } => {
                format!("stop its owner, or `ip link set dev {interface} xdpgeneric off`")
            }
            Attachment::Link(id) => format!("stop its owner, or `bpftool link detach id {id}`"),
            Attachment::Unknown => {
                format!("stop its owner; `bpftool net show dev {interface}`, as root, says more")
            }
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("without a name");
        write!(f, "program {name} (id {})", self.program_id)?;
        if self.is_dispatcher() {
            f.write_str(", a libxdp dispatcher")?;
        }
        for (place, (id, name)) in self.runs.iter().enumerate() {
            let before = if place == 0 { " that runs" } else { "," };
            write!(f, "{before} {name} (id {id})")?;
        }
        if self.holders.is_empty() {
            return f.write_str(", held by no process that can be seen");
        }
        for (place, (pid, command)) in self.holders.iter().enumerate() {
            let before = if place == 0 { ", held by" } else { "," };
            write!(f, "{before} {command} (pid {pid})")?;
        }
        Ok(())
    }
}

/// The kernel gives the program id of each open descriptor of a program or link in /proc/PID/fdinfo/FD. Processes that
/// cannot be read are skipped.
fn holders(program_id: u32) -> Vec<(u32, String)> {
    let wanted = format!("prog_id:\t{program_id}");
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            std::fs::read_dir(format!("/proc/{pid}/fdinfo")).is_ok_and(|descriptors| {
                descriptors
                    .filter_map(Result::ok)
                    .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
                    .any(|info| info.lines().any(|line| line == wanted))
            })
        })
        .map(|pid| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (pid, command.trim().to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str, attachment: Attachment) -> Owner {
        Owner {
            program_id: 7,
            name: Some(name.to_owned()),
            attachment,
            runs: Vec::new(),
            holders: Vec::new(),
        }
    }

    #[test]
    fn a_dispatcher_is_named_with_what_it_runs_and_how_that_ends() {
        let runs = vec![(9, "filter".to_owned()), (12, "count".to_owned())];
        let dispatcher = Owner { runs, ..owner(DISPATCHER, Attachment::Netlink { generic: false }) };
        assert_eq!(
            dispatcher.to_string(),
            "program xdp_dispatcher (id 7), a libxdp dispatcher that runs filter (id 9), count (id 12), \
             held by no process that can be seen"
        );
        assert_eq!(
            dispatcher.way_out("eth0"),
            "`xdp-loader unload eth0 --all` ends the programs that libxdp has loaded"
        );
    }

    #[test]
    fn the_way_out_is_one_that_the_kernel_takes() {
        let netlink = |generic| owner("x", Attachment::Netlink { generic }).way_out("eth0");
        assert!(netlink(false).ends_with("`ip link set dev eth0 xdpdrv off`"), "{}", netlink(false));
        // `xdp off` looks only in the driver, and finds nothing there.
        assert!(netlink(true).ends_with("`ip link set dev eth0 xdpgeneric off`"), "{}", netlink(true));
        // A netlink request cannot remove a link, even if it has a dispatcher.
        for name in ["x", DISPATCHER] {
            let way = owner(name, Attachment::Link(3)).way_out("eth0");
            assert!(way.ends_with("`bpftool link detach id 3`"), "{way}");
        }
        assert!(!owner("x", Attachment::Unknown).way_out("eth0").contains(" off"));
        let left = owner(abi::PROGRAM, Attachment::Link(3));
        assert!(left.way_out("eth0").starts_with("`scanguard detach"), "{}", left.way_out("eth0"));
        let running = Owner { holders: vec![(1, "scanguard".to_owned())], ..left };
        assert!(running.way_out("eth0").starts_with("stop its owner"), "{}", running.way_out("eth0"));
    }
}
