//! Time by the packets of a capture.

use std::time::Duration;

use jiff::Timestamp;

/// The latest time so far. It never goes back: packets with an earlier time are counted.
#[derive(Debug, Default)]
pub struct PacketClock {
    span: Option<(Timestamp, Timestamp)>,
    backwards: u64,
    furthest_back: Duration,
}

impl PacketClock {
    /// Takes a packet's time, if it has one. Returns the time since the first packet.
    pub fn advance(&mut self, time: Option<Timestamp>) -> Duration {
        let Some(time) = time.or(self.latest()) else {
            return Duration::ZERO;
        };
        let (start, latest) = self.span.get_or_insert((time, time));
        if time < *latest {
            self.backwards += 1;
            self.furthest_back = self.furthest_back.max(between(time, *latest));
        } else {
            *latest = time;
        }
        between(*start, *latest)
    }

    /// The first packet's time.
    pub fn start(&self) -> Option<Timestamp> {
        self.span.map(|(start, _)| start)
    }

    /// The latest packet's time.
    pub fn latest(&self) -> Option<Timestamp> {
        self.span.map(|(_, latest)| latest)
    }

    /// Time from the first packet to the latest.
    pub fn elapsed(&self) -> Duration {
        self.span.map_or(Duration::ZERO, |(start, latest)| between(start, latest))
    }

    /// How many packets had an earlier time than one before them.
    pub fn backwards(&self) -> u64 {
        self.backwards
    }

    /// By how much a packet was too early at most.
    pub fn furthest_back(&self) -> Duration {
        self.furthest_back
    }

    /// The time of day at a time since the first packet.
    pub fn wall(&self, at: Duration) -> Timestamp {
        self.start().unwrap_or(Timestamp::UNIX_EPOCH).checked_add(at).unwrap_or(Timestamp::MAX)
    }
}

fn between(early: Timestamp, late: Timestamp) -> Duration {
    late.duration_since(early).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Option<Timestamp> {
        Some(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn time_goes_on_or_stands_but_never_back() {
        let mut clock = PacketClock::default();
        let said: Vec<_> = [at(100), at(103), None, at(101), at(98), at(104)]
            .into_iter()
            .map(|time| clock.advance(time).as_secs())
            .collect();
        assert_eq!(said, [0, 3, 3, 3, 3, 4]);
        assert_eq!((clock.backwards(), clock.furthest_back().as_secs()), (2, 5));
        assert_eq!(clock.wall(Duration::from_secs(2)), at(102).unwrap());
    }

    #[test]
    fn the_ends_of_time_are_within_reach() {
        let mut clock = PacketClock::default();
        clock.advance(Some(Timestamp::MIN));
        let all = clock.advance(Some(Timestamp::MAX));
        assert_eq!(clock.elapsed(), all);
        assert_eq!(clock.wall(all), Timestamp::MAX);
        assert_eq!(clock.wall(Duration::MAX), Timestamp::MAX);
    }

    #[test]
    fn packets_without_any_time_are_all_at_the_start() {
        let mut clock = PacketClock::default();
        assert_eq!((clock.advance(None), clock.start()), (Duration::ZERO, None));
        assert_eq!(clock.advance(at(5)), Duration::ZERO);
    }
}
