//! Whether a source comes back to what it tried before, as monitors do, or goes on to others, as scans do.

use std::time::Duration;

use crate::{
    detect::Source,
    observe::{activity::Activity, distinct::estimate},
};

/// Whether most of what a source tried lately is what it had tried before: it comes back to the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SeenBefore {
    /// Of the services.
    pub(super) services: bool,
    /// Of the addresses.
    pub(super) hosts: bool,
}

/// Beyond so many distinct things the bitmaps do not tell whether they are the same. No monitor has so many dead ones.
const MOST_COMPARED: u64 = 700;

impl SeenBefore {
    /// Compares the last quarter of this span with all before it.
    pub(super) fn of(source: &Source<'_>, span: Duration) -> Self {
        let lately = source.history.window(source.at, span / 4).activity;
        let earlier = source.history.before(source.at, span / 4);
        let mut all = lately;
        all.add(&earlier);
        let most = |count: &dyn Fn(&Activity) -> u64| {
            let (lately, earlier, all) = (count(&lately), count(&earlier), count(&all));
            // Nothing is known of what was asked a moment ago.
            lately == 0 || all <= MOST_COMPARED && 2 * (lately + earlier).saturating_sub(all) > lately
        };
        // Not limited to the number of probes, as the activity's own estimates are: all three must err alike.
        let count = |closed: &[u64], unanswered: &[u64]| estimate(closed).and(estimate(unanswered)).value;
        let services = |of: &Activity| count(&of.distinct.services, &of.distinct.unanswered_services());
        let hosts = |of: &Activity| count(&of.distinct.hosts, &of.distinct.unanswered_hosts());
        Self { services: most(&services), hosts: most(&hosts) }
    }
}
