//! Flows that this host itself used lately: what still comes in them is no stranger's probe.
//!
//! Answers come late, when the socket that asked is gone: a resolver's, an upstream's FIN to a proxy that gave up, a
//! SYN and ACK to a scan that this host itself made without a socket. They come from the very address and port that
//! this host spoke to, to the very address and port that it spoke from. The program leaves a mark at a place that
//! depends on all four and the protocol. It looks there only for a packet that would count as a probe otherwise.
//!
//! Marks are overwritten, never cleared: with `m` places and `r` new flows a second, a flow is still known after `t`
//! seconds with a probability of `exp(-r t / m)`. Two flows with the same place and fingerprint are mistaken for one,
//! one pair in 2^51. Both depend on a secret. A source that uses a flow which this host used before gets no further
//! than one port, that it was asked from.

use crate::{
    epoch::is_fresh,
    flow::{self, stir},
    outcome::Flow,
};

/// Number of places, 8 bytes each; a power of two.
pub const PLACES: usize = 1 << PLACE_BITS;
/// The bits of a place.
const PLACE_BITS: u32 = 19;
/// A mark is written anew once this part of its time has passed: the packets of a running flow only read it.
const RENEWALS: u32 = 8;

/// From this port on, programs of the superuser call from ports below 1024 (bindresvport of the C library).
const FIRST_RESERVED: u16 = 512;

/// The mark of a flow: its place and its fingerprint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark {
    /// A number below [`PLACES`].
    pub place: u32,
    /// Never 0, because 0 is the value of an empty place.
    fingerprint: u32,
}

impl Mark {
    /// The mark of a flow, as its packets arrive.
    #[inline(always)]
    pub fn new(flow: &Flow, salt: u64) -> Self {
        Self::of_tag(flow::tag(flow, salt))
    }

    /// The mark of the flow with this tag.
    #[inline(always)]
    fn of_tag(tag: u64) -> Self {
        // One more turn, since more than the upper half of the hash is used.
        let hash = stir(0, tag);
        Self {
            place: (hash >> (u64::BITS - PLACE_BITS)) as u32 & (PLACES as u32 - 1),
            fingerprint: (hash >> (u32::BITS - PLACE_BITS)) as u32 | 1,
        }
    }

    /// The value at its place, from this epoch on.
    #[inline(always)]
    pub fn value(self, epoch: u32) -> u64 {
        u64::from(self.fingerprint) << 32 | u64::from(epoch)
    }

    /// Whether the flow was used in the last `age` epochs. `held` is the value at its place.
    #[inline(always)]
    pub fn is_known(self, held: u64, epoch: u32, age: u32) -> bool {
        (held >> 32) as u32 == self.fingerprint && is_fresh(held as u32, epoch, age)
    }

    /// Whether the flow has to be marked, or marked anew.
    #[inline(always)]
    pub fn is_due(self, held: u64, epoch: u32, age: u32) -> bool {
        !self.is_known(held, epoch, age / RENEWALS)
    }
}

/// Whether datagrams of a flow can only be answers of a service of this host. Their socket stays open, so that nothing
/// comes too late for it. A busy server would overwrite all other marks. `flow` is the flow as packets arrive in it.
#[inline(always)]
pub fn is_service(flow: &Flow) -> bool {
    flow.service.port < FIRST_RESERVED && flow.source_port >= 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{oracle::testing::flow, wire::protocol};

    const SALT: u64 = 0x5ca9;
    const AGE: u32 = 80;

    #[test]
    fn a_flow_is_known_for_as_long_as_it_should_be_and_no_other_is() {
        let used = flow(protocol::UDP, 53, 40_000);
        let mark = Mark::new(&used, SALT);
        for epoch in [1, 7, u32::MAX] {
            let held = mark.value(epoch);
            for (later, known) in [(0, true), (AGE, true), (AGE + 1, false), (AGE * 2, false)] {
                assert_eq!(mark.is_known(held, epoch.wrapping_add(later), AGE), known, "{later} later");
            }
            for other in [
                flow(protocol::UDP, 54, 40_000),
                flow(protocol::UDP, 53, 40_001),
                flow(protocol::TCP, 53, 40_000),
                used.turned(),
            ] {
                assert!(!Mark::new(&other, SALT).is_known(held, epoch, AGE), "{other:?}");
            }
        }
    }

    #[test]
    fn an_empty_place_knows_nobody() {
        for port in 1..=u16::MAX {
            assert!(!Mark::new(&flow(protocol::UDP, 53, port), SALT).is_known(0, 1, AGE), "{port}");
        }
    }

    #[test]
    fn a_running_flow_is_written_now_and_then() {
        let mark = Mark::new(&flow(protocol::UDP, 53, 40_000), SALT);
        assert!(mark.is_due(0, 1, AGE));
        let held = mark.value(100);
        assert!(!mark.is_due(held, 100, AGE));
        assert!(!mark.is_due(held, 110, AGE));
        assert!(mark.is_due(held, 111, AGE));
        assert!(mark.is_due(held, 100 + AGE, AGE), "before it is forgotten");
    }

    #[test]
    fn flows_spread_over_all_places() {
        let mut taken = std::vec![false; PLACES];
        for port in 1..=u16::MAX {
            taken[Mark::new(&flow(protocol::TCP, port, 443), SALT).place as usize] = true;
        }
        let distinct = taken.into_iter().filter(|taken| *taken).count();
        // Of 65,535 flows in 524,288 places, 61,600 keep theirs if chance alone decides.
        assert!((61_000..62_300).contains(&distinct), "{distinct}");
    }

    #[test]
    fn what_a_server_answers_with_is_no_call_of_this_host() {
        for (local, remote, service) in [
            (53, 40_000, true),
            (443, 1_024, true),
            (53, 53, false),
            (123, 123, false),
            (511, 5_000, true),
            (512, 5_000, false),
            (40_000, 53, false),
            (40_000, 40_001, false),
        ] {
            assert_eq!(is_service(&flow(protocol::UDP, remote, local)), service, "{local} to {remote}");
        }
    }

    extern crate std;
}
