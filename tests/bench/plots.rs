//! The plots at the beginning of docs/performance.md, of the figures in the tables, for light and dark pages.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use plotters::{
    prelude::{
        ChartBuilder, IntoDrawingArea as _, IntoLogRange as _, LineSeries, PathElement, RGBColor, SVGBackend,
        Text,
    },
    style::{Color as _, IntoFont as _, ShapeStyle, TextStyle},
};

use crate::model::{Cell, Part, Report, Table};

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

/// Lines over a logarithmic axis each.
struct Plot {
    /// The name of its files.
    file: &'static str,
    /// Its caption, which is also the text for readers who cannot see the picture.
    title: String,
    across: &'static str,
    up: &'static str,
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Draws the plots of these parts, and gives the lines of the page that show them.
///
/// # Errors
/// A file cannot be written.
pub(crate) fn write(reports: &[Report]) -> Result<String> {
    let mut shown = String::new();
    for plot in reports.iter().filter(|report| report.part == Part::Peers).map(of_peers) {
        for theme in &THEMES {
            let path = Path::new(DIRECTORY).join(format!("{}-{}.svg", plot.file, theme.name));
            fs::write(&path, drawn(&plot, theme)?).with_context(|| path.display().to_string())?;
        }
        shown += &html(&plot);
    }
    Ok(shown)
}

/// How the page shows one.
fn html(plot: &Plot) -> String {
    let Plot { file, title, .. } = plot;
    format!(
        "<picture>\n<source media=\"(prefers-color-scheme: dark)\" srcset=\"pictures/{file}-dark.svg\">\n\
         <img src=\"pictures/{file}-light.svg\" alt=\"{title}\">\n</picture>\n\n"
    )
}

/// CPU above nothing by rate.
fn of_peers(report: &Report) -> Plot {
    // Below a tick of the kernel's clock nothing can be told.
    const LEAST: f64 = 0.01;
    let number = |table: &Table, name: &str, column: &str| {
        let row = table.rows.iter().find(|row| row.get("name") == Some(&Cell::from(name)))?;
        match row.get(column)? {
            Cell::Number(number) => Some(*number),
            Cell::Text(_) => None,
        }
    };
    // Titles have the rate.
    let rate = |table: &Table| table.title.split_whitespace().find_map(|word| word.parse::<f64>().ok());
    let names = report.tables.first().into_iter().flat_map(|table| &table.rows).skip(1);
    let names = names.filter_map(|row| match row.get("name")? {
        Cell::Text(name) => Some(name.clone()),
        Cell::Number(_) => None,
    });
    let points = |name: &str| -> Vec<(f64, f64)> {
        let point = |table: &Table| Some((rate(table)?, number(table, name, "above_nothing")?.max(LEAST)));
        report.tables.iter().filter_map(point).collect()
    };
    let lines = names.map(|name| (name.clone(), points(&name))).filter(|(_, points)| !points.is_empty());
    Plot {
        file: "peers",
        title: "A scan by masscan: CPU seconds above those without anybody who looks, by rate".to_owned(),
        across: "SYNs a second",
        up: "CPU seconds above nothing",
        lines: lines.collect(),
    }
}

/// The sensor's lines are blue and thick; the others take turns.
fn style(theme: &Theme, number: usize, name: &str) -> ShapeStyle {
    let is_own = name.starts_with("ScanGuard");
    let color = if is_own { theme.lines[0] } else { theme.lines[1 + number % (theme.lines.len() - 1)] };
    ShapeStyle { color: color.to_rgba(), filled: true, stroke_width: if is_own { 3 } else { 2 } }
}

/// The picture, as SVG.
fn drawn(plot: &Plot, theme: &Theme) -> Result<String> {
    let points = plot.lines.iter().flat_map(|(_, points)| points.iter().copied());
    let (across, up): (Vec<f64>, Vec<f64>) = points.unzip();
    let most = |of: &[f64]| of.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let least = |of: &[f64]| of.iter().copied().fold(f64::MAX, f64::min);
    let mut picture = String::new();
    {
        let area = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        area.fill(&theme.paper)?;
        let text = |size: u32| TextStyle::from(("sans-serif", size).into_font()).color(&theme.ink);
        let mut chart = ChartBuilder::on(&area)
            .caption(&plot.title, text(17))
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
            .x_label_formatter(&|value| format!("{value:.0}"))
            .x_desc(plot.across)
            .y_desc(plot.up)
            .label_style(text(13))
            .axis_desc_style(text(14))
            .axis_style(theme.ink)
            .bold_line_style(theme.grid)
            .light_line_style(theme.paper)
            .draw()?;
        let mut names = Vec::new();
        for (number, (name, points)) in plot.lines.iter().enumerate() {
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
        area.present()?;
    }
    Ok(picture)
}
