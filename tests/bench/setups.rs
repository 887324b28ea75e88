//! Setups of the victim while work is done, by the program that looks at its packets: nothing, an empty program, or
//! the sensor.

use anyhow::Result;
use aya::{Ebpf, programs::XdpMode};
use scanguard_tests::fixtures::{
    agent::Agent,
    lab::{Lab, Namespace, VICTIM_INTERFACE},
};

use crate::{c_programs, wire};

/// A setup of the victim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Setup {
    /// Only the host.
    Nothing,
    /// An XDP program that passes everything: what the interface's driver needs for any.
    EmptyXdp,
    /// The agent, with its defaults.
    ScanGuard,
    /// The same, by tc.
    ScanGuardByTc,
}

impl Setup {
    /// The name of its row.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::EmptyXdp => "empty XDP program",
            Self::ScanGuard => "ScanGuard",
            Self::ScanGuardByTc => "ScanGuard, mode tc",
        }
    }

    /// Puts it in place on the victim.
    ///
    /// # Errors
    /// It is not there, or this kernel does not take it.
    pub(crate) fn start(self, lab: &Lab) -> Result<Running<'_>> {
        Ok(match self {
            Self::Nothing => Running::Nothing,
            Self::EmptyXdp => Running::Xdp {
                before: wire::received(&lab.victim)?,
                _program: attach_empty(lab)?,
                host: &lab.victim,
            },
            Self::ScanGuard => agent(lab, "native")?,
            Self::ScanGuardByTc => agent(lab, "tc")?,
        })
    }
}

/// In place until it is dropped.
pub(crate) enum Running<'l> {
    /// As its name says.
    Nothing,
    /// A program on the interface, and what that had received before.
    Xdp {
        /// Attached as long as it lives.
        _program: Ebpf,
        /// Packets.
        before: u64,
        /// Where.
        host: &'l Namespace,
    },
    /// The agent, and what it had counted before.
    Agent {
        /// Running.
        agent: Box<Agent<'l>>,
        /// Packets.
        before: f64,
    },
}

impl Running<'_> {
    /// How many packets it has seen since it was put in place, if it counts; it may be ended by this.
    ///
    /// # Errors
    /// It does not say.
    pub(crate) fn seen(&mut self) -> Result<Option<u64>> {
        Ok(match self {
            Self::Nothing => None,
            Self::Xdp { before, host, .. } => Some(wire::received(host)? - *before),
            Self::Agent { agent, before } => Some((agent.settled()?.packets() - *before) as u64),
        })
    }
}

fn agent<'l>(lab: &'l Lab, mode: &str) -> Result<Running<'l>> {
    let agent = Agent::start(&lab.victim, &["--mode", mode, "--format", "json"])?;
    Ok(Running::Agent { before: agent.metrics()?.packets(), agent: Box::new(agent) })
}

fn attach_empty(lab: &Lab) -> Result<Ebpf> {
    let mut ebpf = c_programs::load("wire")?;
    let program = c_programs::program(&mut ebpf, "pass_all")?;
    lab.victim.enter(|| Ok(program.attach(VICTIM_INTERFACE, XdpMode::Driver).map(drop)?))?;
    Ok(ebpf)
}
