//! `[fleet]` of the configuration.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper::Uri;
use ipnet::IpNet;
use nkeys::KeyPair;
use serde::Deserialize;

use crate::{
    cidr::network,
    secret::{self, Secret},
    settings::{Interval, Section},
};

/// How many characters a name may have.
pub const MAX_NAME: usize = 64;
/// How many servers may be named.
const MAX_SERVERS: usize = 16;
/// Entries of `allow`.
const MAX_ALLOW: usize = 4_096;
/// The port of NATS.
const PORT: u16 = 4_222;

/// The address of a NATS server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// Whether it must use TLS: tls.
    pub is_tls: bool,
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { is_tls, host, port } = self;
        let scheme = if *is_tls { "tls" } else { "nats" };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl std::str::FromStr for Server {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no URL such as \"tls://nats.example.net:{PORT}\"");
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let is_tls = match uri.scheme_str() {
            Some("tls") => true,
            Some("nats") => false,
            Some(_) | None => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err(format!("{text:?} has a user in it: name a credentials_file instead"));
        }
        let port = authority.port_u16();
        // A number that is no port must not count as a part of the name.
        let is_port = port.is_some() || authority.as_str() == authority.host();
        let is_bare = is_port && uri.path().trim_matches('/').is_empty() && uri.query().is_none();
        if !is_bare || authority.host().is_empty() {
            return Err(wrong());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { is_tls, host, port: port.unwrap_or(PORT) })
    }
}

impl Server {
    /// Whether nobody on the way can read the traffic, as far as the URL tells.
    pub fn is_private(&self) -> bool {
        self.is_tls
            || self.host == "localhost"
            || self.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
    }
}

/// What decisions of the fleet may lead to on this host.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// Nothing: they are counted.
    Nothing,
    /// Shields.
    Shield,
    /// Shields, and bans where there is proof.
    #[default]
    Ban,
}

/// By what this host shows who it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Identity {
    /// The seed of an nkey, perhaps with claims that an operator signed: a credentials file.
    Credentials(Secret),
    /// A client certificate.
    Certificate {
        /// PEM.
        certificate: PathBuf,
        /// PEM.
        key: PathBuf,
    },
}

/// `[fleet]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The servers; none: this host is no member of a fleet.
    pub servers: Vec<Server>,
    /// The name of this host in the fleet.
    pub name: String,
    /// None: the settings are wrong, or there are no servers.
    pub identity: Option<Identity>,
    /// A file with certificates of authorities that are trusted instead of those that this host trusts.
    pub ca_file: Option<PathBuf>,
    /// Where sightings wait while no server can be reached.
    pub spool: PathBuf,
    /// What decisions may lead to.
    pub act: Act,
    /// `[fleet.run]`.
    pub run: Run,
}

/// `[fleet.run]`: what those have who compare the hosts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Run {
    /// How many copies of each stream the servers keep.
    pub replicas: u8,
    /// The most that sightings take on the servers' disks, in GiB. The oldest go first.
    pub store_gib: u32,
    /// Where `/metrics` of this role is.
    pub listen: SocketAddr,
    /// How far back hosts are compared.
    pub window: Duration,
    /// How many members have to bear a decision out.
    pub members: u32,
    /// Members that a source missed.
    pub sweep_hosts: u32,
    /// Distinct services over at least three members.
    pub vertical_ports: u32,
    /// How long a decision lasts.
    pub lasts: Duration,
    /// Decisions to ban within a minute.
    pub max_per_minute: u32,
    /// Sources that are remembered, in each of the partitions.
    pub max_sources: u32,
    /// Networks about which nothing is ever decided.
    pub allow: Vec<IpNet>,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            replicas: 1,
            store_gib: 4,
            listen: SocketAddr::from(([127, 0, 0, 1], 9_824)),
            window: Duration::from_secs(24 * 60 * 60),
            members: 3,
            sweep_hosts: 16,
            vertical_ports: 20,
            lasts: Duration::from_secs(60 * 60),
            max_per_minute: 100,
            max_sources: 100_000,
            allow: Vec::new(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            name: String::new(),
            identity: None,
            ca_file: None,
            spool: PathBuf::from(Self::SPOOL),
            act: Act::default(),
            run: Run::default(),
        }
    }
}

