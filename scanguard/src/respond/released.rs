//! Sources that were released: their earlier activity does not justify a ban.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::allow::around;

/// The released sources.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Released {
    /// The bans of these networks ended.
    Networks(BTreeSet<IpNet>),
    /// All sources, because enforcing begins: no activity so far led to a drop.
    All,
}

impl Default for Released {
    fn default() -> Self {
        Self::Networks(BTreeSet::new())
    }
}

impl Released {
    /// Adds these networks.
    pub(super) fn add(&mut self, nets: &[IpNet]) {
        match self {
            Self::Networks(all) => all.extend(nets),
            Self::All => {}
        }
    }

    /// Takes all of them out. None: no source was released.
    pub(super) fn take(&mut self) -> Option<Self> {
        Some(std::mem::take(self)).filter(|released| *released != Self::default())
    }

    /// Whether a whole network is released.
    pub fn has(&self, net: IpNet) -> bool {
        match self {
            Self::Networks(nets) => around(net).any(|around| nets.contains(&around)),
            Self::All => true,
        }
    }
}
