//! Files that cannot be read are reported by name: in the log, by `scanguard status` and by a metric.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{metrics::LogMetrics, skipped::Skipped};

/// Why a file cannot be read.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Unread {
    /// How many lines in a row could not be read.
    pub lines: u32,
    /// Why the last of them could not be read.
    pub why: String,
    /// What the file looks like, with advice; empty if the reason says it all.
    pub looks_like: String,
}

impl Unread {
    pub(super) fn new(lines: u32, why: Skipped, looks_like: &str) -> Self {
        Self { lines, why: words(why).to_owned(), looks_like: looks_like.to_owned() }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "none of the last {} lines can be used: {}", self.lines, self.why)?;
        if !self.looks_like.is_empty() {
            write!(f, "; it looks like {}", self.looks_like)?;
        }
        f.write_str(" (docs/logs.md)")
    }
}

/// A file with the reason.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UnreadFile {
    /// Its path.
    pub path: PathBuf,
    /// Why it cannot be read.
    #[serde(flatten)]
    pub unread: Unread,
}

impl fmt::Display for UnreadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log {}: {}", self.path.display(), self.unread)
    }
}

const fn words(why: Skipped) -> &'static str {
    match why {
        Skipped::TooLong => "lines are too long",
        Skipped::Syntax => "this is no format that ScanGuard reads, or not the one of logs.format",
        Skipped::Address => "there is no address where the client's should be",
        Skipped::Masked => "the addresses of clients are masked, and so are nobody's",
        Skipped::Program => "they came by syslog from programs that logs.programs does not name",
        Skipped::Old => "lines are old",
        Skipped::Local => "the clients are this host itself",
        Skipped::Proxy => "the clients are behind a proxy that does not name them",
    }
}

/// What a line looks like that cannot be read, and what to do.
pub(super) fn guess(line: &str) -> &'static str {
    let line = line.trim_start();
    let has = |text: &str| line.contains(text);
    if line.starts_with('#')
        && ["#Software:", "#Fields:", "#Version:", "#Date:"].iter().any(|it| line.starts_with(it))
    {
        "the W3C format of IIS, which is not read"
    } else if line.starts_with('[') && has("[Client ") {
        "Nginx Proxy Manager's own format: add an access_log in nginx's combined format"
    } else if has("\thttp.log.access") {
        "Caddy's console format: set `format json` in its log"
    } else if has(" haproxy[") || is_haproxy(line) {
        "HAProxy's own format: set `option httplog clf`"
    } else if line.starts_with('{') {
        "JSON with other fields: name them in [logs.json]"
    } else {
        "nothing that is known here"
    }
}

/// `192.0.2.7:4711 [24/Nov/2026:10:21:52.123] frontend backend/server 0/0/1/2/3 200 ...`.
fn is_haproxy(line: &str) -> bool {
    let mut words = line.split(' ').skip(1);
    let is_time = words.next().is_some_and(|time| time.starts_with('[') && time.ends_with(']'));
    let is_timers = |word: &str| {
        word.split('/').count() >= 4 && word.chars().all(|c| c.is_ascii_digit() || "/+-".contains(c))
    };
    is_time && words.take(4).any(is_timers)
}

/// The files that cannot be read now.
pub(super) struct Board {
    said: BTreeMap<PathBuf, Unread>,
    tell: watch::Sender<Vec<UnreadFile>>,
    metrics: Arc<LogMetrics>,
}

impl Board {
    pub(super) fn new(metrics: Arc<LogMetrics>) -> Self {
        Self { said: BTreeMap::new(), tell: watch::Sender::new(Vec::new()), metrics }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Vec<UnreadFile>> {
        self.tell.subscribe()
    }

    /// Takes what is known of all files, and reports what has changed.
    pub(super) fn update<'f>(&mut self, files: impl Iterator<Item = (&'f Path, Option<&'f Unread>)>) {
        let mut now = BTreeMap::new();
        for (path, unread) in files {
            match (self.said.get(path), unread) {
                (None, Some(unread)) => tracing::warn!("log {}: {unread}", path.display()),
                (Some(_), None) => tracing::info!("log {}: it can be read now", path.display()),
                (Some(_), Some(_)) | (None, None) => {}
            }
            now.extend(unread.map(|unread| (path.to_owned(), unread.clone())));
        }
        self.metrics.unreadable(now.len());
        if now != self.said {
            let file = |(path, unread): (&PathBuf, &Unread)| UnreadFile {
                path: path.clone(),
                unread: unread.clone(),
            };
            self.tell.send_replace(now.iter().map(file).collect());
            self.said = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_read_is_called_by_its_name() {
        let rows = [
            ("#Software: Microsoft Internet Information Services 10.0", "IIS"),
            (
                "[24/Nov/2026:10:21:52 +0000] - 200 200 - GET https shop.example \"/\" [Client 192.0.2.7] [Length 3]",
                "Nginx Proxy Manager",
            ),
            ("2026/11/24 10:21:52.123\tINFO\thttp.log.access\thandled request\t{}", "Caddy's console"),
            ("192.0.2.7:4711 [24/Nov/2026:10:21:52.123] web app/one 0/0/1/2/3 200 99 - -", "HAProxy"),
            ("{\"ip\":\"192.0.2.7\"}", "[logs.json]"),
            ("hello", "nothing that is known"),
        ];
        for (line, word) in rows {
            assert!(guess(line).contains(word), "{line}: {}", guess(line));
        }
    }
}
