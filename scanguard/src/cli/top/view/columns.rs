//! The columns, and the choice of those that fit on the screen.

use ratatui::layout::Constraint;

use super::super::model::{Model, Row};
use crate::{
    cidr::name,
    respond::Mode,
    words::{classes, left},
};

/// Widths of the first column, which names the source.
const WHO: std::ops::RangeInclusive<u16> = 13..=24;
/// The number of rates that a sparkline shows.
const SPARK: usize = 10;

/// A column.
struct Column {
    title: &'static str,
    width: u16,
    /// Columns with a lower number are kept longer if space is short. The first column is always shown.
    rank: u8,
    /// Numbers are aligned to the right.
    right: bool,
}

const fn left_of(title: &'static str, width: u16, rank: u8) -> Column {
    Column { title, width, rank, right: false }
}

const fn right_of(title: &'static str, width: u16, rank: u8) -> Column {
    Column { title, width, rank, right: true }
}

/// The last column of each list takes the remaining width.
const SOURCES: [Column; 12] = [
    left_of("SOURCE", 0, 0),
    left_of("CC", 2, 9),
    right_of("RATE/S", 6, 1),
    left_of("", 10, 6),
    right_of("PROBES", 8, 2),
    right_of("SERV", 5, 7),
    right_of("HOSTS", 5, 10),
    right_of("DONE", 5, 8),
    right_of("LAST", 6, 5),
    left_of("BAN", 7, 4),
    left_of("FINDING", 18, 3),
    left_of("PROBES BY CLASS", 15, 11),
];

const FINDINGS: [Column; 8] = [
    left_of("SOURCE", 0, 0),
    left_of("CC", 2, 7),
    left_of("RULE", 18, 1),
    left_of("SEVERITY", 8, 2),
    left_of("CONFIDENCE", 10, 5),
    right_of("PROBES", 8, 3),
    left_of("LAST SEEN", 9, 4),
    left_of("WHY", 20, 6),
];

const BANS: [Column; 7] = [
    left_of("WHO", 0, 0),
    left_of("RESPONSE", 8, 2),
    left_of("BY", 8, 3),
    left_of("LEFT", 12, 1),
    right_of("NUMBER", 9, 4),
    left_of("PACKETS", 7, 6),
    left_of("WHY", 20, 5),
];

/// A table, ready to be drawn.
pub(super) struct Columns {
    pub(super) titles: Vec<String>,
    pub(super) widths: Vec<Constraint>,
    pub(super) cells: Vec<Vec<String>>,
}

