//! All log files: which there are, how they were rotated, and their new lines.
//!
//! The agent looks at the files once a second and does not use inotify. A look costs one `stat` for each of at most
//! 256 files. It works on every file system and for files behind links. It needs no new setup when a directory is
//! replaced, and finds what happened before the agent started in the same way. inotify's queue may overflow, and then
//! all of this would be necessary anyway; and the rules look once a second.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    follower::{self, Follower, Start},
    lines::Line,
    reader::Reader,
    settings::Settings,
    shape::Shape,
    state::{Id, Position, State},
    unread::{Board, UnreadFile},
};
use crate::{
    content::ContentEvent,
    logs::metrics::{Failed, LogMetrics, Replaced},
};

/// How many files are followed at once.
const MAX_FILES: usize = 256;
/// How many files a pattern may find. Of these, the newest are followed.
const MAX_FOUND: usize = 10_000;
/// How many renamed or removed files are kept open, because the server may still write to them.
const MAX_LEAVING: usize = 64;
/// After this many looks without anything new, such a file is closed: servers open the new one within seconds.
const LEAVING_LOOKS: u32 = 60;
/// How many positions of files that are no longer followed are kept.
const MAX_REMEMBERED: usize = 1_024;
/// Every how many looks the patterns are expanded.
const LOOKS_PER_PATTERN: u64 = 10;
/// How many bytes of a file are read before the next file's turn.
const READ_BYTES: usize = 64 * 1024;
/// How many bytes are read before the events are passed on.
const BATCH_BYTES: usize = 256 * 1024;
/// How far the clock of file times lags behind.
const CLOCK_SLACK: Duration = Duration::from_millis(20);

/// A path, and the file there.
#[derive(Default)]
struct Slot {
    follower: Option<Follower>,
    /// The file that this look found there.
    there: Option<Id>,
    /// The last message about it.
    said: Option<String>,
}

impl Slot {
    /// Reports a problem with a path, once.
    fn fail(&mut self, path: &Path, error: &io::Error, failed: Failed, metrics: &LogMetrics) {
        metrics.failed(failed);
        let message = error.to_string();
        if self.said.as_ref() != Some(&message) {
            tracing::warn!("log {}: {message}; looking again every second", path.display());
            self.said = Some(message);
        }
    }
}

/// The files.
pub(super) struct Tail {
    settings: Settings,
    reader: Reader,
    metrics: Arc<LogMetrics>,
    unread: Board,
    slots: BTreeMap<PathBuf, Slot>,
    /// Files that are no longer at their paths.
    leaving: Vec<Follower>,
    /// How far files were read that are not open now.
    remembered: Vec<Position>,
    /// Files that are older than this, and whose position is unknown, are old.
    since: SystemTime,
    is_first_start: bool,
    looks: u64,
    /// The file whose turn it is.
    turn: usize,
    buffer: Vec<u8>,
    events: Vec<ContentEvent>,
    saved: Vec<Position>,
}

impl Tail {
    /// Continues where the state file says. A problem with that file is reported, and does not prevent the start.
    pub(super) fn new(settings: Settings, metrics: Arc<LogMetrics>) -> Self {
        let state = State::load(&settings.state).unwrap_or_else(|error| {
            metrics.failed(Failed::State);
            let name = settings.state.display();
            tracing::error!(
                "{name}: {error}; access logs are read from their ends, and it will be overwritten"
            );
            None
        });
        Self {
            reader: Reader::new(&settings),
            settings,
            unread: Board::new(Arc::clone(&metrics)),
            metrics,
            slots: BTreeMap::new(),
            leaving: Vec::new(),
            since: state.as_ref().map_or_else(SystemTime::now, |state| state.saved.into()),
            is_first_start: state.is_none(),
            remembered: state.map(|state| state.files).unwrap_or_default(),
            looks: 0,
            turn: 0,
            buffer: vec![0; READ_BYTES],
            events: Vec::new(),
            saved: Vec::new(),
        }
    }

    /// Looks which files there are, and whether they are still the same.
    pub(super) fn look(&mut self, now: Timestamp) {
        if self.looks.is_multiple_of(LOOKS_PER_PATTERN) {
            self.expand();
        }
        self.find_moved();
        self.find_new();
        if self.looks == 0 {
            self.find_left_over();
        }
        self.find_truncated();
        self.close_finished(now);
        self.looks += 1;
        let followers = self.slots.values().filter_map(|slot| slot.follower.as_ref()).chain(&self.leaving);
        let (count, behind) =
            followers.fold((0, 0), |(count, behind), follower| (count + 1, behind + follower.behind()));
        self.metrics.following(count, behind);
        let slots = self.slots.values().filter_map(|slot| slot.follower.as_ref());
        self.unread.update(slots.map(|follower| (follower.path.as_path(), follower.shape.unread())));
    }

