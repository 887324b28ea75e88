//! Actors that are blocked, in the map where the programs look them up. Blocks end by the kernel's own clock, so that
//! they end even if the agent has died.

use std::time::Duration;

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError},
};
use scanguard_common::{
    actor::{self, Orders},
    address::Address,
};

use super::super::{
    SensorError,
    gate::{Clock, GateMode},
    missing,
};

/// The map, and whether the programs look at it.
pub(super) struct Blocks {
    blocked: HashMap<MapData, [u8; 16], u64>,
    orders: Array<MapData, Orders>,
    clock: Clock,
    present: Orders,
}

fn map_error(map: &'static str) -> impl Fn(MapError) -> SensorError {
    move |error| SensorError::Map { map, error }
}

impl Blocks {
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, SensorError> {
        let clock = Clock::new(ebpf)?;
        let mut take = |name| ebpf.take_map(name).ok_or_else(|| missing(name));
        let blocked = take(actor::BLOCKED)?;
        let orders = take(actor::OUTBOUND_ORDERS)?;
        Ok(Self {
            blocked: HashMap::try_from(blocked).map_err(map_error(actor::BLOCKED))?,
            orders: Array::try_from(orders).map_err(map_error(actor::OUTBOUND_ORDERS))?,
            clock,
            present: Orders::default(),
        })
    }

    fn tell(&mut self, orders: Orders) -> Result<(), SensorError> {
        if orders == self.present {
            return Ok(());
        }
        self.orders.set(0, orders, 0).map_err(map_error(actor::OUTBOUND_ORDERS))?;
        self.present = orders;
        Ok(())
    }

    pub(super) fn set_mode(&mut self, mode: GateMode) -> Result<(), SensorError> {
        self.tell(Orders { mode: mode.number(), ..self.present })
    }

    pub(super) fn block(&mut self, key: &Address, lasts: Duration) -> Result<(), SensorError> {
        let until = self.clock.now()?.saturating_add(self.clock.ticks(lasts));
        self.blocked.insert(key.bytes(), until, 0).map_err(map_error(actor::BLOCKED))?;
        self.count()
    }

    pub(super) fn unblock(&mut self, key: &Address) -> Result<bool, SensorError> {
        let was_there = match self.blocked.remove(&key.bytes()) {
            Ok(()) => true,
            Err(MapError::KeyNotFound) => false,
            Err(error) if is_absent(&error) => false,
            Err(error) => return Err(map_error(actor::BLOCKED)(error)),
        };
        self.count()?;
        Ok(was_there)
    }

    /// Those that are blocked, and for how long. Removes those whose time is over.
    pub(super) fn sweep(&mut self) -> Result<Vec<(Address, Duration)>, SensorError> {
        if self.present.blocked == 0 {
            return Ok(Vec::new());
        }
        let now = self.clock.now()?;
        let all: Result<Vec<_>, _> = self.blocked.iter().collect();
        let (running, over): (Vec<_>, Vec<_>) =
            all.map_err(map_error(actor::BLOCKED))?.into_iter().partition(|(_, until)| *until > now);
        for (key, _) in over {
            self.unblock(&Address::from_v6(&key))?;
        }
        let left = |until: u64| self.clock.time(until - now);
        Ok(running.into_iter().map(|(key, until)| (Address::from_v6(&key), left(until))).collect())
    }

    fn count(&mut self) -> Result<(), SensorError> {
        let blocked = u32::try_from(self.blocked.keys().count()).unwrap_or(u32::MAX);
        self.tell(Orders { blocked, ..self.present })
    }
}

fn is_absent(error: &MapError) -> bool {
    match error {
        MapError::SyscallError(error) => error.io_error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}
