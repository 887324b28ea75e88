//! The plots at the beginning of docs/performance.md, of the figures in the tables, for light and dark pages.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, DrawingArea, IntoDrawingArea as _, IntoLogRange as _, LineSeries, PathElement,
        RGBColor, Rectangle, SVGBackend, Text,
    },
    style::{
        Color as _, IntoFont as _, ShapeStyle, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::{
    model::{Cell, Part, Report, Row, Table, figure},
    scale::{READING_MS, WHOLE_MS},
};

/// Where they go, and how the page names it.
const DIRECTORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pictures");
const SIZE: (u32, u32) = (960, 480);
/// Room for the names of the lines.
const NAMES: u32 = 300;
/// The height of a name.
const LINE: i32 = 17;

/// How a page looks.
struct Theme {
    name: &'static str,
    paper: RGBColor,
    ink: RGBColor,
    grid: RGBColor,
    /// Of the line that it is about; the others have the next ones in turn.
    lines: [RGBColor; 6],
}

const THEMES: [Theme; 2] = [
    Theme {
        name: "light",
        paper: RGBColor(255, 255, 255),
        ink: RGBColor(31, 35, 40),
        grid: RGBColor(225, 228, 232),
        lines: [
            RGBColor(9, 105, 218),
            RGBColor(207, 34, 46),
            RGBColor(26, 127, 55),
            RGBColor(154, 103, 0),
            RGBColor(130, 80, 223),
            RGBColor(87, 96, 106),
        ],
    },
    Theme {
        name: "dark",
        paper: RGBColor(13, 17, 23),
        ink: RGBColor(230, 237, 243),
        grid: RGBColor(48, 54, 61),
        lines: [
            RGBColor(88, 166, 255),
            RGBColor(255, 123, 114),
            RGBColor(63, 185, 80),
            RGBColor(210, 153, 34),
            RGBColor(188, 140, 255),
            RGBColor(139, 148, 158),
        ],
    },
];

/// A plot.
struct Plot {
    across: &'static str,
    /// The label of the horizontal axis; nothing beside bars, whose names are there.
    up: &'static str,
    shape: Shape,
}

/// Its contents.
enum Shape {
    /// Lines over a logarithmic axis each, with their names.
    Lines(Vec<(String, Vec<(f64, f64)>)>),
    /// Two bars each, from an axis that begins at 0.
    Bars(Vec<Pair>),
}

/// The cost of a packet.
struct Pair {
    /// Of which kind.
    name: String,
    /// The sensor's, and that of the same in C.
    costs: [f64; 2],
    /// How many times the other the first is, as the table has it.
    times: f64,
}

/// The parts that have a plot, with the name of its files, and its caption, which is also the text for readers who cannot
/// see the picture. In the order of the page.
const PLOTS: [(Part, &str, &str); 3] = [
    (Part::Packets, "packets", "The cost of a packet beside the minimum in C for the same job"),
    (Part::Peers, "peers", "A scan by masscan: CPU seconds above those without anybody who looks, by rate"),
    (Part::Scale, "scale", "One poll in which all sources have changed, by their number"),
];

/// Draws the plots of these parts, as far as they have the figures.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn draw(reports: &[Report]) -> Result<()> {
    for (part, file, title) in PLOTS {
        let found = reports.iter().find(|report| report.part == part);
        let Some(plot) = found.and_then(of) else { continue };
        for theme in &THEMES {
            let path = path(file, theme.name);
            fs::write(&path, drawn(&plot, title, theme)?).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// The lines of the page that show the plots that are there.
pub(crate) fn shown() -> String {
    let is_there = |file: &str| THEMES.iter().all(|theme| path(file, theme.name).exists());
    let plots = PLOTS.iter().filter(|(_, file, _)| is_there(file));
    plots.map(|(_, file, title)| html(file, title)).collect()
}

fn path(file: &str, theme: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{file}-{theme}.svg"))
}

/// How the page shows one.
fn html(file: &str, title: &str) -> String {
    format!(
        "<picture>\n<source media=\"(prefers-color-scheme: dark)\" srcset=\"pictures/{file}-dark.svg\">\n\
         <img src=\"pictures/{file}-light.svg\" alt=\"{title}\">\n</picture>\n\n"
    )
}

/// The plot of a part, if it has one, and its figures are there.
fn of(report: &Report) -> Option<Plot> {
    match report.part {
        Part::Packets => of_packets(report),
        Part::Peers => of_peers(report),
        Part::Scale => of_scale(report),
        Part::EndToEnd | Part::Outbound | Part::Flood | Part::Drop => None,
    }
}

/// The nanoseconds of the quietest round, for each kind of packet that is compared with C.
fn of_packets(report: &Report) -> Option<Plot> {
    let costs = report.tables.iter().find(|table| table.columns.iter().any(|column| column == "ns_min"))?;
    let ratios =
        report.tables.iter().find(|table| table.columns.iter().any(|column| column == "of_minima"))?;
    let bars = ratios.rows.iter().filter_map(|row| {
        let (ours, theirs) = name(row)?.split_once(" / ")?;
        let both = [number(costs, ours, "ns_min")?, number(costs, theirs, "ns_min")?];
        let times = number(ratios, name(row)?, "of_minima")?;
        Some(Pair { name: ours.replace('_', " "), costs: both, times })
    });
    let bars: Vec<_> = bars.collect();
    (!bars.is_empty()).then_some(Plot {
        across: "nanoseconds a packet, quietest round",
        up: "",
        shape: Shape::Bars(bars),
    })
}

/// CPU above nothing by rate.
fn of_peers(report: &Report) -> Option<Plot> {
    // Below a tick of the kernel's clock nothing can be told.
    const LEAST: f64 = 0.01;
    // Titles have the rate.
    let rate = |table: &Table| table.title.split_whitespace().find_map(|word| word.parse::<f64>().ok());
    let rows = report.tables.first().into_iter().flat_map(|table| &table.rows).skip(1);
    let points = |name: &str| -> Vec<(f64, f64)> {
        let point = |table: &Table| Some((rate(table)?, number(table, name, "above_nothing")?.max(LEAST)));
        report.tables.iter().filter_map(point).collect()
    };
    let lines = rows.filter_map(name).map(|name| (name.to_owned(), points(name)));
    let lines: Vec<_> = lines.filter(|(_, points)| !points.is_empty()).collect();
    (!lines.is_empty()).then_some(Plot {
        across: "SYNs a second",
        up: "CPU seconds above nothing",
        shape: Shape::Lines(lines),
    })
}

/// The cost of a poll by the number of sources, beside one that grows as the number does.
fn of_scale(report: &Report) -> Option<Plot> {
    let table = report.tables.iter().find(|table| table.columns.iter().any(|column| column == WHOLE_MS))?;
    let points = |column: &str| -> Vec<(f64, f64)> {
        let point = |name: &str| {
            let sources = name.replace(',', "").parse::<f64>().ok()?;
            Some((sources, number(table, name, column)?))
        };
        table.rows.iter().filter_map(name).filter_map(point).collect()
    };
    let whole = points(WHOLE_MS);
    let [(least, cost), .., (most, _)] = whole[..] else {
        // There is no line through one point.
        return None;
    };
    let straight = vec![(least, cost), (most, cost * most / least)];
    let lines = [
        ("straight from the first point", straight),
        ("ScanGuard, whole poll", whole),
        ("of that, reading the states", points(READING_MS)),
    ];
    Some(Plot {
        across: "sources",
        up: "CPU milliseconds",
        shape: Shape::Lines(lines.map(|(name, points)| (name.to_owned(), points)).into()),
    })
}

fn name(row: &Row) -> Option<&str> {
    match row.get("name")? {
        Cell::Text(name) => Some(name),
        Cell::Number(_) => None,
    }
}

fn number(table: &Table, wanted: &str, column: &str) -> Option<f64> {
    let row = table.rows.iter().find(|row| name(row) == Some(wanted))?;
    match row.get(column)? {
        Cell::Number(number) => Some(*number),
        Cell::Text(_) => None,
    }
}

/// The sensor's lines are blue and thick; the others take turns.
fn style(theme: &Theme, number: usize, name: &str) -> ShapeStyle {
    let is_own = name.starts_with("ScanGuard");
    let color = if is_own { theme.lines[0] } else { theme.lines[1 + number % (theme.lines.len() - 1)] };
    ShapeStyle { color: color.to_rgba(), filled: true, stroke_width: if is_own { 3 } else { 2 } }
}

/// The picture, as SVG.
fn drawn(plot: &Plot, title: &str, theme: &Theme) -> Result<String> {
    let mut picture = String::new();
    {
        let area = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        area.fill(&theme.paper)?;
        match &plot.shape {
            Shape::Lines(lines) => draw_lines(&area, plot, title, lines, theme)?,
            Shape::Bars(bars) => draw_bars(&area, plot, title, bars, theme)?,
        }
        area.present()?;
    }
    Ok(picture)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn text<'t>(theme: &'t Theme, size: u32) -> TextStyle<'t> {
    TextStyle::from(("sans-serif", size).into_font()).color(&theme.ink)
}

/// Names begin where their lines end.
fn draw_lines(
    area: &Area<'_>,
    plot: &Plot,
    title: &str,
    lines: &[(String, Vec<(f64, f64)>)],
    theme: &Theme,
) -> Result<()> {
    let points = lines.iter().flat_map(|(_, points)| points.iter().copied());
    let (across, up): (Vec<f64>, Vec<f64>) = points.unzip();
    let most = |of: &[f64]| of.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let least = |of: &[f64]| of.iter().copied().fold(f64::MAX, f64::min);
    let mut chart = ChartBuilder::on(area)
        .caption(title, text(theme, 17))
        .margin(12)
        .margin_right(NAMES)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (least(&across) * 0.9..most(&across) * 1.1).log_scale(),
            (least(&up) * 0.8..most(&up) * 1.3).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_labels(4)
        .x_label_formatter(&|value| figure(value.round()))
        .y_label_formatter(&|value| figure(*value))
        .x_desc(plot.across)
        .y_desc(plot.up)
        .label_style(text(theme, 13))
        .axis_desc_style(text(theme, 14))
        .axis_style(theme.ink)
        .bold_line_style(theme.grid)
        .light_line_style(theme.paper)
        .draw()?;
    let mut names = Vec::new();
    for (number, (name, points)) in lines.iter().enumerate() {
        let style = style(theme, number, name);
        chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
        if let Some(end) = points.last() {
            names.push((chart.backend_coord(end), name, style));
        }
    }
    // Side by side where lines end close to each other.
    names.sort_by_key(|((_, y), ..)| *y);
    let mut free = i32::MIN;
    for ((x, y), name, style) in names {
        let place = (y - LINE / 2).max(free);
        free = place + LINE;
        area.draw(&PathElement::new([(x + 2, y), (x + 22, place + LINE / 2)], style))?;
        let named = TextStyle::from(("sans-serif", 13).into_font()).color(&style.color);
        area.draw(&Text::new(name.as_str(), (x + 26, place + 2), named))?;
    }
    Ok(())
}

/// Names are to the left of their bars, figures to the right.
fn draw_bars(area: &Area<'_>, plot: &Plot, title: &str, bars: &[Pair], theme: &Theme) -> Result<()> {
    /// Of the height of a pair, a bar.
    const BAR: f64 = 0.36;
    let most = bars.iter().flat_map(|pair| pair.costs).fold(f64::MIN_POSITIVE, f64::max);
    let rows = bars.len() as f64;
    let mut chart = ChartBuilder::on(area)
        .caption(title, text(theme, 17))
        .margin(12)
        .margin_right(40)
        .x_label_area_size(44)
        .y_label_area_size(150)
        // Room for the figures.
        .build_cartesian_2d(0.0..most * 1.3, rows..0.0)?;
    chart
        .configure_mesh()
        .x_desc(plot.across)
        .x_label_formatter(&|value| figure(*value))
        .y_labels(0)
        .disable_y_mesh()
        .label_style(text(theme, 13))
        .axis_desc_style(text(theme, 14))
        .axis_style(theme.ink)
        .bold_line_style(theme.grid)
        .light_line_style(theme.paper)
        .draw()?;
    let colors = [theme.lines[0], theme.lines[5]];
    for (row, Pair { name, costs, times }) in bars.iter().enumerate() {
        let top = row as f64 + 0.5 - BAR;
        for (number, (cost, color)) in costs.iter().zip(colors).enumerate() {
            let (from, to) = (top + BAR * number as f64, top + BAR * (number + 1) as f64);
            chart.draw_series([Rectangle::new([(0.0, from), (*cost, to)], color.filled())])?;
            let said = match number {
                0 => format!("ScanGuard {} ({} times)", figure(*cost), figure(*times)),
                _ => format!("C {}", figure(*cost)),
            };
            let (x, y) = chart.backend_coord(&(*cost, f64::midpoint(from, to)));
            let named = TextStyle::from(("sans-serif", 13).into_font()).color(&color);
            area.draw(&Text::new(said, (x + 6, y), named.pos(Pos::new(HPos::Left, VPos::Center))))?;
        }
        let (x, y) = chart.backend_coord(&(0.0, row as f64 + 0.5));
        let at_its_end = text(theme, 14).pos(Pos::new(HPos::Right, VPos::Center));
        area.draw(&Text::new(name.as_str(), (x - 10, y), at_its_end))?;
    }
    Ok(())
}
