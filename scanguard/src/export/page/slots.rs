//! Slots for connected browsers. Their number is limited. If all are taken, the oldest browser loses its slot:
//! otherwise eight connections, which anybody can open, would keep the operator out for ever.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::metrics::PageMetrics;

/// The slots.
pub(super) struct Slots {
    room: usize,
    metrics: Arc<PageMetrics>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    /// The oldest first: its number, and the sender whose drop ends it.
    by_age: VecDeque<(u64, oneshot::Sender<()>)>,
    next: u64,
}

/// A slot. Dropping it frees it.
pub(super) struct Slot {
    number: u64,
    slots: Arc<Slots>,
    displaced: oneshot::Receiver<()>,
}

impl Slots {
    /// This many slots.
    pub(super) fn new(room: u32, metrics: Arc<PageMetrics>) -> Arc<Self> {
        Arc::new(Self { room: room as usize, metrics, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot. If none is free, the oldest browser loses its slot.
    pub(super) fn take(self: &Arc<Self>) -> Slot {
        let (keep, displaced) = oneshot::channel();
        let mut taken = self.taken();
        if taken.by_age.len() >= self.room {
            taken.by_age.pop_front();
            self.metrics.displaced();
        }
        let number = taken.next;
        taken.next += 1;
        taken.by_age.push_back((number, keep));
        self.metrics.clients.set(i64::try_from(taken.by_age.len()).unwrap_or(i64::MAX));
        Slot { number, slots: Arc::clone(self), displaced }
    }
}

impl Slot {
    /// Waits until another browser gets this slot.
    pub(super) async fn lost(&mut self) {
        // No value is ever sent: the slot is lost when the sender is dropped.
        let _ = (&mut self.displaced).await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken();
        taken.by_age.retain(|(number, _)| *number != self.number);
        self.slots.metrics.clients.set(i64::try_from(taken.by_age.len()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::metrics::Register;

    #[test]
    fn who_has_sat_longest_makes_room_and_who_leaves_does_too() {
        let metrics = Arc::new(PageMetrics::new(&Register::default()).unwrap());
        let slots = Slots::new(2, Arc::clone(&metrics));
        let (mut first, second) = (slots.take(), slots.take());
        assert!(first.lost().now_or_never().is_none());
        let mut third = slots.take();
        assert!(first.lost().now_or_never().is_some(), "the oldest goes");
        assert_eq!(metrics.clients.get(), 2);
        // The displaced one has no slot to give back.
        drop(first);
        assert_eq!(metrics.clients.get(), 2);
        drop(second);
        let _fourth = slots.take();
        assert!(third.lost().now_or_never().is_none(), "there was room");
        assert_eq!((metrics.clients.get(), metrics.displaced_so_far()), (2, 1));
    }
}
