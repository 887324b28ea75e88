//! Everything that looks at outbound traffic, once it is loaded.

use aya::Ebpf;

use super::{
    KernelActors, LOSS, OutboundError,
    calls::{self, Call},
};
use crate::sensor::{ActorSensor, SensorError};

/// The sensor of actors, and the programs for it that are attached.
pub struct Programs {
    /// The sensor.
    pub sensor: Box<dyn ActorSensor + Send>,
    /// The programs that see calls.
    pub calls: Vec<Call>,
}

impl Programs {
    /// Attaches them; none, if the kernel does not take them. Each of those that see calls is there for itself.
    ///
    /// # Errors
    /// The object was built for another agent.
    pub fn attach(ebpf: &mut Ebpf, loaded: Result<(), OutboundError>) -> Result<Option<Self>, SensorError> {
        match loaded {
            Ok(()) => {}
            Err(OutboundError::Off) => return Ok(None),
            Err(error) => {
                tracing::warn!("{error}; {LOSS}");
                return Ok(None);
            }
        }
        let mut calls = Vec::new();
        for (call, attached) in calls::attach(ebpf) {
            match attached {
                Ok(()) => calls.push(call),
                Err(error) => {
                    tracing::warn!("the program that sees {}: {error}; {}", call.label(), call.loss());
                }
            }
        }
        Ok(Some(Self { sensor: Box::new(KernelActors::new(ebpf)?), calls }))
    }
}
