//! Samples of the last hours for charts, in a ring of fixed size.

use std::{collections::VecDeque, time::Duration};

use serde::Serialize;

use crate::clock::Now;

/// The least time between samples. Fewer samples would hide scans of some seconds; no chart could show more.
pub const EVERY: Duration = Duration::from_secs(10);

/// Counters since the program was loaded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Packets.
    pub packets: u64,
    /// Probes among them.
    pub probes: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// Values at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Levels {
    /// Sources with a history.
    pub sources: usize,
    /// Open findings.
    pub findings: usize,
    /// Bans, without those of feeds.
    pub bans: usize,
}

/// One point of each chart: 32 bytes. It is serialized as a row, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(into = "Row")]
pub struct Sample {
    /// The time, in seconds since 1970.
    pub at: i64,
    /// Packets per second since the previous sample.
    pub packets: f32,
    /// Probes per second, likewise.
    pub probes: f32,
    /// Dropped packets per second, likewise.
    pub dropped: f32,
    /// See [`Levels`].
    pub sources: u32,
    /// Likewise.
    pub findings: u32,
    /// Likewise.
    pub bans: u32,
}

type Row = (i64, f32, f32, f32, u32, u32, u32);

impl From<Sample> for Row {
    fn from(sample: Sample) -> Self {
        let Sample { at, packets, probes, dropped, sources, findings, bans } = sample;
        // More digits carry no information.
        let round = |rate: f32| (rate * 10.0).round() / 10.0;
        (at, round(packets), round(probes), round(dropped), sources, findings, bans)
    }
}

/// The ring.
#[derive(Debug)]
pub struct History {
    samples: VecDeque<Sample>,
    capacity: usize,
    /// The time of the last sample, and its totals.
    last: Option<(Duration, Totals)>,
}

impl History {
    /// An empty ring for this span of time. All its memory is allocated now.
    pub fn new(holds: Duration) -> Self {
        let capacity = usize::try_from(holds.as_secs() / EVERY.as_secs()).unwrap_or(usize::MAX).max(1);
        Self { samples: VecDeque::with_capacity(capacity), capacity, last: None }
    }

    /// Takes a sample if one is due.
    pub fn note(&mut self, now: Now, totals: Totals, levels: Levels) {
        // The rates before the first sample are unknown.
        let Some((at, before)) = self.last else {
            self.last = Some((now.at, totals));
            return;
        };
        let passed = now.at.saturating_sub(at);
        if passed < EVERY {
            return;
        }
        self.last = Some((now.at, totals));
        if self.samples.len() == self.capacity {
            self.samples.pop_front();
        }
        let rate = |total: u64, before: u64| total.saturating_sub(before) as f32 / passed.as_secs_f32();
        let level = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.samples.push_back(Sample {
            at: now.wall.as_second(),
            packets: rate(totals.packets, before.packets),
            probes: rate(totals.probes, before.probes),
            dropped: rate(totals.dropped, before.dropped),
            sources: level(levels.sources),
            findings: level(levels.findings),
            bans: level(levels.bans),
        });
    }

    /// The newest sample.
    pub fn last(&self) -> Option<Sample> {
        self.samples.back().copied()
    }

    /// The whole ring, in the format for the browser.
    pub fn chart(&self) -> Chart<'_> {
        Chart { every_seconds: EVERY.as_secs(), capacity: self.capacity, samples: &self.samples }
    }
}

/// The points of all charts.
#[derive(Debug, Serialize)]
pub struct Chart<'a> {
    /// The least time between points.
    every_seconds: u64,
    /// The most points.
    capacity: usize,
    /// The points, the oldest first.
    samples: &'a VecDeque<Sample>,
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn now(second: i32) -> Now {
        let wall = Timestamp::from_second(1_000 + i64::from(second)).unwrap();
        Now { at: Duration::from_secs(second.unsigned_abs().into()), wall }
    }

    fn totals(packets: u64) -> Totals {
        Totals { packets, probes: packets / 2, dropped: packets / 4 }
    }

    #[test]
    fn a_sample_has_what_happened_since_the_one_before() {
        let mut history = History::new(Duration::from_secs(60));
        let levels = Levels { sources: 3, findings: 2, bans: 1 };
        history.note(now(0), totals(1_000_000), levels);
        history.note(now(9), totals(1_000_100), levels);
        assert!(history.samples.is_empty(), "nothing is known of the time before");
        history.note(now(10), totals(1_000_200), levels);
        let expected =
            Sample { at: 1_010, packets: 20.0, probes: 10.0, dropped: 5.0, sources: 3, findings: 2, bans: 1 };
        assert_eq!(Vec::from(history.samples.clone()), [expected]);
        let written = serde_json::to_string(&history.chart()).unwrap();
        assert_eq!(written, r#"{"every_seconds":10,"capacity":6,"samples":[[1010,20.0,10.0,5.0,3,2,1]]}"#);
        // A late poll, and counters that started again.
        history.note(now(50), totals(1_000_240), levels);
        assert_eq!(history.samples[1].packets, 1.0);
        history.note(now(60), totals(5), levels);
        assert_eq!(history.samples[2].packets, 0.0);
    }

    #[test]
    fn the_ring_never_grows() {
        let mut history = History::new(Duration::from_secs(6 * 60 * 60));
        assert_eq!((history.capacity, size_of::<Sample>()), (2_160, 32));
        let allocated = history.samples.capacity();
        for second in (0..100_000).step_by(5) {
            history.note(now(second), totals(0), Levels::default());
        }
        assert_eq!((history.samples.len(), history.samples.capacity()), (2_160, allocated));
        let times: Vec<_> = history.samples.iter().map(|sample| sample.at).collect();
        assert_eq!((times[0], times[2_159]), (1_000 + 99_990 - 21_590, 1_000 + 99_990));
    }
}