    /// The files that cannot be read, now and later.
    pub(super) fn unread(&self) -> watch::Receiver<Vec<UnreadFile>> {
        self.unread.subscribe()
    }

    /// Reads some of the new bytes, and returns how many. The events are to be [taken](Self::take).
    pub(super) fn read(&mut self, now: Timestamp) -> usize {
        let Self { reader, metrics, slots, leaving, turn, buffer, events, .. } = self;
        let mut followers: Vec<_> =
            slots.values_mut().filter_map(|slot| slot.follower.as_mut()).chain(leaving).collect();
        let (mut bytes, count) = (0, followers.len());
        for _ in 0..count {
            *turn = (*turn + 1) % count;
            let follower = &mut followers[*turn];
            let mut hand =
                |shape: &mut Shape, line: Line<'_>| take_in(reader, metrics, events, shape, &line, now);
            match follower.read(buffer, &mut hand) {
                Ok(read) => bytes += read,
                // The next look finds out more.
                Err(error) => {
                    metrics.failed(Failed::Read);
                    tracing::debug!("log {}: {error}", follower.path.display());
                }
            }
            if bytes >= BATCH_BYTES {
                break;
            }
        }
        bytes
    }

    /// The events of the lines that were read.
    pub(super) fn take(&mut self) -> Vec<ContentEvent> {
        std::mem::take(&mut self.events)
    }

    /// Saves how far the files were read, if that has changed.
    pub(super) fn save(&mut self, now: Timestamp) {
        let followers = self.slots.values().filter_map(|slot| slot.follower.as_ref()).chain(&self.leaving);
        // This includes files that could not be opened this time; of the closed files, it includes the newest.
        let others = self.remembered.iter().rev().take(MAX_FILES).cloned();
        let positions: Vec<_> = followers.map(Follower::position).chain(others).collect();
        if positions == self.saved {
            return;
        }
        let state = State::new(now, positions);
        match state.save(&self.settings.state) {
            Ok(()) => self.saved = state.files,
            Err(error) => {
                self.metrics.failed(Failed::State);
                tracing::warn!(
                    "{} could not be written: {error}; trying again",
                    self.settings.state.display()
                );
            }
        }
    }

    /// To be called when the agent ends, or follows other logs from now on.
    pub(super) fn close(mut self, now: Timestamp) {
        self.save(now);
        self.metrics.following(0, 0);
        self.metrics.unreadable(0);
    }

