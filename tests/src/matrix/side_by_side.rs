//! Cases that are played several at once.

use std::{
    sync::{Mutex, PoisonError},
    thread,
};

/// Plays cases in this order of their numbers, so many at once; what came of each, in the order of the cases themselves.
pub fn play<C: Sync, R: Send>(
    cases: &[C],
    order: Vec<usize>,
    jobs: u8,
    one: impl Fn(&C) -> Option<R> + Sync,
) -> Vec<Option<R>> {
    let next = Mutex::new(order.into_iter());
    let done: Mutex<Vec<Option<R>>> = Mutex::new(cases.iter().map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let taken = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(number) = taken else { return };
                    let outcome = one(&cases[number]);
                    done.lock().unwrap_or_else(PoisonError::into_inner)[number] = outcome;
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}
