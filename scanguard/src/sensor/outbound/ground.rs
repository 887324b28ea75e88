//! The facts about the kernel that the programs for outbound traffic get before they are loaded.

use std::{fs, os::unix::fs::MetadataExt as _, time::Duration};

use aya::EbpfLoader;
use scanguard_common::{
    actor,
    actor_field::{
        ACTOR_FIELDS, ACTOR_OFFSETS, ALL_NAMESPACES, ActorField, OLD_GROUPS, OUTBOUND, OWN_NAMESPACE,
        SOCKET_HEAD_FIELDS, SOCKET_HEAD_LAST, TICKS_PER_SECOND,
    },
};

use super::super::{
    btf::{Btf, BtfError},
    gate::tick,
};

/// The loss without the programs, for logs and doctor.
pub const LOSS: &str = "connections that this host asks for are not looked at: no scan that leaves it is told, and no \
                        process that uses the network";

/// Outbound traffic cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The configuration says so.
    #[error("switched off (outbound.enabled)")]
    Off,
    /// The kernel does not give the offsets of its fields.
    #[error(transparent)]
    Btf(#[from] BtfError),
    /// It stands on the program that counts connections, which cannot run.
    #[error("the program that counts connections cannot run")]
    Connections,
    /// The kernel refuses the code for it.
    #[error("the kernel does not take the code for outbound traffic: {0}")]
    Refused(String),
}

/// The maps that only outbound traffic needs. They are small where it is not looked at, and never pinned: the program
/// that fills them ends with the agent.
pub(in crate::sensor) const MAPS: [&str; 13] = [
    actor::ACTORS,
    actor::IDENTITIES,
    actor::TARGETS,
    actor::BLOCKED,
    actor::INNER,
    actor::NOWHERE,
    actor::OUTBOUND_ORDERS,
    actor::SERVED,
    "LISTENED",
    "OPEN",
    "OWNERS",
    "ACTIVE",
    "SCRATCH",
];

/// Hierarchies of version 1 in which service managers make a control group for each service, the most usual first, with
/// the kernel's constant for its place.
const OLD: [(&str, &str); 4] = [
    ("pids", "pids_cgrp_id"),
    ("memory", "memory_cgrp_id"),
    ("devices", "devices_cgrp_id"),
    ("cpuacct", "cpuacct_cgrp_id"),
];

/// Offsets of the fields of processes.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    offsets: [u32; ACTOR_FIELDS],
    /// See [`OLD_GROUPS`].
    old_groups: u32,
    ticks_per_second: u32,
    /// See [`OUTBOUND`].
    scope: u32,
}

/// The processes that are looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Those of all network namespaces of this host.
    All,
    /// Those of the agent's network namespace.
    Own,
}

impl Scope {
    /// What fits this agent: in the network namespace of the host's first process, all; elsewhere, where it is one of
    /// several, its own.
    pub fn fitting() -> Self {
        let number = |process| fs::metadata(format!("/proc/{process}/ns/net")).map(|file| file.ino());
        match (number("1"), number("thread-self")) {
            (Ok(first), Ok(own)) if first == own => Self::All,
            _ => Self::Own,
        }
    }

    const fn number(self) -> u32 {
        match self {
            Self::All => ALL_NAMESPACES,
            Self::Own => OWN_NAMESPACE,
        }
    }
}

impl Ground {
    /// Outbound traffic is not looked at.
    pub const NONE: Self = Self { offsets: [0; ACTOR_FIELDS], old_groups: 0, ticks_per_second: 0, scope: 0 };

    /// Reads the offsets of the running kernel.
    ///
    /// # Errors
    /// It lacks one.
    pub fn of_kernel(scope: Scope) -> Result<Self, OutboundError> {
        Self::read(&Btf::of_kernel()?, scope)
    }

    /// Reads them from these types.
    fn read(btf: &Btf, scope: Scope) -> Result<Self, OutboundError> {
        let mut offsets = [0; ACTOR_FIELDS];
        for field in ActorField::ALL {
            offsets[field.index()] = offset(btf, field)?;
        }
        for field in SOCKET_HEAD_FIELDS {
            if btf.offset(field.label())? > SOCKET_HEAD_LAST {
                return Err(BtfError::Missing(format!("{} near the beginning", field.label())).into());
            }
        }
        let hierarchies = fs::read_to_string("/proc/cgroups").unwrap_or_default();
        let ticks_per_second = Duration::from_secs(1).div_duration_f64(tick()).round() as u32;
        Ok(Self {
            offsets,
            old_groups: old_groups(btf, &hierarchies),
            ticks_per_second,
            scope: scope.number(),
        })
    }

