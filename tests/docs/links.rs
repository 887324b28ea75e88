use std::{fs, path::Path};

use scanguard_tests::links::{headings, links, long_lines, paths};

use super::{path, read};

/// Columns of a line of prose (CONTRIBUTING.md).
const COLUMNS: usize = 120;

/// All pages, by their paths from the top.
fn pages() -> Vec<String> {
    let docs = fs::read_dir(path("docs")).unwrap().flatten().map(|entry| entry.file_name());
    let docs = docs.filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".md"));
    let top = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "fuzz/README.md"];
    top.map(str::to_owned).into_iter().chain(docs.map(|name| format!("docs/{name}"))).collect()
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in links(&text) {
            let beside = Path::new(&page).parent().unwrap().join(link.file);
            let file = if link.file.is_empty() { path(&page) } else { path(beside.to_str().unwrap()) };
            let is_there = match link.heading {
                None => file.exists(),
                Some(heading) => fs::read_to_string(&file)
                    .is_ok_and(|text| headings(&text).iter().any(|known| known == heading)),
            };
            if !is_there {
                broken.push((page.clone(), link.file.to_owned(), link.heading.map(str::to_owned)));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Folders at the top of the tree, without what is built and what is hidden.
fn folders() -> Vec<String> {
    let entries = fs::read_dir(path(".")).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name != "target" && !name.starts_with('.')).collect()
}

#[test]
fn every_path_between_backticks_is_there() {
    let folders = folders();
    let mut missing = Vec::new();
    for page in pages() {
        let named = paths(&read(&page), &folders);
        missing
            .extend(named.into_iter().filter(|named| !path(named).exists()).map(|path| (page.clone(), path)));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn prose_has_at_most_120_columns() {
    let mut long = Vec::new();
    for page in pages() {
        long.extend(long_lines(&read(&page), COLUMNS).into_iter().map(|line| format!("{page}:{line}")));
    }
    assert!(long.is_empty(), "wrap these lines: {long:#?}");
}

#[test]
fn the_index_names_every_page() {
    let index = read("docs/README.md");
    let named: Vec<_> = links(&index).iter().map(|link| format!("docs/{}", link.file)).collect();
    let missing: Vec<_> = pages()
        .into_iter()
        .filter(|page| page.starts_with("docs/") && page != "docs/README.md" && !named.contains(page))
        .collect();
    assert!(missing.is_empty(), "docs/README.md does not name {missing:?}");
}
