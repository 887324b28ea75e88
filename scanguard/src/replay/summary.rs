//! The summary of a replay, for people.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Display},
    io,
};

use jiff::{SignedDuration, Timestamp};
use scanguard_common::{
    address::Address,
    content::Begins,
    outcome::{Exit, Flow, PROBE_CLASSES, ProbeClass},
    tally::Tally,
};

use super::{driver::Ended, talks::Answers};
use crate::{
    detect::findings::{Event, EventKind},
    export::forms::names::SourceName,
    sensor::software::{judge_blindly, judge_refused},
    sources::Sources,
};

/// How many sources are shown.
const SHOWN: usize = 20;

/// Counts for the summary.
pub struct Summary {
    naming: Sources,
    max_sources: usize,
    sources: HashMap<Address, Source>,
    /// Sources that were dropped because there were too many.
    dropped: u64,
    findings: BTreeMap<&'static str, u64>,
    /// Packets in the captures.
    pub packets: u64,
    /// Packets to none of our addresses.
    pub not_ours: u64,
    /// Packets too short to be frames.
    pub too_short: u64,
    /// Packets in flows that the other side began, where no addresses were given as ours.
    answers: u64,
    /// The facts about flows, at the end.
    pub talks: Option<Talks>,
}

/// What a replay knows of the flows of its captures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Talks {
    /// What is seen of answers.
    pub answers: Answers,
    /// Flows that were forgotten.
    pub forgotten: u64,
    /// Segments that could not be held.
    pub given_up: u64,
}

#[derive(Clone, Debug, Default)]
struct Source {
    probes: u64,
    by_class: [u64; PROBE_CLASSES],
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    rules: Vec<&'static str>,
}

impl Summary {
    /// Nothing was seen yet. The `max_sources` sources with the most probes are remembered.
    pub fn new(naming: Sources, max_sources: u32) -> Self {
        Self {
            naming,
            max_sources: max_sources as usize,
            sources: HashMap::new(),
            dropped: 0,
            findings: BTreeMap::new(),
            packets: 0,
            not_ours: 0,
            too_short: 0,
            answers: 0,
            talks: None,
        }
    }

    /// Counts a frame that the sensor got.
    pub fn saw(&mut self, frame: &[u8], time: Option<Timestamp>) {
        if let Ok((class, _, flow)) = judge_blindly(&frame) {
            self.saw_probe(class, &flow, time);
        }
    }

    /// As [`Self::saw`], for one that was refused.
    pub fn saw_refused(&mut self, frame: &[u8], time: Option<Timestamp>) {
        if let Ok((class, _, flow)) = judge_refused(&frame) {
            self.saw_probe(class, &flow, time);
        }
    }

    /// Counts a packet that leaves.
    pub fn left(&mut self, knows_our_addresses: bool) {
        if knows_our_addresses {
            self.not_ours += 1;
        } else {
            self.answers += 1;
        }
    }

    fn saw_probe(&mut self, class: ProbeClass, flow: &Flow, time: Option<Timestamp>) {
        let address = self.naming.of(flow.source);
        if self.sources.len() >= self.max_sources && !self.sources.contains_key(&address) {
            self.make_room();
        }
        let source = self.sources.entry(address).or_default();
        source.probes += 1;
        source.by_class[class.index()] += 1;
        source.first = source.first.or(time);
        source.last = source.last.max(time);
    }

    /// Drops the quarter with the fewest probes, so that a flood does not cause this for each new source.
    fn make_room(&mut self) {
        let mut least: Vec<_> =
            self.sources.iter().map(|(address, source)| (source.probes, *address)).collect();
        let excess = least.len().div_ceil(4);
        least.select_nth_unstable(excess.saturating_sub(1));
        for (_, address) in least.iter().take(excess) {
            self.sources.remove(address);
        }
        self.dropped += excess as u64;
    }

    /// Counts an event of a finding.
    pub fn count(&mut self, event: &Event) {
        let finding = &event.finding;
        match event.kind {
            EventKind::Opened => *self.findings.entry(finding.rule).or_default() += 1,
            EventKind::Updated | EventKind::Closed => return,
        }
        // A prefix around many sources is not among them.
        if let Some(source) = self.sources.get_mut(&finding.source).filter(|_| finding.bits.is_none())
            && !source.rules.contains(&finding.rule)
        {
            source.rules.push(finding.rule);
        }
    }

    /// Writes the summary.
    ///
    /// # Errors
    /// The output failed.
    pub fn write(&self, ended: &Ended, output: &mut dyn io::Write) -> io::Result<()> {
        let tally = &ended.outcome.poll.tally;
        self.write_packets(ended, output)?;
        writeln!(output, "probes: {}", classes(&tally.probes))?;
        writeln!(output, "other packets: {}", others(tally))?;
        writeln!(output, "samples: {}", samples(tally))?;
        let left_out = tally.left_out.iter().sum::<u64>();
        if left_out > 0 {
            writeln!(
                output,
                "  {left_out} more were beyond the budgets (samples.source_budget, samples.cpu_budget)"
            )?;
        }
        self.write_sources(ended, output)?;
        writeln!(
            output,
            "findings: {}",
            Parts::new(self.findings.iter().map(|(rule, count)| (*rule, *count)))
        )?;
        if ended.refused > 0 {
            writeln!(output, "  {} more found no room (findings.max_open)", ended.refused)?;
        }
        Ok(())
    }

