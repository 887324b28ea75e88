//! The same commit gives the same packages: built twice, in two folders, and compared byte by byte.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{process, workspace::Workspace};

/// Names of unlike length: a path that is somewhere in a file would move what follows.
const FOLDERS: [&str; 2] = ["one", "another-one"];

/// Builds what `arguments` of `package` say of the commit that is checked out, twice, and compares.
///
/// # Errors
/// A build fails, or a file differs.
pub(crate) fn verify(ws: &Workspace, arguments: &[&str]) -> Result<()> {
    let changed = process::answer(ws.command("git").args(["status", "--porcelain"]));
    if changed.context("this needs a clone of the repository, with git")?.lines().next().is_some() {
        println!("what is changed and not committed is not looked at: the commit is built");
    }
    let place = ws.target().join("reproducible");
    let mut made = Vec::new();
    for folder in FOLDERS {
        let tree = place.join(folder);
        remove(ws, &tree);
        process::run(
            ws.command("git").args(["worktree", "add", "--detach", "--force"]).arg(&tree).arg("HEAD"),
        )?;
        fs::create_dir_all(tree.join("target"))?;
        symlink(fs::canonicalize(ws.tools())?, tree.join("target/tools"))?;
        let mut build = ws.cargo("xtask");
        build.args(["package"]).args(arguments).current_dir(&tree).env_remove("CARGO_TARGET_DIR");
        process::run(&mut build)?;
        made.push(files(&tree)?);
    }
    let [first, second] = &made[..] else { bail!("two builds") };
    let report = compare(first, second)?;
    for line in &report.same {
        println!("{line}");
    }
    ensure!(
        report.different.is_empty(),
        "the same commit gave other bytes in another folder: {}; both are below {}",
        report.different.join(", "),
        ws.display(&place)
    );
    for folder in FOLDERS {
        remove(ws, &place.join(folder));
    }
    println!("reproducible: {} files are the same in both folders", report.same.len());
    Ok(())
}

fn remove(ws: &Workspace, tree: &Path) {
    // The link first: what it leads to is not this tree's.
    _ = fs::remove_file(tree.join("target/tools"));
    if tree.exists() {
        _ = process::run(ws.command("git").args(["worktree", "remove", "--force"]).arg(tree));
    }
    _ = process::answer(ws.command("git").args(["worktree", "prune"]));
}

/// The packages below a tree's target directory, and the stripped binary, with their paths there.
fn files(tree: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let root = tree.join("target/package");
    let mut files = Vec::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).with_context(|| directory.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.push((path.strip_prefix(&root)?.to_owned(), path));
            }
        }
    }
    files.sort();
    ensure!(files.iter().any(|(name, _)| name.extension().is_some_and(|kind| kind == "deb")), "no package");
    Ok(files)
}

/// What two builds gave.
#[derive(Debug, Default)]
struct Report {
    /// Files that are the same in both.
    same: Vec<String>,
    /// Files that differ, or are in one only.
    different: Vec<String>,
}

fn compare(first: &[(PathBuf, PathBuf)], second: &[(PathBuf, PathBuf)]) -> Result<Report> {
    let mut report = Report::default();
    for (name, path) in first {
        let other = second.iter().find(|(found, _)| found == name);
        let is_same = match other {
            Some((_, other)) => fs::read(path)? == fs::read(other)?,
            None => false,
        };
        let list = if is_same { &mut report.same } else { &mut report.different };
        list.push(name.display().to_string());
    }
    let only = second.iter().filter(|(name, _)| !first.iter().any(|(found, _)| found == name));
    report.different.extend(only.map(|(name, _)| name.display().to_string()));
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_differs_or_is_in_one_build_only_is_named() {
        let place = std::env::temp_dir().join(format!("scanguard-xtask-{}", std::process::id()));
        let build = |name: &str, contents: &[(&str, &str)]| -> Vec<_> {
            let directory = place.join(name);
            fs::create_dir_all(&directory).unwrap();
            contents
                .iter()
                .map(|(file, text)| {
                    fs::write(directory.join(file), text).unwrap();
                    (PathBuf::from(file), directory.join(file))
                })
                .collect()
        };
        let first = build("one", &[("a.deb", "1"), ("b.rpm", "2"), ("c", "3")]);
        let second = build("two", &[("a.deb", "1"), ("b.rpm", "other"), ("d", "3")]);
        let report = compare(&first, &second).unwrap();
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(report.same, ["a.deb"]);
        assert_eq!(report.different, ["b.rpm", "c", "d"]);
    }
}
