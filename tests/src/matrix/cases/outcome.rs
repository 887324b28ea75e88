//! The outcome of a case.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde_json::Value;

use super::{Case, Expect, Expected};

/// In a word.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// A scan was found.
    Found,
    /// Honest traffic was left alone.
    Quiet,
    /// A scan was not found.
    Missed,
    /// Honest traffic was taken for a scan.
    Flagged,
    /// The same, as the case says that it is.
    Limited,
    /// It could not be played.
    Failed(String),
}

impl Verdict {
    /// For people.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Quiet => "quiet",
            Self::Missed => "MISSED",
            Self::Flagged => "FLAGGED",
            Self::Limited => "limit",
            Self::Failed(_) => "FAILED",
        }
    }
}

/// An `opened` line.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its name.
    pub rule: String,
    /// The address.
    pub source: String,
    /// In words.
    pub reason: String,
    /// Probes that the sensor had seen of this source, of the rule's classes; or messages of the source.
    pub probes: u64,
    /// Whether it is about messages of the source.
    pub is_about_content: bool,
    /// When.
    pub time: Timestamp,
}

impl Opened {
    /// Reads a line of the agent.
    ///
    /// # Errors
    /// It lacks something.
    pub fn read(line: &Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        // A campaign of many sources may name none.
        let source = line["source"]["ip"].as_str().unwrap_or("several sources").to_owned();
        let said = line["content"]["said"].as_u64();
        Ok(Self {
            rule: text(&line["rule"])?,
            source,
            reason: text(&line["reason"])?,
            probes: said.or(line["counts"]["probes"].as_u64()).context("counts.probes")?,
            is_about_content: said.is_some(),
            time: text(&line["time"])?.parse()?,
        })
    }
}

/// Observations of the sensor and tcpdump.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All packets.
    pub packets: u64,
    /// Those that the sensor took for probes.
    pub probes: u64,
    /// Requests, hellos and queries, on the wire and in logs.
    pub messages: u64,
    /// Whether a finding was above `info`.
    pub is_accused: bool,
    /// What an honest client says that was not served to its end.
    pub unserved: Option<String>,
    /// Rules and techniques of all lines.
    pub found: BTreeSet<(String, String)>,
    /// When the first packet came, by tcpdump's clock, which is that of the agent's lines.
    pub first: Option<Timestamp>,
    /// Findings, in the order in which they were opened.
    pub opened: Vec<Opened>,
}

/// The outcome of a case.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// In a word.
    pub verdict: Verdict,
    seen: Seen,
    took: Duration,
}

impl Outcome {
    /// Judges.
    pub fn new(case: &Case, seen: Result<Seen>, took: Duration) -> Self {
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => {
                let verdict = Verdict::Failed(shortened(&format!("{error:#}")));
                return Self { verdict, seen: Seen::default(), took };
            }
        };
        let verdict = if seen.packets < u64::from(case.packets) {
            Verdict::Failed(format!("only {} packets came", seen.packets))
        } else {
            match (case.expect, seen.opened.is_empty()) {
                (Expect::Found, false) if missing(case, &seen.found).is_none() => Verdict::Found,
                (Expect::Found, _) => Verdict::Missed,
                (Expect::Quiet, true) => Verdict::Quiet,
                (Expect::Quiet, false) => Verdict::Flagged,
                (Expect::Spared, _) => spared(case, &seen),
            }
        };
        Self { verdict, seen, took }
    }

    /// Packets, and probes among them.
    pub fn packets(&self) -> (u64, u64) {
        (self.seen.packets, self.seen.probes)
    }

    /// Findings.
    pub fn opened(&self) -> &[Opened] {
        &self.seen.opened
    }

    /// Rules, with the number of their findings where it is not one.
    pub fn rules(&self) -> String {
        let mut rules = BTreeMap::<_, u32>::new();
        for opened in self.opened() {
            *rules.entry(opened.rule.as_str()).or_default() += 1;
        }
        // Those that took a finding over.
        for (rule, _) in &self.seen.found {
            rules.entry(rule).or_insert(1);
        }
        let named = rules.iter().map(|(rule, count)| match count {
            1 => (*rule).to_owned(),
            count => format!("{rule} x {count}"),
        });
        named.collect::<Vec<_>>().join(", ")
    }

    /// The number of all messages, or of all probes, by the kind that the first finding is about.
    pub fn evidence(&self) -> u64 {
        let about_content = self.opened().first().is_some_and(|opened| opened.is_about_content);
        if about_content { self.seen.messages } else { self.seen.probes }
    }

    /// Probes that were seen when the first finding was opened.
    pub fn probes_before(&self) -> Option<u64> {
        self.opened().first().map(|opened| opened.probes)
    }

    /// From the first packet to the first finding.
    pub fn latency(&self) -> Option<Duration> {
        let (opened, first) = (self.opened().first()?, self.seen.first?);
        Duration::try_from(opened.time.duration_since(first)).ok()
    }
}

/// The verdict on an honest client.
fn spared(case: &Case, seen: &Seen) -> Verdict {
    match (&seen.unserved, seen.is_accused, case.limit.is_empty()) {
        (None, false, true) => Verdict::Quiet,
        (_, true, true) => Verdict::Flagged,
        (Some(why), false, _) => Verdict::Failed(shortened(why)),
        (_, true, false) => Verdict::Limited,
        (None, false, false) => Verdict::Failed("it is no limit any more".to_owned()),
    }
}