    fn write_packets(&self, ended: &Ended, output: &mut dyn io::Write) -> io::Result<()> {
        let clock = &ended.clock;
        write!(output, "packets: {}", self.packets)?;
        if let (Some(start), Some(latest)) = (clock.start(), clock.latest()) {
            write!(output, ", {start} to {latest}")?;
        }
        writeln!(output)?;
        if self.not_ours > 0 {
            writeln!(output, "  {} went to no address of ours (--local)", self.not_ours)?;
        }
        if self.answers > 0 {
            writeln!(output, "  {} were answers: the other side began the flow", self.answers)?;
        }
        self.write_talks(output)?;
        if self.too_short > 0 {
            writeln!(output, "  {} were too short to be frames", self.too_short)?;
        }
        if clock.backwards() > 0 {
            let most = SignedDuration::try_from(clock.furthest_back()).unwrap_or(SignedDuration::MAX);
            writeln!(
                output,
                "  {} had an earlier time than one before them, by up to {most:#}: taken as of the latest time",
                clock.backwards()
            )?;
        }
        Ok(())
    }

    fn write_talks(&self, output: &mut dyn io::Write) -> io::Result<()> {
        let Some(Talks { answers, forgotten, given_up }) = self.talks.filter(|_| self.packets > 0) else {
            return Ok(());
        };
        let seen = match answers {
            Answers::Hidden => Some("unanswered probes count as unknown"),
            Answers::Implied => {
                Some("a SYN was answered if its sender went on, and other unanswered probes count as unknown")
            }
            Answers::Seen => None,
        };
        if let Some(seen) = seen {
            writeln!(output, "  only one direction is seen: {seen}")?;
        }
        if forgotten > 0 {
            writeln!(output, "  {forgotten} flows were forgotten, because there were too many at once")?;
        }
        if given_up > 0 {
            writeln!(
                output,
                "  {given_up} segments of unknown flows were taken for those of connections: too many waited for \
                 an answer"
            )?;
        }
        Ok(())
    }

    fn write_sources(&self, ended: &Ended, output: &mut dyn io::Write) -> io::Result<()> {
        let more = if self.dropped > 0 { "at least " } else { "" };
        writeln!(output, "sources: {more}{}", self.sources.len())?;
        let mut sources: Vec<_> = self.sources.iter().collect();
        sources.sort_by_key(|(address, source)| (std::cmp::Reverse(source.probes), **address));
        for (address, source) in sources.iter().take(SHOWN) {
            let name = SourceName::new(**address, self.naming.ipv6_prefix());
            write!(output, "  {name}: {}", classes(&source.by_class))?;
            if let (Some(first), Some(last)) = (source.first, source.last) {
                write!(output, ", {first:.3} to {last:.3}")?;
            }
            let rules = source.rules.join(", ");
            writeln!(output, "{}{rules}", if rules.is_empty() { "" } else { "; found by " })?;
        }
        if sources.len() > SHOWN {
            writeln!(output, "  and {more}{} more", sources.len() - SHOWN)?;
        }
        if ended.evicted > 0 {
            writeln!(output, "  {} were evicted from the table (sensor.max_sources)", ended.evicted)?;
        }
        Ok(())
    }
}

fn classes(counts: &[u64; PROBE_CLASSES]) -> Parts {
    Parts::new(ProbeClass::ALL.into_iter().map(|class| (class.label(), counts[class.index()])))
}

fn others(tally: &Tally) -> Parts {
    let others = Exit::ALL.into_iter().filter(|exit| *exit != Exit::Probe);
    Parts::new(others.map(|exit| (exit.label(), tally.exit(exit))))
}

fn samples(tally: &Tally) -> Parts {
    Parts::new(Begins::ALL.into_iter().map(|begins| (begins.label(), tally.sampled(begins))))
}

/// "1000 (990 syn, 10 fin)", the most frequent first.
struct Parts(Vec<(&'static str, u64)>);

impl Parts {
    fn new(parts: impl IntoIterator<Item = (&'static str, u64)>) -> Self {
        let mut parts: Vec<_> = parts.into_iter().filter(|(_, count)| *count > 0).collect();
        parts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Self(parts)
    }
}

impl Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.iter().map(|(_, count)| count).sum::<u64>())?;
        for (place, (label, count)) in self.0.iter().enumerate() {
            write!(f, "{}{count} {label}", if place == 0 { " (" } else { ", " })?;
        }
        f.write_str(if self.0.is_empty() { "" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A SYN from 10.0.x.y.
    fn syn(source: u16) -> Vec<u8> {
        let mut frame = vec![0; 54];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[17] = 40;
        frame[23] = 6;
        frame[26] = 10;
        frame[28..30].copy_from_slice(&source.to_be_bytes());
        frame[46] = 0x50;
        frame[47] = 2;
        frame
    }

    #[test]
    fn a_flood_of_sources_does_not_grow_the_table_nor_push_scanners_out() {
        let mut summary = Summary::new(Sources::new(64, &[]), 100);
        for _ in 0..50 {
            summary.saw(&syn(7), None);
        }
        for source in 1_000..5_000 {
            summary.saw(&syn(source), None);
            assert!(summary.sources.len() <= 100);
        }
        let scanner = Address::from(Ipv4Addr::new(10, 0, 0, 7));
        assert_eq!(summary.sources[&scanner].probes, 50);
        assert!(summary.dropped >= 3_900);
    }

    #[test]
    fn parts_are_summed_and_the_most_frequent_are_first() {
        assert_eq!(Parts::new([("syn", 1), ("fin", 0), ("udp", 41)]).to_string(), "42 (41 udp, 1 syn)");
        assert_eq!(Parts::new([]).to_string(), "0");
    }
}