impl Settings {
    /// The default place of the spool.
    pub const SPOOL: &'static str = "/var/lib/scanguard/fleet.spool";

    /// Whether this host is a member.
    pub fn is_on(&self) -> bool {
        !self.servers.is_empty()
    }

    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let servers = section.optional("url", servers).unwrap_or_default();
        let name = section.value("name", String::new(), |name: &String| check_optional_name(name));
        let credentials = path(section.value("credentials_file", PathBuf::new(), |_| Ok(())));
        let ca_file = path(section.value("ca_file", PathBuf::new(), |_| Ok(())));
        let certificate = path(section.value("cert_file", PathBuf::new(), |_| Ok(())));
        let key = path(section.value("key_file", PathBuf::new(), |_| Ok(())));
        let spool = section.value("spool", PathBuf::from(Self::SPOOL), |path| absolute(path));
        let act = section.value("act", Act::default(), |_| Ok(()));
        let run = Run::read(section.section("run"));
        let is_on = !servers.is_empty();
        if is_on && name.is_empty() {
            section.contradiction(
                &["url"],
                "name is missing: the name of this host in the fleet, the same as in its credentials",
            );
        }
        let mut identity = None;
        match (credentials, certificate, key) {
            _ if !is_on => {}
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => section.contradiction(
                &["credentials_file", "cert_file", "key_file"],
                "either a credentials_file or a cert_file with its key_file, not both",
            ),
            (Some(path), None, None) => match read_credentials(&path) {
                Ok(secret) => identity = Some(Identity::Credentials(secret)),
                Err(error) => section.contradiction(&["credentials_file", "url"], error),
            },
            (None, Some(certificate), Some(key)) => match secret::read_text(&key) {
                Ok(_) => identity = Some(Identity::Certificate { certificate, key }),
                Err(error) => section.contradiction(&["key_file", "url"], format!("key_file: {error}")),
            },
            (None, Some(_), None) => section.contradiction(&["cert_file"], "its key_file is missing"),
            (None, None, Some(_)) => section.contradiction(&["key_file"], "its cert_file is missing"),
            (None, None, None) => section.contradiction(
                &["url"],
                "credentials_file is missing: `scanguard fleet init` makes one for each host",
            ),
        }
        if let (true, Some(path)) = (is_on, &ca_file)
            && let Err(error) = std::fs::metadata(path)
        {
            section.contradiction(&["ca_file"], format!("{}: {error}", path.display()));
        }
        section.finish();
        Self { servers, name, identity, ca_file, spool, act, run }
    }
}

impl Run {
    fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
        let run = Self {
            replicas: section.number("replicas", default.replicas, 1..=5),
            store_gib: section.number("store_gib", default.store_gib, 1..=10_000),
            listen: section.value("listen", default.listen, |_| Ok(())),
            window: section.interval("window", default.window, Interval::between(hours(1), hours(24))),
            members: section.number("members", default.members, 3..=1_000),
            sweep_hosts: section.number("sweep_hosts", default.sweep_hosts, 3..=10_000),
            vertical_ports: section.number("vertical_ports", default.vertical_ports, 3..=1_000),
            lasts: section.interval(
                "lasts",
                default.lasts,
                Interval::between(Duration::from_secs(60), hours(24)),
            ),
            max_per_minute: section.number("max_per_minute", default.max_per_minute, 1..=10_000),
            max_sources: section.number("max_sources", default.max_sources, 1_000..=10_000_000),
            allow: section.list("allow", MAX_ALLOW, Vec::new(), network),
        };
        section.finish();
        run
    }
}

fn path(path: PathBuf) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then_some(path)
}

fn absolute(path: &Path) -> Result<(), String> {
    if path.is_absolute() && path.file_name().is_some() {
        return Ok(());
    }
    Err(format!("{} is no absolute path of a file", path.display()))
}