/// A finding that a scan should have had, and is not among these rules and techniques.
pub(super) fn missing(case: &Case, found: &BTreeSet<(String, String)>) -> Option<Expected> {
    let is_found = |Expected { rule, technique }: &Expected| {
        found.contains(&((*rule).to_owned(), (*technique).to_owned()))
    };
    case.findings.iter().find(|expected| !is_found(expected)).copied()
}

/// Tools that draw their progress say much.
fn shortened(text: &str) -> String {
    const MOST: usize = 400;
    let mut characters = text.chars();
    let start: String = characters.by_ref().take(MOST).collect();
    if characters.next().is_some() { start + " ..." } else { start }
}

/// A duration in milliseconds or seconds.
pub fn short(duration: Duration) -> String {
    match duration {
        _ if duration < Duration::from_secs(2) => format!("{} ms", duration.as_millis()),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Failed(why) => write!(f, "{why}")?,
            Verdict::Found | Verdict::Quiet | Verdict::Missed | Verdict::Flagged | Verdict::Limited => {
                let Seen { packets, probes, messages, .. } = &self.seen;
                write!(f, "{packets} packets, {probes} probes, {messages} messages")?;
                if let (Some(before), Some(latency)) = (self.probes_before(), self.latency()) {
                    write!(f, "; {} after {before} of them and {}", self.rules(), short(latency))?;
                }
            }
        }
        if let Some(why) = &self.seen.unserved {
            write!(f, "; not served: {}", shortened(why))?;
        }
        write!(f, "; took {} s", self.took.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rule: &str, time: &str) -> Opened {
        Opened::read(&serde_json::json!({
            "rule": rule, "source": { "ip": "10.77.0.2" }, "reason": "because",
            "counts": { "probes": 20 }, "time": time,
        }))
        .unwrap()
    }

    fn seen(packets: u64, opened: &[Opened]) -> Seen {
        let first = "2026-01-01T00:00:00Z".parse().ok();
        let found = opened.iter().map(|opened| (opened.rule.clone(), "T1595".to_owned())).collect();
        let opened = opened.to_vec();
        let (is_accused, unserved) = (!opened.is_empty(), None);
        Seen { packets, probes: 100, messages: 0, is_accused, unserved, found, first, opened }
    }

    fn judged(expect: Expect, seen: Result<Seen>) -> Outcome {
        let case = Case { expect, packets: 50, ..super::super::quiet::all().next().unwrap() };
        Outcome::new(&case, seen, Duration::ZERO)
    }

    #[test]
    fn a_scan_is_found_by_any_finding_and_honest_traffic_by_none() {
        let found = [line("vertical_scan", "2026-01-01T00:00:01.5Z")];
        let label = |expect, opened| judged(expect, Ok(seen(50, opened))).verdict.label();
        assert_eq!(label(Expect::Found, &found), "found");
        assert_eq!(label(Expect::Found, &[]), "MISSED");
        assert_eq!(label(Expect::Quiet, &[]), "quiet");
        assert_eq!(label(Expect::Quiet, &found), "FLAGGED");
    }

    #[test]
    fn a_scan_that_is_found_as_something_else_is_missed() {
        let found = [line("vertical_scan", "2026-01-01T00:00:01.5Z")];
        let label = |findings| {
            let case = Case { expect: Expect::Found, findings, ..super::super::all().next().unwrap() };
            Outcome::new(&case, Ok(seen(50, &found)), Duration::ZERO).verdict.label()
        };
        assert_eq!(label(&[Expected { rule: "vertical_scan", technique: "T1595" }]), "found");
        assert_eq!(label(&[Expected { rule: "vertical_scan", technique: "T1595.003" }]), "MISSED");
        assert_eq!(label(&[Expected { rule: "wordlist_scan", technique: "T1595" }]), "MISSED");
    }

    #[test]
    fn an_honest_client_is_spared_if_it_is_served_and_no_finding_is_above_info() {
        let found = [line("service_probe", "2026-01-01T00:00:01.5Z")];
        let label = |limit, is_accused, unserved: Option<&str>| {
            let case = Case { expect: Expect::Spared, limit, ..super::super::all().next().unwrap() };
            let unserved = unserved.map(str::to_owned);
            let seen = Seen { is_accused, unserved, ..seen(5_000, &found) };
            Outcome::new(&case, Ok(seen), Duration::ZERO).verdict.label()
        };
        assert_eq!(label("", false, None), "quiet");
        assert_eq!(label("", true, None), "FLAGGED");
        assert_eq!(label("", true, Some("no answer")), "FLAGGED");
        assert_eq!(label("", false, Some("no answer")), "FAILED");
        assert_eq!(label("because", true, Some("no answer")), "limit");
        assert_eq!(label("because", false, None), "FAILED", "a limit that is none is taken out of the table");
    }

    #[test]
    fn traffic_that_did_not_happen_is_no_success() {
        assert_eq!(judged(Expect::Quiet, Ok(seen(49, &[]))).verdict.label(), "FAILED");
        assert_eq!(judged(Expect::Quiet, Err(anyhow::anyhow!("no tool"))).verdict.label(), "FAILED");
    }

    #[test]
    fn it_says_the_rules_and_how_soon_the_first_finding_came() {
        let found = [
            line("vertical_scan", "2026-01-01T00:00:01.5Z"),
            line("odd_flags", "2026-01-01T00:00:03Z"),
            line("vertical_scan", "2026-01-01T00:00:04Z"),
        ];
        let outcome = judged(Expect::Found, Ok(seen(50, &found)));
        assert_eq!(outcome.rules(), "odd_flags, vertical_scan x 2");
        assert_eq!(
            (outcome.probes_before(), outcome.latency()),
            (Some(20), Some(Duration::from_millis(1500)))
        );
    }
}
