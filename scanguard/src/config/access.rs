//! Which files, directories and capabilities the agent needs after it is attached, for a given configuration.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
};

use caps::{Capability, CapsHashSet};
use nix::unistd::{AccessFlags, access as may};

use super::{Config, DEFAULT_PATH, MAX_FILE_BYTES};
use crate::{
    export::web,
    privileges::effective_user,
    sandbox::{Access, Calls},
    service, user, whole_file,
};

/// Files that every process reads to resolve names and speak TLS, and those that describe this host.
const OF_THE_SYSTEM: [&str; 26] = [
    "/proc",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/localtime",
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/tls/cert.pem",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/usr/share/zoneinfo",
    "/usr/lib",
    "/lib",
    "/lib64",
    "/usr/lib64",
];

/// Directories that also hold files of others: only the named files in them become readable.
const SHARED: [&str; 6] = ["/", "/etc", "/root", "/etc/ssl", "/etc/ssl/private", "/etc/pki/tls/private"];

/// Directories with files of other programs, in addition to the homes of users. Write access to everything below them
/// would allow almost anything.
const USED_BY_OTHERS: [&str; 12] = [
    "/",
    "/etc",
    "/home",
    "/opt",
    "/root",
    "/run",
    "/srv",
    "/usr",
    "/usr/local",
    "/var",
    "/var/lib",
    "/var/log",
];

/// The files and capabilities that the agent needs with this configuration, which was read from this file.
pub fn needed(config: &Config, file: &Path) -> Access {
    let write = directories(config).filter_map(|directory| fs::canonicalize(directory).ok()).collect();
    Access { write, capabilities: capabilities(config), calls: calls(config), ..reading(file) }
}

/// The files that a process needs that reads this configuration file and writes nothing: `scanguard fleet run`.
pub fn reading(file: &Path) -> Access {
    let mut read: BTreeSet<_> = OF_THE_SYSTEM.iter().map(PathBuf::from).collect();
    let certificates = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().filter_map(std::env::var_os);
    read.extend(certificates.map(PathBuf::from));
    read.extend(named(file));
    read.retain(|path| path.exists());
    Access { read, ..Access::default() }
}

fn calls(config: &Config) -> Calls {
    Calls {
        pin: config.sensor.persist,
        unix_datagrams: config.sinks.use_unix_sockets() || service::is_managed(),
    }
}

/// The files that this file names, and itself, that this process's user may not read: only its capabilities let it.
pub fn unreadable(file: &Path) -> BTreeSet<PathBuf> {
    let is_unreadable = |path: &PathBuf| path.is_file() && may(path, AccessFlags::R_OK).is_err();
    mentioned(file).into_iter().filter(is_unreadable).collect()
}

/// No capability, except for logs that this user may not read. The sandbox adds what the kernel wants for maps.
fn capabilities(config: &Config) -> CapsHashSet {
    // Root without capabilities reads no more than others do, which access(2) does not show before.
    let is_root = effective_user() == 0 && !config.logs.files.is_empty();
    let for_logs = (is_root || hidden_log(config).is_some()).then_some(Capability::CAP_DAC_READ_SEARCH);
    for_logs.into_iter().collect()
}

/// A log, or a directory of logs, that this user may not read: only a capability lets it. Log files belong to their
/// servers.
fn hidden_log(config: &Config) -> Option<PathBuf> {
    let is_hidden = |path: &Path| {
        let how = if path.is_dir() { AccessFlags::R_OK | AccessFlags::X_OK } else { AccessFlags::R_OK };
        path.exists() && may(path, how).is_err()
    };
    config.logs.files.iter().find_map(|pattern| {
        let plain = before_pattern(Path::new(pattern));
        let files = glob::glob(pattern).ok().into_iter().flatten().flatten();
        files.chain([plain]).find(|path| is_hidden(path))
    })
}

/// Warnings about the sandbox of this configuration, given when it is entered.
pub fn warnings(config: &Config) -> Vec<String> {
    let missing = directories(config).filter(|directory| fs::canonicalize(directory).is_err()).map(|directory| {
        format!(
            "{} is not there: the sandbox will not let anything be written to it; make it, and restart the agent",
            directory.display()
        )
    });
    let missing: BTreeSet<_> = missing.collect();
    let hidden = hidden_log(config).map(|path| {
        format!(
            "{}: the user {} may not read it, so that CAP_DAC_READ_SEARCH is kept: an agent that is taken over could read \
             more than it needs; make that user a member of the group of the logs (`usermod --append --groups adm {}`), and \
             restart the agent",
            path.display(),
            user::present(),
            config.security.user
        )
    });
    missing.into_iter().chain(hidden).chain(too_wide(config)).collect()
}

/// Places where the agent gets more write access than it needs, because of the location of a file.
pub(super) fn too_wide(config: &Config) -> Vec<String> {
    if !config.security.sandbox {
        return Vec::new();
    }
    let warning = |(file, directory): (&Path, PathBuf)| {
        format!(
            "{}: the sandbox lets the agent write anything in {}, which others use: give the file a directory of its own",
            file.display(),
            directory.display()
        )
    };
    among_others(config).map(warning).collect()
}

/// The directories that the agent writes to.
fn directories(config: &Config) -> impl Iterator<Item = &Path> {
    let pins = config.sensor.persist.then_some(config.sensor.pin.as_path());
    written(config).filter_map(Path::parent).chain(pins)
}

/// The files that the agent writes. It replaces them by renaming, so it needs access to their directories.
pub fn written(config: &Config) -> impl Iterator<Item = &Path> {
    // A reload may configure logs later. Their state can then be written if its directory exists now.
    let logs = &config.logs;
    let logs =
        (!logs.files.is_empty() || logs.state.parent().is_some_and(Path::exists)).then_some(&logs.state);
    let own = [&config.response.state, &config.control.socket];
    let spool = config.fleet.is_on().then_some(&config.fleet.spool);
    own.into_iter().chain(logs).chain(spool).map(PathBuf::as_path).chain(config.sinks.files())
}

