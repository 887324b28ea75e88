//! Metrics of the sandbox.

use prometheus::IntGaugeVec;

use super::{Report, landlock::Enforced};
use crate::metrics::Register;

/// The metrics.
pub struct SandboxMetrics {
    enforced: IntGaugeVec,
}

impl SandboxMetrics {
    pub(crate) fn new(register: &Register) -> prometheus::Result<Self> {
        let enforced = register.gauges(
            "scanguard_sandbox_enforced",
            "Whether a part of the sandbox is in force: user (1: not root), capabilities (1: dropped), seccomp, landlock (1: all of its rules).",
            &["part"],
        )?;
        for part in ["user", "capabilities", "seccomp", "landlock"] {
            enforced.with_label_values(&[part]).set(0);
        }
        Ok(Self { enforced })
    }

    /// The agent has entered the sandbox.
    pub fn confined(&self, report: &Report) {
        let parts = [
            ("user", !report.is_root),
            ("capabilities", report.enabled),
            ("seccomp", report.seccomp),
            ("landlock", report.landlock == Enforced::Fully),
        ];
        for (part, enforced) in parts {
            self.enforced.with_label_values(&[part]).set(i64::from(enforced));
        }
    }
}
