//! Records which items of one target were tried lately, and by which sources.

use std::{collections::HashMap, time::Duration};

use scanguard_common::{account::SAMPLES, account::Sample, address::Address, oracle::Reach};

use super::{Division, Item, Settings, Shared, Thresholds, Work};
use crate::{
    detect::findings::Sources,
    observe::{Delta, activity::Activity},
};

/// Maximum number of items.
const MAX_ITEMS: usize = 1_024;
/// Maximum number of sources.
const MAX_SOURCES: usize = 256;
/// Maximum number of sources that a finding names.
const MAX_EXAMPLES: usize = 32;

struct Member {
    first: Duration,
    last: Duration,
    activity: Activity,
    samples: [Sample; SAMPLES],
}

/// The recent activity at one target.
pub(super) struct TargetRecord {
    items: Division<Address, Item>,
    members: HashMap<Address, Member>,
    last: Duration,
    changed: bool,
    /// The source whose address is the key of the campaign's finding.
    anchor: Option<Address>,
}

impl TargetRecord {
    pub(super) fn new(at: Duration) -> Self {
        Self {
            items: Division::new(MAX_ITEMS),
            members: HashMap::new(),
            last: at,
            changed: false,
            anchor: None,
        }
    }

    pub(super) fn last(&self) -> Duration {
        self.last
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn add(&mut self, source: Address, item: Item, delta: &Delta, at: Duration) {
        self.last = at;
        self.changed = true;
        self.items.add(&source, item, at);
        if self.members.len() < MAX_SOURCES || self.members.contains_key(&source) {
            let member = self.members.entry(source).or_insert(Member {
                first: at,
                last: Duration::MAX,
                activity: Activity::NONE,
                samples: delta.samples,
            });
            // Several samples of one poll come from the same novelties.
            if member.last != at {
                member.activity.add(&delta.activity);
                member.last = at;
            }
        }
    }

    pub(super) fn expire(&mut self, at: Duration, window: Duration) {
        self.items.expire(at, window);
        self.members.retain(|_, member| at.saturating_sub(member.last) < window);
    }

    /// The source whose address is the key of the finding. It stays the same while the finding exists.
    pub(super) fn anchor(&mut self, examples: &[Address]) -> Option<Address> {
        if self.anchor.is_none() {
            self.anchor = examples.first().copied();
        }
        self.anchor
    }

    /// The sources that share the work, if they do.
    pub(super) fn shared_work(&self, settings: &Settings) -> Option<Work> {
        let Settings { sources, items, items_per_source, spread_items, .. } = *settings;
        let thresholds = Thresholds { sources, items, items_per_source, spread_items: Some(spread_items) };
        let Shared { workers, items } = self.items.shared(&thresholds)?;
        Some(self.work(&workers, items))
    }

    fn work(&self, workers: &[Address], items: u64) -> Work {
        let members: Vec<_> = workers.iter().filter_map(|source| self.members.get(source)).collect();
        let mut activity = Activity::NONE;
        for member in &members {
            activity.add(&member.activity);
        }
        let examples = workers.iter().take(MAX_EXAMPLES).copied().collect();
        Work {
            sources: Sources { count: workers.len() as u64, examples },
            items,
            first: members.iter().map(|member| member.first).min().unwrap_or_default(),
            certain: activity.reached(Reach::Unknown) * 2 < activity.counts.total(),
            activity,
            delta: Delta {
                activity: Activity::NONE,
                samples: members.first().map_or([Sample::default(); SAMPLES], |member| member.samples),
            },
        }
    }
}
