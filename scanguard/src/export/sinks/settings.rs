//! `[[sinks]]` of the configuration.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::{
    HeaderMap, Uri,
    http::{HeaderName, HeaderValue},
};
use serde::Deserialize;

use super::{
    alertmanager,
    caller::JSON,
    webhook::{self, Secret, Template},
};
use crate::{
    detect::Severity,
    export::forms::Format,
    secret,
    settings::{Interval, Section},
};

/// Most sinks at once.
const MAX_SINKS: usize = 32;
/// Most headers of one sink.
const MAX_HEADERS: usize = 32;
/// The default capacity of a sink's queue: an event has about 3 kB, and the sinks share it.
const QUEUE: u32 = 1024;
/// The socket of the journal; this is systemd's own path.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// The same interval as Prometheus.
const RESEND: Duration = Duration::from_secs(60);
/// The socket that syslog(3) writes to.
const DEV_LOG: &str = "unix:/dev/log";
/// The port in RFC 5426 and RFC 6587.
const SYSLOG_PORT: u16 = 514;

/// The sinks. If the file has none, events go to standard output.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings(pub Vec<Sink>);

impl Default for Settings {
    fn default() -> Self {
        let kind = Kind::Stdout { format: Format::Auto };
        Self(vec![Sink { name: kind.label().to_owned(), kind, min_severity: Severity::Info, queue: QUEUE }])
    }
}

/// One sink.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// Its name in metrics and in the log.
    pub name: String,
    /// The kind of sink, with its settings.
    pub kind: Kind,
    /// Less severe findings are not sent.
    pub min_severity: Severity,
    /// The capacity of its queue.
    pub queue: u32,
}

/// The kinds of sinks.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Standard output.
    Stdout {
        /// The form of lines.
        format: Format,
    },
    /// A file.
    File {
        /// The path.
        path: PathBuf,
        /// The form of lines.
        format: Format,
    },
    /// The journal.
    Journald {
        /// The socket.
        socket: PathBuf,
    },
    /// A syslog server.
    Syslog {
        /// The transport.
        transport: Transport,
        /// The facility.
        facility: Facility,
        /// The form of messages.
        format: Format,
    },
    /// Alertmanager.
    Alertmanager(alertmanager::Settings),
    /// Anything that accepts a POST.
    Webhook(Box<webhook::Settings>),
}

impl Kind {
    const LABELS: [&str; 6] = ["stdout", "file", "journald", "syslog", "alertmanager", "webhook"];

    /// The name in the configuration.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Stdout { .. } => "stdout",
            Self::File { .. } => "file",
            Self::Journald { .. } => "journald",
            Self::Syslog { .. } => "syslog",
            Self::Alertmanager(_) => "alertmanager",
            Self::Webhook(_) => "webhook",
        }
    }

    /// The destination, if only one sink can write to it.
    fn output(&self) -> Option<String> {
        match self {
            Self::Stdout { .. } => Some("standard output".to_owned()),
            Self::File { path, .. } => Some(path.display().to_string()),
            Self::Journald { .. } | Self::Syslog { .. } | Self::Alertmanager(_) | Self::Webhook(_) => None,
        }
    }

    /// Whether it shows the current state, rather than a log of events.
    pub const fn shows_state(&self) -> bool {
        match self {
            Self::Alertmanager(_) => true,
            Self::Stdout { .. }
            | Self::File { .. }
            | Self::Journald { .. }
            | Self::Syslog { .. }
            | Self::Webhook(_) => false,
        }
    }
}

/// The facility, of RFC 5424 section 6.2.1.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Facility {
    /// System daemons.
    #[default]
    Daemon,
    /// Security and authorization messages.
    Auth,
    /// The same, with restricted access.
    Authpriv,
    /// For local use, as the following.
    Local0,
    /// As above.
    Local1,
    /// As above.
    Local2,
    /// As above.
    Local3,
    /// As above.
    Local4,
    /// As above.
    Local5,
    /// As above.
    Local6,
    /// As above.
    Local7,
}

