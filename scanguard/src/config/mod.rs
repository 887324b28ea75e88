//! The configuration: one TOML file; everything in it has a default.
//!
//! The struct, defaults and limits of each part live with that part. This module reads the file and reports all
//! errors at once.

pub mod access;
pub mod host;
pub mod reference;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::{
    content, control, crowdsec, detect, export, fleet, logs, observe, outbound, respond, sandbox, sensor,
    settings::{self, Interval, Problem},
    sources, whole_file,
};

/// The configuration file that is used if none is named.
pub const DEFAULT_PATH: &str = "/etc/scanguard/scanguard.toml";

/// The commented file with every default, as `scanguard print-config` prints it.
pub const COMMENTED_DEFAULTS: &str = include_str!("../../../deploy/scanguard.toml");

/// The largest size of a configuration file.
pub(crate) const MAX_FILE_BYTES: u64 = 1 << 20;

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `[sensor]`.
    pub sensor: sensor::settings::Settings,
    /// `[network]`.
    pub network: crate::network::settings::Settings,
    /// `[samples]`.
    pub samples: content::sampling::Settings,
    /// `[history]`.
    pub history: observe::settings::Settings,
    /// `[fingerprints]`, including the list, so that the loaded configuration is complete.
    pub fingerprints: observe::tools::Settings,
    /// `[findings]`.
    pub findings: detect::settings::Settings,
    /// `[metrics]`.
    pub metrics: export::settings::Settings,
    /// `[page]`, including the token, so that the loaded configuration is complete.
    pub page: export::page::settings::Settings,
    /// `[rules.*]`.
    pub rules: detect::rules::Settings,
    /// `[content]`.
    pub content: content::settings::Settings,
    /// `[feeds]`.
    pub feeds: detect::feeds::Settings,
    /// `[geo]`, including the databases, so that the loaded configuration is complete.
    pub geo: detect::geo::Geo,
    /// `[outbound]`.
    pub outbound: outbound::settings::Settings,
    /// `[response]`.
    pub response: respond::settings::Settings,
    /// `[logs]`.
    pub logs: logs::settings::Settings,
    /// `[control]`.
    pub control: control::settings::Settings,
    /// `[security]`.
    pub security: sandbox::settings::Settings,
    /// `[crowdsec]`, including the secrets, so that the loaded configuration is complete.
    pub crowdsec: crowdsec::settings::Settings,
    /// `[fleet]`, including the credentials, so that the loaded configuration is complete.
    pub fleet: fleet::settings::Settings,
    /// `[[sinks]]`.
    pub sinks: export::sinks::settings::Settings,
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It could not be read.
    #[error("{}: {error}", .path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is too large for a configuration file.
    #[error("{}: more than 1 MiB: this is no configuration file", .path.display())]
    Huge {
        /// File.
        path: PathBuf,
    },
    /// It is empty.
    #[error(
        "{}: the file is empty; `scanguard print-config` prints one with every default", .path.display()
    )]
    Empty {
        /// File.
        path: PathBuf,
    },
    /// It contains errors.
    #[error("{}", Problems(.path, .problems))]
    Wrong {
        /// File.
        path: PathBuf,
        /// All errors, by line.
        problems: Vec<Problem>,
    },
}

