//! The options of `scanguard run`.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;

use crate::{
    config::Config,
    export::forms::Format,
    sensor::settings::{Mode, check_interface_name},
    user,
};

/// `scanguard run`: these arguments take precedence over the configuration file.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Configuration file; without: /etc/scanguard/scanguard.toml if it exists, or else the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Interface to watch; may be given several times. Without: the one of the default route.
    #[arg(long = "iface", value_name = "NAME", value_parser = interface_name)]
    pub interfaces: Vec<String>,
    /// How to attach.
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// Where to serve metrics, such as 127.0.0.1:9823.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// How findings look on standard output.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Path of the control socket.
    #[arg(long, value_name = "PATH", env = "SCANGUARD_SOCKET", value_parser = file)]
    pub socket: Option<PathBuf>,
    /// The file in which bans outlive the agent.
    #[arg(long, value_name = "FILE", env = "SCANGUARD_STATE", value_parser = file)]
    pub state: Option<PathBuf>,
    /// The user that the agent becomes if root starts it, by name or number; root keeps root.
    #[arg(long, value_name = "NAME", env = "SCANGUARD_USER")]
    pub user: Option<String>,
}

impl Arguments {
    /// The settings of the file, overridden by those of the command line.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn configuration(&self) -> Result<Config> {
        let named = || Some(Config::security(self.config.as_deref())?.user);
        if let Some(name) = self.user.clone().or_else(named) {
            user::name_agents(&name);
        }
        let (mut config, path) = Config::find(self.config.as_deref())?;
        match path {
            Some(path) => tracing::info!("configuration: {}", path.display()),
            None => tracing::info!("no configuration file: defaults"),
        }
        if !self.interfaces.is_empty() {
            config.sensor.interfaces.clone_from(&self.interfaces);
        }
        config.sensor.mode = self.mode.unwrap_or(config.sensor.mode);
        config.metrics.listen = self.listen.unwrap_or(config.metrics.listen);
        config.sinks.set_stdout_format(self.format);
        if let Some(socket) = &self.socket {
            config.control.socket.clone_from(socket);
        }
        if let Some(state) = &self.state {
            config.response.state.clone_from(state);
        }
        if let Some(user) = &self.user {
            config.security.user.clone_from(user);
        }
        Ok(config)
    }
}

/// Parses the name of an interface from the command line.
///
/// # Errors
/// No interface can have this name.
pub(crate) fn interface_name(text: &str) -> Result<String, String> {
    check_interface_name(text).map(|()| text.to_owned())
}

/// Makes a path absolute. Relative paths start at the working directory, as usual on a command line. The agent itself
/// only uses absolute paths.
fn file(text: &str) -> Result<PathBuf, String> {
    let path = std::path::absolute(text).map_err(|error| error.to_string())?;
    if path.file_name().is_none() {
        return Err(format!("{} is no path of a file", path.display()));
    }
    Ok(path)
}
