//! Who uses the network from this host, learned over days: so somebody new can be told. Pure; time is passed in.
//!
//! One entry stands for a program in the class of its control group: its unit without the names of instances, or "docker
//! container". Restarts, new pids and new containers are the same entry. So is a program that was upgraded: the numbers of
//! its file (device, inode, time of change) are facts about an entry, and no part of its name.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use glob::Pattern;
use indexmap::IndexMap;
use jiff::{SignedDuration, Timestamp};
use scanguard_common::{
    actor::{Kind, marks},
    numbered,
};

use super::{Actor, identity::File};

/// How many programs are remembered.
pub const MOST: usize = 8_192;
/// How many new programs of one class are told within [`HOUR`]: a copy of a program for each probe must not be a finding
/// for each.
const MOST_NEWS: u32 = 20;
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// How many classes are counted for that.
const MOST_CLASSES: usize = 1_024;
/// Who used the network over this long is not forgotten for somebody who did it once.
const SETTLED: SignedDuration = SignedDuration::from_hours(24);

numbered! {
    /// A way to use the network.
    How {
        /// Connections of TCP.
        Tcp = "tcp",
        /// Datagrams of UDP.
        Udp = "udp",
        /// A raw socket.
        Raw = "raw",
        /// A packet socket.
        Packet = "packet",
    }
}

/// The name of an entry.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name {
    /// The class of its control group, see [`super::identity::Running::class`].
    pub class: String,
    /// The path of its executable.
    pub path: String,
}

/// A program that uses the network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// When it was first seen.
    pub since: Timestamp,
    /// When it was last seen.
    pub last: Timestamp,
    /// The ways in which it was seen to.
    pub how: BTreeSet<How>,
    /// Its executable, as it was last seen.
    pub file: File,
    /// When its executable was last found to be another one.
    pub updated: Option<Timestamp>,
}

impl Entry {
    /// Whether its executable is another one than before. All zeros stand for a file that is not known.
    fn take_file(&mut self, file: File, at: Timestamp) {
        if file == self.file || file == File::default() {
            return;
        }
        if std::mem::replace(&mut self.file, file) != File::default() {
            self.updated = Some(at);
        }
    }
}

/// What is new about an actor.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct News {
    /// Its program has never used the network before in this class.
    pub first_use: bool,
    /// It has never had a raw or packet socket before.
    pub first_raw: bool,
    /// It was known before learning was over, or has been for long: what it does is what it does.
    pub usual: bool,
    /// Learning is over, so that what is new can be told from what was always there.
    pub learned: bool,
}

/// Who uses the network.
#[derive(Debug)]
pub struct Baseline {
    begun: Timestamp,
    learning: SignedDuration,
    known: IndexMap<Name, Entry>,
    /// News of each class that were told since a time.
    told: HashMap<String, (Timestamp, u32)>,
    changed: bool,
    forgotten: u64,
    untold: u64,
}

impl Baseline {
    /// Nobody is known yet: learning begins.
    pub fn new(begun: Timestamp, learning: Duration) -> Self {
        Self {
            begun,
            learning: SignedDuration::try_from(learning).unwrap_or(SignedDuration::MAX),
            known: IndexMap::new(),
            told: HashMap::new(),
            changed: true,
            forgotten: 0,
            untold: 0,
        }
    }

    /// Goes on with what was learned before.
    pub fn resume(
        begun: Timestamp,
        known: impl IntoIterator<Item = (Name, Entry)>,
        learning: Duration,
    ) -> Self {
        let known = known.into_iter().take(MOST).collect();
        Self { known, changed: false, ..Self::new(begun, learning) }
    }

    /// Changes how long is learned.
    pub fn set_learning(&mut self, learning: Duration) {
        self.learning = SignedDuration::try_from(learning).unwrap_or(SignedDuration::MAX);
    }

    /// When learning began.
    pub fn begun(&self) -> Timestamp {
        self.begun
    }

    /// When learning is over.
    pub fn learned_at(&self) -> Timestamp {
        self.begun.saturating_add(self.learning).unwrap_or(Timestamp::MAX)
    }

