//! The state file. It keeps bans, the networks allowed by hand, and the mode over a restart of the agent.

use std::{
    io,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Mode, ModeCause, cause::Origin};
use crate::{sensor::gate::Extent, whole_file};

/// The version of the file's format.
const VERSION: u32 = 1;
/// 60,000 bans with long reasons are 40 MiB.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// The suffix of a file that could not be read.
pub const UNREADABLE: &str = "unreadable";

/// The content of the file. Ends are wall-clock times, so that bans also end while the host is off.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    version: u32,
    /// When it was written.
    pub saved: Timestamp,
    /// The mode in force.
    pub mode: SavedMode,
    /// Bans and shields.
    pub bans: Vec<SavedBan>,
    /// Past bans, which make the next one longer.
    pub past: Vec<SavedPast>,
    /// The networks that were allowed by hand.
    pub allowed: Vec<IpNet>,
}

/// The mode.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SavedMode {
    /// In force.
    pub mode: Mode,
    /// The cause of the mode.
    pub cause: ModeCause,
    /// Since when.
    pub since: Timestamp,
    /// The value of `response.mode` at that time. If it differs by now, the configured mode holds.
    pub configured: Mode,
}

/// A ban or shield.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SavedBan {
    /// The network.
    pub net: IpNet,
    /// Which of the two. Not written of bans, so that an agent from before there were shields reads a file without any.
    #[serde(default, skip_serializing_if = "is_ban")]
    pub extent: Extent,
    /// The origin of the ban.
    pub origin: Origin,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// When it ends; none: when it is taken back.
    pub ends: Option<Timestamp>,
    /// See [`super::ban_table::Ban::level`].
    pub level: u32,
    /// See [`super::ban_table::Ban::dry`].
    pub dry: bool,
}

fn is_ban(extent: &Extent) -> bool {
    *extent == Extent::Full
}

/// A past ban.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPast {
    /// The network.
    pub net: IpNet,
    /// See [`super::ban_table::Past::level`].
    pub level: u32,
    /// When it ended.
    pub ended: Timestamp,
    /// See [`super::ban_table::Past::dry`].
    pub dry: bool,
}

impl State {
    /// Nothing but the mode.
    pub fn new(saved: Timestamp, mode: SavedMode) -> Self {
        Self { version: VERSION, saved, mode, bans: Vec::new(), past: Vec::new(), allowed: Vec::new() }
    }

