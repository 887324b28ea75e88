//! The summary of a source's messages in a finding.

use std::sync::Arc;

use super::{
    By, ContentStats, Kind, Oddity,
    services::{Languages, Services},
};
use crate::observe::distinct::Estimate;

/// The messages of a source as a finding shows them: within the window, at their peak.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// HTTP requests.
    pub requests: u64,
    /// Requests that failed: 404, 403, 400, 405 and similar.
    pub failed: u64,
    /// Distinct paths.
    pub paths: Estimate,
    /// Missing ones.
    pub missed_paths: Estimate,
    /// Sensitive ones, which clients request to search for ways in.
    pub sensitive_paths: Estimate,
    /// Distinct virtual hosts.
    pub hosts: Estimate,
    /// Requests with an oddity that no browser writes, by its kind.
    pub oddities: Vec<(Oddity, u64)>,
    /// Messages that broke the syntax of their protocol.
    pub broken: u64,
    /// TLS ClientHellos.
    pub hellos: u64,
    /// Distinct server names in them.
    pub server_names: Estimate,
    /// Distinct JA4 fingerprints.
    pub fingerprints: Estimate,
    /// DNS queries.
    pub queries: u64,
    /// Distinct names in them.
    pub names: Estimate,
    /// Those that do not exist.
    pub missed_names: Estimate,
    /// First words in other protocols.
    pub greetings: u64,
    /// Those protocols.
    pub languages: Languages,
    /// Distinct communities of SNMP.
    pub communities: Estimate,
    /// Distinct users of SIP that were guessed.
    pub users: Estimate,
    /// Tools that the user agents, fingerprints and names of software are, as in the lists.
    pub tools: Vec<Arc<str>>,
    /// Examples of paths and names; none if texts are redacted.
    pub examples: Vec<Box<str>>,
}

impl Summary {
    /// A sum of all of these.
    pub fn said(&self) -> u64 {
        self.requests + self.hellos + self.queries + self.greetings + self.broken
    }
}

impl From<&ContentStats> for Summary {
    fn from(stats: &ContentStats) -> Self {
        let ContentStats { web, tls, dns, services, broken, examples, .. } = stats;
        let services = services.as_deref();
        let odd = Oddity::ALL.into_iter().map(|oddity| (oddity, web.odd(oddity)));
        let mut tools = web.tools.clone();
        tools.extend(tls.tools.iter().cloned());
        tools.extend(services.into_iter().flat_map(|services| &services.tools).cloned());
        Self {
            requests: web.requests,
            failed: web.missed,
            paths: web.paths(),
            missed_paths: web.missed_paths(),
            sensitive_paths: Estimate {
                value: web.sensitive.entries(Kind::Asked, By::Anybody),
                saturated: false,
            },
            hosts: web.hosts.all().at_most(web.requests),
            oddities: odd.filter(|(_, count)| *count > 0).collect(),
            broken: *broken,
            hellos: tls.hellos,
            server_names: tls.names.all().at_most(tls.hellos),
            fingerprints: tls.fingerprints(),
            queries: dns.queries,
            names: dns.names.all().at_most(dns.queries),
            missed_names: dns.names.missed().at_most(dns.missed),
            greetings: services.map_or(0, |services| services.greetings),
            languages: services.map(Services::languages).unwrap_or_default(),
            communities: services.map(Services::communities).unwrap_or_default(),
            users: services.map(Services::users).unwrap_or_default(),
            tools,
            examples: examples.clone(),
        }
    }
}

impl std::fmt::Display for Summary {
    /// "1000 requests for about 990 paths, 980 failed; 3 queries for 3 names, 2 of them not there".
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts = Vec::new();
        if self.requests > 0 {
            parts
                .push(format!("{} requests for {} paths, {} failed", self.requests, self.paths, self.failed));
        }
        if self.hellos > 0 {
            parts.push(format!("{} TLS hellos with {} fingerprints", self.hellos, self.fingerprints));
        }
        if self.queries > 0 {
            parts.push(format!(
                "{} DNS queries for {} names, {} of them not there",
                self.queries, self.names, self.missed_names
            ));
        }
        if self.greetings > 0 {
            let languages: Vec<_> = self.languages.labels().collect();
            parts.push(format!("{} first words in {}", self.greetings, languages.join(", ")));
        }
        if self.broken > 0 {
            parts.push(format!("{} messages with broken syntax", self.broken));
        }
        f.write_str(&parts.join("; "))
    }
}