    /// Expands the patterns. If there are too many files, those that the settings name are followed first, then those
    /// that were written to last. So a server that makes a new file each day is followed, however many old ones there
    /// are.
    fn expand(&mut self) {
        let mut paths = Vec::new();
        for pattern in &self.settings.files {
            if !pattern.contains(['*', '?', '[']) {
                paths.push((None, PathBuf::from(pattern)));
                continue;
            }
            // The configuration would have been refused if this were no pattern. A directory that cannot be read has
            // no logs for us.
            let found = glob::glob(pattern).into_iter().flatten().flatten().take(MAX_FOUND);
            paths.extend(found.filter_map(|path| {
                let metadata = path.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((Some(Reverse(metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH))), path))
            }));
        }
        paths.sort();
        let (mut wanted, mut left_out) = (BTreeSet::new(), BTreeSet::new());
        for (_, path) in paths {
            if wanted.len() < MAX_FILES {
                wanted.insert(path);
            } else if !wanted.contains(&path) {
                left_out.insert(path);
            }
        }
        if self.metrics.left_out(left_out.len()) {
            let left_out = left_out.len();
            tracing::warn!(
                "logs.files: {left_out} files are left out, those with the oldest writes; the limit is {MAX_FILES}"
            );
        }
        for path in left_out {
            if let Some(slot) = self.slots.get_mut(&path) {
                let follower = slot.follower.take_if(|follower| follower.behind() == 0);
                self.remembered.extend(follower.map(|follower| follower.position()));
            }
        }
        self.slots.retain(|path, slot| slot.follower.is_some() || wanted.contains(path));
        for path in wanted {
            self.slots.entry(path).or_default();
        }
    }

    /// Files that are no longer at their paths leave.
    fn find_moved(&mut self) {
        for (path, slot) in &mut self.slots {
            slot.there = match fs::metadata(path) {
                Ok(metadata) => Some(Id::of(&metadata)),
                Err(error) if error.kind() == io::ErrorKind::NotFound && slot.follower.is_some() => None,
                Err(error) => {
                    slot.fail(path, &error, Failed::Open, &self.metrics);
                    None
                }
            };
            let there = slot.there;
            if let Some(mut follower) = slot.follower.take_if(|follower| Some(follower.id) != there) {
                self.metrics.replaced(Replaced::Renamed);
                follower.quiet = 0;
                self.leaving.push(follower);
            }
        }
    }

    /// Opens files that are new at their paths.
    fn find_new(&mut self) {
        let free = self.slots.iter().filter(|(_, slot)| slot.follower.is_none());
        let free: Vec<_> = free.filter_map(|(path, slot)| Some((path.clone(), slot.there?))).collect();
        for (path, id) in free {
            // It is already followed by another name: by a link, or by a name that a pattern found too.
            if self.follows(id) {
                continue;
            }
            let left = self.leaving.iter().position(|follower| follower.id == id);
            let opened = match left.map(|place| self.leaving.swap_remove(place)) {
                Some(follower) => Ok(follower),
                None => self.open(&path, id),
            };
            let Some(slot) = self.slots.get_mut(&path) else { continue };
            match opened {
                Ok(mut follower) => {
                    follower.path.clone_from(&path);
                    if slot.said.take().is_some() || self.looks == 0 {
                        let behind = follower.behind();
                        tracing::info!(
                            "log {}: following, {behind} bytes are there to be read",
                            path.display()
                        );
                    }
                    slot.follower = Some(follower);
                }
                Err(error) => slot.fail(&path, &error, Failed::Open, &self.metrics),
            }
        }
    }

    fn open(&mut self, path: &Path, id: Id) -> io::Result<Follower> {
        let shape = self.reader.shape();
        let mut is_known = false;
        for (place, position) in self.remembered.iter().enumerate().filter(|(_, it)| it.id.may_be(id)) {
            if let Some(follower) = follower::resume(path, position, &shape) {
                self.remembered.remove(place);
                return Ok(follower);
            }
            is_known = true;
        }
        // It has the inode of a file that was read, but another beginning: all of it is new.
        let start = if is_known || self.is_new(path)? { Start::Beginning } else { Start::End };
        Follower::open(path, start, shape)
    }

    fn is_new(&self, path: &Path) -> io::Result<bool> {
        if self.is_first_start && self.looks == 0 {
            return Ok(self.settings.from_start);
        }
        Ok(match fs::metadata(path)?.created() {
            Ok(created) => created + CLOCK_SLACK >= self.since,
            // The file system does not tell. Lines that came while this agent was running are read.
            Err(_) => self.looks > 0,
        })
    }

    /// Files that were rotated while no agent was running are read to their ends.
    fn find_left_over(&mut self) {
        let shape = self.reader.shape();
        for position in std::mem::take(&mut self.remembered) {
            match follower::find(&position, &shape) {
                Some(follower) if self.follows(follower.id) => {}
                Some(follower) => self.leaving.push(follower),
                // It may exist again, or become readable, later.
                None => self.remembered.push(position),
            }
        }
    }

    fn follows(&self, id: Id) -> bool {
        self.slots.values().any(|slot| slot.follower.as_ref().is_some_and(|follower| follower.id == id))
    }

    /// Truncated files are read from their beginning. Lines that were not read before are read from their copies.
    fn find_truncated(&mut self) {
        let shape = self.reader.shape();
        for (path, slot) in &mut self.slots {
            let Some(follower) = &mut slot.follower else { continue };
            let result = follower.is_same().and_then(|is_same| {
                if !is_same {
                    self.metrics.replaced(Replaced::Truncated);
                    let copy = follower::find(&follower.position(), &shape);
                    self.leaving.extend(copy.filter(|copy| copy.id != follower.id));
                    *follower = Follower::open(path, Start::Beginning, shape.clone())?;
                }
                Ok(())
            });
            if let Err(error) = result {
                self.remembered.extend(slot.follower.take().map(|follower| follower.position()));
                slot.fail(path, &error, Failed::Read, &self.metrics);
            }
        }
    }

    /// Closes files that left and get nothing new any more, and the oldest ones if there are too many.
    fn close_finished(&mut self, now: Timestamp) {
        let Self { reader, metrics, leaving, remembered, events, .. } = self;
        let mut place = 0;
        while let Some(follower) = leaving.get_mut(place) {
            let is_same = follower.is_same().unwrap_or(false);
            follower.quiet = if follower.behind() == 0 { follower.quiet + 1 } else { 0 };
            if is_same && follower.quiet <= LEAVING_LOOKS && leaving.len() <= MAX_LEAVING {
                place += 1;
                continue;
            }
            let mut follower = leaving.remove(place);
            follower.finish(&mut |shape, line| take_in(reader, metrics, events, shape, &line, now));
            remembered.push(follower.position());
        }
        let excess = remembered.len().saturating_sub(MAX_REMEMBERED);
        remembered.drain(..excess);
    }
}

fn take_in(
    reader: &Reader,
    metrics: &LogMetrics,
    events: &mut Vec<ContentEvent>,
    shape: &mut Shape,
    line: &Line<'_>,
    now: Timestamp,
) {
    match reader.read_line(shape, line, now) {
        Some(Ok(event)) => events.push(event),
        Some(Err(skipped)) => metrics.skipped(skipped),
        None => {}
    }
}

#[cfg(test)]
mod tests;