impl Facility {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Daemon => 3,
            Self::Auth => 4,
            Self::Authpriv => 10,
            Self::Local0 => 16,
            Self::Local1 => 17,
            Self::Local2 => 18,
            Self::Local3 => 19,
            Self::Local4 => 20,
            Self::Local5 => 21,
            Self::Local6 => 22,
            Self::Local7 => 23,
        }
    }
}

/// The transport to a syslog server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Transport {
    /// `udp://host:514`.
    Udp(String),
    /// `tcp://host:514`.
    Tcp(String),
    /// `unix:/dev/log`.
    Unix(PathBuf),
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Settings {
    /// `--format` overrides the file.
    pub fn set_stdout_format(&mut self, wanted: Format) {
        for sink in &mut self.0 {
            if let Kind::Stdout { format } = &mut sink.kind
                && wanted != Format::Auto
            {
                *format = wanted;
            }
        }
    }

    /// The files that the sinks write.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().filter_map(|sink| match &sink.kind {
            Kind::File { path, .. } => Some(path.as_path()),
            Kind::Stdout { .. }
            | Kind::Journald { .. }
            | Kind::Syslog { .. }
            | Kind::Alertmanager(_)
            | Kind::Webhook(_) => None,
        })
    }

    /// Whether a sink sends to a Unix socket.
    pub fn use_unix_sockets(&self) -> bool {
        self.0.iter().any(|sink| match &sink.kind {
            Kind::Journald { .. } | Kind::Syslog { transport: Transport::Unix(_), .. } => true,
            Kind::Stdout { .. }
            | Kind::File { .. }
            | Kind::Syslog { transport: Transport::Udp(_) | Transport::Tcp(_), .. }
            | Kind::Alertmanager(_)
            | Kind::Webhook(_) => false,
        })
    }

    pub(crate) fn read(root: &mut Section<'_, '_>) -> Self {
        let Some(tables) = root.tables("sinks", MAX_SINKS) else {
            return Self::default();
        };
        let mut taken = BTreeSet::new();
        Self(tables.into_iter().filter_map(|section| Sink::read(section, &mut taken)).collect())
    }
}

impl Sink {
    /// Reads one sink; `taken` holds names and destinations that must be unique.
    fn read(mut section: Section<'_, '_>, taken: &mut BTreeSet<String>) -> Option<Self> {
        // The kind decides which other settings exist.
        let label = section.required("kind", |text| {
            let known = Kind::LABELS.into_iter().find(|label| *label == text);
            known.ok_or_else(|| {
                format!("\"{text}\" is no kind of sink; there are: {}", Kind::LABELS.join(", "))
            })
        })?;
        let name = section.value("name", label.to_owned(), |name: &String| {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if !name.is_empty() && name.len() <= 64 && name.chars().all(fits) {
                return Ok(());
            }
            Err(format!("{name:?} is no name: letters, digits, - _ . are possible, 64 at most"))
        });
        if !taken.insert(format!("name {name}")) {
            section.problem(format_args!("another sink is called {name}, too: give each a name of its own"));
        }
        let min_severity = section.value("min_severity", Severity::Info, |_| Ok(()));
        let queue = section.number("queue", QUEUE, 1..=100_000);
        let kind = Kind::read(label, &mut section);
        if let Some(output) = kind.as_ref().and_then(Kind::output)
            && !taken.insert(output.clone())
        {
            section.problem(format_args!("another sink writes to {output}, too: their lines would mix"));
        }
        section.finish();
        Some(Self { name, kind: kind?, min_severity, queue })
    }
}

