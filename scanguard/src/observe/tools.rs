//! Which tool made a SYN: the list of fingerprints of scanners' SYNs, and what of a source's SYNs is on it.
//!
//! The list is `deploy/lists/scanner-syns.txt`, or the file that `[fingerprints] syn` names. The kernel keeps the
//! fingerprints of a source ([`scanguard_common::syn`]), and they are compared with the list here. Everything in a SYN
//! is the sender's choice: a match names the tool that a SYN looks like.

use std::{
    collections::{BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::{Arc, LazyLock},
};

use scanguard_common::{
    account::SourceState,
    syn::{Fingerprint, MAX_KINDS, Mark, OTHER_KIND, SLOTS},
};

use super::activity::Crafted;
use crate::{
    settings::Section,
    text_list::{ListError, entries, read_one},
};

/// The built-in list.
pub const BUILT_IN: &str = include_str!("../../../deploy/lists/scanner-syns.txt");

/// How many names of tools a list may have: each has a bit.
const MAX_TOOLS: usize = 64;

/// `[fingerprints]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The list in use, so that a configuration is complete once it was read.
    pub syn: Arc<SynTools>,
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let mut settings = Self::default();
        read_one(&mut section, "syn", &mut settings.syn, SynTools::parse);
        section.finish();
        settings
    }
}

/// Fingerprints of SYNs that scanners send, with the names of their tools.
#[derive(Clone, Debug, PartialEq)]
pub struct SynTools {
    entries: Vec<Entry>,
    /// Entries with a single window, by this window.
    by_window: HashMap<u16, Vec<usize>>,
    /// The others.
    of_any_window: Vec<usize>,
    /// The names, by their bits. An empty place belongs to no tool.
    names: Vec<Arc<str>>,
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    pattern: Pattern,
    /// The place of the name.
    tool: usize,
}

/// What the SYNs of a tool have.
#[derive(Clone, Debug, PartialEq)]
struct Pattern {
    window: RangeInclusive<u16>,
    /// As [`Fingerprint::layout`], unless any will do.
    layout: Option<u64>,
    mss: RangeInclusive<u16>,
    scale: RangeInclusive<u16>,
    /// Marks that there are.
    with: u64,
    /// Marks that there are not.
    without: u64,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let ja4t = parts.next().unwrap_or_default();
        let fields: Vec<_> = ja4t.split('_').collect();
        let [window, kinds, mss, scale] = fields.as_slice() else {
            return Err(format!("{ja4t:?} is no JA4T fingerprint such as 1024_2_1460_00"));
        };
        let mut pattern = Self {
            window: range(window)?,
            layout: if *kinds == "*" { None } else { Some(layout(kinds)?) },
            mss: range(mss)?,
            scale: range(scale)?,
            with: 0,
            without: 0,
        };
        for part in parts {
            let (label, set) = match part.strip_prefix('!') {
                Some(label) => (label, &mut pattern.without),
                None => (part, &mut pattern.with),
            };
            *set |= Mark::from_label(label).ok_or_else(|| unknown_mark(label))?.bit();
        }
        if pattern.layout.is_none() && pattern.window == (0..=u16::MAX) && pattern.with == 0 {
            return Err(format!("{text:?} is what every client sends"));
        }
        Ok(pattern)
    }

    fn matches(&self, fingerprint: Fingerprint) -> bool {
        let marks = fingerprint.marks();
        marks & self.with == self.with
            && marks & self.without == 0
            && self.layout.is_none_or(|layout| layout == fingerprint.layout)
            && self.window.contains(&fingerprint.window())
            && self.mss.contains(&fingerprint.mss())
            && self.scale.contains(&fingerprint.scale().into())
    }
}

fn unknown_mark(label: &str) -> String {
    let all: Vec<_> = Mark::ALL.into_iter().map(Mark::label).collect();
    format!("{label:?} is no mark; there are {}", all.join(" "))
}

