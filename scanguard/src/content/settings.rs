//! `[content]` of the configuration.

use std::time::Duration;

use super::lists::Lists;
use crate::settings::{Interval, Section};

/// `[content]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How far back rules look at a source's messages: at least half of this, at most all of it.
    pub window: Duration,
    /// For how many sources messages are remembered.
    pub max_visitors: u32,
    /// Paths that tell nothing if they are missing.
    pub ignore: Ignored,
    /// Whether findings leave out the texts of paths and names, and only count them.
    pub redact: bool,
    /// `[content.lists]`: the lists themselves, so that a configuration is complete once it was read.
    pub lists: Lists,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60 * 60),
            max_visitors: 16_384,
            ignore: Ignored::default(),
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
            ignore: Ignored(section.list("ignore", MAX_IGNORED, Vec::new(), Ignore::parse)),
            redact: section.value("redact", default.redact, |_| Ok(())),
            lists: Lists::read(section.section("lists")),
        };
        section.finish();
        settings
    }
}

/// How many entries `ignore` may have.
const MAX_IGNORED: usize = 64;

/// Paths that honest clients request only to find out whether they are there. Whether they are tells nothing about the
/// client.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ignored(Vec<Ignore>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Ignore {
    /// `/buildid/*`
    Beginning(Box<str>),
    /// `*.narinfo`
    End(Box<str>),
}

impl Ignore {
    fn parse(text: &str) -> Result<Self, String> {
        let parsed = match (text.strip_prefix('*'), text.strip_suffix('*')) {
            (Some(end), None) if end.len() >= 3 => Some(Self::End(end.into())),
            (None, Some(beginning)) if beginning.starts_with('/') && beginning.len() >= 3 => {
                Some(Self::Beginning(beginning.into()))
            }
            _ => None,
        };
        parsed.filter(|_| text.matches('*').count() == 1).ok_or_else(|| {
            format!("\"{text}\" is no beginning of a path such as \"/buildid/*\", and no end such as \"*.narinfo\"")
        })
    }
}

impl Ignored {
    /// Whether a path is in the list.
    pub fn has(&self, path: &str) -> bool {
        self.0.iter().any(|ignore| match ignore {
            Ignore::Beginning(beginning) => path.starts_with(&**beginning),
            Ignore::End(end) => path.ends_with(&**end),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::config::Config;

    #[test]
    fn paths_are_ignored_by_their_beginnings_and_ends() {
        let config = Config::parse("[content]\nignore = [\"/buildid/*\", \"*.narinfo\"]\n").unwrap();
        for (path, expected) in [
            ("/buildid/0123/debuginfo", true),
            ("/0123.narinfo", true),
            ("/x/buildid/0123", false),
            ("/narinfo", false),
            ("/", false),
        ] {
            assert_eq!(config.content.ignore.has(path), expected, "{path}");
        }
        for wrong in ["*", "/*", "**", "/a/*/b", "*a", "/whole", "buildid/*", "/buildid/**", "*x*"] {
            let problems = Config::parse(&format!("[content]\nignore = [\"{wrong}\"]\n")).expect_err(wrong);
            assert!(problems[0].line == 2 && problems[0].message.contains(wrong), "{problems:?}");
        }
    }

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
