//! Lists of what is in a package: all crates of the agent and of its kernel program, with versions, licences and hashes.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use crate::{process, target::Target, workspace::Workspace};

/// Packages of the workspace that are shipped, and so are described.
const SHIPPED: [&str; 2] = ["scanguard", "scanguard-ebpf"];

/// Writes a list for each of them, in CycloneDX's JSON.
///
/// # Errors
/// cargo-cyclonedx fails, or describes something else.
pub(crate) fn write(ws: &Workspace, target: Target<'_>, epoch: Option<&str>, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| ws.display(to))?;
    let mut cyclonedx = ws.cargo("cyclonedx");
    // What runs while it is built is not in the package.
    cyclonedx.args(["--format", "json", "--spec-version", "1.5", "--all", "--no-build-deps", "--quiet"]);
    cyclonedx.args(target.options());
    if let Some(epoch) = epoch {
        cyclonedx.env("SOURCE_DATE_EPOCH", epoch);
    }
    let written = process::run(&mut cyclonedx);
    let taken = written.and_then(|()| SHIPPED.iter().try_for_each(|package| take(ws, package, to)));
    // It writes beside the manifest of each package of the workspace, whatever it is told.
    for entry in fs::read_dir(ws.root())?.flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name();
        let file = entry.path().join(format!("{}.cdx.json", name.to_string_lossy()));
        let of_tests = entry.path().join(format!("scanguard-{}.cdx.json", name.to_string_lossy()));
        for file in [file, of_tests] {
            // Where there is none, none is left.
            _ = fs::remove_file(file);
        }
    }
    taken
}

/// Moves the list of a package to where packages are made, without the path of this work tree.
fn take(ws: &Workspace, package: &str, to: &Path) -> Result<()> {
    let name = format!("{package}.cdx.json");
    let from = ws.root().join(package).join(&name);
    let text = fs::read_to_string(&from).with_context(|| ws.display(&from))?;
    let root = ws.root().display().to_string();
    let text = without(&text, &root);
    ensure!(text.contains("\"bomFormat\": \"CycloneDX\""), "{} is no list", ws.display(&from));
    fs::write(to.join(name), text)?;
    Ok(())
}

/// The text without a path of this machine.
fn without(text: &str, root: &str) -> String {
    text.replace(root, "/scanguard")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_no_path_of_the_machine() {
        let text = r#"{"bom-ref": "path+file:///home/me/sg/scanguard#0.1.0", "name": "scanguard"}"#;
        assert_eq!(
            without(text, "/home/me/sg"),
            r#"{"bom-ref": "path+file:///scanguard/scanguard#0.1.0", "name": "scanguard"}"#
        );
    }
}
