//! The flows of a capture: who began each, and whether both of its directions are seen. In bounded memory.
//!
//! Flows are kept in two generations. When the young one is full, the old one is forgotten and the young one takes its
//! place; a flow with a new packet becomes young again. So the flows that were quiet longest are forgotten, and how
//! many is counted. A flow that was forgotten is one whose beginning the capture does not have.

use std::collections::HashMap;

use scanguard_common::{address::Address, flow, outcome::Flow};

use super::step::{Kind, Step};

/// How many flows a generation has at most. Both together take about 10 MB.
const MOST: usize = 1 << 18;

/// The facts about a flow, a bit each. The first of each pair is about the side with the lower address and port.
type Facts = u8;
/// This side sent something other than a RST.
const SENT: [Facts; 2] = [1, 2];
/// This side sent a RST.
const RESET: [Facts; 2] = [4, 8];
/// This side began the flow.
const BEGAN: [Facts; 2] = [16, 32];
/// It is no flow but a service, which accepted connections.
const ACCEPTED: Facts = 64;
/// Its service must have answered, although nobody saw it: see [`Flows::goes_on`].
const IMPLIED: Facts = 128;

/// The flows of a capture.
pub struct Flows {
    young: HashMap<u64, Facts>,
    old: HashMap<u64, Facts>,
    most: usize,
    salt: u64,
    forgotten: u64,
}

/// Where a flow is in the memory, and which side sent the packet.
struct Place {
    tag: u64,
    side: usize,
}

