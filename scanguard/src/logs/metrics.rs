//! Metrics of access logs. No file name and no address is ever a label.

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use scanguard_common::numbered;

use super::skipped::Skipped;
use crate::metrics::{Register, level};

numbered! {
    /// The operation that failed.
    Failed {
        /// Opening a file.
        Open = "open",
        /// Reading a file.
        Read = "read",
        /// Reading or writing the state file.
        State = "state",
    }
}

numbered! {
    /// How a followed file was replaced.
    Replaced {
        /// It was renamed or removed.
        Renamed = "renamed",
        /// It was truncated or written anew.
        Truncated = "truncated",
    }
}

/// The metrics.
pub struct LogMetrics {
    events: IntCounter,
    skipped: IntCounterVec,
    files: IntGauge,
    left_out: IntGauge,
    unreadable: IntGauge,
    behind: IntGauge,
    replaced: IntCounterVec,
    errors: IntCounterVec,
}

impl LogMetrics {
    pub(crate) fn new(register: &Register) -> prometheus::Result<Self> {
        let metrics = Self {
            events: register.counter(
                "scanguard_log_requests_total",
                "Requests in access logs that the rules looked at.",
            )?,
            skipped: register.counters(
                "scanguard_log_lines_skipped_total",
                "Lines of access logs that the rules did not look at, by reason.",
                &["reason"],
            )?,
            files: register.gauge("scanguard_log_files", "Access logs that are followed.")?,
            left_out: register.gauge(
                "scanguard_log_files_left_out",
                "Access logs that are not followed because there are too many.",
            )?,
            unreadable: register.gauge(
                "scanguard_log_files_unreadable",
                "Access logs of which no line can be used; the log of the agent and `scanguard status` name them.",
            )?,
            behind: register
                .gauge("scanguard_log_behind_bytes", "Bytes of the access logs that were not read yet.")?,
            replaced: register.counters(
                "scanguard_log_files_replaced_total",
                "Access logs that were rotated, by kind of rotation.",
                &["how"],
            )?,
            errors: register.counters(
                "scanguard_log_errors_total",
                "Times that an access log, or the file with the positions in the logs, could not be used.",
                &["operation"],
            )?,
        };
        for skipped in Skipped::ALL {
            metrics.skipped.with_label_values(&[skipped.label()]);
        }
        for replaced in Replaced::ALL {
            metrics.replaced.with_label_values(&[replaced.label()]);
        }
        for failed in Failed::ALL {
            metrics.errors.with_label_values(&[failed.label()]);
        }
        Ok(metrics)
    }

    /// This many requests were examined.
    pub fn events_read(&self, count: usize) {
        self.events.inc_by(count as u64);
    }

    /// A line was skipped.
    pub fn skipped(&self, why: Skipped) {
        self.skipped.with_label_values(&[why.label()]).inc();
    }

    /// This many files are followed, and this many of their bytes are not read yet.
    pub fn following(&self, files: usize, behind: u64) {
        self.files.set(level(files));
        self.behind.set(level(behind));
    }

    /// This many files are left out. Returns whether that is more than before.
    pub fn left_out(&self, files: usize) -> bool {
        let files = level(files);
        let before = self.left_out.get();
        self.left_out.set(files);
        files > before
    }

    /// This many files cannot be read.
    pub fn unreadable(&self, files: usize) {
        self.unreadable.set(level(files));
    }

    /// A file was replaced.
    pub fn replaced(&self, how: Replaced) {
        self.replaced.with_label_values(&[how.label()]).inc();
    }

    /// An operation failed.
    pub fn failed(&self, what: Failed) {
        self.errors.with_label_values(&[what.label()]).inc();
    }

    /// Lines that were skipped for this reason.
    #[cfg(test)]
    pub(crate) fn count(&self, why: Skipped) -> u64 {
        self.skipped.with_label_values(&[why.label()]).get()
    }
}
