//! Describes the pins, without changing them.

use std::{collections::BTreeSet, fmt, path::Path};

use super::{
    LINKS, LinkKind, PinsError,
    bpffs::{self, Pinned},
    layout, lock, names, namespace,
};
use crate::network;

/// The pins in a directory.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Links: their program, and the index of their interface; 0 if the interface is gone.
    pub links: Vec<(&'static str, u32)>,
    /// Whether the indexes belong to this network namespace.
    pub is_own_namespace: bool,
    /// Ids of the programs in the links.
    pub programs: BTreeSet<u32>,
    /// Names of layouts.
    pub layouts: Vec<String>,
    /// The agent that uses it.
    pub holder: Option<u32>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.links.is_empty() && self.layouts.is_empty() {
            return f.write_str("can be written, nothing is pinned");
        }
        let links: Vec<_> =
            self.links.iter().map(|(kind, index)| said(kind, *index, self.is_own_namespace)).collect();
        let links = if links.is_empty() { "nothing attached".to_owned() } else { links.join(", ") };
        write!(f, "{links}; maps {}", self.layouts.join(", "))?;
        match self.holder {
            Some(pid) => write!(f, "; in use by pid {pid}"),
            None => f.write_str("; no agent uses it (`scanguard detach` ends it)"),
        }
    }
}

/// A link in words: its program and its interface. If the index belongs to another network namespace, the name that it
/// has here is that of another interface.
pub fn said(kind: &str, interface: u32, is_own_namespace: bool) -> String {
    if interface == 0 {
        return format!("{kind} at an interface that has gone");
    }
    if !is_own_namespace {
        return format!("{kind} at interface {interface} (as its network namespace numbers it)");
    }
    match network::name_of(interface) {
        Some(name) => format!("{kind} at {name}"),
        None => format!("{kind} at interface {interface}"),
    }
}

/// Looks at the pins in a directory, and changes nothing.
///
/// # Errors
/// The directory cannot have pins.
pub fn look(root: &Path) -> Result<Report, PinsError> {
    bpffs::check(root)?;
    let links = root.join(LINKS);
    let mut report = Report {
        layouts: names(root)?.into_iter().filter(|name| layout::is_name(name)).collect(),
        holder: lock::holder(root),
        is_own_namespace: namespace::is_own(root),
        ..Report::default()
    };
    for name in names(&links)? {
        let Some((kind, _)) = LinkKind::of_name(&name) else {
            continue;
        };
        let mut index = 0;
        if let Ok((_, Pinned::Link { program, interface })) = bpffs::open(&links.join(&name)) {
            index = interface;
            report.programs.insert(program);
        }
        report.links.push((kind.label(), index));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_of_another_namespace_is_not_called_by_a_name_from_here() {
        assert_eq!(said("xdp", 1, true), "xdp at lo");
        assert_eq!(said("xdp", 1, false), "xdp at interface 1 (as its network namespace numbers it)");
        assert_eq!(said("xdp", 0, false), "xdp at an interface that has gone");
    }
}
