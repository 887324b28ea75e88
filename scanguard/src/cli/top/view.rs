//! Draws the model. Pure: the same model gives the same picture. Colour is never the only carrier of meaning.

mod columns;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Block, Cell, Clear, Paragraph, Row as Cells, Table, Wrap},
};

use self::columns::{Columns, table};
use super::{
    model::{Model, Page, Question, Row},
    snapshot::{Order, Tab},
};
use crate::{
    cidr::name,
    cli::control::words::explanation,
    control::listing::Status,
    detect::Severity,
    respond::{Extent, report::BanState},
    words::{count, left},
};

const HINTS: &str = "q quit  ? help  / filter  s sort  p pause  Enter detail  b ban  u unban  a allow";
const HELP: &str = "\
q, Ctrl-C   quit
1 2 3, Tab  sources, findings, bans
up down j k select; PgUp PgDn Home End
Enter       detail: what `scanguard explain` says
s           sort sources by rate, probes, last seen
/           filter by text; Enter keeps it, Esc ends it
p, space    pause
b           ban, after a question
u           end a ban, after a question
a           never ban, after a question
Esc         close, or end the filter

RATE/S is a mean over the last 10 s; its line goes from the oldest to the newest look, scaled to its own peak. \
SERV and HOSTS are estimates of distinct services and addresses tried. DONE: connections completed; with any, the \
address is no forgery. BAN counted: the mode is dry-run, nothing is dropped. Sources are listed for 15 minutes after \
their last probe, at most 200.";

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let area = frame.area();
    let footer = footer(model);
    // On a low screen the list gets most of the lines.
    let above = if area.height >= 10 { 2 } else { 1 };
    // It is better to cut the hints than the list.
    let below = if footer.0 == HINTS { 1 } else { wrapped(&footer.0, area.width) };
    let below = below.clamp(1, (area.height / 2).max(1));
    let [top, tabs, body, bottom] = Layout::vertical([
        Constraint::Length(above),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(below),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(header(model)), top);
    frame.render_widget(tabs_line(model), tabs);
    list(frame, body, model);
    page(frame, body, model);
    frame.render_widget(Paragraph::new(footer.0).style(footer.1).wrap(Wrap { trim: true }), bottom);
}

/// The most lines that a text needs when it is wrapped at spaces.
fn wrapped(text: &str, width: u16) -> u16 {
    let length = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
    if length <= width { 1 } else { length.div_ceil(width.max(1)).saturating_add(1) }
}

fn coloured(model: &Model, colour: Color) -> Style {
    if model.colour { Style::new().fg(colour) } else { Style::new() }
}

fn header(model: &Model) -> Vec<Line<'static>> {
    let Some(Status { version, uptime_seconds, interfaces, findings_open, response, .. }) = &model.status
    else {
        return Vec::new();
    };
    let attached: Vec<_> = interfaces
        .iter()
        .map(|(name, mode)| format!("{name} {}", mode.as_deref().unwrap_or("NOT ATTACHED")))
        .collect();
    let first = Line::from(vec![
        Span::styled(response.mode.to_string(), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!(
            "  {}  up {}  scanguard {version}",
            attached.join(", "),
            left(Some(*uptime_seconds))
        )),
    ]);
    let traffic = model.traffic.map_or_else(
        || "- packets/s  - probes/s".to_owned(),
        |traffic| format!("{:.0} packets/s  {:.0} probes/s", traffic.packets, traffic.probes),
    );
    let bans = response.bans;
    let bans = bans.rule + bans.hand + bans.crowdsec + bans.fleet + bans.adopted;
    let active = model.sources.as_ref().map_or(0, |sources| sources.active);
    let breaker = if response.circuit_breaker_open { "  CIRCUIT BREAKER OPEN" } else { "" };
    let second = format!(
        "{traffic}  {}  {}  {}  {}{breaker}",
        count(active, "source"),
        count(*findings_open, "open finding"),
        count(bans, "ban"),
        count(response.shields.held, "shield")
    );
    vec![first, Line::raw(second)]
}

fn tabs_line(model: &Model) -> Line<'static> {
    let mut spans = Vec::new();
    if model.paused {
        spans.push(Span::styled("PAUSED ", Style::new().add_modifier(Modifier::BOLD)));
    }
    for tab in Tab::ALL {
        let chosen = Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD);
        let style = if tab == model.tab { chosen } else { Style::new() };
        spans.push(Span::styled(tab.title(), style));
        spans.push(Span::raw(" "));
    }
    match model.tab {
        Tab::Sources => spans.push(Span::raw(format!(" by {}", model.sort.label()))),
        Tab::Findings | Tab::Bans => {}
    }
    if !model.filter.is_empty() {
        spans.push(Span::raw(format!("  filter: {}", model.filter)));
    }
    Line::from(spans)
}

