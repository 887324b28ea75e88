//! What is shown, and how keys and the agent's answers change it. Pure.

use std::collections::{HashMap, VecDeque};

use ipnet::IpNet;
use ratatui::{crossterm::event::KeyEvent, widgets::TableState};

use super::{
    keys::{Action, Mode, action},
    snapshot::{Order, Snapshot, Tab, Wanted},
};
use crate::{
    cidr::name,
    control::listing::{Findings, Sort, SourceReport, Sources, Status},
    respond::report::{BanReport, Bans, Done, Explanation, OpenFinding},
    words::classes,
};

/// Rates of a source that are kept for its sparkline.
pub(super) const SPARKS: usize = 60;
/// Characters of a filter.
const MAX_FILTER: usize = 60;

/// A page over the list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Page {
    Help,
    /// Of one source.
    Detail(IpNet),
}

/// What is asked before it is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Question {
    /// For how long to ban.
    Ban(IpNet),
    /// Whether to give an order.
    Confirm(Order),
}

/// What the model wants done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    Quit,
    /// The agent is asked now, rather than when it is due.
    Refresh,
    Order(Order),
}

/// A row of a list.
#[derive(Clone, Copy, Debug)]
pub(super) enum Row<'a> {
    Source(&'a SourceReport),
    Finding(&'a OpenFinding),
    Ban(&'a BanReport),
}

impl Row<'_> {
    /// Whom orders are about.
    fn net(&self) -> Option<IpNet> {
        match self {
            Self::Source(source) => Some(source.net),
            Self::Finding(open) => open.source,
            Self::Ban(ban) => Some(ban.net),
        }
    }

    /// What it stays itself by when the list changes.
    fn key(&self) -> String {
        match self {
            Self::Source(source) => name(source.net),
            Self::Finding(open) => open.finding.id.clone(),
            Self::Ban(ban) => name(ban.net),
        }
    }

    /// What the filter looks at.
    fn text(&self) -> String {
        let words = match self {
            Self::Source(source) => vec![
                name(source.net),
                source.rules.join(" "),
                classes(&source.classes),
                source.country.clone().unwrap_or_default(),
                source.network.clone().unwrap_or_default(),
                source.ban.label().to_owned(),
            ],
            Self::Finding(open) => vec![
                open.who(),
                open.finding.rule.clone(),
                open.finding.severity.label().to_owned(),
                open.country.clone().unwrap_or_default(),
                open.finding.reason.clone(),
            ],
            Self::Ban(ban) => vec![
                name(ban.net),
                ban.response.label().to_owned(),
                ban.origin.label().to_owned(),
                ban.reason.clone(),
            ],
        };
        words.join(" ").to_lowercase()
    }
}

/// Packets and probes a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Traffic {
    pub(super) packets: f64,
    pub(super) probes: f64,
}

/// All that is shown.
pub(super) struct Model {
    pub(super) colour: bool,
    pub(super) tab: Tab,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) page: Option<Page>,
    /// Lines of the page that are above the screen.
    pub(super) scroll: u16,
    pub(super) question: Option<Question>,
    /// What the agent said to an order.
    pub(super) message: Option<String>,
    /// Why it does not answer.
    pub(super) error: Option<String>,
    pub(super) status: Option<Status>,
    pub(super) sources: Option<Sources>,
    pub(super) findings: Option<Findings>,
    pub(super) bans: Option<Bans>,
    pub(super) detail: Option<Explanation>,
    pub(super) traffic: Option<Traffic>,
    /// Of the sources that are listed, the newest rate last.
    rates: HashMap<IpNet, VecDeque<f64>>,
    /// What is selected, by its key.
    selected: Option<String>,
    pub(super) table: TableState,
    /// What was asked for last.
    answered: Option<Wanted>,
}

impl Model {
    /// Nothing known yet.
    pub(super) fn new(colour: bool) -> Self {
        Self {
            colour,
            tab: Tab::Sources,
            sort: Sort::default(),
            filter: String::new(),
            typing: false,
            paused: false,
            page: None,
            scroll: 0,
            question: None,
            message: None,
            error: None,
            status: None,
            sources: None,
            findings: None,
            bans: None,
            detail: None,
            traffic: None,
            rates: HashMap::new(),
            selected: None,
            table: TableState::default(),
            answered: None,
        }
    }

