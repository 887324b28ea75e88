//! Real files that are rotated, truncated, removed and restored.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
};

use super::*;
use crate::{content::Said, logs::skipped::Skipped, metrics::Register};
use jiff::Timestamp;

/// A directory, and the tail that follows the logs in it.
struct Place {
    directory: PathBuf,
    settings: Settings,
    tail: Tail,
    written: u32,
}

const NOTHING: [u32; 0] = [];

static COUNTER: AtomicU32 = AtomicU32::new(0);

impl Place {
    /// Follows files with these names, after `prepare` has made some.
    fn new(files: &[&str], prepare: impl FnOnce(&Path)) -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("scanguard-logs-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        prepare(&directory);
        let settings = Settings {
            files: files.iter().map(|name| directory.join(name).display().to_string()).collect(),
            state: directory.join("state.json"),
            ..Settings::default()
        };
        let tail = start(&settings);
        let mut place = Self { directory, settings, tail, written: 0 };
        // The lines that exist at the first start are skipped.
        assert_eq!(place.heard(), NOTHING);
        sleep(CLOCK_SLACK * 2);
        place
    }

    /// Adds numbered lines to a file, and returns their numbers.
    fn write(&mut self, name: &str, count: u32) -> Vec<u32> {
        let mut file = File::options().append(true).create(true).open(self.directory.join(name)).unwrap();
        let numbers: Vec<_> = (self.written..self.written + count).collect();
        for number in &numbers {
            file.write_all(line(*number).as_bytes()).unwrap();
        }
        self.written += count;
        numbers
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.directory.join(from), self.directory.join(to)).unwrap();
    }

    /// The numbers of the lines that one look has read.
    fn heard(&mut self) -> Vec<u32> {
        let mut heard = numbers(&mut self.tail);
        heard.sort_unstable();
        heard
    }

    /// The agent ends.
    fn stop(&mut self) {
        self.tail.save(Timestamp::now());
    }

    /// And starts again.
    fn start(&mut self) {
        self.tail = start(&self.settings);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn start(settings: &Settings) -> Tail {
    let metrics = LogMetrics::new(&Register::default()).unwrap();
    Tail::new(settings.clone(), Arc::new(metrics))
}

fn line(number: u32) -> String {
    let time = Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
    format!("192.0.2.7 - - [{time}] \"GET /{number} HTTP/1.1\" 404 153 \"-\" \"curl/7.88.1\"\n")
}

fn numbers(tail: &mut Tail) -> Vec<u32> {
    tail.look(Timestamp::now());
    while tail.read(Timestamp::now()) > 0 {}
    let heard = tail.take().into_iter();
    heard
        .map(|said| match said.said {
            Said::Request(request) => request.path[1..].parse().unwrap(),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// A log with an old line.
fn old_log(directory: &Path) {
    fs::write(directory.join("access.log"), line(4_000_000)).unwrap();
}

#[test]
fn what_is_added_is_read_once() {
    let mut place = Place::new(&["access.log"], old_log);
    for count in [1, 100, 0, 3] {
        assert_eq!(place.write("access.log", count), place.heard());
    }
}

#[test]
fn a_line_that_is_half_written_is_read_when_it_is_whole() {
    let mut place = Place::new(&["access.log"], |directory| {
        fs::write(directory.join("access.log"), format!("{}192.0.2.7 - - ", line(9))).unwrap();
    });
    let mut file = File::options().append(true).open(place.directory.join("access.log")).unwrap();
    file.write_all(b"[now] \"GET /7 HTTP/1.1\" 200 3\n192.0.2.7 - - [now] ").unwrap();
    assert_eq!(place.heard(), [7], "the end was within a line at the start");
    assert_eq!(place.heard(), NOTHING);
    place.stop();
    place.start();
    file.write_all(b"\"GET /8 HTTP/1.1\" 200 3\n").unwrap();
    assert_eq!(place.heard(), [8], "and within one at the restart");
}

#[test]
fn the_first_start_may_read_all() {
    let mut place = Place::new(&["access.log"], |_| {});
    let lines = place.write("access.log", 5);
    place.settings.from_start = true;
    place.start();
    assert_eq!(place.heard(), lines);
    place.stop();
    place.start();
    assert_eq!(place.heard(), NOTHING, "but not at the next one");
}

#[test]
fn rotation_by_renaming_loses_nothing_and_reads_nothing_twice() {
    let mut place = Place::new(&["access.log"], old_log);
    let mut written = place.write("access.log", 3);
    place.rename("access.log", "access.log.1");
    // The server writes to the old file until it gets a signal.
    written.extend(place.write("access.log.1", 2));
    let mut heard = place.heard();
    written.extend(place.write("access.log.1", 2));
    written.extend(place.write("access.log", 4));
    heard.extend(place.heard());
    place.rename("access.log.1", "access.log.2");
    place.rename("access.log", "access.log.1");
    written.extend(place.write("access.log.1", 1));
    written.extend(place.write("access.log", 1));
    heard.extend(place.heard());
    assert_eq!(heard, written);
}

#[test]
fn rotation_between_restarts_loses_nothing_and_reads_nothing_twice() {
    let mut place = Place::new(&["access.log"], old_log);
    assert_eq!(place.write("access.log", 3), place.heard());
    place.stop();
    let mut written = place.write("access.log", 3);
    sleep(CLOCK_SLACK * 2);
    place.rename("access.log", "access.log.1");
    written.extend(place.write("access.log", 2));
    place.start();
    assert_eq!(place.heard(), written);
    place.stop();
    place.start();
    assert_eq!(place.heard(), NOTHING);
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let mut place = Place::new(&["access.log"], old_log);
    assert_eq!(place.write("access.log", 3), place.heard());
    place.stop();
    let written = place.write("access.log", 3);
    place.start();
    assert_eq!(place.heard(), written);
    place.stop();
    place.start();
    assert_eq!(place.heard(), NOTHING);
}

#[test]
fn truncation_loses_nothing_that_was_copied() {
    let mut place = Place::new(&["access.log"], old_log);
    for _ in 0..3 {
        assert_eq!(place.write("access.log", 3), place.heard());
        let mut written = place.write("access.log", 2);
        let path = place.directory.join("access.log");
        fs::copy(&path, place.directory.join("access.log.1")).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        // More than before, so that the length does not show it.
        written.extend(place.write("access.log", 20));
        assert_eq!(place.heard(), written);
    }
}

#[test]
fn truncation_between_restarts_is_seen() {
    let mut place = Place::new(&["access.log"], old_log);
    assert_eq!(place.write("access.log", 3), place.heard());
    place.stop();
    let mut written = place.write("access.log", 1);
    let path = place.directory.join("access.log");
    fs::copy(&path, place.directory.join("access.log-20261124")).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    written.extend(place.write("access.log", 20));
    place.start();
    assert_eq!(place.heard(), written);
}

#[test]
fn files_vanish_and_come_back() {
    let mut place = Place::new(&["access.log"], old_log);
    assert_eq!(place.write("access.log", 2), place.heard());
    place.rename("access.log", "hidden");
    assert_eq!(place.heard(), NOTHING);
    place.rename("hidden", "access.log");
    assert_eq!(place.write("access.log", 2), place.heard(), "the same file");
    fs::remove_file(place.directory.join("access.log")).unwrap();
    assert_eq!(place.heard(), NOTHING);
    assert_eq!(place.write("access.log", 2), place.heard(), "a new one");
    let directory = place.directory.clone();
    fs::rename(&directory, directory.with_extension("away")).unwrap();
    assert_eq!(place.heard(), NOTHING);
    fs::rename(directory.with_extension("away"), &directory).unwrap();
    assert_eq!(place.write("access.log", 2), place.heard(), "its whole directory");
}

#[test]
fn a_file_that_left_is_let_go() {
    let mut place = Place::new(&["access.log"], old_log);
    place.rename("access.log", "access.log.1");
    let written = place.write("access.log.1", 1);
    assert_eq!(place.heard(), written);
    let mut last = File::options().append(true).open(place.directory.join("access.log.1")).unwrap();
    last.write_all(b"192.0.2.7 - - [now] \"GET /77 HTTP/1.1\" 200 3").unwrap();
    let heard: Vec<_> = (0..=LEAVING_LOOKS + 1).flat_map(|_| place.heard()).collect();
    assert_eq!(heard, [77], "also its last line, which has no end");
    assert!(place.tail.leaving.is_empty());
}

#[test]
fn links_and_patterns_name_a_file_once() {
    let mut place = Place::new(&["access.log", "current", "*.log*"], |directory| {
        old_log(directory);
        symlink("access.log", directory.join("current")).unwrap();
    });
    assert_eq!(place.write("access.log", 2), place.heard());
    // A pattern that also matches the rotated file.
    place.rename("access.log", "access.log.1");
    let mut written = place.write("access.log.1", 1);
    written.extend(place.write("access.log", 1));
    for _ in 0..=LOOKS_PER_PATTERN {
        let heard = place.heard();
        assert_eq!(heard, written);
        written = Vec::new();
    }
    // A link to another directory.
    let written = place.write("other", 3);
    fs::remove_file(place.directory.join("current")).unwrap();
    symlink("other", place.directory.join("current")).unwrap();
    assert_eq!(place.heard(), written);
}

#[test]
fn a_pattern_finds_files_that_are_made_later() {
    let mut place = Place::new(&["*.log"], |_| {});
    let written = [place.write("a.log", 1), place.write("b.log", 2)].concat();
    let mut heard: Vec<_> = (0..LOOKS_PER_PATTERN).flat_map(|_| place.heard()).collect();
    heard.sort_unstable();
    assert_eq!(heard, written);
}

#[test]
fn of_too_many_files_the_newest_are_followed() {
    const OLD: usize = MAX_FILES + 44;
    let mut place = Place::new(&["*.log", "named"], |directory| {
        for day in 0..OLD {
            let file = File::create(directory.join(format!("{day:04}.log"))).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(86_400 * (OLD - day) as u64)).unwrap();
        }
        let file = File::create(directory.join("named")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    });
    let followed = |place: &Place| place.tail.slots.values().filter(|slot| slot.follower.is_some()).count();
    let written = [place.write(&format!("{:04}.log", OLD - 1), 2), place.write("named", 1)].concat();
    assert_eq!(place.heard(), written);
    assert_eq!(followed(&place), MAX_FILES);
    // The next days, each with its own file; and an older file that is written to again.
    let until_looked_for = |place: &mut Place| -> Vec<u32> {
        let mut heard: Vec<_> = (0..LOOKS_PER_PATTERN).flat_map(|_| place.heard()).collect();
        heard.sort_unstable();
        heard
    };
    for day in OLD..OLD + 3 {
        let written = place.write(&format!("{day:04}.log"), 2);
        assert_eq!(until_looked_for(&mut place), written, "{day}");
        assert_eq!(followed(&place), MAX_FILES);
    }
    let first = format!("{:04}.log", OLD - MAX_FILES + 2);
    let written = place.write(&first, 1);
    assert_eq!(until_looked_for(&mut place), written, "{first}");
}

#[test]
fn a_log_that_cannot_be_read_over_a_start_keeps_its_place() {
    let mut place = Place::new(&["access.log"], old_log);
    assert_eq!(place.write("access.log", 3), place.heard());
    place.stop();
    place.rename("access.log", "hidden");
    let mut written = place.write("hidden", 2);
    place.start();
    assert_eq!(place.heard(), NOTHING);
    place.stop();
    sleep(CLOCK_SLACK * 2);
    place.rename("hidden", "access.log");
    written.extend(place.write("access.log", 1));
    place.start();
    assert_eq!(place.heard(), written);
}

#[test]
fn what_is_no_log_stops_nothing() {
    let mut place = Place::new(&["pipe", "directory", "nowhere", "access.log"], |directory| {
        old_log(directory);
        fs::create_dir(directory.join("directory")).unwrap();
        let pipe = std::ffi::CString::new(directory.join("pipe").as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: the name is a C string that lives until the call is over.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    });
    assert_eq!(place.write("access.log", 2), place.heard());
}

#[test]
fn bad_lines_are_counted_and_the_next_ones_read() {
    let mut place = Place::new(&["access.log"], old_log);
    let mut file = File::options().append(true).open(place.directory.join("access.log")).unwrap();
    file.write_all(&[vec![b'a'; 1 << 20], b"\n\xff\xfe\n\n".to_vec()].concat()).unwrap();
    assert_eq!(place.write("access.log", 2), place.heard());
    let metrics = &place.tail.metrics;
    assert_eq!((metrics.count(Skipped::TooLong), metrics.count(Skipped::Syntax)), (1, 1));
}

#[test]
fn a_flood_in_one_file_does_not_keep_the_others_waiting() {
    let mut place = Place::new(&["a.log", "b.log"], |_| {});
    place.write("a.log", 20_000);
    let written = place.write("b.log", 1);
    place.tail.look(Timestamp::now());
    let read = place.tail.read(Timestamp::now());
    assert!(read <= BATCH_BYTES + READ_BYTES, "{read}");
    let heard = place.tail.take();
    let last = format!("/{}", written[0]);
    assert!(heard.iter().any(|said| matches!(&said.said, Said::Request(request) if request.path == last)));
}

#[test]
fn a_state_file_that_is_broken_or_cannot_be_written_stops_nothing() {
    let mut place = Place::new(&["access.log"], old_log);
    for text in ["", "{}", "{\"version\":2,\"saved\":\"2026-01-01T00:00:00Z\",\"files\":[]}", "\u{0}"] {
        fs::write(&place.settings.state, text).unwrap();
        place.start();
        assert_eq!(place.heard(), NOTHING);
        assert_eq!(place.write("access.log", 2), place.heard(), "{text:?}");
    }
    fs::remove_file(&place.settings.state).unwrap();
    fs::create_dir(&place.settings.state).unwrap();
    place.stop();
    assert_eq!(place.write("access.log", 2), place.heard());
}

#[test]
fn what_the_state_file_says_of_a_log_is_no_text_of_it() {
    let mut place = Place::new(&["access.log"], old_log);
    place.stop();
    let text = fs::read_to_string(&place.settings.state).unwrap();
    assert!(text.contains("access.log") && !text.contains("192.0.2.7") && !text.contains("curl"), "{text}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_counted_until_it_can() {
    let mut place = Place::new(&["bad.log", "good.log"], |_| {});
    let names = place.tail.unread();
    fs::write(place.directory.join("bad.log"), "nonsense\n".repeat(80)).unwrap();
    place.write("good.log", 3);
    assert_eq!(place.heard().len(), 3);
    place.tail.look(Timestamp::now());
    let said: Vec<_> = names.borrow().iter().map(ToString::to_string).collect();
    assert!(said.len() == 1 && said[0].contains("bad.log: none of the last 80 lines"), "{said:?}");
    place.write("bad.log", 1);
    assert_eq!(place.heard().len(), 1);
    place.tail.look(Timestamp::now());
    assert!(names.borrow().is_empty());
}
