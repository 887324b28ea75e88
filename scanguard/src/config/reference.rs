//! Generates docs/configuration.md from the commented defaults. A test ensures that this file has every setting with
//! its default.

use std::fmt::Write as _;

use super::COMMENTED_DEFAULTS;

/// The width of prose in docs.
const COLUMNS: usize = 120;

const HEAD: &str = "# Configuration

Generated from the commented defaults, which `scanguard print-config` prints: `cargo xtask docs --write`.

One TOML file, by default `/etc/scanguard/scanguard.toml`. Every setting has a default, so the file needs only those
that you change. `scanguard check-config FILE` lists all errors in it, by line. `scanguard reload` makes a running agent
use it, whole or not at all: it lists the errors (exit code 3), or the changes that wait for a restart. SIGHUP does the
same, and writes the result to the log.
";

/// The page.
pub fn page() -> String {
    let mut page = Page { text: HEAD.to_owned(), comment: Vec::new(), in_table: false, is_said: false };
    let mut lines = COMMENTED_DEFAULTS.lines();
    while let Some(line) = lines.next() {
        if line.ends_with("= [") {
            let items: Vec<_> = lines.by_ref().take_while(|line| *line != "]").map(str::trim).collect();
            page.read(&format!("{line}{}]", items.join(" ").trim_end_matches(',')));
        } else {
            page.read(line);
        }
    }
    page.text
}

struct Page {
    text: String,
    /// The comment that precedes the next setting.
    comment: Vec<String>,
    /// Whether rows of a table are being written.
    in_table: bool,
    /// Whether a setting of this table already had a comment.
    is_said: bool,
}

impl Page {
    fn read(&mut self, line: &str) {
        if let Some(comment) = line.strip_prefix('#') {
            self.comment.push(comment.trim().to_owned());
        } else if line.starts_with('[') {
            let comment = self.comment();
            self.write(&format!("\n## `{line}`\n"));
            self.prose(&comment);
            self.in_table = false;
        } else if let Some((key, value)) = line.split_once('=') {
            let comment = self.comment();
            if !self.in_table {
                self.write("\n| setting | default | meaning |\n|---|---|---|\n");
                self.in_table = true;
                self.is_said = false;
            }
            let (key, value) = (key.trim(), value.trim());
            // A comment above several settings applies to all of them.
            let meaning =
                if comment.is_empty() && self.is_said { "together with the one above" } else { &comment };
            self.write(&format!("| `{key}` | `{value}` | {meaning} |\n"));
            self.is_said |= !comment.is_empty();
        } else {
            // Prose that belongs to no particular setting. The prose at the top of the file is in the page's head.
            let comment = self.comment();
            if !comment.is_empty() && self.text != HEAD {
                self.prose(&comment);
                self.in_table = false;
            }
        }
    }

    /// Writes a paragraph, unless it is empty.
    fn prose(&mut self, paragraph: &str) {
        if !paragraph.is_empty() {
            self.write(&format!(
                "\n{}\n",
                textwrap::fill(paragraph, textwrap::Options::new(COLUMNS).break_words(false))
            ));
        }
    }

    fn comment(&mut self) -> String {
        std::mem::take(&mut self.comment).join(" ").replace('|', "\\|")
    }

    fn write(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _ = self.text.write_str(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_its_default_and_what_is_said_of_it() {
        let page = page();
        assert!(page.contains("\n## `[sensor]`\n"), "{page}");
        assert!(page.contains("| `interfaces` | `[]` | Interfaces to watch, by name."), "{page}");
    }

    #[test]
    fn every_setting_says_what_it_means() {
        let page = page();
        // The settings that every rule has are explained only once.
        let everywhere = ["`enabled`", "`severity`", "`window`", "`probes`", "`services`", "`hosts`"];
        let silent: Vec<_> = page
            .lines()
            .filter(|line| line.ends_with("|  |") && !everywhere.iter().any(|key| line.contains(key)))
            .collect();
        assert!(silent.is_empty(), "{silent:#?}");
    }
}
