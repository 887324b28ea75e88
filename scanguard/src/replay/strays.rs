//! Holds back segments that may belong to no connection, until the capture shows what was answered.
//!
//! A capture has no sockets. But it has both: what came, and what was answered. A segment of a flow of which the capture
//! has no beginning may belong to a connection that began before the capture. If it is the first and only packet of its
//! flow, carries no data and is reset in answer, there was no connection. Everything else stays unknown.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use scanguard_common::{flow, outcome::Flow};

use super::frame::Frame;

/// How long an answer may take. Hosts answer with a RST at once, and no path takes longer.
const PATIENCE: SignedDuration = SignedDuration::from_secs(3);

/// How many segments are held at once. With [`LONGEST`] they take 8 MB at most.
const MOST: usize = 1 << 15;
/// How many bytes a frame has that is held: its headers. Longer ones are not held.
const LONGEST: usize = 256;

/// A segment that is held.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Held {
    bytes: Box<[u8]>,
    captured: usize,
    since: Option<Timestamp>,
    again: u32,
}

impl Held {
    /// Its frame.
    pub fn frame(&self) -> Frame<'_> {
        Frame { bytes: &self.bytes, captured: self.captured }
    }

    /// How often it came: a datagram may be sent again.
    pub fn times(&self) -> u32 {
        1 + self.again
    }

    /// Whether it has waited long enough for an answer.
    pub fn has_waited(&self, now: Option<Timestamp>) -> bool {
        self.since.zip(now).is_some_and(|(since, now)| now.duration_since(since) > PATIENCE)
    }
}

/// The segments that are held.
pub struct Strays {
    held: HashMap<u64, Held>,
    /// In the order of their arrival. Those that are held no more may still be among them.
    order: VecDeque<(u64, Option<Timestamp>)>,
    salt: u64,
    most: usize,
    given_up: u64,
}

impl Strays {
    /// None is held.
    pub fn new(salt: u64) -> Self {
        Self { held: HashMap::new(), order: VecDeque::new(), salt, most: MOST, given_up: 0 }
    }

    /// Whether a frame is short enough to be held.
    pub fn has_room_for(frame: Frame<'_>) -> bool {
        frame.bytes.len() <= LONGEST
    }

    /// Holds a segment of this flow. Gives back whether it did.
    pub fn hold(&mut self, flow: &Flow, frame: Frame<'_>, at: Option<Timestamp>) -> bool {
        if !Self::has_room_for(frame) {
            self.given_up += 1;
            return false;
        }
        let held = Held { bytes: frame.bytes.into(), captured: frame.captured, since: at, again: 0 };
        let tag = flow::tag(flow, self.salt);
        self.held.insert(tag, held);
        self.order.push_back((tag, at));
        true
    }

    /// Holds a datagram that is sent again in this flow. Gives back whether it did.
    pub fn hold_again(&mut self, flow: &Flow) -> bool {
        let held = self.held.get_mut(&flow::tag(flow, self.salt));
        held.is_some_and(|held| {
            held.again += 1;
            true
        })
    }

    /// Whether a segment of this flow is held.
    pub fn has(&self, flow: &Flow) -> bool {
        !self.held.is_empty() && self.held.contains_key(&flow::tag(flow, self.salt))
    }

    /// The segment of this flow, which is held no more.
    pub fn take(&mut self, flow: &Flow) -> Option<Held> {
        if self.held.is_empty() { None } else { self.held.remove(&flow::tag(flow, self.salt)) }
    }

    /// The oldest segment that waited long enough at this time, or for which there is no room.
    pub fn overdue(&mut self, now: Option<Timestamp>) -> Option<Held> {
        loop {
            let (tag, since) = *self.order.front()?;
            if self.held.get(&tag).is_none_or(|held| held.since != since) {
                // It was taken, and perhaps another one of its flow is held since.
                self.order.pop_front();
                continue;
            }
            let is_crowded = self.held.len() > self.most || self.order.len() > 2 * self.most;
            let is_due = since.zip(now).is_some_and(|(since, now)| now.duration_since(since) > PATIENCE);
            if !is_crowded && !is_due {
                return None;
            }
            self.order.pop_front();
            self.given_up += u64::from(!is_due);
            return self.held.remove(&tag);
        }
    }

    /// Any segment that is held: the capture has ended.
    pub fn last(&mut self) -> Option<Held> {
        loop {
            let (tag, _) = self.order.pop_front()?;
            if let Some(held) = self.held.remove(&tag) {
                return Some(held);
            }
        }
    }

    /// How many segments were not judged because there was no room.
    pub fn given_up(&self) -> u64 {
        self.given_up
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use scanguard_common::outcome::Service;

    use super::*;

    fn flow(port: u16) -> Flow {
        Flow {
            source: Ipv4Addr::new(192, 0, 2, 1).into(),
            destination: Ipv4Addr::new(198, 51, 100, 1).into(),
            service: Service { protocol: 6, port },
            source_port: 40_000,
            reserved: 0,
        }
    }

    fn at(second: i64) -> Option<Timestamp> {
        Timestamp::from_second(second).ok()
    }

    fn strays(most: usize, ports: impl IntoIterator<Item = u16>) -> Strays {
        let mut strays = Strays { most, ..Strays::new(7) };
        for port in ports {
            assert!(strays.hold(&flow(port), Frame::whole(&port.to_be_bytes()), at(port.into())));
        }
        strays
    }

    fn ports(mut next: impl FnMut() -> Option<Held>) -> Vec<u16> {
        let bytes = std::iter::from_fn(|| next().map(|held| held.bytes));
        bytes.map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]])).collect()
    }

    #[test]
    fn what_is_not_answered_in_time_is_released_in_order_and_the_rest_at_the_end() {
        let mut strays = strays(100, [10, 11, 12, 13]);
        assert!(strays.overdue(at(13)).is_none() && strays.overdue(None).is_none());
        assert!(strays.take(&flow(11)).is_some() && !strays.has(&flow(11)));
        assert_eq!(ports(|| strays.overdue(at(15))), [10]);
        assert_eq!(ports(|| strays.overdue(at(1))), [0; 0], "time that goes back releases nothing");
        assert_eq!(ports(|| strays.last()), [12, 13]);
        assert_eq!(strays.given_up(), 0);
    }

    #[test]
    fn beyond_the_room_the_oldest_are_released_and_counted() {
        let mut strays = strays(2, [1, 2, 3, 4]);
        assert_eq!(ports(|| strays.overdue(at(4))), [1, 2]);
        assert_eq!(strays.given_up(), 2, "the first did not wait long enough, nor did the second");
        let long = [0; LONGEST + 1];
        assert!(!strays.hold(&flow(9), Frame::whole(&long), at(4)));
        assert_eq!(strays.given_up(), 3);
    }

    #[test]
    fn what_was_taken_is_not_released_for_a_later_one_of_its_flow() {
        let mut strays = strays(100, [1]);
        assert!(strays.take(&flow(1)).is_some());
        assert!(strays.hold(&flow(1), Frame::whole(&[0, 9]), at(6)));
        assert!(strays.overdue(at(7)).is_none());
        assert_eq!(ports(|| strays.overdue(at(10))), [9]);
    }

    #[test]
    fn packets_without_a_time_take_bounded_memory() {
        let mut strays = Strays { most: 10, ..Strays::new(7) };
        for port in 1..=1_000 {
            strays.hold(&flow(port), Frame::whole(&[0, 0]), None);
            if port > 1 {
                strays.take(&flow(port));
            }
            while strays.overdue(None).is_some() {}
            assert!(strays.held.len() <= 10 && strays.order.len() <= 21);
        }
    }
}