    /// Whether outbound traffic is looked at.
    pub(in crate::sensor) fn is_on(&self) -> bool {
        self.scope != 0
    }

    /// Sets these values in the program.
    pub(in crate::sensor) fn tell<'o>(&'o self, loader: &mut EbpfLoader<'o>) {
        loader
            .override_global(ACTOR_OFFSETS, &self.offsets, true)
            .override_global(OLD_GROUPS, &self.old_groups, true)
            .override_global(TICKS_PER_SECOND, &self.ticks_per_second, true)
            .override_global(OUTBOUND, &self.scope, true);
        if !self.is_on() {
            for map in MAPS {
                loader.map_max_entries(map, 1);
            }
        }
    }
}

fn offset(btf: &Btf, field: ActorField) -> Result<u32, BtfError> {
    let mut missing = None;
    for path in field.paths() {
        match btf.offset(path) {
            Ok(offset) => return Ok(offset),
            Err(error) => missing = missing.or(Some(error)),
        }
    }
    Err(missing.unwrap_or_else(|| BtfError::Missing(field.label().to_owned())))
}

/// Where a set of control groups has that of a hierarchy of version 1 in which services have groups of their own; 0 where
/// there is none. `hierarchies` is /proc/cgroups: the number of a hierarchy is 0 if it is version 2.
fn old_groups(btf: &Btf, hierarchies: &str) -> u32 {
    const POINTER: u32 = 8;
    let is_old = |name: &str| {
        hierarchies.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(name) && words.next().is_some_and(|number| number != "0")
        })
    };
    let place =
        |constant: &str| Some(btf.offset("css_set.subsys").ok()? + POINTER * btf.constant(constant).ok()?);
    OLD.iter().find(|(name, _)| is_old(name)).and_then(|(_, constant)| place(constant)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// The running kernel's types; nothing if it has none.
    fn btf() -> Option<Btf> {
        match Btf::of_kernel() {
            Err(BtfError::Read(error)) if error.kind() == io::ErrorKind::NotFound => None,
            btf => Some(btf.unwrap()),
        }
    }

    #[test]
    fn this_kernel_says_where_every_field_of_processes_lies() {
        let Some(btf) = btf() else { return };
        for field in ActorField::ALL {
            offset(&btf, field).unwrap();
        }
    }

    #[test]
    fn a_kernel_without_a_field_is_told_by_the_field() {
        let Ok(bytes) = fs::read("/sys/kernel/btf/vmlinux") else { return };
        for (name, field) in [
            ("start_boottime", ActorField::Start),
            ("exe_file", ActorField::Executable),
            ("dfl_cgrp", ActorField::Group),
        ] {
            let mut bytes = bytes.clone();
            let word = [b"\0", name.as_bytes(), b"\0"].concat();
            let at = bytes.windows(word.len()).position(|part| part == word).expect("a name of the kernel");
            bytes[at + 1] = b'_';
            let error = Ground::read(&Btf::parse(bytes).unwrap(), Scope::All).unwrap_err();
            assert_eq!(error.to_string(), format!("this kernel has no {}", field.label()));
        }
    }

    #[test]
    fn a_hierarchy_of_version_1_is_one_that_has_a_number() {
        let Some(btf) = btf() else { return };
        let head = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n";
        assert_eq!(old_groups(&btf, ""), 0);
        assert_eq!(old_groups(&btf, &format!("{head}memory\t0\t5\t1\npids\t0\t5\t1\n")), 0);
        let memory = old_groups(&btf, &format!("{head}memory\t4\t5\t1\npids\t0\t5\t1\n"));
        let pids = old_groups(&btf, &format!("{head}memory\t4\t5\t1\npids\t8\t5\t1\n"));
        assert!(memory != 0 && pids != 0 && memory != pids, "{memory} {pids}");
    }
}