/// A number, two numbers with a hyphen between them, or `*`.
fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number from 0 to 65535"));
    match text.split_once('-') {
        _ if text == "*" => Ok(0..=u16::MAX),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            if first > last { Err(format!("{text:?}: {first} is above {last}")) } else { Ok(first..=last) }
        }
        None => number(text).map(|only| only..=only),
    }
}

/// The kinds of options with hyphens between them; `00` if there are none.
fn layout(text: &str) -> Result<u64, String> {
    if text == "00" {
        return Ok(Fingerprint::layout_of(std::iter::empty()));
    }
    let kinds: Result<Vec<u8>, _> = text.split('-').map(str::parse).collect();
    let kinds = kinds.map_err(|_| format!("{text:?} are no kinds of options such as 2-4-8-1-3"))?;
    if kinds.len() > MAX_KINDS {
        return Err(format!("{} kinds of options: {MAX_KINDS} are possible", kinds.len()));
    }
    Ok(Fingerprint::layout_of(kinds.into_iter()))
}

/// A fingerprint as JA4T writes it, with its marks as the list writes them.
pub fn in_words(fingerprint: Fingerprint) -> String {
    let kinds: Vec<_> = fingerprint.kinds().collect();
    let or_none = |is_there: bool, number: u16| if is_there { number.to_string() } else { "00".to_owned() };
    let name = |kind: &u8| if *kind == OTHER_KIND { "31+".to_owned() } else { kind.to_string() };
    let mut words = format!(
        "{}_{}_{}_{}",
        fingerprint.window(),
        if kinds.is_empty() { "00".to_owned() } else { kinds.iter().map(name).collect::<Vec<_>>().join("-") },
        or_none(fingerprint.mss() != 0, fingerprint.mss()),
        or_none(kinds.contains(&3), fingerprint.scale().into()),
    );
    for mark in Mark::ALL.into_iter().filter(|mark| fingerprint.marks() & mark.bit() != 0) {
        words.push(',');
        words.push_str(mark.label());
    }
    words
}

/// The built-in list. A test checks that it has no errors.
static DEFAULT: LazyLock<SynTools> =
    LazyLock::new(|| SynTools::parse(BUILT_IN).unwrap_or_else(|_| SynTools::of(Vec::new(), Vec::new())));

impl Default for SynTools {
    fn default() -> Self {
        DEFAULT.clone()
    }
}

impl SynTools {
    fn of(entries: Vec<Entry>, names: Vec<Arc<str>>) -> Self {
        let (mut by_window, mut of_any_window) = (HashMap::<_, Vec<_>>::new(), Vec::new());
        for (place, Entry { pattern, .. }) in entries.iter().enumerate() {
            let (first, last) = (*pattern.window.start(), *pattern.window.end());
            if first == last {
                by_window.entry(first).or_default().push(place);
            } else {
                of_any_window.push(place);
            }
        }
        Self { entries, by_window, of_any_window, names }
    }

    /// Reads a list: each line is a fingerprint and the name of its tool. An empty list is possible: it names nothing.
    ///
    /// # Errors
    /// All wrong lines, or more than 64 names.
    pub fn parse(text: &str) -> Result<Self, ListError> {
        let lines = entries(text, |line| {
            let (pattern, tool) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let pattern = Pattern::parse(pattern)?;
            let tool = tool.trim();
            if tool.is_empty() {
                return Err(format!("{line}: the name of its tool has to follow it"));
            }
            Ok((pattern, tool))
        });
        let lines = match lines {
            Err(ListError::Empty) => Vec::new(),
            lines => lines?,
        };
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut entries = Vec::new();
        for (pattern, name) in lines {
            let place = names.iter().position(|one| **one == *name);
            let tool = place.unwrap_or(names.len());
            if place.is_none() {
                names.push(name.into());
            }
            entries.push(Entry { pattern, tool });
        }
        if names.len() > MAX_TOOLS {
            return Err(ListError::TooMany);
        }
        Ok(Self::of(entries, names))
    }

