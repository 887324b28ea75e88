//! Which program a link has, and the name of its pin.

/// The program of a link.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(in crate::sensor) enum LinkKind {
    /// The program for incoming packets, by XDP.
    Xdp,
    /// The same, by tc.
    Ingress,
    /// The program for outgoing packets.
    Egress,
}

impl LinkKind {
    /// All.
    pub(in crate::sensor) const ALL: [Self; 3] = [Self::Xdp, Self::Ingress, Self::Egress];

    /// The name in pins and messages.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The name of a pin. It cannot be the interface's name: that may have dots, which names of pins may not.
    pub(super) fn name(self, index: u32) -> String {
        format!("{}_{index}", self.label())
    }

    /// The kind and the index of the interface, from the name of a pin.
    pub(super) fn of_name(name: &str) -> Option<(Self, u32)> {
        let (label, index) = name.split_once('_')?;
        let kind = Self::ALL.into_iter().find(|kind| kind.label() == label)?;
        Some((kind, index.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pins_are_read_as_they_are_written() {
        for kind in LinkKind::ALL {
            assert_eq!(LinkKind::of_name(&kind.name(17)), Some((kind, 17)));
        }
        for name in ["xdp", "xdp_", "xdp_eth0", "17", "tc_1", ""] {
            assert_eq!(LinkKind::of_name(name), None, "{name}");
        }
    }
}
