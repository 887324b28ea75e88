//! Writes what a fleet begins with: the configuration of its NATS server, and credentials for each host.

use std::{
    fmt::Write as _,
    fs, io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use nkeys::KeyPair;

use super::{
    link::inbox,
    settings::{check_name, seed},
    wire::{ALL_OUT, DECISIONS, MAX_MESSAGE},
};
use crate::whole_file;

/// The largest credentials file that is read.
const MAX_CREDENTIALS: u64 = 16 * 1024;

/// What is to be written.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where.
    pub directory: PathBuf,
    /// The hosts.
    pub members: Vec<String>,
    /// Those that run `scanguard fleet run`.
    pub runners: Vec<String>,
    /// Where the server listens.
    pub listen: SocketAddr,
    /// The server's certificate and its key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Where the server keeps its streams.
    pub store: PathBuf,
}

/// Why nothing is written.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A name is wrong.
    #[error("{name:?}: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Two have one name.
    #[error("{0} is named twice: each host has a name of its own, those that run the role, too")]
    Twice(String),
    /// There is no host, or nobody compares.
    #[error("name the hosts (--member) and at least one that runs `scanguard fleet run` (--runner)")]
    Nobody,
    /// Others could read all.
    #[error(
        "{0} can be reached by others, and nothing would be encrypted: name a certificate (--tls-cert, --tls-key)"
    )]
    Open(SocketAddr),
    /// A file could not be read or written.
    #[error("{}: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Credentials that are there cannot be used.
    #[error("{}: there is no seed of a user in it: move it away, and the host gets new credentials", .0.display())]
    Credentials(PathBuf),
    /// A key could not be made.
    #[error("a key could not be made: {0}")]
    Key(#[from] nkeys::error::Error),
}

/// What was written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Written {
    /// The server's configuration.
    pub server: PathBuf,
    /// New credentials.
    pub new: Vec<PathBuf>,
    /// Credentials that were there, and stay.
    pub kept: Vec<PathBuf>,
}

/// Writes it. Credentials that are there stay, so that hosts can be added.
///
/// # Errors
/// See [`InitError`].
pub fn write(plan: &Plan) -> Result<Written, InitError> {
    check(plan)?;
    let credentials = plan.directory.join("creds");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&credentials)
        .map_err(|error| InitError::File { path: credentials.clone(), error })?;
    let mut written = Written { server: plan.directory.join("nats-server.conf"), ..Written::default() };
    let mut users = Vec::new();
    for (name, is_runner) in everybody(plan) {
        let path = credentials.join(format!("{name}.creds"));
        let key = key(&path, &mut written)?;
        users.push((name, is_runner, key));
    }
    let text = server(plan, &users);
    whole_file::replace(&written.server, text.as_bytes())
        .map_err(|error| InitError::File { path: written.server.clone(), error })?;
    Ok(written)
}

fn everybody(plan: &Plan) -> impl Iterator<Item = (&str, bool)> {
    let members = plan.members.iter().map(|name| (name.as_str(), false));
    members.chain(plan.runners.iter().map(|name| (name.as_str(), true)))
}

fn check(plan: &Plan) -> Result<(), InitError> {
    if plan.members.is_empty() || plan.runners.is_empty() {
        return Err(InitError::Nobody);
    }
    let mut names = std::collections::BTreeSet::new();
    for (name, _) in everybody(plan) {
        check_name(name).map_err(|why| InitError::Name { name: name.to_owned(), why })?;
        if !names.insert(name) {
            return Err(InitError::Twice(name.to_owned()));
        }
    }
    if plan.tls.is_none() && !plan.listen.ip().is_loopback() {
        return Err(InitError::Open(plan.listen));
    }
    Ok(())
}

/// The public key of the credentials in a file, which are made if there are none.
fn key(path: &Path, written: &mut Written) -> Result<String, InitError> {
    let failed = |error| InitError::File { path: path.to_owned(), error };
    if let Some(bytes) = whole_file::read_if_there(path, MAX_CREDENTIALS).map_err(failed)? {
        let text = String::from_utf8_lossy(&bytes);
        let seed = seed(&text).ok_or_else(|| InitError::Credentials(path.to_owned()))?;
        written.kept.push(path.to_owned());
        return Ok(KeyPair::from_seed(seed)?.public_key());
    }
    let pair = KeyPair::new_user();
    whole_file::replace(path, format!("{}\n", pair.seed()?).as_bytes()).map_err(failed)?;
    written.new.push(path.to_owned());
    Ok(pair.public_key())
}