    /// Takes an actor that has used the network in these ways. Of control groups and hosts behind this one nothing is
    /// learned, nor of those of whom nobody knows the program.
    pub fn see(&mut self, actor: &Actor, how: &[How], at: Timestamp) -> News {
        let learned = at >= self.learned_at();
        let nothing = News { learned, usual: true, ..News::default() };
        let Some(process) =
            actor.process.as_ref().filter(|_| matches!(actor.key.kind, Kind::Program | Kind::Crafter))
        else {
            return nothing;
        };
        if process.path.is_empty() {
            return nothing;
        }
        let name = Name { class: process.class(), path: process.path.clone() };
        let raw = [(marks::RAW, How::Raw), (marks::PACKET, How::Packet)];
        let raw = raw.into_iter().filter(|(mark, _)| process.is(*mark)).map(|(_, how)| how);
        let how: BTreeSet<_> = how.iter().copied().chain(raw).collect();
        let is_raw = |how: &BTreeSet<How>| how.contains(&How::Raw) || how.contains(&How::Packet);
        let settled = self.learned_at();
        let (first_use, had_raw, since) = match self.known.get_mut(&name) {
            Some(entry) => {
                let had_raw = is_raw(&entry.how);
                if !how.is_subset(&entry.how)
                    || entry.last.duration_until(at) >= HOUR
                    || entry.file != process.file
                {
                    self.changed = true;
                }
                entry.how.extend(how.iter().copied());
                entry.last = entry.last.max(at);
                entry.take_file(process.file, at);
                (false, had_raw, entry.since)
            }
            None => {
                self.make_room();
                let entry =
                    Entry { since: at, last: at, how: how.clone(), file: process.file, updated: None };
                self.known.insert(name.clone(), entry);
                self.changed = true;
                (true, false, at)
            }
        };
        let first_raw = is_raw(&how) && !had_raw;
        let quiet = process.is_of_login();
        // Nothing that comes from a place for everybody waits until learning is over.
        let may_tell = (learned || process.is_fleeting()) && !quiet;
        let may_tell = may_tell && (first_use || first_raw) && self.may_tell(&name.class, at);
        let usual = since < settled || since.duration_until(at) >= SETTLED;
        News { first_use: first_use && may_tell, first_raw: first_raw && may_tell && learned, usual, learned }
    }

    /// Whether one more piece of news of a class is told.
    fn may_tell(&mut self, class: &str, at: Timestamp) -> bool {
        if self.told.len() >= MOST_CLASSES {
            self.told.retain(|_, (since, _)| since.duration_until(at) < HOUR);
        }
        if self.told.len() >= MOST_CLASSES && !self.told.contains_key(class) {
            self.untold += 1;
            return false;
        }
        let (since, count) = self.told.entry(class.to_owned()).or_insert((at, 0));
        if since.duration_until(at) >= HOUR {
            (*since, *count) = (at, 0);
        }
        *count += 1;
        let may = *count <= MOST_NEWS;
        self.untold += u64::from(!may);
        may
    }

    /// Forgets one program if there is no room: first those that were seen for less than a day, and among them the one
    /// that was seen last the longest ago.
    fn make_room(&mut self) {
        if self.known.len() < MOST {
            return;
        }
        let worth = |entry: &Entry| (entry.since.duration_until(entry.last) >= SETTLED, entry.last);
        let least = self.known.iter().enumerate().min_by_key(|(_, (_, entry))| worth(entry));
        if let Some((place, _)) = least {
            self.known.swap_remove_index(place);
            self.forgotten += 1;
        }
    }

    /// Forgets the programs whose path or class matches. They are new when they are seen again. Returns how many there
    /// were.
    pub fn forget(&mut self, pattern: &Pattern) -> usize {
        let before = self.known.len();
        self.known.retain(|name, _| !pattern.matches(&name.path) && !pattern.matches(&name.class));
        let gone = before - self.known.len();
        self.changed |= gone > 0;
        gone
    }

