//! The trait that puts bans into force: in the kernel's maps, or in those of a test.

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;

use crate::sensor::{
    SensorError,
    gate::{Extent, GateMode, HoldTerms, Standing},
    kernel::KernelSensor,
};

/// A ban or shield in the form that the kernel takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KernelBan {
    /// The network.
    pub net: IpNet,
    /// The duration from now on; none: without an end.
    pub lasts: Option<Duration>,
    /// Whether it drops packets, or only counts them.
    pub enforced: bool,
}

/// Puts bans into force.
pub trait Enforcer {
    /// As [`KernelSensor::set_gate`].
    ///
    /// # Errors
    /// The map could not be changed.
    fn set_gate(&mut self, mode: GateMode, drop_all: bool) -> Result<(), SensorError>;

    /// As [`KernelSensor::set_hold`].
    ///
    /// # Errors
    /// The map could not be changed.
    fn set_hold(&mut self, reflex: Option<HoldTerms>) -> Result<(), SensorError>;

    /// Makes bans or shields, or changes them.
    ///
    /// # Errors
    /// A map is full or could not be changed; some of them may be made.
    fn ban(&mut self, extent: Extent, bans: &mut dyn Iterator<Item = KernelBan>) -> Result<(), SensorError>;

    /// Ends bans or shields. Those that do not exist are ignored.
    ///
    /// # Errors
    /// A map could not be changed.
    fn unban(&mut self, extent: Extent, bans: &mut dyn Iterator<Item = IpNet>) -> Result<(), SensorError>;

    /// The standing of exactly these networks or addresses, at one moment. Those without a ban are left out.
    ///
    /// # Errors
    /// A map could not be read.
    fn standings(&self, extent: Extent, nets: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError>;

    /// The standing of exactly this network or address.
    ///
    /// # Errors
    /// A map could not be read.
    fn standing(&self, extent: Extent, net: IpNet) -> Result<Option<Standing>, SensorError> {
        Ok(self.standings(extent, &[net])?.pop().map(|(_, standing)| standing))
    }

    /// All networks in the maps, including those whose ban has ended.
    fn banned(&self, extent: Extent) -> Vec<IpNet>;

    /// As [`KernelSensor::allowed`].
    fn allowed(&self) -> BTreeSet<IpNet>;

    /// As [`KernelSensor::set_allowed`].
    ///
    /// # Errors
    /// The map is full or could not be changed.
    fn set_allowed(&mut self, allowed: &BTreeSet<IpNet>) -> Result<(), SensorError>;
}

impl Enforcer for KernelSensor {
    fn set_gate(&mut self, mode: GateMode, drop_all: bool) -> Result<(), SensorError> {
        Self::set_gate(self, mode, drop_all)
    }

    fn set_hold(&mut self, reflex: Option<HoldTerms>) -> Result<(), SensorError> {
        Self::set_hold(self, reflex)
    }

    fn ban(&mut self, extent: Extent, bans: &mut dyn Iterator<Item = KernelBan>) -> Result<(), SensorError> {
        let mut bans = bans.map(|ban| (ban.net, ban.lasts, ban.enforced));
        match extent {
            Extent::Full => self.ban_all(&mut bans),
            Extent::Shield => self.shield_all(&mut bans),
        }
    }

    fn unban(&mut self, extent: Extent, bans: &mut dyn Iterator<Item = IpNet>) -> Result<(), SensorError> {
        match extent {
            Extent::Full => self.unban_all(bans),
            Extent::Shield => self.unshield_all(bans),
        }
    }

    fn standings(&self, extent: Extent, nets: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError> {
        match extent {
            Extent::Full => Self::standings(self, nets),
            Extent::Shield => self.shield_standings(nets),
        }
    }

    fn banned(&self, extent: Extent) -> Vec<IpNet> {
        match extent {
            Extent::Full => Self::banned(self).collect(),
            Extent::Shield => self.shielded().collect(),
        }
    }

    fn allowed(&self) -> BTreeSet<IpNet> {
        Self::allowed(self).clone()
    }

    fn set_allowed(&mut self, allowed: &BTreeSet<IpNet>) -> Result<(), SensorError> {
        Self::set_allowed(self, allowed)
    }
}