    /// What the agent is to be asked.
    pub(super) fn wanted(&self) -> Wanted {
        let detail = match self.page {
            Some(Page::Detail(net)) => Some(net.addr()),
            Some(Page::Help) | None => None,
        };
        Wanted { tab: self.tab, sort: self.sort, detail }
    }

    /// Whether something else was wanted when the agent was asked.
    pub(super) fn stale(&self) -> bool {
        self.answered != Some(self.wanted())
    }

    /// Takes what the agent said. A paused list stays as it is; a detail that was opened meanwhile comes.
    pub(super) fn take(&mut self, snapshot: Snapshot) {
        let Snapshot { wanted, status, sources, findings, bans, detail } = snapshot;
        self.error = None;
        self.answered = Some(wanted);
        // Another source's may be open by now.
        if detail.is_some() && wanted.detail == self.wanted().detail {
            self.detail = detail;
        }
        if findings.is_some() && (!self.paused || self.findings.is_none()) {
            self.findings = findings;
        }
        if bans.is_some() && (!self.paused || self.bans.is_none()) {
            self.bans = bans;
        }
        if !self.paused {
            self.count(&sources);
            self.status = Some(status);
            if wanted.tab == Tab::Sources {
                self.note_rates(&sources);
            }
            // Of another tab it has the totals alone.
            if wanted.tab == Tab::Sources || self.sources.is_none() {
                self.sources = Some(sources);
            } else if let Some(listed) = &mut self.sources {
                *listed = Sources { sources: std::mem::take(&mut listed.sources), ..sources };
            }
        }
        self.select();
    }

    /// What came between this look and the one before. The agent reads its counters at its own times.
    fn count(&mut self, now: &Sources) {
        let Some(before) = &self.sources else {
            return;
        };
        let seconds = now.polled.duration_since(before.polled).as_secs_f64();
        if seconds > 0.0 {
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            self.traffic = Some(Traffic {
                packets: rate(now.packets, before.packets),
                probes: rate(now.probes, before.probes),
            });
        }
    }

    fn note_rates(&mut self, sources: &Sources) {
        let mut before = std::mem::take(&mut self.rates);
        for source in &sources.sources {
            let mut rates = before.remove(&source.net).unwrap_or_default();
            if rates.len() == SPARKS {
                rates.pop_front();
            }
            rates.push_back(source.per_second);
            self.rates.insert(source.net, rates);
        }
    }

    /// The last rates of a source, the newest last.
    pub(super) fn rates(&self, net: IpNet) -> impl DoubleEndedIterator<Item = f64> {
        self.rates.get(&net).into_iter().flatten().copied()
    }

    /// The agent does not answer; what was known stays.
    pub(super) fn fail(&mut self, error: &anyhow::Error) {
        self.error = Some(format!("{error:#}"));
    }

    /// What came of an order.
    pub(super) fn said(&mut self, said: anyhow::Result<Done>) {
        self.message = Some(match said {
            Ok(done) => [&[done.said], done.notes.as_slice()].concat().join("; "),
            Err(error) => format!("not done: {error:#}"),
        });
    }