/// The text of the last line: a question takes precedence.
fn footer(model: &Model) -> (String, Style) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    if let Some(question) = model.question {
        return (words(question), bold);
    }
    if model.typing {
        return (format!("filter: {}_", model.filter), bold);
    }
    if let Some(message) = &model.message {
        return (message.clone(), bold);
    }
    if let Some(error) = &model.error {
        return (format!("OLD PICTURE: {error}"), coloured(model, Color::Red).add_modifier(Modifier::BOLD));
    }
    (HINTS.to_owned(), coloured(model, Color::DarkGray))
}

fn words(question: Question) -> String {
    match question {
        Question::Ban(net) => {
            format!("Ban {} for an hour (h), a day (d), without end (e)? Any other key: no.", name(net))
        }
        Question::Confirm(Order::Unban(net)) => format!("End the ban of {}? y: yes", name(net)),
        Question::Confirm(Order::Allow(net)) => {
            format!("Never ban {}, and end bans within it? y: yes", name(net))
        }
        Question::Confirm(Order::Ban(net, _)) => format!("Ban {}? y: yes", name(net)),
    }
}

fn style(model: &Model, row: Row<'_>) -> Style {
    let severe = |severity: Severity| match severity {
        Severity::Info | Severity::Low => Style::new(),
        Severity::Medium => coloured(model, Color::Yellow),
        Severity::High => coloured(model, Color::Red).add_modifier(Modifier::BOLD),
    };
    match row {
        Row::Source(source) => match source.ban {
            BanState::Dropped => coloured(model, Color::Red),
            BanState::Allowed => coloured(model, Color::Green),
            BanState::None | BanState::Shielded | BanState::Banned | BanState::Counted
                if source.rules.is_empty() =>
            {
                Style::new()
            }
            BanState::None | BanState::Shielded | BanState::Banned | BanState::Counted => {
                coloured(model, Color::Yellow)
            }
        },
        Row::Finding(open) => severe(open.finding.severity),
        Row::Ban(ban) => match (ban.drops, ban.response) {
            (true, Extent::Full) => coloured(model, Color::Red),
            (true, Extent::Shield) => coloured(model, Color::Yellow),
            (false, Extent::Full | Extent::Shield) => Style::new(),
        },
    }
}

fn list(frame: &mut Frame<'_>, area: Rect, model: &mut Model) {
    let Some(rows) = model.rows() else {
        return frame.render_widget(Paragraph::new("Asking the agent ..."), area);
    };
    if rows.is_empty() {
        let said = match (model.filter.is_empty(), model.tab) {
            (false, _) => "Nothing here has the text of the filter.",
            (true, Tab::Sources) => "Nobody has probed within the last 15 minutes.",
            (true, Tab::Findings) => "No finding is open.",
            (true, Tab::Bans) => "Nobody is banned or shielded from.",
        };
        return frame.render_widget(Paragraph::new(said).wrap(Wrap { trim: true }), area);
    }
    let Columns { titles, widths, cells } = table(model, &rows, area.width);
    let body = cells
        .into_iter()
        .zip(&rows)
        .map(|(cells, row)| Cells::new(cells.into_iter().map(Cell::from)).style(style(model, *row)));
    let table = Table::new(body, widths)
        .header(Cells::new(titles).style(Style::new().add_modifier(Modifier::BOLD)))
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = model.table;
    frame.render_stateful_widget(table, area, &mut state);
    model.table = state;
}

fn page(frame: &mut Frame<'_>, area: Rect, model: &mut Model) {
    let (title, text) = match (model.page, &model.detail) {
        (None, _) => return,
        (Some(Page::Help), _) => ("Keys".to_owned(), HELP.to_owned()),
        (Some(Page::Detail(net)), None) => (name(net), "Asking the agent ...".to_owned()),
        (Some(Page::Detail(net)), Some(detail)) => (name(net), explanation(detail)),
    };
    let block = Block::bordered().title(format!(" {title} (Esc) "));
    let inner = block.inner(area);
    let lines: u16 = text.lines().map(|line| wrapped(line, inner.width)).fold(0, u16::saturating_add);
    model.scroll = model.scroll.min(lines.saturating_sub(inner.height));
    let text = Paragraph::new(text).block(block).wrap(Wrap { trim: false }).scroll((model.scroll, 0));
    frame.render_widget(Clear, area);
    frame.render_widget(text, area);
}

#[cfg(test)]
mod tests;
