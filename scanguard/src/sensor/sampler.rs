//! Takes samples from frames in the same way as the program.

use std::time::Duration;

use scanguard_common::{
    abi::SampleHeader,
    content::{self, Begins, HEAD, Payload, PortSet, Start, begins, may_begin, speaks},
    inspect,
    outcome::{Exit, Flow, Outcome, SegmentKind},
    packet::Packet as _,
    sample::{BUDGETS, BudgetKind, CPU_BUDGETS, LeftOut, Ports, budget_place, charge, cpu_place},
    tally::Tally,
};

use super::samples;
use crate::{
    content::{
        sample::Sample,
        sampling::{Budgets, Settings},
    },
    sources::Sources,
};

/// Ports, budgets, and the samples.
pub(super) struct Sampler {
    ports: Vec<Ports>,
    naming: Sources,
    salt: u64,
    budgets: Budgets,
    /// The same table as in the program.
    sources: Vec<u64>,
    cpu: [u64; CPU_BUDGETS],
    taken: Vec<Sample<Vec<u8>>>,
}

/// How many samples may wait, about as many as fit into the program's ring buffer.
const MOST: usize = 8_192;

impl Default for Sampler {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            naming: Sources::new(128, &[]),
            salt: 0,
            budgets: Budgets::default(),
            sources: Vec::new(),
            cpu: [0; CPU_BUDGETS],
            taken: Vec::new(),
        }
    }
}

impl Sampler {
    pub(super) fn new(settings: &Settings, epoch: Duration, naming: Sources, salt: u64) -> Self {
        let budgets = settings.budgets(epoch);
        let sources = vec![0; BUDGETS];
        let ports = PortSet::ALL.map(|set| settings.ports(set)).to_vec();
        Self { ports, naming, salt, budgets, sources, ..Self::default() }
    }

    /// The samples since the last call.
    pub(super) fn taken(&mut self) -> Vec<Sample<Vec<u8>>> {
        std::mem::take(&mut self.taken)
    }

    /// Samples an incoming frame.
    pub(super) fn arrived(&mut self, frame: &&[u8], epoch: u32, tally: &mut Tally) {
        if let Some((payload, begins)) = self.beginning(frame, false) {
            self.take(frame, &payload, payload.flow, begins, epoch, tally);
        }
    }

    /// Samples an outgoing frame.
    pub(super) fn leaves(&mut self, frame: &&[u8], epoch: u32, tally: &mut Tally) {
        if let Some((payload, begins)) = self.beginning(frame, true) {
            self.take(frame, &payload, payload.flow.turned(), begins, epoch, tally);
        }
    }

    fn beginning(&self, frame: &&[u8], is_answer: bool) -> Option<(Payload, Begins)> {
        let payload = content::payload(frame)?;
        let Payload { flow, offset, len, .. } = payload;
        let protocol = flow.service.protocol;
        let port = if is_answer { flow.source_port } else { flow.service.port };
        let is_in =
            |set: PortSet, port| self.ports.get(set.index()).is_some_and(|ports| ports.contains(port));
        let speaks = speaks(protocol, port, is_in)?;
        if !is_answer {
            let start = frame.copy::<Start>(offset)?;
            if !carries(&inspect(frame)) || !may_begin(speaks, &start) {
                return None;
            }
        }
        let captured = frame.get(offset..)?;
        let mut head = [0; HEAD];
        let head_len = len.min(HEAD).min(captured.len());
        head[..head_len].copy_from_slice(&captured[..head_len]);
        Some((payload, begins(speaks, protocol, is_answer, &head, len)?))
    }

    fn take(
        &mut self,
        frame: &[u8],
        payload: &Payload,
        flow: Flow,
        begins: Begins,
        epoch: u32,
        tally: &mut Tally,
    ) {
        match self.pay(&flow, begins, epoch) {
            Ok(()) => {
                let len = payload.len.min(begins.limit());
                let bytes = frame.get(payload.offset..).unwrap_or_default();
                let end = payload.offset.saturating_add(payload.len);
                let ends_head = begins == Begins::Request
                    && frame.get(..end).is_some_and(|all| all.ends_with(b"\r\n\r\n"));
                let header = SampleHeader {
                    source: self.naming.of(flow.source),
                    host: flow.destination,
                    port: flow.service.port,
                    client_port: flow.source_port,
                    protocol: flow.service.protocol,
                    begins: begins as u8,
                    // There are no sockets to ask.
                    owned: 0,
                    ends_head: ends_head.into(),
                    position: payload.numbers.sequence.into(),
                    len: u32::try_from(payload.len).unwrap_or(u32::MAX),
                    reserved: 0,
                };
                self.taken.extend(samples::sample(&header, &bytes[..len.min(bytes.len())]));
                tally.sampled[begins.index()] += 1;
            }
            Err(why) => tally.left_out[why.index()] += 1,
        }
    }

    fn pay(&mut self, flow: &Flow, begins: Begins, epoch: u32) -> Result<(), LeftOut> {
        let kind = if begins.is_answer() { BudgetKind::Answer } else { BudgetKind::Unproven };
        let (place, tag) = budget_place(self.naming.of(flow.source), kind, self.salt);
        let held = self.sources.get_mut(place as usize).ok_or(LeftOut::SourceBudget)?;
        *held = charge(*held, tag, epoch, self.budgets.source).ok_or(LeftOut::SourceBudget)?;
        let cpu = &mut self.cpu[cpu_place(flow.service.protocol, kind, begins) as usize];
        *cpu = charge(*cpu, 0, epoch, self.budgets.cpu).ok_or(LeftOut::CpuBudget)?;
        if self.taken.len() < MOST { Ok(()) } else { Err(LeftOut::RingFull) }
    }
}

/// Whether the program looks for a payload in a packet with this outcome.
fn carries(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Exit(exit) => *exit == Exit::TcpEstablished,
        Outcome::Probe(_) => false,
        Outcome::Segment(segment) => match segment.kind {
            SegmentKind::Closing | SegmentKind::Datagram => true,
            SegmentKind::Acknowledgment
            | SegmentKind::SynAck
            | SegmentKind::Reset
            | SegmentKind::EmptyDatagram => false,
        },
    }
}
