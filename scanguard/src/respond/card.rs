//! What bans have an effect through: the kernel's maps, or a test's.

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;

use crate::sensor::{
    SensorError,
    gate::{GateMode, Reflex, Standing},
    kernel::KernelSensor,
};

/// A ban as the kernel is told it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct KernelBan {
    /// Who.
    pub net: IpNet,
    /// For how long from now on; none: without an end.
    pub lasts: Option<Duration>,
    /// To drop, rather than to count.
    pub enforced: bool,
}

/// Where bans take effect.
pub trait Card {
    /// As [`KernelSensor::set_gate`].
    ///
    /// # Errors
    /// The map could not be changed.
    fn set_gate(&mut self, mode: GateMode, drop_all: bool) -> Result<(), SensorError>;

    /// As [`KernelSensor::set_reflex`].
    ///
    /// # Errors
    /// The map could not be changed.
    fn set_reflex(&mut self, reflex: Option<Reflex>) -> Result<(), SensorError>;

    /// Makes bans, or changes them.
    ///
    /// # Errors
    /// A map is full or could not be changed; some of them may be made.
    fn ban(&mut self, bans: &mut dyn Iterator<Item = KernelBan>) -> Result<(), SensorError>;

    /// Ends bans; those that are not there are none the worse.
    ///
    /// # Errors
    /// A map could not be changed.
    fn unban(&mut self, bans: &mut dyn Iterator<Item = IpNet>) -> Result<(), SensorError>;

    /// As [`KernelSensor::standing`].
    ///
    /// # Errors
    /// A map could not be read.
    fn standing(&self, net: IpNet) -> Result<Option<Standing>, SensorError>;

    /// As [`KernelSensor::standings`].
    ///
    /// # Errors
    /// A map could not be read.
    fn standings(&self, nets: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError>;

    /// All that are in the maps, also those whose ban has ended.
    fn banned(&self) -> Vec<IpNet>;

    /// As [`KernelSensor::allowed`].
    fn allowed(&self) -> BTreeSet<IpNet>;

    /// As [`KernelSensor::set_allowed`].
    ///
    /// # Errors
    /// The map is full or could not be changed.
    fn set_allowed(&mut self, allowed: &BTreeSet<IpNet>) -> Result<(), SensorError>;
}

impl Card for KernelSensor {
    fn set_gate(&mut self, mode: GateMode, drop_all: bool) -> Result<(), SensorError> {
        Self::set_gate(self, mode, drop_all)
    }

    fn set_reflex(&mut self, reflex: Option<Reflex>) -> Result<(), SensorError> {
        Self::set_reflex(self, reflex)
    }

    fn ban(&mut self, bans: &mut dyn Iterator<Item = KernelBan>) -> Result<(), SensorError> {
        self.ban_all(&mut bans.map(|ban| (ban.net, ban.lasts, ban.enforced)))
    }

    fn unban(&mut self, bans: &mut dyn Iterator<Item = IpNet>) -> Result<(), SensorError> {
        self.unban_all(bans)
    }

    fn standing(&self, net: IpNet) -> Result<Option<Standing>, SensorError> {
        Self::standing(self, net)
    }

    fn standings(&self, nets: &[IpNet]) -> Result<Vec<(IpNet, Standing)>, SensorError> {
        Self::standings(self, nets)
    }

    fn banned(&self) -> Vec<IpNet> {
        Self::banned(self).collect()
    }

    fn allowed(&self) -> BTreeSet<IpNet> {
        Self::allowed(self).clone()
    }

    fn set_allowed(&mut self, allowed: &BTreeSet<IpNet>) -> Result<(), SensorError> {
        Self::set_allowed(self, allowed)
    }
}