/// Servers of one cluster, with commas between them; nothing: none.
fn servers(text: &str) -> Result<Vec<Server>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let servers: Vec<Server> = text.split(',').map(|url| url.trim().parse()).collect::<Result<_, _>>()?;
    if servers.len() > MAX_SERVERS {
        return Err(format!("{} servers, {MAX_SERVERS} are possible", servers.len()));
    }
    Ok(servers)
}

fn check_optional_name(name: &str) -> Result<(), String> {
    if name.is_empty() { Ok(()) } else { check_name(name) }
}

/// A name is one token of a subject: without dots and wildcards.
///
/// # Errors
/// What is wrong with it.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(format!(
        "a name has 1 to {MAX_NAME} letters, digits, _ or -, and no dots: it is a part of NATS subjects"
    ))
}

/// The line of a credentials file with the seed of a user's nkey.
pub(super) fn seed(text: &str) -> Option<&str> {
    text.lines().map(str::trim).find(|line| line.starts_with("SU") && KeyPair::from_seed(line).is_ok())
}

/// Reads the credentials of a host.
///
/// # Errors
/// Others can read the file, or there is no seed of a user in it.
pub fn read_credentials(path: &Path) -> Result<Secret, String> {
    let text = secret::read_text(path).map_err(|error| format!("credentials_file: {error}"))?;
    if seed(text.reveal()).is_some() {
        return Ok(text);
    }
    Err(format!(
        "credentials_file: {} has no seed of a user (a line of 58 characters that begins with SU)",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;
    use crate::config::Config;

    fn problems(text: &str) -> Vec<String> {
        let problems = Config::parse(text).expect_err("it is wrong");
        problems.into_iter().map(|problem| problem.message).collect()
    }

    fn file(name: &str, mode: u32, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("scanguard-fleet-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn urls_are_those_of_nats() {
        for (text, shown) in [
            ("tls://nats.example.net:4222", "tls://nats.example.net:4222"),
            ("nats://127.0.0.1", "nats://127.0.0.1:4222"),
            ("tls://[2001:db8::1]:5000", "tls://[2001:db8::1]:5000"),
        ] {
            assert_eq!(text.parse::<Server>().map(|server| server.to_string()), Ok(shown.to_owned()));
        }
        for wrong in ["nats.example.net", "https://x", "tls://", "tls://x:0x1", "tls://x/path", "tls://x?y"] {
            assert!(wrong.parse::<Server>().unwrap_err().contains("is no URL"), "{wrong}");
        }
        assert!("tls://me:word@x".parse::<Server>().unwrap_err().contains("credentials_file"));
    }

    #[test]
    fn a_member_has_a_name_and_credentials_that_nobody_else_can_read() {
        let seed = KeyPair::new_user().seed().unwrap();
        let good = file("good", 0o600, &format!("{seed}\n"));
        let open = file("open", 0o644, &format!("{seed}\n"));
        let none = file("none", 0o600, "SUA\n");
        let text = |name: &str, path: &Path| {
            format!(
                "[fleet]\nurl = \"tls://x\"\nname = \"{name}\"\ncredentials_file = \"{}\"\n",
                path.display()
            )
        };
        assert_eq!(Config::parse(&text("edge-1", &good)).map(|config| config.fleet.is_on()), Ok(true));
        for (wrong, word) in [
            (text("edge-1", &open), "chmod 600"),
            (text("edge-1", &none), "no seed of a user"),
            (text("edge.1", &good), "no dots"),
            (text("*", &good), "no dots"),
            (text("", &good), "name is missing"),
            ("[fleet]\nurl = \"tls://x\"\nname = \"edge-1\"\n".to_owned(), "credentials_file is missing"),
            ("[fleet]\ncert_fil = \"a\"\n".to_owned(), "is cert_file meant?"),
        ] {
            let said = problems(&wrong);
            assert!(said.iter().any(|said| said.contains(word)), "{wrong}: {said:?}");
        }
        for path in [good, open, none] {
            fs::remove_file(path).unwrap();
        }
    }
}
