//! Distinct things, by the sender of the requests for them.

use super::{
    OWN_WEIGHT,
    sender::{SENDERS, Sender},
    sensitive::By,
};
use crate::observe::distinct::Sketch;

/// Distinct things, by the sender of the requests for them.
#[derive(Clone, Debug)]
pub(super) struct Sent<const WORDS: usize>([Sketch<WORDS>; SENDERS]);

impl<const WORDS: usize> Sent<WORDS> {
    pub(super) const EMPTY: Self = Self([Sketch::EMPTY; SENDERS]);

    pub(super) fn add(&mut self, sender: Sender, hash: u64) {
        self.0[sender as usize].add(hash);
    }

    /// Whether a thing may have been asked for, whoever sent the request; if not, it was not.
    pub(super) fn may_have(&self, hash: u64) -> bool {
        self.0.iter().any(|things| things.may_have(hash))
    }

    pub(super) fn count(&self, by: By) -> u64 {
        let [client, own, page] = &self.0;
        match by {
            By::Client => client.count().value,
            By::Anybody => client.with(page).count().value + own.count().value / OWN_WEIGHT,
        }
    }
}