struct Problems<'a>(&'a Path, &'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.1.iter().enumerate() {
            let separator = if place == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{}: {}", self.0.display(), problem.line, problem.message)?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads the named file. Without a name it reads the file at [`DEFAULT_PATH`] if that exists, and else takes the
    /// defaults. Returns which source it used.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn find(named: Option<&Path>) -> Result<(Self, Option<PathBuf>), ConfigError> {
        let default = Path::new(DEFAULT_PATH);
        match named {
            Some(path) => Ok((Self::load(path)?, Some(path.to_owned()))),
            None if default.exists() => Ok((Self::load(default)?, Some(default.to_owned()))),
            None => Ok((Self::default(), None)),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&text(path)?).map_err(|problems| ConfigError::Wrong { path: path.to_owned(), problems })
    }

    /// `[control]` of a file, even if other parts are wrong: a client that asks for a reload gets the errors from the
    /// agent. `None` if the section cannot be read.
    pub fn control(path: &Path) -> Option<control::settings::Settings> {
        let text = text(path).ok()?;
        settings::read(&text, |mut root| control::settings::Settings::read(root.section("control")))
            .result
            .ok()
    }

    /// `[security]` of the named file, or of that at the usual place, even if other parts are wrong: it says whose the files
    /// of secrets may be. `None` if there is no file, or the section cannot be read.
    pub fn security(named: Option<&Path>) -> Option<sandbox::settings::Settings> {
        let text = text(named.unwrap_or(Path::new(DEFAULT_PATH))).ok()?;
        settings::read(&text, |mut root| sandbox::settings::Settings::read(root.section("security")))
            .result
            .ok()
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// All errors, by line.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        Self::reading(text).result
    }

    /// The names of all settings, with their sections.
    pub fn settings() -> Vec<String> {
        Self::reading("").settings
    }

    /// The settings that differ in `new` and that a running agent cannot change.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (old, sensor) = (&self.sensor, &new.sensor);
        let checks = [
            ("sensor.interfaces", old.interfaces != sensor.interfaces),
            ("sensor.mode", old.mode != sensor.mode),
            ("sensor.egress", old.egress != sensor.egress),
            ("sensor.max_sources", old.max_sources != sensor.max_sources),
            ("sensor.ipv6_prefix", old.ipv6_prefix != sensor.ipv6_prefix),
            ("sensor.persist", old.persist != sensor.persist),
            ("sensor.pin", old.pin != sensor.pin),
            ("samples.enabled", self.samples.enabled != new.samples.enabled),
            ("samples.web_ports", self.samples.web_ports != new.samples.web_ports),
            ("samples.dns_ports", self.samples.dns_ports != new.samples.dns_ports),
            ("samples.service_ports", self.samples.service_ports != new.samples.service_ports),
            ("metrics.listen", self.metrics.listen != new.metrics.listen),
            ("metrics.max_connections", self.metrics.max_connections != new.metrics.max_connections),
            ("page.enabled", self.page.enabled != new.page.enabled),
            ("page.history", self.page.history != new.page.history),
            ("page.max_clients", self.page.max_clients != new.page.max_clients),
            ("outbound.enabled", self.outbound.enabled != new.outbound.enabled),
            ("outbound.namespaces", self.outbound.namespaces != new.outbound.namespaces),
            ("outbound.inner", self.outbound.inner != new.outbound.inner),
            ("response.state", self.response.state != new.response.state),
            ("control.socket", self.control.socket != new.control.socket),
            ("control.group", self.control.group != new.control.group),
            ("security.sandbox", self.security.sandbox != new.security.sandbox),
            ("security.user", self.security.user != new.security.user),
        ];
        checks.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    fn reading(text: &str) -> settings::Reading<Self> {
        settings::read(text, |mut root| {
            let config = Self {
                sensor: sensor::settings::Settings::read(root.section("sensor")),
                network: crate::network::settings::Settings::read(root.section("network")),
                samples: content::sampling::Settings::read(root.section("samples")),
                history: observe::settings::Settings::read(root.section("history")),
                fingerprints: observe::tools::Settings::read(root.section("fingerprints")),
                findings: detect::settings::Settings::read(root.section("findings")),
                metrics: export::settings::Settings::read(root.section("metrics")),
                page: export::page::settings::Settings::read(root.section("page")),
                rules: detect::rules::Settings::read(root.section("rules")),
                content: content::settings::Settings::read(root.section("content")),
                feeds: detect::feeds::Settings::read(root.section("feeds")),
                geo: detect::geo::Geo::read(root.section("geo")),
                outbound: outbound::settings::Settings::read(root.section("outbound")),
                response: respond::settings::Settings::read(root.section("response")),
                logs: logs::settings::Settings::read(root.section("logs")),
                control: control::settings::Settings::read(root.section("control")),
                security: sandbox::settings::Settings::read(root.section("security")),
                crowdsec: crowdsec::settings::Settings::read(root.section("crowdsec")),
                fleet: fleet::settings::Settings::read(root.section("fleet")),
                sinks: export::sinks::settings::Settings::read(&mut root),
            };
            // A window with a default length ends where the history does.
            for (rule, window) in config.rules.windows() {
                if window > config.history.horizon {
                    let (window, horizon) = (Interval(window), Interval(config.history.horizon));
                    let message = format!("{window} is longer than the history, {horizon} (history.horizon)");
                    root.contradiction(&[&format!("rules.{rule}.window")], message);
                }
            }
            let translators = &config.sensor.translator_prefixes;
            if let Some(message) = sources::not_ours(translators, &config.network.home) {
                root.contradiction(&["sensor.translator_prefixes", "network.home"], message);
            }
            // Event streams of the page stay open, and must leave connections free for scrapes and health checks.
            let (clients, connections) = (config.page.max_clients, config.metrics.max_connections);
            if config.page.enabled && clients > connections / 2 {
                let message = format!(
                    "{clients} browsers are more than half of the {connections} connections of the listener \
                     (page.max_clients, metrics.max_connections): scrapes would find no room"
                );
                root.contradiction(&["page.max_clients", "metrics.max_connections"], message);
            }
            root.finish();
            config
        })
    }
}

