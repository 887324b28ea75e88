//! How many sources are in the kernel's table, and how many it has evicted. The kernel tells neither.
//!
//! Reading all of a large table at each poll, only to count, would cost more than everything else. So each poll counts
//! one part, from the beginning of the table to its end. Between two such rounds, insertions are added and removals
//! are subtracted. If a single part covers the whole table, the number is exact at each poll. For a larger table,
//! evictions are known at the end of a round, and they are never fewer than the size of the table alone implies.

/// Entries in one poll: a few milliseconds.
const LEAST: u32 = 16_384;
/// A round takes at most this many polls.
const MOST_POLLS: u32 = 64;

/// The position of the census.
#[derive(Debug)]
pub(super) struct Census {
    capacity: u64,
    /// Entries found in the running round.
    found: u64,
    /// Insertions less removals at the beginning of the running round.
    began: Option<i128>,
    /// Entries at the end of a round, less insertions and removals until then.
    base: i128,
}

impl Census {
    /// The census of an empty table with room for this many entries.
    pub(super) fn new(capacity: u32) -> Self {
        Self { capacity: capacity.into(), found: 0, began: None, base: 0 }
    }

    /// Notes the number of entries, after all of them were read.
    pub(super) fn know(&mut self, entries: u64, inserted: u64, removed: u64) {
        self.base = i128::from(entries) - gained(inserted, removed);
    }

    /// How many entries to look at in one poll.
    pub(super) fn part(&self) -> u64 {
        u64::from(LEAST).max(self.capacity / u64::from(MOST_POLLS))
    }

    /// Notes how many entries a part had, and whether it was the last part of a round. It also takes all insertions so
    /// far and all removals by the agent so far. Returns the number of entries in the table.
    pub(super) fn count(&mut self, part: u64, is_last: bool, inserted: u64, removed: u64) -> u64 {
        let gained = gained(inserted, removed);
        let began = *self.began.get_or_insert(gained);
        self.found += part;
        if is_last {
            // On average, a round has counted half of the entries that came during it.
            self.base = i128::from(self.found) - (began + gained) / 2;
            (self.found, self.began) = (0, None);
        }
        u64::try_from(self.base + gained).unwrap_or(0).min(self.capacity)
    }
}

fn gained(inserted: u64, removed: u64) -> i128 {
    i128::from(inserted) - i128::from(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_was_taken_over_is_known_before_a_round_ends() {
        let mut census = Census::new(1_000);
        census.know(400, 5_000, 0);
        assert_eq!(census.count(100, false, 5_010, 5), 405);
    }

    #[test]
    fn a_table_that_one_part_covers_is_known_exactly() {
        let mut census = Census::new(100);
        assert_eq!(census.count(10, true, 10, 0), 10);
        // Five were evicted.
        assert_eq!(census.count(25, true, 30, 0), 25);
    }

    #[test]
    fn between_rounds_what_comes_and_goes_is_added() {
        let mut census = Census::new(1_000);
        assert_eq!(census.count(400, true, 400, 0), 400);
        assert_eq!(census.count(100, false, 450, 0), 450);
        // Half of those that went during the round were counted before.
        assert_eq!(census.count(125, false, 450, 50), 400);
        assert_eq!(census.count(200, true, 450, 50), 400);
    }

    #[test]
    fn no_more_are_there_than_have_room() {
        let mut census = Census::new(1_000);
        census.count(900, true, 900, 0);
        assert_eq!(census.count(100, false, 5_000, 0), 1_000);
    }

    #[test]
    fn evictions_are_known_at_the_end_of_a_round() {
        let mut census = Census::new(1_000);
        census.count(1_000, true, 1_000, 0);
        for _ in 0..9 {
            census.count(95, false, 1_000, 0);
        }
        assert_eq!(census.count(95, true, 1_000, 0), 950);
    }

    #[test]
    fn a_table_that_grows_evenly_during_a_round_is_known() {
        let mut census = Census::new(1 << 20);
        let (mut inserted, mut said) = (0, 0);
        for part in 1..=10u64 {
            inserted += 1_000;
            // Tenths of the table, each as it is at that time.
            said = census.count(inserted / 10, part == 10, inserted, 0);
        }
        assert!((9_000..=10_600).contains(&said), "{said}");
    }

    #[test]
    fn a_round_ends_within_a_minute_of_polls_a_second() {
        for capacity in [16, 65_536, 1_000_000, 1 << 24] {
            let census = Census::new(capacity);
            assert!(u64::from(capacity).div_ceil(census.part()) <= u64::from(MOST_POLLS), "{capacity}");
        }
    }
}
