//! `[control]` of the configuration.

use std::path::PathBuf;

use crate::settings::Section;

/// The default path of the socket.
pub const DEFAULT_SOCKET: &str = "/run/scanguard/control.sock";

/// Suffix of the socket's path while it is created.
pub(super) const NEW: &str = ".new";

/// Size of `sun_path` without the terminating zero and the suffix used during creation; unix(7).
const MAX_PATH: usize = 107 - NEW.len();

/// `[control]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The path of the socket.
    pub socket: PathBuf,
    /// The group whose members may use it, by name or number. If empty, only root and the agent's own user may.
    pub group: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { socket: PathBuf::from(DEFAULT_SOCKET), group: String::new() }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            socket: section.value("socket", default.socket, |path: &PathBuf| {
                if !path.is_absolute() || path.file_name().is_none() {
                    return Err(format!("{} is no absolute path of a file", path.display()));
                }
                if path.as_os_str().len() > MAX_PATH {
                    return Err(format!("a path of a socket has at most {MAX_PATH} bytes"));
                }
                Ok(())
            }),
            group: section.value("group", default.group, |group: &String| {
                let wrong = |c: char| c.is_control() || c.is_whitespace() || c == ':';
                if group.contains(wrong) || group.len() > 64 {
                    return Err(format!("{group:?} is no name of a group"));
                }
                Ok(())
            }),
        };
        section.finish();
        settings
    }
}