/// Reads the text of a file, within the size limit.
fn text(path: &Path) -> Result<String, ConfigError> {
    let read = |error| ConfigError::Read { path: path.to_owned(), error };
    let bytes = whole_file::read(path, MAX_FILE_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => ConfigError::Huge { path: path.to_owned() },
        _ => read(error),
    })?;
    let text = String::from_utf8(bytes).map_err(|_| read(io::Error::other("not UTF-8 text")))?;
    if text.trim().is_empty() {
        return Err(ConfigError::Empty { path: path.to_owned() });
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let problems = Config::parse(text).expect_err("it is wrong");
        problems.into_iter().map(|problem| format!("{}: {}", problem.line, problem.message)).collect()
    }

    #[test]
    fn the_commented_file_says_every_default() {
        assert_eq!(Config::parse(COMMENTED_DEFAULTS), Ok(Config::default()));
        let mut section = String::new();
        let mut shown = Vec::new();
        for line in COMMENTED_DEFAULTS.lines().filter(|line| !line.starts_with('#')) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, _)) = line.split_once(" = ") {
                shown.push(format!("{section}.{key}"));
            }
        }
        assert_eq!(shown, Config::settings(), "deploy/scanguard.toml shows the settings in their order");
    }

    #[test]
    fn the_sinks_in_the_commented_file_are_right_once_they_are_no_comment() {
        let (_, sinks) = COMMENTED_DEFAULTS.split_once("\n# [[sinks]]\n").expect("there are some");
        let text = format!("[[sinks]]\n{}", format!("\n{sinks}").replace("\n# ", "\n"));
        let config = Config::parse(&text).expect("it is right");
        assert_eq!(config.sinks.0.len(), 2, "{text}");
    }

    #[test]
    fn a_file_with_comments_only_is_all_defaults() {
        assert_eq!(Config::parse("# nothing to change\n"), Ok(Config::default()));
    }

    #[test]
    fn every_problem_is_said_with_its_line() {
        let text = "\
[sensor]
mode = \"fast\"
poll_intervall = \"1s\"
max_sources = 0
ipv6_prefix = 129

[rules.vertical_scan]
window = \"-3s\"
severity = 7
[colour]
";
        let said = problems(text);
        assert_eq!(said.len(), 7, "{said:#?}");
        assert!(said[0].starts_with("2: sensor.mode: "), "{}", said[0]);
        assert!(said[1].starts_with("3: sensor.poll_intervall: no such setting"), "{}", said[1]);
        assert!(said[1].contains("poll_interval"), "{}", said[1]);
        assert!(said[2].starts_with("4: sensor.max_sources: "), "{}", said[2]);
        assert!(said[3].starts_with("5: sensor.ipv6_prefix: "), "{}", said[3]);
        assert!(said[4].starts_with("8: rules.vertical_scan.window: "), "{}", said[4]);
        assert!(said[5].starts_with("9: rules.vertical_scan.severity: "), "{}", said[5]);
        assert!(said[6].starts_with("10: colour: no such"), "{}", said[6]);
    }

    #[test]
    fn a_number_that_is_too_large_for_its_type_is_said_with_the_limits() {
        let said = problems("[response]\njitter = 500\nmax_bans = -1\nmax_per_minute = \"many\"\n");
        assert_eq!(said[0], "2: response.jitter: 500 is not within 0 to 100");
        assert_eq!(said[1], "3: response.max_bans: -1 is not within 1 to 60000");
        assert!(said[2].starts_with("4: response.max_per_minute: invalid type: string"), "{said:?}");
    }

    #[test]
    fn browsers_leave_half_of_the_connections_to_scrapes() {
        let said = problems("[page]\nmax_clients = 33\n");
        assert!(
            said[0].starts_with("2: page.max_clients: 33 browsers are more than half of the 64"),
            "{said:?}"
        );
        let said = problems("[metrics]\nmax_connections = 15\n");
        assert!(said[0].starts_with("2: metrics.max_connections: 8 browsers"), "{said:?}");
        for right in
            ["[page]\nmax_clients = 32\n", "[page]\nenabled = false\n[metrics]\nmax_connections = 4\n"]
        {
            assert_eq!(Config::parse(right).map(drop), Ok(()), "{right}");
        }
    }

    #[test]
    fn the_control_socket_of_a_wrong_file_is_known() {
        let path = std::env::temp_dir().join(format!("scanguard-control-{}.toml", std::process::id()));
        fs::write(&path, "[sensor]\nmode = \"fast\"\n[control]\nsocket = \"/run/other.sock\"\n").unwrap();
        let (control, config) = (Config::control(&path), Config::load(&path));
        fs::remove_file(&path).unwrap();
        assert_eq!(control.map(|control| control.socket), Some(PathBuf::from("/run/other.sock")));
        assert!(matches!(config, Err(ConfigError::Wrong { .. })), "{config:?}");
        assert_eq!(Config::control(&path), None);
    }

    #[test]
    fn an_interface_that_is_named_twice_is_said() {
        let said = problems("[sensor]\ninterfaces = [\"eth0\", \"eth1\", \"eth0\"]\n");
        assert_eq!(said, ["2: sensor.interfaces: eth0 is named twice"]);
    }

    #[test]
    fn every_wrong_entry_of_a_list_is_said_with_its_line() {
        let text = "\
[network]
home = [
  \"10.78.0.0/24\",
  \"10.79.0.1/24\",
  7,
  \"home\",
]
";
        let said = problems(text);
        assert_eq!(said.len(), 3, "{said:#?}");
        assert!(said[0].starts_with("4: network.home: ") && said[0].contains("10.79.0.0/24"), "{}", said[0]);
        assert!(said[1].starts_with("5: network.home: ") && said[1].contains("integer"), "{}", said[1]);
        assert!(said[2].starts_with("6: network.home: "), "{}", said[2]);
        assert!(problems("[network]\nhome = true\n")[0].starts_with("2: network.home: a list"));
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_where_they_stand() {
        let text = "\
[history]
horizon = \"2h\"
[rules.vertical_scan]
services = 100
[rules.slow_scan]
window = \"3h\"
[rules.sequential_test]
theta1 = 0.9
";
        let said = problems(text);
        let starts = ["4: rules.vertical_scan.services: ", "6: rules.slow_scan.window: 3h is", "8: rules."];
        assert_eq!(said.len(), starts.len(), "{said:#?}");
        for (said, start) in said.iter().zip(starts) {
            assert!(said.starts_with(start), "{said}");
        }
    }

    #[test]
    fn a_threshold_of_zero_is_refused() {
        let text = "[rules.null_scan]\nprobes = 0\n[rules.slow_scan]\nwindow = \"0s\"\n";
        let said = problems(text);
        assert!(said[0].starts_with("2: rules.null_scan.probes: 0 is not within"), "{said:#?}");
        assert!(said[1].starts_with("4: rules.slow_scan.window: "), "{said:#?}");
    }

    #[test]
    fn every_problem_of_a_sink_is_said_where_it_stands() {
        let text = "\
[[sinks]]
kind = \"file\"
format = \"xml\"

[[sinks]]
kind = \"pigeon\"
[[sinks]]
kind = \"webhook\"
url = \"ftp://example.net\"
template = \"{{ reason\"
secret_file = \"/nowhere/secret\"
headers = [\"X-One: 1\", \"nothing\"]
[[sinks]]
kind = \"syslog\"
address = \"http://example.net\"
name = \"webhook\"
[[sinks]]
kind = \"stdout\"
[[sinks]]
kind = \"stdout\"
name = \"again\"
";
        let said = problems(text);
        let starts = [
            "1: sinks[0]: path is missing",
            "3: sinks[0].format: ",
            "6: sinks[1].kind: \"pigeon\" is no kind of sink; there are: stdout, ",
            "9: sinks[2].url: ",
            "10: sinks[2].template: ",
            "11: sinks[2].secret_file: /nowhere/secret: No such file",
            "12: sinks[2].headers: a header is written",
            "13: sinks[3]: another sink is called webhook",
            "15: sinks[3].address: ",
            "19: sinks[5]: another sink writes to standard output, too",
        ];
        assert_eq!(said.len(), starts.len(), "{said:#?}");
        for (said, start) in said.iter().zip(starts) {
            assert!(said.starts_with(start), "{said}");
        }
        assert!(problems("sinks = 3\n")[0].starts_with("1: sinks: tables [[sinks]] are wanted"));
    }

    #[test]
    fn without_sinks_findings_go_to_standard_output_and_an_empty_list_is_none() {
        let named = |text| {
            let config = Config::parse(text).expect("it is right");
            config.sinks.0.into_iter().map(|sink| sink.name).collect::<Vec<_>>()
        };
        assert_eq!(named("# nothing\n"), ["stdout"]);
        assert_eq!(named("sinks = []\n"), [""; 0]);
        let text =
            "[[sinks]]\nkind = \"journald\"\n[[sinks]]\nkind = \"syslog\"\naddress = \"udp://[::1]\"\n";
        assert_eq!(named(text), ["journald", "syslog"]);
    }

    #[test]
    fn a_section_that_is_no_table_is_said_so() {
        assert!(problems("sensor = 3\n")[0].starts_with("1: sensor: "));
    }

    #[test]
    fn broken_syntax_is_said_with_its_line() {
        assert!(problems("[sensor]\nmode = \n")[0].starts_with("2: "));
    }

    #[test]
    fn files_that_are_no_configuration_are_refused() {
        let directory = std::env::temp_dir().join(format!("scanguard-config-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = directory.join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let empty = write("empty.toml", b" \n");
        let binary = write("binary.toml", &[0xff, 0xfe, 0]);
        let huge = write("huge.toml", &vec![b'#'; (1 << 20) + 1]);
        let results = [
            Config::load(&empty),
            Config::load(&binary),
            Config::load(&huge),
            Config::load(&directory),
            Config::load(&directory.join("missing.toml")),
        ]
        .map(|result| result.expect_err("it is refused").to_string());
        fs::remove_dir_all(&directory).unwrap();
        for (said, expected) in
            results.iter().zip(["is empty", "not UTF-8", "1 MiB", "not a file", "No such file"])
        {
            assert!(said.contains(expected), "{said}");
        }
    }
}
