//! Checks the needs of the configured agent beyond the kernel: files, the socket, CrowdSec. Nothing is created or
//! changed.

use std::{ffi::CString, fs, io, os::unix::ffi::OsStrExt as _, path::Path};

use super::{Line, Verdict};
use crate::{
    cli::control::words::MOSTLY_NOT_IP,
    config::{Config, host},
    control::{self, client::ClientError, listing::Status, socket},
    crowdsec::{client::Client, settings::Settings},
    sandbox,
};

/// Checks the directories in which the agent creates files.
pub(super) fn files(config: &Config) -> Vec<Line> {
    let state = &config.response.state;
    let mut lines = vec![match writable(state) {
        Ok(()) if state.exists() && !state.is_file() => {
            Line::new(Verdict::Bad, "state file", format!("{} is not a file", state.display()))
        }
        Ok(()) => Line::new(Verdict::Good, "state file", format!("{} can be written", state.display())),
        Err(error) => Line::new(Verdict::Bad, "state file", format!("{error}: see response.state")),
    }];
    let socket = &config.control.socket;
    lines.push(match writable(socket) {
        Ok(()) => Line::new(Verdict::Good, "control socket", format!("{} can be made", socket.display())),
        Err(error) => Line::new(Verdict::Bad, "control socket", format!("{error}: see control.socket")),
    });
    lines
}

/// Warnings about the configuration on this host.
pub(super) fn names(config: &Config) -> Vec<Line> {
    let group = socket::group(&config.control).err();
    let group = group.map(|error| Line::new(Verdict::Bad, "control group", error.to_string()));
    let lacks = host::lacks(config).into_iter().map(|lack| Line::new(Verdict::Loss, "configuration", lack));
    group.into_iter().chain(lacks).collect()
}

/// Whether this user can create a file here. The check uses its directory, or the nearest existing one above.
fn writable(file: &Path) -> Result<(), String> {
    let above = file.ancestors().skip(1);
    let directory = above.into_iter().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let said = |error: io::Error| format!("{} cannot be written: {error}", directory.display());
    if !fs::metadata(directory).map_err(said)?.is_dir() {
        return Err(format!("{} is not a directory", directory.display()));
    }
    let path = CString::new(directory.as_os_str().as_bytes()).map_err(|error| said(error.into()))?;
    // SAFETY: the path ends with a zero byte.
    let denied =
        unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) };
    if denied == 0 { Ok(()) } else { Err(said(io::Error::last_os_error())) }
}

/// Whether CrowdSec answers with the configured credentials; no lines if it is switched off. The agent also runs
/// without it.
pub(super) async fn crowdsec(settings: &Settings) -> Vec<Line> {
    let Settings { url, timeout, machine, password, key, .. } = settings;
    let client = Client::new(url.clone(), *timeout);
    let line = |subject: &str, answer: Result<String, String>| match answer {
        Ok(words) => Line::new(Verdict::Good, subject, words),
        Err(error) => Line::new(Verdict::Loss, subject, error),
    };
    let mut lines = Vec::new();
    if let (true, Some(password)) = (settings.push, password) {
        let login = client.login(machine, password).await;
        let said = login.map(|_| format!("{url} takes findings of {machine}"));
        lines.push(line("crowdsec push", said.map_err(|error| format!("no findings are pushed: {error}"))));
    }
    if let (true, Some(key)) = (settings.pull, key) {
        let said = client.check_key(key).await.map(|()| format!("{url} tells its decisions"));
        lines.push(line("crowdsec pull", said.map_err(|error| format!("no decisions are pulled: {error}"))));
    }
    lines
}

/// What a running agent complains of; no lines if none runs.
pub(super) async fn agent(socket: &Path) -> Vec<Line> {
    let asked = control::client::Client::new(socket).get("/v1/status").await;
    let status = match asked {
        Ok(answer) => serde_json::from_slice::<Status>(&answer).map_err(|error| error.to_string()),
        Err(ClientError::NoAgent { .. }) => return Vec::new(),
        Err(error) => Err(error.to_string()),
    };
    let line = match status {
        Ok(status) if status.mostly_not_ip => Line::new(Verdict::Loss, "running agent", MOSTLY_NOT_IP),
        Ok(status) => {
            let confined = status.sandbox.as_ref().map_or(String::new(), |sandbox| {
                let capabilities = sandbox::kept(&sandbox.capabilities);
                format!(", runs as {}; capabilities: {capabilities}", sandbox.user)
            });
            Line::new(Verdict::Good, "running agent", format!("version {}{confined}", status.version))
        }
        Err(error) => Line::new(Verdict::Loss, "running agent", error),
    };
    vec![line]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_fit_if_the_first_directory_above_it_is() {
        let here = std::env::temp_dir().join(format!("scanguard-doctor-{}", std::process::id()));
        fs::create_dir_all(&here).unwrap();
        fs::write(here.join("file"), "").unwrap();
        let results = ["a", "deep/er/a", "file/a"].map(|name| writable(&here.join(name)));
        let listed: Vec<_> = fs::read_dir(&here).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        fs::remove_dir_all(&here).unwrap();
        assert_eq!(results.each_ref().map(Result::is_ok), [true, true, false], "{results:?}");
        assert_eq!(listed, ["file"], "something was made");
    }
}