/// The configuration of the server.
fn server(plan: &Plan, users: &[(&str, bool, String)]) -> String {
    let mut text = String::from(
        "# Written by `scanguard fleet init`, which writes it anew when hosts are added. Start it with\n\
         # nats-server --config THIS_FILE, and have it read the file again with nats-server --signal reload.\n",
    );
    let mut line = |line: std::fmt::Arguments<'_>| {
        // A String takes everything.
        let _ = writeln!(text, "{line}");
    };
    line(format_args!("listen: \"{}\"", plan.listen));
    line(format_args!("max_payload: {}", 2 * MAX_MESSAGE));
    line(format_args!("jetstream {{ store_dir: {} }}", quoted(&plan.store)));
    if let Some((certificate, key)) = &plan.tls {
        line(format_args!("tls {{ cert_file: {}, key_file: {} }}", quoted(certificate), quoted(key)));
    }
    line(format_args!("accounts {{"));
    line(format_args!("  SCANGUARD {{"));
    line(format_args!("    jetstream: enabled"));
    line(format_args!("    users: ["));
    for (name, is_runner, key) in users {
        let (publish, subscribe) = if *is_runner { of_runner() } else { of_member(name) };
        line(format_args!("      # {name}{}", if *is_runner { ", runs the role" } else { "" }));
        line(format_args!(
            "      {{ nkey: {key}, permissions: {{ publish: {publish}, subscribe: {subscribe} }} }}"
        ));
    }
    line(format_args!("    ]"));
    line(format_args!("  }}"));
    line(format_args!("}}"));
    text
}

/// A member speaks under its own name, hears decisions, and asks for those that it missed.
fn of_member(name: &str) -> (String, String) {
    let publish = [
        format!("sg.v1.sight.*.{name}"),
        format!("sg.v1.find.*.{name}"),
        format!("$JS.API.STREAM.INFO.{DECISIONS}"),
        format!("$JS.API.DIRECT.GET.{DECISIONS}"),
        format!("$JS.API.DIRECT.GET.{DECISIONS}.>"),
    ];
    let subscribe = [ALL_OUT.to_owned(), format!("{}.>", inbox(name))];
    (allow(&publish), allow(&subscribe))
}

/// Who decides cannot say what members saw.
fn of_runner() -> (String, String) {
    ("{ allow: [\">\"], deny: [\"sg.v1.sight.>\", \"sg.v1.find.>\"] }".to_owned(), allow(&[">".to_owned()]))
}

fn allow(subjects: &[String]) -> String {
    format!("{{ allow: [{}] }}", list(subjects))
}

fn list(texts: &[String]) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| format!("\"{text}\"")).collect();
    quoted.join(", ")
}

fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn plan(directory: &Path) -> Plan {
        Plan {
            directory: directory.to_owned(),
            members: vec!["edge-1".to_owned(), "edge-2".to_owned()],
            runners: vec!["run-1".to_owned()],
            listen: "127.0.0.1:4222".parse().unwrap(),
            tls: None,
            store: "/var/lib/nats".into(),
        }
    }

    #[test]
    fn hosts_can_be_added_and_keep_their_keys() {
        let directory = std::env::temp_dir().join(format!("scanguard-init-{}", std::process::id()));
        let first = write(&plan(&directory)).unwrap();
        assert_eq!((first.new.len(), first.kept.len()), (3, 0));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(first.new.iter().map(|path| mode(path)).collect::<Vec<_>>(), [0o600; 3]);
        let before = fs::read_to_string(&first.server).unwrap();
        assert!(before.contains("\"sg.v1.sight.*.edge-1\"") && before.contains("deny: [\"sg.v1.sight.>\", "));
        let mut more = plan(&directory);
        more.members.push("edge-3".to_owned());
        let second = write(&more).unwrap();
        assert_eq!((second.new.len(), second.kept.len()), (1, 3));
        let after = fs::read_to_string(&second.server).unwrap();
        let keys = |text: &str| {
            text.lines().filter(|line| line.contains("nkey")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(keys(&before).iter().all(|line| keys(&after).contains(line)));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn names_that_are_no_tokens_and_servers_that_anybody_can_read_are_refused() {
        let refused = |change: fn(&mut Plan)| {
            let mut plan = plan(Path::new("/nonexistent"));
            change(&mut plan);
            write(&plan).unwrap_err().to_string()
        };
        assert!(refused(|plan| plan.members.push("a.b".to_owned())).contains("no dots"));
        assert!(refused(|plan| plan.members.push("*".to_owned())).contains("no dots"));
        assert!(refused(|plan| plan.runners.push("edge-1".to_owned())).contains("named twice"));
        assert!(refused(|plan| plan.runners.clear()).contains("--runner"));
        assert!(refused(|plan| plan.listen = "0.0.0.0:4222".parse().unwrap()).contains("--tls-cert"));
    }
}