    /// The same list, in which each name that `before` has, too, has the bit that it has there: activity of the time
    /// before keeps its meaning. Where there are not enough bits, names that are in this list no more give theirs up.
    #[must_use]
    pub fn after(&self, before: &Self) -> Self {
        let ours: BTreeSet<&Arc<str>> = self.names.iter().filter(|name| !name.is_empty()).collect();
        let mut names = before.names.clone();
        let missing: Vec<_> = ours.iter().filter(|name| !names.contains(name)).copied().cloned().collect();
        let mut gone: Vec<_> = (0..names.len()).filter(|place| !ours.contains(&names[*place])).collect();
        for name in missing {
            match gone.pop() {
                Some(place) if names.len() >= MAX_TOOLS => names[place] = name,
                _ => names.push(name),
            }
        }
        let place = |name: &Arc<str>| names.iter().position(|one| one == name).unwrap_or_default();
        let entries =
            self.entries.iter().map(|entry| Entry { tool: place(&self.names[entry.tool]), ..entry.clone() });
        Self::of(entries.collect(), names)
    }

    /// The tool whose SYNs look like this, as its bit. The first of several entries decides.
    fn tool(&self, fingerprint: Fingerprint) -> Option<u64> {
        if fingerprint.is_none() {
            return None;
        }
        let of_window = self.by_window.get(&fingerprint.window()).map_or(&[][..], Vec::as_slice);
        let places = of_window.iter().chain(&self.of_any_window);
        let matching = places.filter(|place| self.entries[**place].pattern.matches(fingerprint));
        matching.min().map(|place| 1 << self.entries[*place].tool)
    }

    /// The names of these tools.
    pub fn names(&self, tools: u64) -> Vec<Arc<str>> {
        let named = self.names.iter().enumerate().filter(|(place, _)| tools >> place & 1 != 0);
        named.map(|(_, name)| Arc::clone(name)).collect()
    }

    /// A fingerprint that looks like those of this tool.
    #[cfg(test)]
    pub(crate) fn name_of(&self, fingerprint: Fingerprint) -> Option<Arc<str>> {
        self.names(self.tool(fingerprint)?).pop()
    }
}

/// The last reading of one slot of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
    fingerprint: Fingerprint,
    syns: u32,
    missed: u32,
}

/// The last reading of the fingerprints of a source, as far as they are on the list. Ordinary clients have none and
/// take no memory.
#[derive(Clone, Debug, Default)]
pub(super) struct LastRead(Option<Box<[Reading; SLOTS]>>);

impl LastRead {
    /// What is new in the fingerprints of a source, of which so many SYNs are new.
    pub(super) fn news(&mut self, state: &SourceState, list: &SynTools, new_syns: u32) -> Crafted {
        let mut now = [Reading::default(); SLOTS];
        let mut crafted = Crafted::NONE;
        for (place, slot) in state.fingerprints.iter().enumerate() {
            let fingerprint = slot.fingerprint();
            let Some(tool) = list.tool(fingerprint) else {
                continue;
            };
            let (syns, missed) = (slot.syns, slot.missed);
            now[place] = Reading { fingerprint, syns, missed };
            let before = self.0.as_ref().map(|before| before[place]);
            // A fingerprint that went and came back counts from 1 again.
            let goes_on = |before: &Reading| {
                before.fingerprint == fingerprint && before.syns <= syns && before.missed <= missed
            };
            let before = before.filter(goes_on).unwrap_or_default();
            let (syns, missed) = (syns - before.syns, missed - before.missed);
            crafted.syns = crafted.syns.saturating_add(syns);
            crafted.missed = crafted.missed.saturating_add(missed);
            // One forged SYN among many names no tool.
            if syns > 0 && syns >= new_syns / 4 {
                crafted.tools |= tool;
            }
        }
        let is_any = now.iter().any(|reading| !reading.fingerprint.is_none());
        self.0 = is_any.then(|| Box::new(now));
        // Of what was counted before the agent knew the source, or the list, only so much can be new.
        crafted.syns = crafted.syns.min(new_syns);
        crafted.missed = crafted.missed.min(crafted.syns);
        crafted
    }
}

#[cfg(test)]
mod tests;
