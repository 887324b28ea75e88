//! Finds decoys (nmap -D): sources that send the same probes in lockstep. At most one of them is real.
//!
//! A scanner that hides among decoys writes their addresses into copies of each of its packets, so that all of them
//! probe the same services of the same addresses at the same time. Bitmaps of what was probed are salted alike for all
//! sources. If the bitmaps of a minute are nearly equal, nobody can tell which source sent the packets.

use std::{collections::HashMap, time::Duration};

use scanguard_common::{
    account::Distinct,
    address::Address,
    sketch::{HOST_WORDS, SERVICE_WORDS},
};

use crate::observe::Delta;

/// Maximum number of sources that are compared.
const MAX_COMPARED: usize = 256;
/// Maximum number of sources whose lockstep is remembered.
const MAX_MARKED: usize = 4_096;
/// How long probes are collected before they are compared.
const ROUND: Duration = Duration::from_secs(60);
/// How long lockstep is remembered.
const MEMORY: Duration = Duration::from_secs(60 * 60);
/// Least number of distinct targets for a comparison: two clients may well try the same two ports.
const FEWEST: u32 = 6;
/// Least share of the targets of two sources that both of them probed, in percent.
const ALIKE_PERCENT: u32 = 80;

const WORDS: usize = SERVICE_WORDS + HOST_WORDS;

/// The targets of a source in this round: services, then addresses.
#[derive(Clone, Copy, Default)]
struct Probed([u64; WORDS]);

impl Probed {
    fn add(&mut self, distinct: &Distinct) {
        for (word, more) in self.0.iter_mut().zip(distinct.services.iter().chain(&distinct.hosts)) {
            *word |= more;
        }
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Compares by the Jaccard index.
    fn is_like(&self, other: &Self) -> bool {
        let pairs = || self.0.iter().zip(&other.0);
        let both: u32 = pairs().map(|(a, b)| (a & b).count_ones()).sum();
        let any: u32 = pairs().map(|(a, b)| (a | b).count_ones()).sum();
        both * 100 >= any * ALIKE_PERCENT
    }
}

/// Detects sources that send in lockstep. Bounded.
#[derive(Default)]
pub struct Decoys {
    round: HashMap<Address, Probed>,
    /// Start of the round.
    began: Duration,
    /// Whether there is new activity to compare.
    changed: bool,
    /// Whether no source of this round can be replaced. This stays true for the round: probe counts never fall.
    full: bool,
    marked: HashMap<Address, (Duration, u64)>,
    left_out: u64,
}

impl Decoys {
    /// Records the activity of a source.
    pub fn note(&mut self, address: Address, delta: &Delta) {
        let distinct = &delta.activity.distinct;
        if distinct.services == [0; SERVICE_WORDS] {
            return;
        }
        if self.round.len() >= MAX_COMPARED && !self.round.contains_key(&address) {
            if !self.full {
                // Sources with a single probe are replaced.
                self.round.retain(|_, probed| probed.count() > 2);
                self.full = self.round.len() >= MAX_COMPARED;
            }
            if self.full {
                self.left_out += 1;
                return;
            }
        }
        self.round.entry(address).or_default().add(distinct);
        self.changed = true;
    }

    /// The number of sources, itself included, with which a source sent in lockstep.
    pub fn sources(&self, address: &Address) -> Option<u64> {
        self.marked.get(address).map(|(_, sources)| *sources)
    }

    /// Compares the sources. Returns those that send in lockstep, each with their number, itself included.
    pub fn tick(&mut self, at: Duration) -> Vec<(Address, u64)> {
        let mut found = Vec::new();
        if std::mem::take(&mut self.changed) {
            let many: Vec<_> = self.round.iter().filter(|(_, probed)| probed.count() >= FEWEST).collect();
            for (address, probed) in &many {
                let alike = many.iter().filter(|(_, other)| probed.is_like(other)).count() as u64;
                if alike > 1 {
                    found.push((**address, alike));
                }
            }
        }
        if at.saturating_sub(self.began) >= ROUND {
            self.began = at;
            self.round.clear();
            self.full = false;
            self.marked.retain(|_, (seen, _)| at.saturating_sub(*seen) < MEMORY);
        }
        for (address, sources) in &found {
            if self.marked.len() < MAX_MARKED || self.marked.contains_key(address) {
                self.marked.insert(*address, (at, *sources));
            }
        }
        found.sort_unstable();
        found
    }

    /// Number of times that a source was left out because there were too many.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use crate::detect::{
        Confidence,
        findings::Spoofable,
        rules::testing::{Script, address},
    };

    /// The confidence and spoofability that the last event of each source reports.
    fn last_words(script: &mut Script) -> Vec<(scanguard_common::address::Address, Confidence, Spoofable)> {
        let mut last = std::collections::BTreeMap::new();
        for event in script.events() {
            let finding = event.finding;
            last.insert(finding.source, (finding.confidence, finding.spoofable));
        }
        last.into_iter().map(|(source, (confidence, spoofable))| (source, confidence, spoofable)).collect()
    }

    #[test]
    fn sources_in_lockstep_are_each_doubted() {
        let mut script = Script::all_rules();
        for port in 1..=60 {
            for source in 1..=4 {
                script.at(u64::from(port) / 20).syn(source, 1, port);
            }
        }
        script.at(1_000);
        let said = last_words(&mut script);
        assert_eq!(said.len(), 4);
        for (_, confidence, spoofable) in said {
            assert_eq!((confidence, spoofable), (Confidence::Low, Spoofable::Decoys { sources: 4 }));
        }
    }

    #[test]
    fn who_completes_connections_is_no_decoy() {
        let mut script = Script::all_rules();
        for port in 1..=60 {
            for source in 1..=4 {
                script.syn(source, 1, port);
            }
        }
        script.completed(2);
        let said = last_words(&mut script);
        let real: Vec<_> = said
            .iter()
            .filter(|(.., spoofable)| *spoofable == Spoofable::Yes)
            .map(|(source, ..)| *source)
            .collect();
        assert_eq!(real, [address(2)], "its probes may be forged all the same");
    }

    #[test]
    fn scanners_of_different_ports_are_not_doubted() {
        let mut script = Script::all_rules();
        for port in 1..=60 {
            for source in 1..=4u8 {
                script.syn(source, 1, port + 1_000 * u16::from(source));
            }
        }
        for (_, confidence, spoofable) in last_words(&mut script) {
            assert_eq!((confidence, spoofable), (Confidence::Medium, Spoofable::Yes));
        }
    }
}