    /// The rows of the list that the filter lets through; none: the agent has not said yet.
    pub(super) fn rows(&self) -> Option<Vec<Row<'_>>> {
        let mut rows: Vec<_> = match self.tab {
            Tab::Sources => self.sources.as_ref()?.sources.iter().map(Row::Source).collect(),
            Tab::Findings => self.findings.as_ref()?.findings.iter().map(Row::Finding).collect(),
            Tab::Bans => self.bans.as_ref()?.bans.iter().map(Row::Ban).collect(),
        };
        if !self.filter.is_empty() {
            let filter = self.filter.to_lowercase();
            rows.retain(|row| row.text().contains(&filter));
        }
        Some(rows)
    }

    /// Finds the selected row again, or else selects the one in its place.
    fn select(&mut self) {
        let keys: Vec<_> = self.rows().unwrap_or_default().iter().map(Row::key).collect();
        let place = keys.iter().position(|key| Some(key) == self.selected.as_ref());
        let place = place.or(self.table.selected()).unwrap_or(0);
        self.select_place(&keys, place);
    }

    fn select_place(&mut self, keys: &[String], place: usize) {
        let place = place.min(keys.len().saturating_sub(1));
        self.selected = keys.get(place).cloned();
        self.table.select(self.selected.as_ref().map(|_| place));
    }

    fn go(&mut self, to: impl Fn(usize) -> usize) {
        let keys: Vec<_> = self.rows().unwrap_or_default().iter().map(Row::key).collect();
        let place = to(self.table.selected().unwrap_or(0));
        self.select_place(&keys, place);
    }

    fn show(&mut self, tab: Tab) -> Option<Effect> {
        if tab == self.tab {
            return None;
        }
        self.tab = tab;
        self.table = TableState::default();
        self.selected = None;
        self.select();
        Some(Effect::Refresh)
    }

    /// Whom an order would be about: the source whose detail is open, whatever the list does behind it, or the one that
    /// is selected.
    fn subject(&self) -> Option<IpNet> {
        match self.page {
            Some(Page::Detail(net)) => Some(net),
            Some(Page::Help) => None,
            None => self.rows()?.get(self.table.selected()?)?.net(),
        }
    }

    fn mode(&self) -> Mode {
        match (&self.question, self.typing, &self.page) {
            (Some(Question::Ban(_)), ..) => Mode::ConfirmBan,
            (Some(Question::Confirm(_)), ..) => Mode::Confirm,
            (None, true, _) => Mode::Filter,
            (None, false, Some(_)) => Mode::Page,
            (None, false, None) => Mode::List,
        }
    }

    /// A key was pressed; what is to be done for it.
    pub(super) fn press(&mut self, key: KeyEvent) -> Option<Effect> {
        let action = action(self.mode(), key)?;
        self.message = None;
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::Tab(number) => return self.show(Tab::ALL[number]),
            Action::NextTab => return self.show(self.tab.beside(1)),
            Action::PreviousTab => return self.show(self.tab.beside(Tab::ALL.len() - 1)),
            Action::Move(rows) if self.page.is_some() => {
                let rows = i16::try_from(rows).unwrap_or_default();
                self.scroll = self.scroll.saturating_add_signed(rows);
            }
            Action::First if self.page.is_some() => self.scroll = 0,
            Action::Last if self.page.is_some() => self.scroll = u16::MAX,
            Action::Move(rows) => self.go(|place| place.saturating_add_signed(rows)),
            Action::First => self.go(|_| 0),
            Action::Last => self.go(|_| usize::MAX),
            Action::Sort if self.tab != Tab::Sources => {
                self.message = Some("only sources (1) are sorted".to_owned());
            }
            Action::Sort => {
                self.sort = self.sort.next();
                return Some(Effect::Refresh);
            }
            Action::Filter => self.typing = true,
            Action::Type(letter) => {
                if self.filter.chars().count() < MAX_FILTER {
                    self.filter.push(letter);
                }
                self.select();
            }
            Action::Erase => {
                self.filter.pop();
                self.select();
            }
            Action::Accept => self.typing = false,
            Action::Pause => {
                self.paused = !self.paused;
                return (!self.paused).then_some(Effect::Refresh);
            }
            Action::Help => self.open(Page::Help),
            Action::Detail => {
                let net = self.subject()?;
                self.detail = None;
                self.open(Page::Detail(net));
                return Some(Effect::Refresh);
            }
            Action::Ban => self.question = self.subject().map(Question::Ban),
            Action::Unban => self.ask(Order::Unban),
            Action::Allow => self.ask(Order::Allow),
            Action::BanFor(lasts) => {
                return match self.question.take() {
                    Some(Question::Ban(net)) => Some(Effect::Order(Order::Ban(net, lasts))),
                    Some(Question::Confirm(_)) | None => None,
                };
            }
            Action::Yes => {
                return match self.question.take() {
                    Some(Question::Confirm(order)) => Some(Effect::Order(order)),
                    Some(Question::Ban(_)) | None => None,
                };
            }
            Action::Back => self.back(),
        }
        None
    }

    fn open(&mut self, page: Page) {
        self.page = Some(page);
        self.scroll = 0;
    }

    fn ask(&mut self, order: impl Fn(IpNet) -> Order) {
        self.question = self.subject().map(|net| Question::Confirm(order(net)));
    }

    /// Closes what is open: a question, the filter, a page.
    fn back(&mut self) {
        if self.question.take().is_some() {
            return;
        }
        if self.page.take().is_none() {
            self.typing = false;
            self.filter.clear();
            self.select();
        }
    }
}

#[cfg(test)]
mod tests;