    /// The programs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Entry)> {
        self.known.iter()
    }

    /// The program of this name.
    pub fn get(&self, name: &Name) -> Option<&Entry> {
        self.known.get(name)
    }

    /// How many programs are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// How many programs were forgotten for want of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How many news were not told because a class had too many.
    pub fn untold(&self) -> u64 {
        self.untold
    }

    /// Whether there is something to write. The call resets this.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// It could not be written, and has to be tried again.
    pub fn stay_changed(&mut self) {
        self.changed = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::identity::testing::Draft;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + days * 86_400).unwrap()
    }

    fn learned() -> Baseline {
        Baseline::new(at(0), 14 * DAY)
    }

    fn program(path: &str, group: &str) -> Actor {
        Draft::new(path, group).actor(Kind::Program)
    }

    #[test]
    fn what_is_new_is_told_once_and_after_learning_only() {
        let mut baseline = learned();
        let usual = program("/usr/sbin/nginx", "/system.slice/web.service");
        assert_eq!(baseline.see(&usual, &[How::Tcp], at(3)), News { usual: true, ..News::default() });
        let news = baseline.see(&usual, &[How::Tcp], at(20));
        assert!(!news.first_use && news.usual && news.learned, "{news:?}");
        let odd = program("/usr/bin/python3", "/system.slice/web.service");
        let news = baseline.see(&odd, &[How::Tcp], at(20));
        assert!(news.first_use && !news.usual, "{news:?}");
        assert!(!baseline.see(&odd, &[How::Tcp], at(20)).first_use);
        assert_eq!(baseline.len(), 2);
    }

    #[test]
    fn instances_restarts_and_upgrades_are_nothing_new() {
        let mut baseline = learned();
        let id = |character: &str| character.repeat(64);
        for (path, first, second) in [
            ("/app/server", format!("/docker/{}", id("a")), format!("/docker/{}", id("b"))),
            (
                "/usr/bin/job",
                "/system.slice/job@1.service".to_owned(),
                "/system.slice/job@2.service".to_owned(),
            ),
        ] {
            baseline.see(&program(path, &first), &[How::Tcp], at(1));
            let mut upgraded = Draft::new(path, &second);
            upgraded.identity.inode = 99;
            assert!(!baseline.see(&upgraded.actor(Kind::Program), &[How::Tcp], at(30)).first_use, "{path}");
        }
        assert!(baseline.iter().all(|(_, entry)| entry.updated == Some(at(30)) && entry.file.inode == 99));
    }

    #[test]
    fn programs_in_places_for_everybody_are_told_while_learning_and_those_of_users_never() {
        let mut baseline = learned();
        for (path, marks, group, told) in [
            ("/tmp/x", 0, "/system.slice/web.service", true),
            ("/dev/shm/x", 0, "/system.slice/web.service", true),
            ("/usr/bin/y", marks::DELETED, "/system.slice/web.service", true),
            ("/memfd:z", marks::MEMFD, "/system.slice/web.service", true),
            ("/usr/bin/z", 0, "/system.slice/web.service", false),
            ("/tmp/x", 0, "/user.slice/user-1000.slice/session-3.scope", false),
        ] {
            let actor = Draft::new(path, group).marks(marks).actor(Kind::Program);
            assert_eq!(baseline.see(&actor, &[How::Tcp], at(1)).first_use, told, "{path} in {group}");
        }
    }

    #[test]
    fn a_raw_socket_of_who_had_none_is_told() {
        let mut baseline = learned();
        let crafter = |path: &str| Draft::new(path, "/x.service").marks(marks::RAW).actor(Kind::Crafter);
        baseline.see(&crafter("/usr/sbin/keepalived"), &[], at(1));
        baseline.see(&program("/usr/bin/tool", "/x.service"), &[How::Tcp], at(1));
        assert!(!baseline.see(&crafter("/usr/sbin/keepalived"), &[], at(20)).first_raw);
        let news = baseline.see(&crafter("/usr/bin/tool"), &[], at(20));
        assert!(news.first_raw && !news.first_use, "{news:?}");
    }

    #[test]
    fn a_copy_for_each_probe_is_not_news_for_each_and_pushes_out_nobody_who_stays() {
        let mut baseline = learned();
        let usual = program("/usr/sbin/nginx", "/system.slice/web.service");
        baseline.see(&usual, &[How::Tcp], at(1));
        baseline.see(&usual, &[How::Tcp], at(3));
        let mut told = 0;
        for number in 0..10_000 {
            let copy = program(&format!("/opt/{number}"), "/system.slice/web.service");
            told += u32::from(baseline.see(&copy, &[How::Tcp], at(20)).first_use);
        }
        assert_eq!((told, baseline.len()), (MOST_NEWS, MOST));
        assert!(baseline.forgotten() > 1_800 && baseline.untold() > 9_000);
        assert!(!baseline.see(&usual, &[How::Tcp], at(20)).first_use);
    }

    #[test]
    fn who_is_forgotten_is_new_again() {
        let mut baseline = learned();
        let actor = program("/usr/sbin/nginx", "/system.slice/web.service");
        baseline.see(&actor, &[How::Tcp], at(1));
        assert_eq!(baseline.forget(&Pattern::new("/usr/bin/*").unwrap()), 0);
        assert_eq!(baseline.forget(&Pattern::new("*nginx").unwrap()), 1);
        assert!(baseline.see(&actor, &[How::Tcp], at(20)).first_use);
        assert_eq!(baseline.forget(&Pattern::new("web.service").unwrap()), 1);
    }

    #[test]
    fn groups_and_the_unknown_are_not_learned() {
        let mut baseline = learned();
        let group = Draft::new("/usr/bin/x", "/y.service").actor(Kind::Group);
        let unknown = Actor::unknown(group.key);
        let nameless = Draft::new("", "/y.service").actor(Kind::Program);
        for actor in [group, unknown, nameless] {
            assert!(!baseline.see(&actor, &[How::Tcp], at(20)).first_use);
        }
        assert!(baseline.is_empty());
    }
}
