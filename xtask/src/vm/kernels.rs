//! Kernels of Debian's archive, unpacked; the system's own package lists and sources are left alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use super::arch::Arch;
use crate::{apt, process, workspace::Workspace};

/// Kernels of one series: the newest that there is runs.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Series {
    /// Its name: the first numbers of its releases.
    pub(super) name: &'static str,
    /// Distributions that have it.
    pub(super) users: &'static str,
    /// The losses that doctor is expected to name there, by the first words of its lines.
    pub(super) losses: &'static [&'static str],
}

impl Series {
    /// Whether a loss that doctor names is expected of these kernels. A fault never is.
    pub(super) fn expects(&self, line: &str) -> bool {
        match line.split_once(' ') {
            Some(("loss", words)) => self.losses.iter().any(|name| words.starts_with(&format!("{name} "))),
            _ => false,
        }
    }
}

/// All, the oldest first.
pub(super) const ALL: [Series; 3] = [
    Series { name: "5.10", users: "Debian 11", losses: &["frags", "landlock", "capabilities"] },
    Series { name: "6.1", users: "Debian 12", losses: &[] },
    Series { name: "6.12", users: "Debian 13", losses: &[] },
];

/// Those of these names, or all.
pub(super) fn chosen(names: &[String]) -> Result<Vec<&'static Series>> {
    if names.is_empty() {
        return Ok(ALL.iter().collect());
    }
    let known = || ALL.map(|series| series.name).join(", ");
    let find = |name: &String| ALL.iter().find(|series| series.name == *name);
    names
        .iter()
        .map(|name| find(name).with_context(|| format!("no series {name}; there are {}", known())))
        .collect()
}

/// Releases whose kernels are looked at, with the suite that they are in and the label of its archive.
const SUITES: [(&str, &str); 4] = [
    ("bullseye", "Debian"),
    ("bullseye-security", "Debian-Security"),
    ("bookworm", "Debian"),
    ("trixie", "Debian"),
];

/// The keys of all releases: Debian's package debian-archive-keyring.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// An unpacked kernel.
pub(super) struct Kernel {
    /// `uname -r`.
    pub(super) release: String,
    /// The image that is booted.
    pub(super) image: PathBuf,
    /// Its modules.
    modules: PathBuf,
}

/// What is built into a kernel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flavour {
    /// What virtual machines of clouds have.
    Cloud,
    /// Every driver.
    Full,
}

impl Kernel {
    /// These modules and all that they need, in an order in which they can be loaded. Those that are built in are left out.
    ///
    /// # Errors
    /// depmod(8) fails.
    pub(super) fn modules(&self, ws: &Workspace, names: &[&str]) -> Result<Vec<PathBuf>> {
        let dependencies = self.modules.join("modules.dep");
        if !dependencies.exists() {
            let root =
                self.modules.ancestors().find(|path| path.join("boot").is_dir()).context("its root")?;
            // Debian 13 has them below /usr.
            if !root.join("lib").exists() {
                std::os::unix::fs::symlink("usr/lib", root.join("lib"))?;
            }
            process::run(ws.command("depmod").arg("-b").arg(root).arg(&self.release))?;
        }
        let lines = fs::read_to_string(&dependencies).with_context(|| dependencies.display().to_string())?;
        Ok(in_order(&lines, names).into_iter().map(|module| self.modules.join(module)).collect())
    }
}

/// The files of modules and of what they need, by the lines of modules.dep: `FILE: FILE THAT IT NEEDS ...`, of which the
/// last is the first to be loaded.
fn in_order<'l>(lines: &'l str, names: &[&str]) -> Vec<&'l str> {
    let mut files = Vec::new();
    for name in names {
        let file = |path: &str| path.rsplit('/').next().unwrap_or(path).split('.').next() == Some(name);
        let Some((module, needed)) =
            lines.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| file(path))
        else {
            continue;
        };
        for file in needed.split_whitespace().rev().chain([module]) {
            if !files.contains(&file) {
                files.push(file);
            }
        }
    }
    files
}

