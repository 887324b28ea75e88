//! Finds many sources that share the work over the fleet: each asks a few members for a service, so that no source misses
//! enough of them, and no two ask the same member. The detector's own rule for one host says how such sources are told
//! from background radiation, which tries the same things.
//!
//! Sources of all partitions that an instance of the role works on are compared. Of a source of another partition only
//! its worker decides.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;

use crate::{
    detect::campaign::{Division, Shared, Thresholds},
    fleet::wire::partition,
    settings::Interval,
};

/// How far back sources are compared: bots come to the same few members in longer times.
const WINDOW: Duration = Duration::from_secs(10 * 60);
/// How often.
const EVERY: Duration = Duration::from_secs(1);
/// Services that are looked at.
const MAX_SERVICES: usize = 1_024;
/// Members that are remembered, over all services.
const MAX_TRIED: usize = 200_000;
/// See [`Thresholds`]. Sources that ask one member each cannot be told from background radiation, however many they are.
const THRESHOLDS: Thresholds = Thresholds { sources: 5, items: 30, items_per_source: 3, spread_items: None };

/// A source that asked a member for a service, and met nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tried {
    /// The source.
    pub source: IpNet,
    /// IP protocol and port.
    pub service: (u8, u16),
    /// When.
    pub at: Duration,
}

/// Sources that share the work.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Campaign {
    /// IP protocol and port.
    pub service: (u8, u16),
    /// How many sources.
    pub sources: usize,
    /// How many members they asked.
    pub members: u64,
}

impl Campaign {
    /// Why, in a sentence.
    pub fn reason(&self) -> String {
        let Self { service: (_, port), sources, members } = self;
        format!(
            "{sources} sources share the work: port {port} of {members} members, each asked by only one of them, within {}",
            Interval(WINDOW)
        )
    }
}

struct Record {
    division: Division<IpNet, Arc<str>>,
    changed: bool,
    last: Duration,
}

/// Finds campaigns. Bounded.
#[derive(Default)]
pub struct Campaigns {
    records: HashMap<(u8, u16), Record>,
    looked: Duration,
    /// The sources that were found, by partition, until the worker of that partition takes them.
    found: BTreeMap<u8, BTreeMap<IpNet, Arc<Campaign>>>,
}

impl Campaigns {
    /// A member was asked.
    pub fn note(&mut self, tried: &Tried, member: &Arc<str>) {
        if self.records.len() >= MAX_SERVICES && !self.records.contains_key(&tried.service) {
            let quietest = self.records.iter().min_by_key(|(service, record)| (record.last, **service));
            if let Some(service) = quietest.map(|(service, _)| *service) {
                self.records.remove(&service);
            }
        }
        let record = self.records.entry(tried.service).or_insert_with(|| Record {
            division: Division::new(MAX_TRIED / 4),
            changed: false,
            last: tried.at,
        });
        record.division.add(&tried.source, Arc::clone(member), tried.at);
        record.changed = true;
        record.last = tried.at.max(record.last);
    }

    /// Looks at what was tried since the last time.
    fn look(&mut self, now: Duration) {
        self.looked = now;
        self.records.retain(|_, record| {
            record.division.expire(now, WINDOW);
            !record.division.is_empty()
        });
        // The services that most were asked for are those of background radiation; they go last.
        let mut room = MAX_TRIED;
        let mut sizes: Vec<_> =
            self.records.iter().map(|(service, record)| (record.division.len(), *service)).collect();
        sizes.sort_unstable();
        let mut gone = HashSet::new();
        for (size, service) in sizes {
            match room.checked_sub(size) {
                Some(left) => room = left,
                None => {
                    gone.insert(service);
                }
            }
        }
        self.records.retain(|service, _| !gone.contains(service));
        for (service, record) in &mut self.records {
            if !std::mem::take(&mut record.changed) {
                continue;
            }
            let Some(Shared { workers, items }) = record.division.shared(&THRESHOLDS) else { continue };
            let campaign = Arc::new(Campaign { service: *service, sources: workers.len(), members: items });
            for source in workers {
                self.found.entry(partition(source)).or_default().insert(source, Arc::clone(&campaign));
            }
        }
    }

    /// The sources of a partition that belong to a campaign, each once.
    pub fn take(&mut self, partition: u8, now: Duration) -> BTreeMap<IpNet, Arc<Campaign>> {
        if now.saturating_sub(self.looked) >= EVERY {
            self.look(now);
        }
        self.found.remove(&partition).unwrap_or_default()
    }

    /// Whether something is too old to be compared.
    pub fn is_old(at: Duration, now: Duration) -> bool {
        now.saturating_sub(at) >= WINDOW
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::fleet::wire::PARTITIONS;

    fn source(number: u32) -> IpNet {
        IpNet::new(Ipv4Addr::from(0xcb00_7100 + number).into(), 32).unwrap()
    }

    fn all(campaigns: &mut Campaigns, now: u64) -> Vec<IpNet> {
        let now = Duration::from_secs(now);
        let mut found: Vec<_> =
            (0..PARTITIONS).flat_map(|part| campaigns.take(part, now)).map(|(source, _)| source).collect();
        found.sort_unstable();
        found
    }

    fn try_at(campaigns: &mut Campaigns, source: IpNet, member: u32, at: u64) {
        let tried = Tried { source, service: (6, 7_547), at: Duration::from_secs(at) };
        campaigns.note(&tried, &format!("edge-{member}").into());
    }

    #[test]
    fn sources_that_divide_the_members_are_found() {
        let mut campaigns = Campaigns::default();
        for member in 0..35 {
            try_at(&mut campaigns, source(member % 7), member, 1_000 + u64::from(member));
        }
        assert_eq!(all(&mut campaigns, 1_040), (0..7).map(source).collect::<Vec<_>>());
        assert_eq!(all(&mut campaigns, 1_042), [], "nothing new");
        try_at(&mut campaigns, source(0), 36, 1_043);
        assert_eq!(all(&mut campaigns, 1_044).len(), 7);
        try_at(&mut campaigns, source(0), 37, 3_000);
        assert_eq!(all(&mut campaigns, 3_001), [], "too old");
    }

    #[test]
    fn sources_that_ask_the_same_members_or_one_each_are_not() {
        let mut campaigns = Campaigns::default();
        for member in 0..35 {
            for round in 0..2 {
                try_at(&mut campaigns, source(member % 7 + round * 10), member, 1_000);
            }
        }
        for member in 100..1_000 {
            try_at(&mut campaigns, source(member), member, 1_000);
        }
        assert_eq!(all(&mut campaigns, 1_002), []);
    }

    #[test]
    fn one_member_adds_one_to_each_source() {
        let mut campaigns = Campaigns::default();
        for made_up in 0..50 {
            for _ in 0..10 {
                try_at(&mut campaigns, source(made_up), made_up % 2, 1_000);
            }
        }
        assert_eq!(all(&mut campaigns, 1_002), []);
    }
}