impl Flows {
    /// No flow was seen yet.
    pub fn new(salt: u64) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most: MOST, salt, forgotten: 0 }
    }

    /// Notes a packet. Gives whether the capture now has both directions of its flow.
    pub fn learn(&mut self, step: &Step) -> bool {
        let Place { tag, side } = self.place(&step.flow);
        let facts = self.facts(tag);
        let begins = match step.kind {
            // A SYN may begin a flow anew, from the other side, too.
            Kind::Opening => true,
            Kind::Datagram => facts & (SENT[0] | SENT[1]) == 0,
            Kind::SynAck | Kind::Reset | Kind::Bare { .. } | Kind::Segment | Kind::Reply => false,
        };
        let sends = if step.kind == Kind::Reset { RESET[side] } else { SENT[side] };
        let facts = facts | sends | if begins { BEGAN[side] } else { 0 };
        self.put(tag, facts);
        if step.kind == Kind::SynAck && facts & BEGAN[1 - side] != 0 {
            let service = self.service(&step.flow.turned());
            self.put(service, ACCEPTED);
        }
        let by = |side: usize| facts & (SENT[side] | RESET[side]) != 0;
        by(0) && by(1)
    }

    /// Whether a packet belongs to a flow that the other side began.
    pub fn is_answer(&self, step: &Step) -> bool {
        let Place { tag, side } = self.place(&step.flow);
        let facts = self.facts(tag);
        step.kind != Kind::Opening && facts & BEGAN[1 - side] != 0 && facts & BEGAN[side] == 0
    }

    /// Whether nothing is known of the flow of this packet that could be a connection: it is the first packet, and no
    /// connections to its service were accepted. If the other side has sent a RST, a connection may have been there.
    pub fn is_new(&self, step: &Step) -> bool {
        let Place { tag, side } = self.place(&step.flow);
        let known = SENT[0] | SENT[1] | BEGAN[0] | BEGAN[1] | RESET[1 - side];
        self.facts(tag) & known == 0 && self.facts(self.service(&step.flow)) == 0
    }

    /// Whether the other side has sent nothing in the flow of this packet.
    pub fn is_unanswered(&self, step: &Step) -> bool {
        let Place { tag, side } = self.place(&step.flow);
        self.facts(tag) & (SENT[1 - side] | RESET[1 - side]) == 0
    }

    /// Whether this segment shows for the first time that the service of its flow answered, although the answer was not
    /// seen: its sender began the flow by a SYN, and goes on. A scanner that goes on, too, forges a success.
    pub fn goes_on(&mut self, step: &Step) -> bool {
        let Place { tag, side } = self.place(&step.flow);
        let facts = self.facts(tag);
        let is_shown = matches!(step.kind, Kind::Bare { .. } | Kind::Segment)
            && facts & BEGAN[side] != 0
            && facts & (SENT[1 - side] | RESET[1 - side] | IMPLIED) == 0;
        if is_shown {
            self.put(tag, facts | IMPLIED);
            let service = self.service(&step.flow);
            self.put(service, ACCEPTED);
        }
        is_shown
    }

    /// Whether this segment is the first of a flow of which the capture has no beginning.
    pub fn has_no_beginning(&self, step: &Step) -> bool {
        let is_of_a_flow = matches!(step.kind, Kind::Bare { .. } | Kind::Segment);
        is_of_a_flow && self.facts(self.place(&step.flow).tag) == 0
    }

    /// How many flows were forgotten.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    fn place(&self, flow: &Flow) -> Place {
        let turned = flow.turned();
        let is_upper = (flow.source, flow.source_port) > (flow.destination, flow.service.port);
        let tag = flow::tag(if is_upper { &turned } else { flow }, self.salt);
        Place { tag, side: usize::from(is_upper) }
    }

    /// The place of the service that a flow goes to.
    fn service(&self, flow: &Flow) -> u64 {
        flow::tag(&Flow { source: Address::UNSPECIFIED, source_port: 0, ..*flow }, self.salt)
    }

    fn facts(&self, tag: u64) -> Facts {
        self.young.get(&tag).or_else(|| self.old.get(&tag)).copied().unwrap_or_default()
    }

    fn put(&mut self, tag: u64, facts: Facts) {
        if let Some(held) = self.young.get_mut(&tag) {
            *held = facts;
            return;
        }
        self.old.remove(&tag);
        if self.young.len() >= self.most {
            self.forgotten += self.old.len() as u64;
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(tag, facts);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use scanguard_common::outcome::Service;

    use super::*;

    fn flow(client: u16) -> Flow {
        Flow {
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            destination: Ipv4Addr::new(198, 51, 100, 1).into(),
            service: Service { protocol: 6, port: 443 },
            source_port: client,
            reserved: 0,
        }
    }

    fn there(kind: Kind, client: u16) -> Step {
        Step { flow: flow(client), kind }
    }

    fn back(kind: Kind, client: u16) -> Step {
        Step { flow: flow(client).turned(), kind }
    }

    const BARE: Kind = Kind::Bare { stamped: false };

    #[test]
    fn who_sent_the_syn_began_it_and_the_others_packets_are_answers() {
        let mut flows = Flows::new(7);
        assert!(!flows.learn(&there(Kind::Opening, 1_000)));
        assert!(flows.is_answer(&back(Kind::SynAck, 1_000)) && !flows.is_answer(&there(BARE, 1_000)));
        assert!(flows.learn(&back(Kind::SynAck, 1_000)), "both directions are seen");
        assert!(!flows.is_new(&there(BARE, 1_000)), "it is a connection");
        assert!(!flows.is_new(&there(BARE, 1_001)), "the service accepts connections");
        assert!(!flows.is_answer(&back(Kind::Opening, 1_000)), "a SYN answers nothing");
    }

    #[test]
    fn of_datagrams_the_first_began_the_flow() {
        let mut flows = Flows::new(7);
        assert!(!flows.is_answer(&there(Kind::Datagram, 53)));
        flows.learn(&there(Kind::Datagram, 53));
        assert!(flows.is_answer(&back(Kind::Datagram, 53)));
        flows.learn(&back(Kind::Datagram, 53));
        assert!(!flows.is_answer(&there(Kind::Datagram, 53)));
    }

    #[test]
    fn a_flow_that_runs_is_no_new_one_whoever_sent_and_a_reset_of_the_sender_proves_no_connection() {
        for (name, step, is_new) in [
            ("a segment before it", there(Kind::Segment, 5), false),
            ("one of the other side", back(BARE, 5), false),
            ("a reset by the other side", back(Kind::Reset, 5), false),
            ("a reset by the same side", there(Kind::Reset, 5), true),
            ("another flow", there(Kind::Segment, 6), true),
        ] {
            let mut flows = Flows::new(7);
            flows.learn(&step);
            assert_eq!(flows.is_new(&there(BARE, 5)), is_new, "{name}");
        }
    }

    #[test]
    fn a_client_that_goes_on_was_answered_and_one_that_is_silent_or_resets_was_not() {
        for (name, then, is_answered) in [
            ("it acknowledges", there(BARE, 5), true),
            ("its data is the first that was seen", there(Kind::Segment, 5), true),
            ("it sends its SYN again", there(Kind::Opening, 5), false),
            ("it resets", there(Kind::Reset, 5), false),
            ("another flow goes on", there(BARE, 6), false),
            ("the other side", back(BARE, 5), false),
        ] {
            let mut flows = Flows::new(7);
            flows.learn(&there(Kind::Opening, 5));
            assert_eq!(flows.goes_on(&then), is_answered, "{name}");
            assert!(!flows.goes_on(&then), "it is said once");
        }
        let mut flows = Flows::new(7);
        flows.learn(&there(Kind::Opening, 5));
        flows.learn(&back(Kind::SynAck, 5));
        assert!(!flows.goes_on(&there(BARE, 5)), "its answer was seen");
        assert!(flows.has_no_beginning(&there(BARE, 6)) && !flows.has_no_beginning(&there(BARE, 5)));
        assert!(!flows.has_no_beginning(&there(Kind::Opening, 6)));
    }

    #[test]
    fn memory_is_bounded_and_those_that_are_forgotten_are_counted() {
        let mut flows = Flows { most: 100, ..Flows::new(7) };
        for client in 1..=1_000 {
            flows.learn(&there(Kind::Segment, client));
            flows.learn(&there(Kind::Segment, 1));
        }
        assert!(flows.young.len() <= 100 && flows.old.len() <= 100);
        assert_eq!(flows.forgotten() as usize + flows.young.len() + flows.old.len(), 1_000);
        assert!(!flows.is_new(&there(BARE, 1)), "the busy one is still known");
        assert!(flows.is_new(&there(BARE, 2)));
    }
}
