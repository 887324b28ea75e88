//! Single programs out of packages that would bring a server which starts at once.

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

/// The one program that is wanted from a package.
pub(super) struct Extracted {
    name: &'static str,
    packages: Packages,
    /// Where the program is in Debian's package.
    path: &'static str,
    /// Debian's packages of the libraries that it needs beyond a base system's.
    libraries: &'static str,
}

/// Checks our metrics and alert rules as Prometheus would.
pub(super) const PROMTOOL: Extracted = Extracted {
    name: "promtool",
    packages: Packages {
        apt: "prometheus",
        dnf: "golang-github-prometheus",
        pacman: "prometheus",
        apk: "prometheus",
    },
    path: "usr/bin/promtool",
    libraries: "",
};

/// The server that clients measure.
pub(super) const NGINX: Extracted = Extracted {
    name: "nginx",
    packages: Packages::same_everywhere("nginx"),
    path: "usr/sbin/nginx",
    libraries: "libpcre2-8-0",
};

/// The servers of the matrix.
pub(super) const SERVERS: [Extracted; 2] = [
    NGINX,
    Extracted {
        name: "haproxy",
        packages: Packages::same_everywhere("haproxy"),
        path: "usr/sbin/haproxy",
        libraries: "liblua5.3-0 libopentracing-c-wrapper0 libpcre2-posix3",
    },
];

impl Item for Extracted {
    fn name(&self, _: &Workspace) -> String {
        self.name.to_owned()
    }

    fn present(&self, ws: &Workspace) -> Option<String> {
        ws.find_program(self.name).map(|path| ws.display(&path))
    }

    /// Takes the program out of the package instead of installing that: the package brings a server that
    /// starts at once, a user, and a dozen dependencies, none of which a test needs. Needs no root, but for
    /// libraries.
    fn install(&self, ws: &Workspace) -> Result<()> {
        ws.find_program("apt-get").context("there is no apt-get")?;
        system::update_package_lists(ws);
        if !self.libraries.is_empty() {
            system::apt_get_install(ws, self.libraries)?;
        }
        let scratch = ws.tools().join(format!("{}.package", self.name));
        _ = fs::remove_dir_all(&scratch);
        fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
        process::run_with_retries(
            ws.command("apt-get").args(["download", "-q", self.packages.apt]).current_dir(&scratch),
        )?;
        let package = only_file_in(&scratch)?;
        process::run(ws.command("dpkg-deb").arg("--extract").arg(package).arg(&scratch))?;

        let bin = ws.tools().join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
        fs::rename(scratch.join(self.path), bin.join(self.name))
            .with_context(|| format!("the package holds no {}", self.path))?;
        _ = fs::remove_dir_all(&scratch);
        Ok(())
    }

    fn by_hand(&self, ws: &Workspace) -> String {
        let Self { name, packages, .. } = self;
        format!("{} (only {name} is used; the service may stay off)", system::by_hand(ws, packages))
    }
}

fn only_file_in(dir: &Path) -> Result<PathBuf> {
    let entry = fs::read_dir(dir)?.next().context("apt-get downloaded nothing")??;
    Ok(entry.path())
}
