//! `[security]` of the configuration.

use crate::{settings::Section, user};

/// The longest name of a user: `LOGIN_NAME_MAX` of Linux without the zero.
const MAX_NAME: usize = 255;

/// `[security]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Whether the agent gives up what it does not need any more after attaching.
    pub sandbox: bool,
    /// The user that the agent becomes if root starts it, by name or number.
    pub user: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sandbox: true, user: user::DEFAULT.to_owned() }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            sandbox: section.value("sandbox", default.sandbox, |_| Ok(())),
            user: section.value("user", default.user, |user: &String| {
                let wrong = |c: char| c.is_control() || c.is_whitespace() || c == ':';
                if user.is_empty() || user.contains(wrong) || user.len() > MAX_NAME {
                    return Err(format!("{user:?} is no name of a user"));
                }
                Ok(())
            }),
        };
        section.finish();
        settings
    }
}
