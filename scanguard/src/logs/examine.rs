//! Looks whether the configured logs can be read, without following them: for `doctor` and `check-config`.

use std::{io, os::unix::fs::FileExt as _, path::Path, path::PathBuf};

use jiff::Timestamp;

use super::{lines::Line, lines::Lines, reader::Reader, settings::Settings, unread::UnreadFile};
use crate::whole_file;

/// How many files are looked at.
const MAX_FILES: usize = 256;
/// How many bytes at the end of each.
const MAX_BYTES: u64 = 64 * 1024;

/// What is wrong with the logs that the settings name, one by one. Changes nothing.
pub fn complaints(settings: &Settings, now: Timestamp) -> Vec<String> {
    let reader = Reader::new(settings);
    let paths = settings.files.iter().flat_map(|pattern| {
        if pattern.contains(['*', '?', '[']) {
            let found = glob::glob(pattern).into_iter().flatten().flatten();
            found.filter(|path| path.is_file()).take(MAX_FILES).collect()
        } else {
            vec![PathBuf::from(pattern)]
        }
    });
    let look = |path: PathBuf| match examine(&reader, &path, now) {
        Ok(unread) => unread.map(|unread| unread.to_string()),
        Err(error) => Some(format!("log {}: {error}", path.display())),
    };
    paths.take(MAX_FILES).filter_map(look).collect()
}

fn examine(reader: &Reader, path: &Path, now: Timestamp) -> io::Result<Option<UnreadFile>> {
    let file = whole_file::open(path)?;
    let length = file.metadata()?.len();
    let from = length.saturating_sub(MAX_BYTES);
    let mut bytes = vec![0; usize::try_from(length - from).unwrap_or_default()];
    file.read_exact_at(&mut bytes, from)?;
    // The first line may have begun before.
    let begin =
        if from == 0 { 0 } else { bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1) };
    let mut shape = reader.shape();
    let mut last = None;
    Lines::default().push(bytes.get(begin..).unwrap_or_default(), &mut |line| {
        if let Some(Err(skipped)) = reader.read_line(&mut shape, &line, now) {
            let text = match line {
                Line::Whole(line) => line.to_vec(),
                Line::TooLong => Vec::new(),
            };
            last = Some((skipped, text));
        }
    });
    if let Some((skipped, line)) = last {
        shape.conclude(skipped, &line);
    }
    Ok(shape.unread_piece().map(|unread| UnreadFile { path: path.to_owned(), unread }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_files_of_which_no_line_can_be_read_are_complained_of() {
        let directory = std::env::temp_dir().join(format!("scanguard-examine-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let good = "192.0.2.7 - - [24/Nov/2026:10:22:50 +0000] \"GET / HTTP/1.1\" 200 3\n";
        for (name, text) in [
            ("good.log", format!("nonsense\n{good}")),
            ("long.log", format!("{}{good}", "nonsense\n".repeat(100_000))),
            ("bad.log", "nonsense\n".repeat(3)),
            ("empty.log", String::new()),
        ] {
            fs::write(directory.join(name), text).unwrap();
        }
        let files = ["*.log", "none"].map(|name| directory.join(name).display().to_string()).to_vec();
        let said = complaints(&Settings { files, ..Settings::default() }, Timestamp::now());
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("bad.log: none of the last 3 lines"), "{said:?}");
        assert!(said[1].contains("none: No such file"), "{said:?}");
    }
}
