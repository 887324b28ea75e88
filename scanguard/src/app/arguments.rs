//! The options of `scanguard run`.

use std::{net::SocketAddr, path::PathBuf};

use crate::{
    export::forms::Format,
    sensor::settings::{Mode, check_interface_name},
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
