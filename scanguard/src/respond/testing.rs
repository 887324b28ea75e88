//! Helpers that the tests of this module share.

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use super::enforcer::{Enforcer, KernelBan};
use crate::{
    clock::Now,
    sensor::{
        SensorError,
        gate::{Extent, GateMode, HoldTerms, Standing},
    },
};

/// The time this many seconds after the start.
pub(super) fn now(second: u64) -> Now {
    let wall = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second.cast_signed());
    Now { at: Duration::from_secs(second), wall }
}

pub(super) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// An enforcer without a kernel.
#[derive(Debug, Default)]
pub(super) struct FakeEnforcer {
    pub(super) gate: GateMode,
    pub(super) drop_all: bool,
    pub(super) reflex: Option<HoldTerms>,
    /// Duration and whether it is enforced, by network.
    pub(super) bans: BTreeMap<IpNet, (Option<Duration>, bool)>,
    /// The same for shields.
    pub(super) shields: BTreeMap<IpNet, (Option<Duration>, bool)>,
    pub(super) allowed: std::collections::BTreeSet<IpNet>,
    /// It fails to take the allow list.
    pub(super) refuses_allowed: bool,
    /// It fails to set the gate.
    pub(super) refuses_gate: bool,
    /// The number of bans for which there is room.
    pub(super) room: Option<usize>,
}

impl FakeEnforcer {
    fn of(&self, extent: Extent) -> &BTreeMap<IpNet, (Option<Duration>, bool)> {
        match extent {
            Extent::Full => &self.bans,
            Extent::Shield => &self.shields,
        }
    }
}

impl Enforcer for FakeEnforcer {
    fn set_gate(&mut self, mode: GateMode, drop_all: bool) -> Result<(), SensorError> {
        if self.refuses_gate {
            let error = std::io::Error::from_raw_os_error(libc::EPERM);
            return Err(SensorError::Call { call: "BPF_MAP_UPDATE_ELEM", map: "CONTROL", error });
        }
        (self.gate, self.drop_all) = (mode, drop_all);
        Ok(())
    }

    fn set_hold(&mut self, reflex: Option<HoldTerms>) -> Result<(), SensorError> {
        self.reflex = reflex;
        Ok(())
    }

    fn ban(&mut self, extent: Extent, bans: &mut dyn Iterator<Item = KernelBan>) -> Result<(), SensorError> {
        for ban in bans {
            if extent == Extent::Shield {
                self.shields.insert(ban.net, (ban.lasts, ban.enforced));
                continue;
            }
            if self.room.is_some_and(|room| self.bans.len() >= room) {
                let error = std::io::Error::from_raw_os_error(libc::E2BIG);
                return Err(SensorError::Call { call: "BPF_MAP_UPDATE_ELEM", map: "BANS", error });
            }
            self.bans.insert(ban.net, (ban.lasts, ban.enforced));
        }
        Ok(())
    }

    fn unban(&mut self, extent: Extent, bans: &mut dyn Iterator<Item = IpNet>) -> Result<(), SensorError> {
        let map = match extent {
            Extent::Full => &mut self.bans,
            Extent::Shield => &mut self.shields,
        };
        bans.for_each(|net| {
            map.remove(&net);
        });
        Ok(())
    }

    fn standings(&self, extent: Extent, nets: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError> {
        let standing = |net: &IpNet| {
            let (remaining, enforced) = *self.of(extent).get(net)?;
            Some((*net, Standing { remaining, enforced, dropped: 0, last: None }))
        };
        Ok(nets.iter().filter_map(standing).collect())
    }

    fn banned(&self, extent: Extent) -> Vec<IpNet> {
        self.of(extent).keys().copied().collect()
    }

    fn allowed(&self) -> std::collections::BTreeSet<IpNet> {
        self.allowed.clone()
    }

    fn set_allowed(&mut self, allowed: &std::collections::BTreeSet<IpNet>) -> Result<(), SensorError> {
        if self.refuses_allowed {
            let error = std::io::Error::from_raw_os_error(libc::ENOSPC);
            return Err(SensorError::Call { call: "BPF_MAP_UPDATE_ELEM", map: "ALLOWED", error });
        }
        self.allowed.clone_from(allowed);
        Ok(())
    }
}
