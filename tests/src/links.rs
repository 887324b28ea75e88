//! Links and paths in pages of Markdown that lead to other files of the tree, and the width of their lines.

/// A link, taken apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link<'t> {
    /// The file, from the page's own directory; empty: the page itself.
    pub file: &'t str,
    /// The heading there.
    pub heading: Option<&'t str>,
}

/// The links of a page, but for those to other hosts.
pub fn links(page: &str) -> Vec<Link<'_>> {
    let targets = page.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    let local = targets.filter(|target| !target.contains("://") && !target.contains(' '));
    local
        .map(|target| match target.split_once('#') {
            Some((file, heading)) => Link { file, heading: Some(heading) },
            None => Link { file: target, heading: None },
        })
        .collect()
}

/// Paths between backticks that begin with one of these folders, one for each choice of their braces: `a/{b,c}.rs`
/// gives two.
pub fn paths(page: &str, folders: &[String]) -> Vec<String> {
    let is_part = |letter: char| letter.is_alphanumeric() || "/._-{},".contains(letter);
    let is_path = |code: &&str| {
        let folder = code.split_once('/').map(|(folder, _)| folder);
        folder.is_some_and(|name| folders.iter().any(|known| known == name)) && code.chars().all(is_part)
    };
    page.split('`').skip(1).step_by(2).filter(is_path).flat_map(choices).collect()
}

/// A path for each choice of its braces.
fn choices(path: &str) -> Vec<String> {
    let braces = path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (names, after))) = braces else { return vec![path.to_owned()] };
    names.split(',').flat_map(|name| choices(&format!("{before}{name}{after}"))).collect()
}

/// Numbers of the lines of prose that have more columns than this. Tables, code and the targets of links by name are no
/// prose.
pub fn long_lines(page: &str, columns: usize) -> Vec<usize> {
    let mut is_fenced = false;
    let mut is_after_blank = true;
    let mut is_indented = false;
    let mut long = Vec::new();
    for (number, line) in (1..).zip(page.lines()) {
        let text = line.trim_start();
        let is_fence = text.starts_with("```");
        is_fenced ^= is_fence;
        // An indented block begins after an empty line, and ends with the first line that is not indented.
        is_indented =
            line.starts_with("    ") && (is_indented || is_after_blank) || is_indented && text.is_empty();
        let is_target = text.starts_with('[') && text.contains("]: ");
        let is_prose = !is_fence && !is_fenced && !is_indented && !is_target && !text.starts_with('|');
        if is_prose && line.chars().count() > columns {
            long.push(number);
        }
        is_after_blank = text.is_empty();
    }
    long
}

/// The names of a page's headings in links, as GitHub has it.
pub fn headings(page: &str) -> Vec<String> {
    let headings =
        page.lines().filter_map(|line| Some(line.trim_start_matches('#')).filter(|rest| *rest != line));
    let kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
    headings
        .map(|heading| {
            heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_taken_apart_and_those_to_other_hosts_left_out() {
        let page =
            "[a](b.md), [c](d/e.md#f-g) and ![h](i.svg)\n[j](https://k.example/#l) [m](#n)\n# Of `n`: it's\n";
        let link = |file, heading| Link { file, heading };
        let all = [link("b.md", None), link("d/e.md", Some("f-g")), link("i.svg", None), link("", Some("n"))];
        assert_eq!(links(page), all);
        assert_eq!(headings(page), ["of-n-its"]);
    }

    #[test]
    fn paths_are_those_in_the_folders_with_one_for_each_choice() {
        let page =
            "`a/b.rs`, `c/d.rs`, a/e.rs, `a/{f,g}/{h,i}.rs` and `a/b --all`\n```\na/k\n```\n`a/`, `ab`\n";
        let all = ["a/b.rs", "a/f/h.rs", "a/f/i.rs", "a/g/h.rs", "a/g/i.rs", "a/"];
        assert_eq!(paths(page, &["a".to_owned()]), all);
    }

    #[test]
    fn only_prose_has_a_width() {
        let page = "too long\nshort\n| too | long |\n\n    too long\n\n    too long\ntoo long\n    too long\n\
                    ```\ntoo long\n```\n[name]: too/long\n* ä ä ä\n";
        assert_eq!(long_lines(page, 7), [1, 8, 9]);
    }
}
