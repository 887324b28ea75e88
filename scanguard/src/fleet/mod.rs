//! A fleet: many hosts see and act as one.
//!
//! ```text
//! member:  what sources asked for -> select (pure) -> queue, spool -> link -> NATS JetStream
//! role:    NATS JetStream -> correlate (pure) -> decisions -> NATS JetStream
//! member:  NATS JetStream -> link -> decisions -> the response's policy
//! ```
//! A host that is no member runs nothing of this. Where the servers are gone, each member goes on alone: what it sees
//! waits, and decisions end by themselves.

pub mod correlate;
mod decisions;
mod findings;
pub mod init;
mod link;
pub mod member;
pub mod metrics;
mod queue;
pub mod role;
mod select;
pub mod settings;
pub mod snapshot;
pub mod wire;

use std::hash::{BuildHasher as _, RandomState};

pub use self::{decisions::Told, link::LinkError};
use self::{metrics::Taken, settings::Act, wire::Verdict};
use crate::{
    clock::Now,
    respond::{cause::Cause, enforcer::Enforcer, policy::Decision, responder::Responder},
    sensor::gate::Extent,
};

/// Carries out a decision of the fleet, as far as the policy of this host agrees.
pub fn take(responder: &mut Responder, told: Told, act: Act, now: Now, enforcer: &mut dyn Enforcer) -> Taken {
    if act == Act::Nothing {
        return Taken::Ignored;
    }
    let Told { decision, number, left } = told;
    let cause = Cause::Fleet {
        decision: number,
        rule: decision.rule,
        proven: decision.verdict == Verdict::Ban && act == Act::Ban,
        lasts: left,
        reason: decision.reason,
    };
    match responder.order(decision.source, &cause, now, enforcer) {
        Decision::Ban(terms) => match terms.extent {
            Extent::Full => Taken::Banned,
            Extent::Shield => Taken::Shielded,
        },
        Decision::Stands { .. } => Taken::Stands,
        Decision::Refused(_) => Taken::Refused,
    }
}

/// A number that nobody can guess: of the system's randomness, by a keyed hash.
fn random() -> u64 {
    RandomState::new().hash_one("fleet")
}
