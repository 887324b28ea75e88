//! Links of pages in Markdown that lead to other files beside them.

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

/// What a page's headings are called in links, as GitHub has it.
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
}
