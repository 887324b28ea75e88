//! Non-fatal warnings about a configuration on this host: missing files, and unwise permissions. The agent runs all
//! the same.

use std::path::Path;

use super::{Config, access};
use jiff::Timestamp;
use nix::net::if_::if_nametoindex;

use crate::{detect::feeds::Feeds, logs::examine};

/// Lists everything that is missing, wrong or unwise, one by one. Changes nothing.
pub fn lacks(config: &Config) -> Vec<String> {
    let (_, problems) = Feeds::load(&config.feeds.files, &Feeds::default());
    let feeds = problems.iter().map(|problem| format!("feed {problem}"));
    let directories = config.sinks.files().filter_map(Path::parent).filter(|directory| !directory.is_dir());
    let sinks = directories.map(|directory| {
        format!(
            "{} is no directory: the sink that writes there loses its lines until the directory exists",
            directory.display()
        )
    });
    let absent = config.sensor.interfaces.iter().filter(|name| if_nametoindex(name.as_str()).is_err());
    let interfaces = absent.map(|name| {
        format!(
            "sensor.interfaces: there is no interface {name} now: the agent waits for it; is the name right?"
        )
    });
    let logs = examine::complaints(&config.logs, Timestamp::now());
    interfaces.chain(feeds).chain(sinks).chain(logs).chain(access::too_wide(config)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_and_a_directory_that_are_missing_are_said() {
        let config = |text: &str| Config::parse(text).unwrap();
        let text = "[feeds]\nfiles = [\"/nowhere/drop.txt\"]\n[[sinks]]\nkind = \"file\"\npath = \"/nowhere/else/a.log\"\n";
        let said = lacks(&config(text));
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("feed /nowhere/drop.txt: No such file"), "{said:?}");
        assert!(said[1].starts_with("/nowhere/else is no directory"), "{said:?}");
        let there = config("[[sinks]]\nkind = \"file\"\npath = \"/tmp/a.log\"\n");
        assert_eq!(lacks(&there), Vec::<String>::new());
        let absent = lacks(&config("[sensor]\ninterfaces = [\"lo\", \"nosuch0\"]\n"));
        assert!(absent.len() == 1 && absent[0].contains("no interface nosuch0"), "{absent:?}");
        let unwise = lacks(&config("[[sinks]]\nkind = \"file\"\npath = \"/etc/a.log\"\n"));
        assert!(unwise.len() == 1 && unwise[0].contains("write anything in /etc,"), "{unwise:?}");
        let open = config("[security]\nsandbox = false\n[[sinks]]\nkind = \"file\"\npath = \"/etc/a.log\"\n");
        assert_eq!(lacks(&open), Vec::<String>::new());
    }
}
