//! promtool, which checks our metrics and alert rules as Prometheus would.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    Item,
    system::{self, Packages},
};
use crate::{process, workspace::Workspace};

/// The one program that is wanted from Debian's package `prometheus`.
pub(super) struct Promtool;

const PACKAGES: Packages =
    Packages { apt: "prometheus", dnf: "golang-github-prometheus", pacman: "prometheus", apk: "prometheus" };

impl Item for Promtool {
    fn name(&self, _: &Workspace) -> String {
        "promtool".to_owned()
    }

    fn present(&self, ws: &Workspace) -> Option<String> {
        ws.find_program("promtool").map(|path| ws.display(&path))
    }

    /// Takes the program out of the package instead of installing that: the package brings a server that
    /// starts at once, a user, and a dozen dependencies, none of which a test needs. Needs no root.
    fn install(&self, ws: &Workspace) -> Result<()> {
        ws.find_program("apt-get").context("there is no apt-get")?;
        system::update_package_lists(ws);
        let scratch = ws.tools().join("prometheus");
        _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        process::run_with_retries(
            ws.command("apt-get").args(["download", "-q", PACKAGES.apt]).current_dir(&scratch),
        )?;
        let package = only_file_in(&scratch)?;
        process::run(ws.command("dpkg-deb").arg("--extract").arg(package).arg(&scratch))?;

        let bin = ws.tools().join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
        fs::rename(scratch.join("usr/bin/promtool"), bin.join("promtool"))
            .context("the package holds no usr/bin/promtool")?;
        _ = fs::remove_dir_all(&scratch);
        Ok(())
    }

    fn by_hand(&self, ws: &Workspace) -> String {
        format!("{} (only promtool is used; the server may stay off)", system::by_hand(ws, &PACKAGES))
    }
}

fn only_file_in(dir: &Path) -> Result<PathBuf> {
    let entry = fs::read_dir(dir)?.next().context("apt-get downloaded nothing")??;
    Ok(entry.path())
}
