//! What the tests of this module share.

use std::{collections::BTreeMap, time::Duration};

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use super::card::{Card, KernelBan};
use crate::{
    clock::Now,
    sensor::{
        SensorError,
        gate::{GateMode, Reflex, Standing},
    },
};

/// So many seconds after the start.
pub(super) fn now(second: u64) -> Now {
    let wall = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second.cast_signed());
    Now { at: Duration::from_secs(second), wall }
}

pub(super) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A card without a kernel.
#[derive(Debug, Default)]
pub(super) struct FakeCard {
    pub(super) gate: GateMode,
    pub(super) drop_all: bool,
    pub(super) reflex: Option<Reflex>,
    /// Lasts and enforced, by network.
    pub(super) bans: BTreeMap<IpNet, (Option<Duration>, bool)>,
    pub(super) allowed: std::collections::BTreeSet<IpNet>,
    /// It takes nobody as allowed.
    pub(super) refuses_allowed: bool,
    /// Its gate stays as it is.
    pub(super) refuses_gate: bool,
    /// How many bans find room.
    pub(super) room: Option<usize>,
}

impl Card for FakeCard {
    fn set_gate(&mut self, mode: GateMode, drop_all: bool) -> Result<(), SensorError> {
        if self.refuses_gate {
            let error = std::io::Error::from_raw_os_error(libc::EPERM);
            return Err(SensorError::Call { call: "BPF_MAP_UPDATE_ELEM", map: "CONTROL", error });
        }
        (self.gate, self.drop_all) = (mode, drop_all);
        Ok(())
    }

    fn set_reflex(&mut self, reflex: Option<Reflex>) -> Result<(), SensorError> {
        self.reflex = reflex;
        Ok(())
    }

    fn ban(&mut self, bans: &mut dyn Iterator<Item = KernelBan>) -> Result<(), SensorError> {
        for ban in bans {
            if self.room.is_some_and(|room| self.bans.len() >= room) {
                let error = std::io::Error::from_raw_os_error(libc::E2BIG);
                return Err(SensorError::Call { call: "BPF_MAP_UPDATE_ELEM", map: "BANS", error });
            }
            self.bans.insert(ban.net, (ban.lasts, ban.enforced));
        }
        Ok(())
    }

    fn unban(&mut self, bans: &mut dyn Iterator<Item = IpNet>) -> Result<(), SensorError> {
        bans.for_each(|net| {
            self.bans.remove(&net);
        });
        Ok(())
    }

    fn standing(&self, net: IpNet) -> Result<Option<Standing>, SensorError> {
        Ok(self.bans.get(&net).map(|(lasts, enforced)| Standing {
            remaining: *lasts,
            enforced: *enforced,
            dropped: 0,
            last: None,
        }))
    }

    fn standings(&self, nets: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError> {
        Ok(nets.iter().filter_map(|net| Some((*net, self.standing(*net).ok()??))).collect())
    }

    fn banned(&self) -> Vec<IpNet> {
        self.bans.keys().copied().collect()
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
