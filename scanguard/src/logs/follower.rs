//! One log file: reads new bytes, and sees when the file is no longer the same.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    lines::{Line, Lines},
    shape::Shape,
    state::{HEAD_BYTES, Head, Id, Position},
};
use crate::whole_file;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Start {
    /// At its first line.
    Beginning,
    /// At the line that is being written now.
    End,
    /// At this position.
    At(u64),
}

/// An open file.
#[derive(Debug)]
pub(super) struct Follower {
    /// Its path, or its present path if it was renamed.
    pub(super) path: PathBuf,
    pub(super) id: Id,
    /// The shape of its lines.
    pub(super) shape: Shape,
    /// How many looks in a row found nothing new.
    pub(super) quiet: u32,
    file: File,
    /// Position of the next byte to read.
    offset: u64,
    /// Its length at the last look.
    length: u64,
    head: Head,
    lines: Lines,
}

impl Follower {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened or read, or it is no regular file.
    pub(super) fn open(path: &Path, start: Start, shape: Shape) -> io::Result<Self> {
        let file = whole_file::open(path)?;
        let metadata = file.metadata()?;
        let length = metadata.len();
        let offset = match start {
            Start::Beginning => 0,
            Start::End => line_start(&file, length)?,
            Start::At(offset) => offset,
        };
        let head = Head::of(&first_bytes(&file)?);
        let (id, lines) = (Id::of(&metadata), Lines::default());
        Ok(Self { path: path.to_owned(), id, shape, quiet: 0, file, offset, length, head, lines })
    }

    /// Looks at the file again. Returns whether it is still the same, and not truncated and written anew.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn is_same(&mut self) -> io::Result<bool> {
        let length = self.file.metadata()?.len();
        if length == self.length && length >= self.offset {
            return Ok(true);
        }
        self.length = length;
        let first = first_bytes(&self.file)?;
        let same = length >= self.offset && self.head.is_of(&first);
        if same {
            self.head = Head::of(&first);
        }
        Ok(same)
    }

    /// Reads new bytes, at most a buffer full. Returns how many there were.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(
        &mut self,
        buffer: &mut [u8],
        hand: &mut dyn FnMut(&mut Shape, Line<'_>),
    ) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        let shape = &mut self.shape;
        self.lines.push(&buffer[..read], &mut |line| hand(shape, line));
        Ok(read)
    }

    /// Passes on the last line if it has no end: no more bytes will come.
    pub(super) fn finish(&mut self, hand: &mut dyn FnMut(&mut Shape, Line<'_>)) {
        let shape = &mut self.shape;
        self.lines.end(&mut |line| hand(shape, line));
    }

    /// How many bytes were not read yet.
    pub(super) fn behind(&self) -> u64 {
        self.length.saturating_sub(self.offset)
    }

    /// How far it was read: to the end of the last whole line.
    pub(super) fn position(&self) -> Position {
        let offset = self.offset - self.lines.pending();
        Position { path: self.path.clone(), id: self.id, offset, head: self.head }
    }
}

/// Where the unfinished line begins. The search stops at the length that a line may have.
fn line_start(file: &File, length: u64) -> io::Result<u64> {
    let mut last = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(super::lines::MAX_LINE)];
    let from = length - last.len() as u64;
    file.read_exact_at(&mut last, from)?;
    Ok(match last.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => from + end as u64 + 1,
        None => length,
    })
}

fn first_bytes(file: &File) -> io::Result<Vec<u8>> {
    let mut first = vec![0; HEAD_BYTES.into()];
    let read = file.read_at(&mut first, 0)?;
    first.truncate(read);
    Ok(first)
}

/// The file of a position, which may have another name in the same directory by now. It is the same file, or a copy
/// that was made before the file was truncated.
pub(super) fn find(position: &Position, shape: &Shape) -> Option<Follower> {
    /// How many entries of a directory the search looks at.
    const MOST: usize = 10_000;
    let (directory, stem) = (position.path.parent()?, position.path.file_stem()?.as_encoded_bytes());
    let entries = directory.read_dir().ok()?.take(MOST).flatten();
    let named = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(stem));
    let fits = |path: &PathBuf| {
        let metadata = path.metadata().ok()?;
        let is_file = metadata.is_file() && metadata.len() >= position.offset;
        let same = Id::of(&metadata).may_be(position.id);
        // Nothing identifies a copy of an empty file.
        is_file.then_some(same).filter(|same| *same || position.head.bytes > 0)
    };
    let mut candidates: Vec<_> =
        named.map(|entry| entry.path()).filter_map(|path| fits(&path).map(|same| (!same, path))).collect();
    candidates.sort();
    candidates.into_iter().find_map(|(_, path)| resume(&path, position, shape))
}

/// Opens a file at a known position, if it still begins with the same bytes.
pub(super) fn resume(path: &Path, position: &Position, shape: &Shape) -> Option<Follower> {
    let follower = Follower::open(path, Start::At(position.offset), shape.clone()).ok()?;
    let first = first_bytes(&follower.file).ok()?;
    (follower.length >= position.offset && position.head.is_of(&first)).then_some(follower)
}
