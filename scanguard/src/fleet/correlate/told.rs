//! The findings of single members, kept for people who ask. No decision uses them. Bounded.

use std::{sync::Arc, time::Duration};

use indexmap::IndexMap;
use ipnet::IpNet;

use crate::{cidr, fleet::wire::Reported};

/// How many findings are remembered.
const MOST: usize = 20_000;

/// A finding of a member, as it was last told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ToldFinding {
    /// The member.
    pub host: Arc<str>,
    /// When it was told, by the server's clock.
    pub at: Duration,
    /// It.
    pub finding: Reported,
}

/// The findings of members.
#[derive(Debug, Default)]
pub struct ToldFindings {
    by_id: IndexMap<(Arc<str>, String), ToldFinding>,
    oldest: usize,
}

impl ToldFindings {
    /// Takes a finding. A later report of the same finding replaces the earlier one.
    pub fn take(&mut self, host: &Arc<str>, finding: Reported, at: Duration) {
        let key = (Arc::clone(host), finding.id.clone());
        if self.by_id.len() >= MOST && !self.by_id.contains_key(&key) {
            // About the oldest: each place in turn.
            self.oldest = (self.oldest + 1) % MOST;
            self.by_id.swap_remove_index(self.oldest);
        }
        self.by_id.insert(key, ToldFinding { host: Arc::clone(host), at, finding });
    }

    /// Forgets what is older than this.
    pub fn expire(&mut self, since: Duration) {
        self.by_id.retain(|_, told| told.at >= since);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Those about a source, or about a network around it.
    pub fn of(&self, source: IpNet) -> impl Iterator<Item = &ToldFinding> {
        self.by_id.values().filter(move |told| told.finding.source.contains(&source))
    }

    /// The last ones, the newest first.
    pub fn last(&self, most: usize) -> Vec<&ToldFinding> {
        let mut all: Vec<_> = self.by_id.values().collect();
        all.sort_by_key(|told| std::cmp::Reverse(told.at));
        all.truncate(most);
        all
    }
}

impl ToldFinding {
    /// In a line.
    pub fn line(&self, now: Duration) -> String {
        let Self { host, at, finding } = self;
        let Reported { source, rule, event, severity, proven, sources, .. } = finding;
        let many = if *sources > 0 { format!(", {sources} sources") } else { String::new() };
        let proof = if *proven { ", with proof" } else { "" };
        let ago = now.saturating_sub(*at).as_secs();
        let source = cidr::name(*source);
        format!("{host}: found {rule} of {source} ({severity}{many}{proof}), {event} {ago} s ago")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &str, source: &str, event: &str) -> Reported {
        serde_json::from_value(serde_json::json!({
            "id": id, "s": source, "rule": "vertical_scan", "event": event, "severity": "high"
        }))
        .unwrap()
    }

    #[test]
    fn the_last_word_about_a_finding_counts_and_few_are_remembered() {
        let mut told = ToldFindings::default();
        let host: Arc<str> = "edge-1".into();
        let at = Duration::from_secs;
        told.take(&host, finding("a", "192.0.2.7/32", "opened"), at(1));
        told.take(&host, finding("a", "192.0.2.7/32", "closed"), at(2));
        told.take(&"edge-2".into(), finding("a", "192.0.2.0/24", "opened"), at(3));
        let source = "192.0.2.7/32".parse().unwrap();
        let lines: Vec<_> = told.of(source).map(|told| told.line(at(9))).collect();
        let expected = [
            "edge-1: found vertical_scan of 192.0.2.7 (high), closed 7 s ago",
            "edge-2: found vertical_scan of 192.0.2.0/24 (high), opened 6 s ago",
        ];
        assert_eq!(lines, expected);
        assert_eq!(told.last(1)[0].host, "edge-2".into());
        for number in 0..MOST + 10 {
            told.take(&host, finding(&number.to_string(), "192.0.2.9/32", "opened"), at(4));
        }
        assert_eq!(told.len(), MOST);
        told.expire(at(5));
        assert!(told.is_empty());
    }
}