impl Kind {
    fn read(label: &str, section: &mut Section<'_, '_>) -> Option<Self> {
        let format = |section: &mut Section<'_, '_>| section.value("format", Format::Auto, |_| Ok(()));
        Some(match label {
            "stdout" => Self::Stdout { format: format(section) },
            "file" => {
                let (path, format) = (section.required("path", absolute), format(section));
                Self::File { path: path?, format }
            }
            "journald" => {
                let socket = section.optional("socket", absolute);
                Self::Journald { socket: socket.unwrap_or_else(|| PathBuf::from(JOURNAL)) }
            }
            "syslog" => {
                let address =
                    section.value("address", DEV_LOG.to_owned(), |text: &String| transport(text).map(drop));
                let facility = section.value("facility", Facility::default(), |_| Ok(()));
                Self::Syslog { transport: transport(&address).ok()?, facility, format: format(section) }
            }
            "alertmanager" => {
                let url = section.required("url", http_url);
                let limits = Interval::between(Duration::from_secs(1), Duration::from_secs(3600));
                let resend = section.interval("resend", RESEND, limits);
                let headers = headers(section);
                Self::Alertmanager(alertmanager::Settings { url: url?, resend, headers })
            }
            _ => Self::Webhook(Box::new(read_webhook(section)?)),
        })
    }
}

fn read_webhook(section: &mut Section<'_, '_>) -> Option<webhook::Settings> {
    let url = section.required("url", http_url);
    let format = section.value("format", Format::Json, |_| Ok(()));
    let content_type = section.optional("content_type", |text| {
        HeaderValue::from_str(text).map_err(|_| format!("{text:?} is no media type"))
    });
    let content_type = content_type.unwrap_or(JSON);
    let json = content_type.to_str().is_ok_and(|text| text.contains("json"));
    let template = section.optional("template", |text| Template::parse(text.to_owned(), json));
    let secret = section.optional("secret_file", |text| {
        let secret = secret::read(&absolute(text)?).map_err(|error| error.to_string())?;
        Secret::parse(secret.reveal())
    });
    let headers = headers(section);
    Some(webhook::Settings { url: url?, format, template, content_type, headers, secret })
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if path.is_absolute() && path.file_name().is_some() {
        return Ok(path.to_owned());
    }
    Err(format!("{text:?} is no absolute path of a file"))
}

fn http_url(text: &str) -> Result<Uri, String> {
    let wrong =
        || format!("{text:?} is no URL such as \"http://127.0.0.1:9093\" or \"https://example.net/hook\"");
    let url: Uri = text.parse().map_err(|_| wrong())?;
    let is_http = matches!(url.scheme_str(), Some("http" | "https"));
    let names_host = url.host().is_some_and(|host| !host.is_empty());
    if !is_http || !names_host {
        return Err(wrong());
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("user and password in a URL are not sent: use headers = [\"Authorization: Basic ...\"]"
            .to_owned());
    }
    Ok(url)
}

fn transport(text: &str) -> Result<Transport, String> {
    let with_port = |host: &str| {
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
            && !host.ends_with(']');
        if has_port { host.to_owned() } else { format!("{host}:{SYSLOG_PORT}") }
    };
    match text.split_once(':') {
        Some(("udp", host)) if host.len() > 2 && host.starts_with("//") => {
            Ok(Transport::Udp(with_port(&host[2..])))
        }
        Some(("tcp", host)) if host.len() > 2 && host.starts_with("//") => {
            Ok(Transport::Tcp(with_port(&host[2..])))
        }
        Some(("unix", path)) => absolute(path).map(Transport::Unix),
        _ => Err(format!(
            "{text:?} is no address such as \"udp://192.0.2.1:514\", \"tcp://log.example.net:514\" or \"{DEV_LOG}\""
        )),
    }
}

fn headers(section: &mut Section<'_, '_>) -> HeaderMap {
    let read = |text: &str| {
        let (name, value) = text.split_once(':').ok_or("a header is written \"Name: value\"")?;
        let name =
            name.trim().parse::<HeaderName>().map_err(|_| format!("{name:?} is no name of a header"))?;
        let value = value.trim().parse::<HeaderValue>();
        let mut value =
            value.map_err(|_| format!("the value of {name} has characters that no header may have"))?;
        // Keeps the value out of logs.
        value.set_sensitive(true);
        Ok((name, value))
    };
    section.list("headers", MAX_HEADERS, Vec::new(), read).into_iter().collect()
}
