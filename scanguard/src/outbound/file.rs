//! The file that keeps who uses the network over a restart.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    baseline::{Baseline, Entry, How, MOST, Name},
    identity::File,
};
use crate::whole_file;

/// The version of the file's format.
const VERSION: u32 = 1;
/// 8,192 programs with long paths are 4 MiB.
const MAX_BYTES: u64 = 32 << 20;
/// The name of the file, beside the one of bans.
const NAME: &str = "actors.json";

/// The place of the file, for this place of the file of bans.
pub fn beside(state: &Path) -> PathBuf {
    state.with_file_name(NAME)
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    /// When learning began.
    begun: Timestamp,
    actors: Vec<Saved>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    class: String,
    path: String,
    since: Timestamp,
    last: Timestamp,
    how: Vec<String>,
    device: u32,
    inode: u64,
    changed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    updated: Option<Timestamp>,
}

impl Saved {
    fn of((name, entry): (&Name, &Entry)) -> Self {
        let Name { class, path } = name.clone();
        let Entry { since, last, ref how, file: File { device, inode, changed }, updated } = *entry;
        let how = how.iter().map(|how| how.label().to_owned()).collect();
        Self { class, path, since, last, how, device, inode, changed, updated }
    }

    fn entry(self) -> (Name, Entry) {
        let Self { class, path, since, last, how, device, inode, changed, updated } = self;
        let is = |one: &How| how.iter().any(|name| name == one.label());
        let how: BTreeSet<_> = How::ALL.into_iter().filter(is).collect();
        let file = File { device, inode, changed };
        (Name { class, path }, Entry { since, last, how, file, updated })
    }
}

/// What is to be written.
///
/// # Errors
/// It cannot be written as JSON: a mistake here.
pub fn content(baseline: &Baseline) -> serde_json::Result<Vec<u8>> {
    let actors = baseline.iter().map(Saved::of).collect();
    serde_json::to_vec(&Content { version: VERSION, begun: baseline.begun(), actors })
}

/// Reads the file. Without one, learning begins now.
///
/// # Errors
/// The fault of the file, in words. It is left as it is.
pub fn read(path: &Path, now: Timestamp, learning: Duration) -> Result<Baseline, String> {
    let read = whole_file::read_if_there(path, MAX_BYTES);
    let Some(bytes) = read.map_err(|error| error.to_string())? else {
        return Ok(Baseline::new(now, learning));
    };
    let content: Content = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if content.version != VERSION {
        return Err(format!("its version is {}, not {VERSION}", content.version));
    }
    if content.actors.len() > MOST {
        return Err(format!("it has {} programs, {MOST} are possible", content.actors.len()));
    }
    // A clock that was wrong must not make learning last for ever.
    let begun = content.begun.min(now);
    Ok(Baseline::resume(begun, content.actors.into_iter().map(Saved::entry), learning))
}

/// Writes the file whole, or not at all.
///
/// # Errors
/// It could not be written.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    whole_file::replace(path, content)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use scanguard_common::actor::Kind;

    use super::*;
    use crate::outbound::identity::testing::Draft;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("scanguard-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn what_was_learned_comes_back() {
        let directory = directory("actors");
        let path = beside(&directory.join("state.json"));
        let begun = Timestamp::from_second(1_800_000_000).unwrap();
        let mut baseline = read(&path, begun, DAY).unwrap();
        let actor = Draft::new("/usr/bin/x", "/y.service").actor(Kind::Program);
        baseline.see(&actor, &[How::Tcp, How::Udp], begun);
        write(&path, &content(&baseline).unwrap()).unwrap();
        let later = Timestamp::from_second(1_800_000_000 + 2 * 86_400).unwrap();
        let again = read(&path, later, DAY).unwrap();
        assert_eq!(again.begun(), begun);
        assert_eq!(again.iter().collect::<Vec<_>>(), baseline.iter().collect::<Vec<_>>());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_that_is_wrong_is_said() {
        let directory = directory("actors-wrong");
        let path = directory.join("actors.json");
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        for (text, expected) in [
            ("{", "EOF"),
            ("{\"version\":2,\"begun\":\"2026-01-01T00:00:00Z\",\"actors\":[]}", "version is 2"),
            ("[]", "invalid"),
        ] {
            fs::write(&path, text).unwrap();
            let error = read(&path, now, DAY).expect_err(text);
            assert!(error.contains(expected), "{error}");
        }
        // A beginning in the future counts as now.
        fs::write(&path, "{\"version\":1,\"begun\":\"2100-01-01T00:00:00Z\",\"actors\":[]}").unwrap();
        assert_eq!(read(&path, now, DAY).unwrap().begun(), now);
        fs::remove_dir_all(directory).unwrap();
    }
}
