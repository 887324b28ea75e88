//! Sources whose SYNs were not answered yet: they are looked at once more when no answer can come any more.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use scanguard_common::{
    account::{SAMPLES, Sample},
    address::Address,
};

use super::{Delta, activity::Activity, answers::HANDSHAKE};

/// A source to look at again.
pub struct Asked {
    /// The source.
    pub source: Address,
    /// Examples of what it asked for.
    pub samples: [Sample; SAMPLES],
}

/// They are in the order of time, and each source is among them once. When its first SYNs are due, it waits again for
/// the last ones that came meanwhile. So there are no more of them than sources with a history.
#[derive(Default)]
pub struct Overdue {
    due: BTreeMap<(Duration, Address), [Sample; SAMPLES]>,
    waiting: HashMap<Address, Option<(Duration, [Sample; SAMPLES])>>,
}

impl Overdue {
    /// Takes the new activity of a source. Where answers are not seen, there is nothing to wait for.
    pub fn note(&mut self, source: &Address, delta: &Delta, at: Duration) {
        let Activity { distinct, .. } = &delta.activity;
        let is_asked =
            distinct.unanswered_services().iter().chain(&distinct.unanswered_hosts()).any(|word| *word != 0);
        if !is_asked || delta.activity.unsure() > 0 {
            return;
        }
        if let Some(last) = self.waiting.get_mut(source) {
            *last = Some((at + HANDSHAKE, delta.samples));
        } else {
            self.wait(*source, at + HANDSHAKE, delta.samples);
        }
    }

    fn wait(&mut self, source: Address, due: Duration, samples: [Sample; SAMPLES]) {
        self.due.insert((due, source), samples);
        self.waiting.insert(source, None);
    }

    /// When the next source is due.
    pub fn due(&self) -> Option<Duration> {
        self.due.first_key_value().map(|((due, _), _)| *due)
    }

    /// The next source that is due.
    pub fn next(&mut self, at: Duration) -> Option<Asked> {
        let next = self.due.first_entry().filter(|next| next.key().0 <= at)?;
        let ((_, source), samples) = next.remove_entry();
        if let Some((due, samples)) = self.waiting.remove(&source).flatten() {
            self.wait(source, due, samples);
        }
        Some(Asked { source, samples })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn unanswered(hosts: u64) -> Delta {
        let mut activity = Activity::NONE;
        activity.distinct.asked_hosts[0] = hosts;
        Delta { activity, samples: samples(hosts) }
    }

    /// An example with a port of this number.
    fn samples(port: u64) -> [Sample; SAMPLES] {
        [Sample { port: u16::try_from(port).unwrap(), taken: 1, ..Sample::default() }; SAMPLES]
    }

    #[test]
    fn a_source_that_goes_on_is_looked_at_when_its_last_syns_are_due_too() {
        let source = Address::from(Ipv4Addr::new(192, 0, 2, 1));
        let mut overdue = Overdue::default();
        for (milliseconds, hosts) in [(0, 1), (100, 2), (500, 4)] {
            overdue.note(&source, &unanswered(hosts), Duration::from_millis(milliseconds));
        }
        let mut looked =
            |milliseconds| overdue.next(Duration::from_millis(milliseconds)).map(|asked| asked.samples);
        assert_eq!(looked(2_999), None);
        assert_eq!(looked(3_000), Some(samples(1)));
        assert_eq!(looked(3_499), None);
        assert_eq!(looked(3_500), Some(samples(4)));
        assert_eq!(looked(60_000), None);
    }

    #[test]
    fn a_source_that_was_answered_does_not_wait() {
        let mut overdue = Overdue::default();
        overdue.note(&Address::from(Ipv4Addr::new(192, 0, 2, 1)), &unanswered(0), Duration::ZERO);
        assert_eq!(overdue.due(), None);
    }
}
