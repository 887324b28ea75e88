//! docs/ and deploy/ against the code: both must say the same. With SCANGUARD_WRITE_DOCS=1 (`cargo xtask docs --write`)
//! the generated pages are written instead.

mod configuration;
mod dashboard;
mod layers;
mod links;
mod metrics;
mod reliability;

use std::{fs, path::PathBuf};

/// A file of the project, by its path from the top.
fn path(of: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(of)
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Compares a generated page with the one in the tree, or writes it.
fn golden(file: &str, page: &str) {
    if std::env::var_os("SCANGUARD_WRITE_DOCS").is_some() {
        fs::write(path(file), page).unwrap_or_else(|error| panic!("{file}: {error}"));
        return;
    }
    let before = read(file);
    let other = before.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(
        before == page,
        "{file} is not what the code says; `cargo xtask docs --write` writes it: {other:#?}"
    );
}
