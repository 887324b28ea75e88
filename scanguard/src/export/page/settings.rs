//! `[page]` of the configuration.

use std::{path::PathBuf, time::Duration};

use super::history::EVERY;
use crate::{
    secret::{self, Secret},
    settings::{Interval, Section},
};

/// The least characters in a token. A shorter one could be guessed.
const MIN_TOKEN: usize = 16;

/// `[page]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Whether the page is served.
    pub enabled: bool,
    /// How far back the charts go.
    pub history: Duration,
    /// The most browsers at once.
    pub max_clients: u32,
    /// The file with the token; if empty, the page cannot send orders.
    pub admin_token_file: PathBuf,
    /// The token in that file.
    pub admin_token: Option<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            history: Duration::from_secs(6 * 60 * 60),
            max_clients: 8,
            admin_token_file: PathBuf::new(),
            admin_token: None,
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let mut settings = Self {
            enabled: section.value("enabled", default.enabled, |_| Ok(())),
            history: section.interval(
                "history",
                default.history,
                Interval::between(2 * EVERY, Duration::from_secs(24 * 60 * 60)),
            ),
            max_clients: section.number("max_clients", default.max_clients, 1..=256),
            admin_token_file: section.value("admin_token_file", default.admin_token_file, |_| Ok(())),
            admin_token: None,
        };
        if settings.enabled && !settings.admin_token_file.as_os_str().is_empty() {
            match token(&settings) {
                Ok(token) => settings.admin_token = Some(token),
                Err(wrong) => section.contradiction(&["admin_token_file"], wrong),
            }
        }
        section.finish();
        settings
    }
}

fn token(settings: &Settings) -> Result<Secret, String> {
    let token = secret::read(&settings.admin_token_file).map_err(|error| error.to_string())?;
    if token.reveal().len() < MIN_TOKEN {
        return Err(format!(
            "a token has at least {MIN_TOKEN} characters: `openssl rand -hex 32` makes a good one"
        ));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use crate::{config::Config, secret::Secret};

    fn said(path: &Path) -> Result<Config, String> {
        let text = format!("[page]\nadmin_token_file = \"{}\"\n", path.display());
        Config::parse(&text).map_err(|problems| {
            assert_eq!((problems.len(), problems[0].line), (1, 2), "{problems:?}");
            problems[0].message.clone()
        })
    }

    #[test]
    fn a_token_is_read_from_a_file_of_its_own_and_never_shown() {
        let directory = std::env::temp_dir().join(format!("scanguard-token-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("token");
        let mut results = Vec::new();
        for (text, mode) in
            [("0123456789abcdef\n", 0o600), ("0123456789abcde\n", 0o600), ("0123456789abcdef\n", 0o644)]
        {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            results.push(said(&path));
        }
        results.push(said(&directory.join("none")));
        fs::remove_dir_all(&directory).unwrap();
        let good = results[0].as_ref().expect("it is right");
        assert_eq!(good.page.admin_token.as_ref().map(Secret::reveal), Some("0123456789abcdef"));
        assert!(!format!("{good:?}").contains("0123456789abcdef"), "the token is shown");
        for (result, word) in results[1..].iter().zip(["at least 16", "chmod 600", "No such file"]) {
            let said = result.as_ref().expect_err(word);
            assert!(said.starts_with("page.admin_token_file: ") && said.contains(word), "{said}");
        }
    }

    #[test]
    fn limits_are_kept_and_the_token_of_a_page_that_is_off_is_not_read() {
        let config = Config::parse("[page]\nenabled = false\nadmin_token_file = \"/nonexistent\"\n");
        assert_eq!(config.map(|config| config.page.admin_token), Ok(None));
        let text = "[page]\nhistory = \"25h\"\nmax_clients = 0\n";
        let problems = Config::parse(text).expect_err("both are wrong");
        assert_eq!(problems.iter().map(|problem| problem.line).collect::<Vec<_>>(), [2, 3], "{problems:?}");
    }
}