/// Debian's archive for a processor, by way of apt with a state of its own.
pub(super) struct Archive {
    arch: Arch,
    directory: PathBuf,
    names: Vec<String>,
}

impl Archive {
    /// Fetches the package lists.
    ///
    /// # Errors
    /// This machine gets no packages from Debian, or its archive cannot be reached.
    pub(super) fn open(ws: &Workspace, directory: &Path, arch: Arch) -> Result<Self> {
        let directory = directory.join(format!("apt-{}", arch.debian()));
        apt::prepare(&directory)?;
        let said = apt::lists(ws, "$(LABEL) $(REPO_URI)")?;
        fs::write(directory.join("sources.list"), sources(&said)?)?;
        // Nothing is installed there.
        fs::write(directory.join("status"), "")?;
        let mut archive = Self { arch, directory, names: Vec::new() };
        process::run_with_retries(archive.apt(ws, "apt-get").args(["-qq", "update"]))?;
        let pattern = format!("^linux-image-[0-9].*-{}$", arch.debian());
        let found = process::answer(archive.apt(ws, "apt-cache").args(["search", "--names-only", &pattern]));
        let found = found.context("apt-cache search")?;
        archive.names = found.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
        Ok(archive)
    }

    fn apt(&self, ws: &Workspace, program: &str) -> Command {
        let (status, arch) = (self.directory.join("status").display().to_string(), self.arch.debian());
        let more = [
            ("Dir::Etc::PreferencesParts", "/dev/null"),
            ("Dir::State::status", &*status),
            ("APT::Architecture", arch),
            ("APT::Architectures", arch),
        ];
        apt::within(ws, program, &self.directory, &more)
    }

    /// The newest kernel of a series; downloaded once.
    ///
    /// # Errors
    /// There is none, or it could not be fetched.
    pub(super) fn get(&self, ws: &Workspace, series: &Series, flavour: Flavour) -> Result<Kernel> {
        let package = newest(&self.names, series.name, flavour)
            .with_context(|| format!("Debian has no kernel {} any more", series.name))?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        let place = self.directory.with_file_name(&release);
        let image = place.join("boot").join(format!("vmlinuz-{release}"));
        if !image.is_file() {
            let parcels = self.directory.join("cache");
            let mut download = self.apt(ws, "apt-get");
            process::run_with_retries(download.args(["-q", "download", package]).current_dir(&parcels))?;
            let parcel = fs::read_dir(&parcels)?
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(package)))
                .context("the package was downloaded and is not there")?;
            process::run(ws.command("dpkg-deb").arg("-x").args([&parcel, &place]))?;
            fs::remove_file(parcel)?;
        }
        let modules = ["lib/modules", "usr/lib/modules"].map(|part| place.join(part).join(&release));
        let modules = modules.into_iter().find(|path| path.is_dir()).context("the kernel has no modules")?;
        ensure!(image.is_file(), "{} is not there", image.display());
        Ok(Kernel { release, image, modules })
    }
}

impl Archive {
    /// A directory in which packages are unpacked with all that they need; unpacked once for the same packages.
    ///
    /// # Errors
    /// There is one that could not be fetched.
    pub(super) fn unpacked(&self, ws: &Workspace, packages: &[&str]) -> Result<PathBuf> {
        let place = self.directory.with_file_name(format!("system-{}", self.arch.debian()));
        let done = place.with_extension("packages");
        let names = packages.join(" ");
        if fs::read_to_string(&done).is_ok_and(|text| text == names) {
            return Ok(place);
        }
        let parcels = self.directory.join("cache/archives");
        let mut download = self.apt(ws, "apt-get");
        download.args(["-q", "-y", "--no-install-recommends", "--download-only", "install"]).args(packages);
        process::run_with_retries(&mut download)?;
        for entry in fs::read_dir(&parcels)? {
            let parcel = entry?.path();
            if parcel.extension().is_some_and(|extension| extension == "deb") {
                process::run(ws.command("dpkg-deb").arg("-x").args([&parcel, &place]))?;
                fs::remove_file(parcel)?;
            }
        }
        fs::write(done, names)?;
        Ok(place)
    }
}