/// The files whose directory is shared with others, each with that directory. The agent gets access to the whole
/// directory.
fn among_others(config: &Config) -> impl Iterator<Item = (&Path, PathBuf)> {
    written(config).filter_map(|file| {
        let directory = file.parent()?;
        let directory = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
        let is_home = directory.parent() == Some(Path::new("/home"));
        let is_used = is_home || USED_BY_OTHERS.iter().any(|used| directory == Path::new(used));
        is_used.then_some((file, directory))
    })
}

/// The file, and every path that it names. All settings are covered, so that none can be forgotten. For most files
/// this is the directory, since they are replaced by renaming; for links it is also the directory of their target.
pub fn named(file: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for path in mentioned(file) {
        let path = std::path::absolute(before_pattern(&path)).unwrap_or(path);
        all.extend(fs::canonicalize(&path).ok().map(|path| reach(&path)));
        all.insert(reach(&path));
    }
    all
}

/// The file, and every path that it or a file of it names, as they stand there.
fn mentioned(file: &Path) -> Vec<PathBuf> {
    let mut texts = Vec::new();
    let table = whole_file::read(file, MAX_FILE_BYTES)
        .ok()
        .and_then(|bytes| toml::from_slice::<toml::Table>(&bytes).ok());
    if let Some(table) = &table {
        table.values().for_each(|value| texts_of(value, &mut texts));
    }
    let mut beyond = Vec::new();
    // Paths in the files that this file names. All other paths stand in this file itself.
    if let Some(path) = table.as_ref().and_then(|table| table.get("metrics")?.get("web_config")?.as_str()) {
        beyond = web::named(Path::new(path));
    }
    let is_path = |text: &String| text.starts_with('/') || Path::new(text).is_file();
    let paths = texts.into_iter().filter(is_path).map(PathBuf::from);
    paths.chain(beyond).chain([file.to_owned()]).collect()
}

fn texts_of(value: &toml::Value, texts: &mut Vec<String>) {
    match value {
        toml::Value::String(text) => texts.push(text.clone()),
        toml::Value::Array(items) => items.iter().for_each(|item| texts_of(item, texts)),
        toml::Value::Table(table) => table.values().for_each(|item| texts_of(item, texts)),
        toml::Value::Integer(_)
        | toml::Value::Float(_)
        | toml::Value::Boolean(_)
        | toml::Value::Datetime(_) => {}
    }
}

/// The part of a file pattern before its first wildcard.
fn before_pattern(path: &Path) -> PathBuf {
    let is_plain =
        |part: &Component<'_>| !part.as_os_str().as_encoded_bytes().iter().any(|byte| b"*?[".contains(byte));
    path.components().take_while(is_plain).collect()
}

fn reach(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !path.is_dir() && !SHARED.iter().any(|shared| parent == Path::new(shared)) => {
            parent.to_owned()
        }
        Some(_) | None => path.to_owned(),
    }
}

/// The configuration file that the agent reads.
pub fn file(named: Option<&Path>) -> &Path {
    named.unwrap_or(Path::new(DEFAULT_PATH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_in_the_file_is_found_whatever_it_is_for() {
        let directory = std::env::temp_dir().join(format!("scanguard-places-{}", std::process::id()));
        fs::create_dir_all(directory.join("logs")).unwrap();
        fs::create_dir_all(directory.join("web")).unwrap();
        let web = "tls_server_config: {cert_file: tls/a.pem, key_file: /srv/keys/a.key}\n";
        fs::write(directory.join("web/web.yml"), web).unwrap();
        let here = fs::canonicalize(&directory).unwrap();
        let shown = here.display();
        let file = here.join("scanguard.toml");
        let text = format!(
            "[metrics]\nweb_config = \"{shown}/web/web.yml\"\n[feeds]\nfiles = [\"{shown}/feeds/a.txt\"]\n[logs]\nfiles = [\"{shown}/logs/*/access.log\"]\n\
             [[sinks]]\nkind = \"webhook\"\nsecret_file = \"/etc/secret\"\n"
        );
        fs::write(&file, text).unwrap();
        let found = named(&file);
        fs::remove_dir_all(&directory).unwrap();
        let beyond = [here.join("web"), here.join("web/tls"), PathBuf::from("/srv/keys")];
        let own = [here.join("feeds"), here.join("logs"), here, PathBuf::from("/etc/secret")];
        let wanted = own.into_iter().chain(beyond).collect::<BTreeSet<_>>();
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_file_among_those_of_others_is_named_and_one_in_a_directory_of_its_own_is_not() {
        let sink = |path: &str| {
            let text = format!("[[sinks]]\nkind = \"file\"\npath = \"{path}\"\n");
            let config = Config::parse(&text).unwrap();
            among_others(&config).map(|(file, directory)| (file.to_owned(), directory)).collect::<Vec<_>>()
        };
        for (path, directory) in [
            ("/root/a.json", "/root"),
            ("/home/me/a.json", "/home/me"),
            ("/var/log/../log/a.json", "/var/log"),
        ] {
            assert_eq!(sink(path), [(PathBuf::from(path), PathBuf::from(directory))]);
        }
        for path in ["/var/log/scanguard/a.json", "/root/findings/a.json", "/home/me/findings/a.json"] {
            assert_eq!(sink(path), []);
        }
        let defaults = Config::default();
        assert_eq!(among_others(&defaults).count(), 0, "what the defaults write");
    }
}