/// Makes the table of these rows of one list, for this screen width.
pub(super) fn table(model: &Model, rows: &[Row<'_>], width: u16) -> Columns {
    let all: &[Column] = match rows.first() {
        Some(Row::Source(_)) | None => &SOURCES,
        Some(Row::Finding(_)) => &FINDINGS,
        Some(Row::Ban(_)) => &BANS,
    };
    let texts: Vec<_> = rows.iter().map(|row| texts(model, *row)).collect();
    let who = texts.iter().filter_map(|row| u16::try_from(row.first()?.chars().count()).ok()).max();
    let who = who.unwrap_or(0).clamp(*WHO.start(), *WHO.end()).min(width);
    let chosen = choose(all, who, width);
    let pad = |column: &Column, width: u16, text: &str| {
        let width = usize::from(width);
        if column.right { format!("{text:>width$}") } else { text.to_owned() }
    };
    let pick = |texts: &[String]| {
        chosen.iter().map(|(place, width)| pad(&all[*place], *width, &texts[*place])).collect::<Vec<_>>()
    };
    let titles: Vec<_> = all.iter().map(|column| column.title.to_owned()).collect();
    Columns {
        titles: pick(&titles),
        widths: chosen.iter().map(|(_, width)| Constraint::Length(*width)).collect(),
        cells: texts.iter().map(|texts| pick(texts)).collect(),
    }
}

/// The indices of the columns that fit, with their widths.
fn choose(all: &[Column], who: u16, width: u16) -> Vec<(usize, u16)> {
    let mut by_rank: Vec<_> = all.iter().enumerate().skip(1).collect();
    by_rank.sort_by_key(|(_, column)| column.rank);
    let mut chosen = vec![(0, who)];
    let mut free = width.saturating_sub(who);
    for (place, column) in by_rank {
        let Some(rest) = free.checked_sub(column.width + 1) else {
            // Otherwise less important columns would appear and vanish with each change of the width.
            break;
        };
        free = rest;
        chosen.push((place, column.width));
    }
    chosen.sort_unstable();
    if let Some((_, width)) = chosen.last_mut() {
        *width += free;
    }
    chosen
}

fn texts(model: &Model, row: Row<'_>) -> Vec<String> {
    match row {
        Row::Source(source) => vec![
            name(source.net),
            source.country.clone().unwrap_or_default(),
            format!("{:.1}", source.per_second),
            sparkline(model.rates(source.net)),
            source.probes.to_string(),
            source.services.to_string(),
            source.hosts.to_string(),
            source.completed.to_string(),
            ago(source.seconds_since_last),
            source.ban.label().to_owned(),
            source.rules.join(", "),
            classes(&source.classes),
        ],
        Row::Finding(open) => vec![
            open.who(),
            open.country.clone().unwrap_or_default(),
            open.finding.rule.clone(),
            open.finding.severity.label().to_owned(),
            open.finding.confidence.label().to_owned(),
            open.finding.probes.to_string(),
            open.finding.last_seen.strftime("%H:%M:%SZ").to_string(),
            open.finding.said.clone().unwrap_or_else(|| open.finding.reason.clone()),
        ],
        Row::Ban(ban) => vec![
            name(ban.net),
            ban.response.label().to_owned(),
            ban.origin.label().to_owned(),
            left(ban.seconds_left),
            ban.packets.map_or_else(String::new, |packets| packets.to_string()),
            match (ban.drops, model.bans.as_ref().map(|bans| bans.mode)) {
                (true, _) => "dropped",
                (false, Some(Mode::Observe)) => "pass",
                (false, Some(Mode::DryRun | Mode::Enforce) | None) => "counted",
            }
            .to_owned(),
            ban.reason.clone(),
        ],
    }
}

/// A duration in at most three characters: `7s`, `12m`.
fn ago(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600.. => format!("{}h", seconds / 3_600),
    }
}

/// The last rates, the newest at the right, each in eighths of the largest.
fn sparkline(rates: impl DoubleEndedIterator<Item = f64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let mut last: Vec<_> = rates.rev().take(SPARK).collect();
    last.reverse();
    let peak = last.iter().copied().fold(0.0, f64::max);
    let bar = |rate: &f64| {
        let eighths = if peak > 0.0 { (rate / peak * 8.0).ceil() } else { 0.0 };
        // Few sources here are wholly quiet, so zero is drawn without a bar.
        (1..=8).rev().find(|n| eighths >= f64::from(*n)).map_or(' ', |n| BARS[n as usize - 1])
    };
    let bars: String = last.iter().map(bar).collect();
    format!("{bars:>SPARK$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_is_scaled_to_its_peak_and_the_newest_is_at_the_right() {
        assert_eq!(sparkline([0.0, 1.0, 4.0, 8.0].into_iter()), "       ▁▄█");
        assert_eq!(sparkline([].into_iter()), " ".repeat(SPARK));
        assert_eq!(sparkline((0..100).map(f64::from)).chars().count(), SPARK);
    }

    #[test]
    fn no_width_has_too_much_in_it() {
        for all in [&SOURCES[..], &FINDINGS, &BANS] {
            for width in 0..300_u16 {
                let chosen = choose(all, 24.min(width), width);
                let used: u16 = chosen.iter().map(|(_, width)| width).sum();
                let gaps = u16::try_from(chosen.len() - 1).unwrap();
                assert!(used + gaps == width, "{used} + {gaps} of {width}");
            }
        }
    }
}