/// The sources of apt for [`SUITES`], from where this machine gets its own.
fn sources(said: &str) -> Result<String> {
    let mut text = String::new();
    for (suite, label) in SUITES {
        let known = said.lines().find_map(|line| line.split_once(' ').filter(|(found, _)| *found == label));
        // Some machines do without the archive of security updates.
        if let Some((_, uri)) = known {
            text += &format!("deb [signed-by={KEYS}] {uri} {suite} main\n");
        }
    }
    if text.is_empty() {
        bail!("this machine gets no packages from Debian (or `apt-get update` was never run): no kernels");
    }
    Ok(text)
}

/// The newest package of a series.
fn newest<'n>(names: &'n [String], series: &str, flavour: Flavour) -> Option<&'n str> {
    let prefix = format!("linux-image-{series}.");
    let is_wanted = |name: &&String| {
        let is_cloud = name.contains("-cloud-");
        let of_flavour = match flavour {
            Flavour::Cloud => is_cloud,
            Flavour::Full => !is_cloud && !name.contains("-rt-") && !name.contains("-16k-"),
        };
        of_flavour && name.starts_with(&prefix)
    };
    names.iter().filter(is_wanted).max_by_key(|name| numbers(name)).map(String::as_str)
}

/// All numbers in a name, in their order.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_series_is_taken() {
        let names = ["6.1.0-9", "6.1.0-50", "6.1.0-0.deb11.52", "6.12.9+deb13", "6.12.10+deb13"];
        let names = names.map(|release| format!("linux-image-{release}-cloud-amd64"));
        let cloud = |series| newest(&names, series, Flavour::Cloud);
        assert_eq!(cloud("6.1"), Some("linux-image-6.1.0-50-cloud-amd64"));
        assert_eq!(cloud("6.12"), Some("linux-image-6.12.10+deb13-cloud-amd64"));
        assert_eq!(cloud("6"), Some("linux-image-6.12.10+deb13-cloud-amd64"));
        assert_eq!(cloud("5.10"), None);
    }

    #[test]
    fn with_every_driver_is_neither_for_clouds_nor_for_real_time() {
        let names = ["6.1.0-50-cloud-amd64", "6.1.0-50-rt-amd64", "6.1.0-49-amd64"];
        let names = names.map(|release| format!("linux-image-{release}"));
        assert_eq!(newest(&names, "6.1", Flavour::Full), Some("linux-image-6.1.0-49-amd64"));
    }

    #[test]
    fn modules_come_after_those_that_they_need_and_once() {
        let lines = "k/virtio_net.ko.xz: k/net_failover.ko.xz k/failover.ko.xz\nk/failover.ko.xz:\nk/veth.ko:\n\
                     k/net_failover.ko.xz: k/failover.ko.xz\n";
        assert_eq!(
            in_order(lines, &["failover", "virtio_net", "built_in", "veth"]),
            ["k/failover.ko.xz", "k/net_failover.ko.xz", "k/virtio_net.ko.xz", "k/veth.ko"]
        );
    }

    #[test]
    fn sources_come_from_where_this_machine_has_its_own() {
        let text = sources("Debian http://a.example/debian/\nOther http://b.example/\n").unwrap();
        assert!(text.contains(&format!("deb [signed-by={KEYS}] http://a.example/debian/ trixie main\n")));
        assert!(!text.contains("b.example") && !text.contains("security"));
        assert!(sources("Other http://b.example/\n").is_err());
    }

    #[test]
    fn a_series_that_is_not_known_is_refused_with_those_that_are() {
        let error = chosen(&["4.19".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("4.19") && error.contains("6.12"), "{error}");
        assert_eq!(chosen(&[]).unwrap().len(), ALL.len());
    }
}
