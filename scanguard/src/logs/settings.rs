//! `[logs]` of the configuration.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;

use super::{fields::Fields, format::Format};
use crate::{
    cidr::network,
    settings::{Interval, Section},
};

/// How many entries `files` and `trusted_proxies` may have.
const MAX_ENTRIES: usize = 256;

/// The default of `logs.programs`.
const PROGRAMS: [&str; 7] = ["nginx", "apache2", "apache", "httpd", "caddy", "traefik", "haproxy"];

/// The default of `logs.max_age`: not longer than the windows of the rules, and longer than servers buffer lines.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// `[logs]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Paths and patterns of files. If there are none, no logs are read.
    pub files: Vec<String>,
    /// The format of the files.
    pub format: Format,
    /// The names of fields in JSON.
    pub json: Fields,
    /// The programs whose lines of syslog are read.
    pub programs: Vec<String>,
    /// Proxies whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether files that exist at the first start are read from their beginning.
    pub from_start: bool,
    /// Older lines are skipped.
    pub max_age: Duration,
    /// The file that keeps how far each log was read.
    pub state: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            format: Format::default(),
            json: Fields::default(),
            programs: PROGRAMS.map(str::to_owned).to_vec(),
            trusted_proxies: Vec::new(),
            from_start: false,
            max_age: MAX_AGE,
            state: PathBuf::from("/var/lib/scanguard/logs.json"),
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let ages = Interval::between(Duration::from_secs(10), Duration::from_secs(24 * 60 * 60));
        let settings = Self {
            files: section.list("files", MAX_ENTRIES, default.files, file),
            format: section.value("format", default.format, |_| Ok(())),
            programs: section.list("programs", MAX_ENTRIES, default.programs, program),
            trusted_proxies: section.list("trusted_proxies", MAX_ENTRIES, default.trusted_proxies, proxy),
            from_start: section.value("from_start", default.from_start, |_| Ok(())),
            max_age: section.interval("max_age", default.max_age, ages),
            state: section.value("state", default.state, |path: &PathBuf| {
                let named = path.is_absolute() && path.file_name().is_some();
                if named { Ok(()) } else { Err(format!("{} is no absolute path of a file", path.display())) }
            }),
            json: Fields::read(section.section("json")),
        };
        section.finish();
        settings
    }
}

/// An absolute path or pattern.
fn file(text: &str) -> Result<String, String> {
    if !Path::new(text).is_absolute() {
        return Err(format!("\"{text}\" is no absolute path such as \"/var/log/nginx/access.log\""));
    }
    glob::Pattern::new(text).map_err(|error| format!("\"{text}\" is no pattern: {error}"))?;
    Ok(text.to_owned())
}

/// The name of a program, as in a tag of syslog.
fn program(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && !"[]:".contains(c));
    if is_name { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name of a program")) }
}

/// An address, or a network in its usual notation.
fn proxy(text: &str) -> Result<IpNet, String> {
    let net = network(text)?;
    if net.prefix_len() == 0 {
        return Err(format!("\"{text}\" contains all addresses: every client could forge X-Forwarded-For"));
    }
    Ok(net)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_wrong_entry_is_said_with_its_line() {
        let text = "\
[logs]
files = [\"/var/log/nginx/*.log\", \"access.log\", \"/var/log/***\"]
format = \"w3c\"
trusted_proxies = [\"10.0.0.0/8\", \"10.0.0.1/8\", \"0.0.0.0/0\", \"proxy\"]
max_age = \"1s\"
state = \"logs.json\"
follow = true
";
        let problems = Config::parse(text).expect_err("it is wrong");
        let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(lines, [2, 2, 3, 4, 4, 4, 5, 6, 7], "{problems:#?}");
        assert!(problems[2].message.contains("combined"), "{problems:#?}");
    }

    #[test]
    fn the_common_format_has_its_name_too() {
        let config = Config::parse("[logs]\nformat = \"common\"\n").unwrap();
        assert_eq!(config.logs.format, Format::Combined);
    }
}
