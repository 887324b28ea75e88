//! Whether sources divide items among themselves: an item counts for its source only while no other has tried it. Pure.

use std::{collections::HashMap, hash::Hash, time::Duration};

/// An item that was tried.
struct Tried<S> {
    last: Duration,
    /// The only source that tried it; none if several did.
    by: Option<S>,
}

/// The thresholds of a division.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Sources.
    pub sources: u32,
    /// Items that only one source tried.
    pub items: u32,
    /// How many of these a source must have tried to count.
    pub items_per_source: u32,
    /// How many items are enough if each source tried fewer; none: no number is.
    pub spread_items: Option<u32>,
}

/// Sources that share the work.
pub struct Shared<S> {
    /// Those who tried most come first.
    pub workers: Vec<S>,
    /// How many items they tried.
    pub items: u64,
}

/// The items that sources tried lately. Bounded.
pub struct Division<S, I> {
    items: HashMap<I, Tried<S>>,
    most: usize,
}

impl<S: Clone + Eq + Hash + Ord, I: Eq + Hash> Division<S, I> {
    /// With room for so many items.
    pub fn new(most: usize) -> Self {
        Self { items: HashMap::new(), most }
    }

    /// A source tried an item.
    pub fn add(&mut self, source: &S, item: I, at: Duration) {
        if self.items.len() >= self.most && !self.items.contains_key(&item) {
            return;
        }
        let tried = self.items.entry(item).or_insert_with(|| Tried { last: at, by: Some(source.clone()) });
        tried.last = at.max(tried.last);
        if tried.by.as_ref() != Some(source) {
            tried.by = None;
        }
    }

    /// Forgets what is older than the window.
    pub fn expire(&mut self, at: Duration, window: Duration) {
        self.items.retain(|_, tried| at.saturating_sub(tried.last) < window);
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The sources that share the work, if they do.
    pub fn shared(&self, thresholds: &Thresholds) -> Option<Shared<S>> {
        let mut own: HashMap<&S, u64> = HashMap::new();
        for by in self.items.values().filter_map(|tried| tried.by.as_ref()) {
            *own.entry(by).or_default() += 1;
        }
        let least = u64::from(thresholds.items_per_source);
        let mut workers: Vec<_> = own.iter().filter(|(_, items)| **items >= least).collect();
        let total = |workers: &[(&&S, &u64)]| workers.iter().map(|(_, items)| **items).sum::<u64>();
        let are_enough = |workers: &[(&&S, &u64)]| workers.len() >= thresholds.sources as usize;
        if !are_enough(&workers) || total(&workers) < u64::from(thresholds.items) {
            workers = own.iter().collect();
            let is_spread = thresholds.spread_items.is_some_and(|items| total(&workers) >= u64::from(items));
            if !is_spread || !are_enough(&workers) {
                return None;
            }
        }
        // The address breaks ties, so that the same packets give the same result.
        workers.sort_by_key(|(source, items)| (std::cmp::Reverse(**items), **source));
        let items = total(&workers);
        Some(Shared { workers: workers.into_iter().map(|(source, _)| (*source).clone()).collect(), items })
    }
}
