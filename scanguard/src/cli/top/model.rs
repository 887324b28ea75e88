//! The state of the screen, and how keys and the agent's answers change it. Pure.

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

/// How many rates of a source are kept for its sparkline.
pub(super) const SPARKS: usize = 60;
/// Most characters in a filter.
const MAX_FILTER: usize = 60;

/// A page over the list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Page {
    Help,
    /// Details of one source.
    Detail(IpNet),
}

/// A question before an action.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Question {
    /// For how long to ban.
    Ban(IpNet),
    /// Whether to send an order.
    Confirm(Order),
}

/// The effect that the model requests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    Quit,
    /// Ask the agent now, instead of at the next interval.
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
    /// The address or network that orders apply to.
    fn net(&self) -> Option<IpNet> {
        match self {
            Self::Source(source) => Some(source.net),
            Self::Finding(open) => open.source,
            Self::Ban(ban) => Some(ban.net),
        }
    }

    /// The key that identifies a row when the list changes.
    fn key(&self) -> String {
        match self {
            Self::Source(source) => name(source.net),
            Self::Finding(open) => open.finding.id.clone(),
            Self::Ban(ban) => name(ban.net),
        }
    }

    /// The text that the filter searches.
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

/// Packets and probes per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Traffic {
    pub(super) packets: f64,
    pub(super) probes: f64,
}

/// The state of the screen.
pub(super) struct Model {
    pub(super) colour: bool,
    pub(super) tab: Tab,
    pub(super) sort: Sort,
    pub(super) filter: String,
    pub(super) typing: bool,
    pub(super) paused: bool,
    pub(super) page: Option<Page>,
    /// Lines of the page that are scrolled off at the top.
    pub(super) scroll: u16,
    pub(super) question: Option<Question>,
    /// The agent's answer to an order.
    pub(super) message: Option<String>,
    /// Why the agent does not answer.
    pub(super) error: Option<String>,
    pub(super) status: Option<Status>,
    pub(super) sources: Option<Sources>,
    pub(super) findings: Option<Findings>,
    pub(super) bans: Option<Bans>,
    pub(super) detail: Option<Explanation>,
    pub(super) traffic: Option<Traffic>,
    /// The rates of the listed sources, the newest last.
    rates: HashMap<IpNet, VecDeque<f64>>,
    /// The key of the selected row.
    selected: Option<String>,
    pub(super) table: TableState,
    /// The request for data that was answered last.
    answered: Option<Wanted>,
}

impl Model {
    /// A model without any data.
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

    /// The data to request from the agent.
    pub(super) fn wanted(&self) -> Wanted {
        let detail = match self.page {
            Some(Page::Detail(net)) => Some(net.addr()),
            Some(Page::Help) | None => None,
        };
        Wanted { tab: self.tab, sort: self.sort, detail }
    }

    /// Whether the user has chosen something else since the agent was asked.
    pub(super) fn stale(&self) -> bool {
        self.answered != Some(self.wanted())
    }

    /// Applies the agent's answer. A paused list does not change, but a detail that was opened meanwhile is shown.
    pub(super) fn take(&mut self, snapshot: Snapshot) {
        let Snapshot { wanted, status, sources, findings, bans, detail } = snapshot;
        self.error = None;
        self.answered = Some(wanted);
        // The detail of another source may be open by now.
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
            // While another tab is open, only the totals are taken.
            if wanted.tab == Tab::Sources || self.sources.is_none() {
                self.sources = Some(sources);
            } else if let Some(listed) = &mut self.sources {
                *listed = Sources { sources: std::mem::take(&mut listed.sources), ..sources };
            }
        }
        self.select();
    }

    /// Computes the rates between the last two answers. The agent reads its counters at its own times.
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

    /// Notes that the agent does not answer. The old data stays.
    pub(super) fn fail(&mut self, error: &anyhow::Error) {
        self.error = Some(format!("{error:#}"));
    }

    /// Notes the result of an order.
    pub(super) fn said(&mut self, said: anyhow::Result<Done>) {
        self.message = Some(match said {
            Ok(done) => [&[done.said], done.notes.as_slice()].concat().join("; "),
            Err(error) => format!("not done: {error:#}"),
        });
    }

    /// The rows of the list that pass the filter; `None` before the first answer.
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

    /// Finds the selected row again, or else selects the row at its place.
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

    /// The target of an order: the source whose detail is open, even if the list behind it changes; else the selected
    /// row.
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

    /// Handles a key and returns the effect to carry out.
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
