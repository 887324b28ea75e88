//! `[content]` of the configuration.

use std::time::Duration;

use super::lists::Lists;
use crate::config::{Interval, Section};

/// `[content]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How far back rules look at what a source said: at least half of this, at most all of it.
    pub window: Duration,
    /// Sources of which it is remembered what they said.
    pub max_visitors: u32,
    /// Whether findings name no paths and no names, but count them.
    pub redact: bool,
    /// `[content.lists]`: the lists themselves, so that a configuration that was read is whole.
    pub lists: Lists,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60 * 60),
            max_visitors: 16_384,
            redact: false,
            lists: Lists::default(),
        }
    }
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            window: section.interval(
                "window",
                default.window,
                Interval::between(Duration::from_secs(60), Duration::from_secs(24 * 60 * 60)),
            ),
            max_visitors: section.number("max_visitors", default.max_visitors, 16..=1 << 20),
            redact: section.value("redact", default.redact, |_| Ok(())),
            lists: Lists::read(section.section("lists")),
        };
        section.finish();
        settings
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::config::Config;

    #[test]
    fn lists_are_read_with_the_file_and_what_is_wrong_with_them_is_said() {
        let directory = std::env::temp_dir().join(format!("scanguard-lists-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let (right, wrong) = (directory.join("right.txt"), directory.join("wrong.txt"));
        fs::write(&right, "# mine\nmy-scanner\n").unwrap();
        fs::write(&wrong, "/right\nwrong\n").unwrap();
        let text = |agents: &std::path::Path, paths: &std::path::Path| {
            format!(
                "[content.lists]\nagents = \"{}\"\npaths = \"{}\"\nja4 = \"/nowhere/ja4.txt\"\n",
                agents.display(),
                paths.display()
            )
        };
        let problems = Config::parse(&text(&right, &wrong)).expect_err("two are wrong");
        let mine = Config::parse(&format!("[content.lists]\nagents = \"{}\"\n", right.display()));
        fs::remove_dir_all(&directory).unwrap();
        let said: Vec<_> = problems.iter().map(|problem| (problem.line, problem.message.as_str())).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].0 == 3 && said[0].1.contains("wrong.txt: line 2: \"wrong\""), "{said:?}");
        assert!(said[1].0 == 4 && said[1].1.contains("/nowhere/ja4.txt: No such file"), "{said:?}");
        let agents = mine.expect("a configuration").content.lists.agents;
        assert!(agents.tool("My-Scanner/1.0").is_some() && agents.tool("sqlmap/1.8").is_none());
    }
}