    /// From what a file holds.
    ///
    /// # Errors
    /// The fault of the file.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice::<Self>(bytes) {
            Ok(state) if state.version == VERSION => Ok(state),
            Ok(state) => Err(format!("its version is {}, not {VERSION}", state.version)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// The result of reading the file.
#[derive(Debug)]
pub enum Loaded {
    /// A file that can be used.
    State(Box<State>),
    /// No file.
    Nothing,
    /// A file that cannot be used. It was moved aside.
    Corrupt {
        /// The fault of the file.
        why: String,
        /// Its new path; none if it could not be moved.
        moved: Option<PathBuf>,
    },
    /// A file that could not be read. It was moved aside too, since its content may still be of use.
    Unreadable {
        /// Why not.
        error: io::Error,
        /// Its new path, or why it could not be moved.
        moved: io::Result<PathBuf>,
    },
}

/// Reads the file. One that is corrupt is moved aside, to `NAME.corrupt-TIME`, one that cannot be read to
/// `NAME.unreadable-TIME`.
pub fn load(path: &Path, now: Timestamp) -> Loaded {
    match read(path) {
        Ok(Some(Ok(state))) => Loaded::State(Box::new(state)),
        Ok(None) => Loaded::Nothing,
        Ok(Some(Err(why))) => {
            Loaded::Corrupt { why, moved: whole_file::move_aside(path, "corrupt", now).ok() }
        }
        Err(error) => Loaded::Unreadable { error, moved: whole_file::move_aside(path, UNREADABLE, now) },
    }
}

fn read(path: &Path) -> io::Result<Option<Result<State, String>>> {
    match whole_file::read_if_there(path, MAX_FILE_BYTES) {
        Ok(bytes) => Ok(bytes.map(|bytes| State::parse(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(Some(Err(error.to_string()))),
        Err(error) => Err(error),
    }
}

/// Writes the file, whole or not at all, even if the power fails.
///
/// # Errors
/// It could not be written; the previous file is unchanged.
pub fn save(path: &Path, state: &State) -> io::Result<()> {
    whole_file::replace(path, &serde_json::to_vec(state).map_err(io::Error::from)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("scanguard-state-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let mut names: Vec<_> = fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn state() -> State {
        let epoch = Timestamp::UNIX_EPOCH;
        let cause = ModeCause::Hand { uid: 7 };
        let mode = SavedMode { mode: Mode::Enforce, cause, since: epoch, configured: Mode::Observe };
        let mut state = State::new(epoch, mode);
        state.bans.push(SavedBan {
            net: "192.0.2.7/32".parse().unwrap(),
            extent: Extent::Full,
            origin: Origin::Rule { rule: "vertical_scan".to_owned(), finding: "1-0".to_owned() },
            reason: "40 syn probes".to_owned(),
            since: epoch,
            ends: Some(epoch),
            level: 1,
            dry: false,
        });
        state.past.push(SavedPast {
            net: "2001:db8::/64".parse().unwrap(),
            level: 0,
            ended: epoch,
            dry: true,
        });
        state.allowed.push("198.51.100.0/24".parse().unwrap());
        state
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_left() {
        let directory = Directory::new("round");
        let path = directory.0.join("deep/er/state.json");
        assert!(matches!(load(&path, Timestamp::UNIX_EPOCH), Loaded::Nothing));
        for _ in 0..2 {
            save(&path, &state()).unwrap();
        }
        match load(&path, Timestamp::UNIX_EPOCH) {
            Loaded::State(read) => assert_eq!(*read, state()),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_from_before_there_were_shields_has_bans_only_and_one_with_shields_keeps_them() {
        let mut state = state();
        let text = serde_json::to_string(&state).unwrap();
        assert!(!text.contains("extent"), "{text}");
        assert_eq!(State::parse(text.as_bytes()).unwrap(), state);
        state.bans[0].extent = Extent::Shield;
        let text = serde_json::to_string(&state).unwrap();
        assert!(text.contains("\"extent\":\"shield\""), "{text}");
        assert_eq!(State::parse(text.as_bytes()).unwrap(), state);
    }

    #[test]
    fn a_corrupt_file_is_moved_aside() {
        let directory = Directory::new("corrupt");
        let path = directory.0.join("state.json");
        let whole = serde_json::to_string(&state()).unwrap();
        let newer = whole.replace("\"version\":1", "\"version\":2");
        let cut = &whole[..whole.len() / 2];
        for (second, text) in ["", "{}", cut, &newer, "\u{0}\u{0}"].into_iter().enumerate() {
            fs::write(&path, text).unwrap();
            let now = Timestamp::from_second(i64::try_from(second).unwrap()).unwrap();
            match load(&path, now) {
                Loaded::Corrupt { moved: Some(moved), .. } => {
                    assert_eq!(fs::read_to_string(moved).unwrap(), text);
                }
                other => panic!("{text:?}: {other:?}"),
            }
            assert!(matches!(load(&path, now), Loaded::Nothing));
        }
        assert_eq!(directory.names()[0], "state.json.corrupt-19700101T000000Z");
        assert_eq!(directory.names().len(), 5);
    }

    #[test]
    fn what_cannot_be_read_or_written_is_said() {
        let directory = Directory::new("unreadable");
        let unreadable = directory.0.join("state.json");
        fs::create_dir(&unreadable).unwrap();
        match load(&unreadable, Timestamp::UNIX_EPOCH) {
            Loaded::Unreadable { moved: Ok(moved), .. } => {
                assert!(moved.ends_with("state.json.unreadable-19700101T000000Z") && moved.exists());
            }
            other => panic!("{other:?}"),
        }
        let path = directory.0.join("file/state.json");
        fs::write(directory.0.join("file"), "no directory").unwrap();
        assert!(save(&path, &state()).is_err());
    }
}
