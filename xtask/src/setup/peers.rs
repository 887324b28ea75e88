//! Those that the bench compares with: Debian's packages and what they need, unpacked below target/ and not installed. A
//! package would start its service, and some bring a mail server. The bench lays them over the system for itself.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{apt, process, workspace::Workspace};

/// The packages. `true`: from the backports, which are newer, or the only ones to have it.
const PACKAGES: [(&str, bool); 6] = [
    ("suricata", true),
    ("psad", false),
    ("crowdsec", false),
    ("portsentry", false),
    ("scanlogd", false),
    ("ulogd2", false),
];

/// Commands of iptables, which alternatives would link.
const LINKS: [&str; 2] = ["iptables", "ip6tables"];

/// Unpacks those that are not there yet. Those that cannot be had are named; the bench then says so in their rows.
pub(crate) fn unpack(ws: &Workspace) {
    let root = ws.target().join("peers");
    let is_missing = |name: &str| !root.join("unpacked").join(name).exists();
    let missing: Vec<_> = PACKAGES.iter().filter(|(name, _)| is_missing(name)).collect();
    if missing.is_empty() {
        return;
    }
    let archive = match Archive::open(ws) {
        Ok(archive) => archive,
        Err(error) => {
            return println!("peers: NOT unpacked, those that are not installed are left out: {error:#}");
        }
    };
    for (name, is_backport) in missing {
        println!("{name}: missing, unpacking ...");
        match archive.unpack(ws, name, *is_backport, &root) {
            Ok(()) => println!("{name}: unpacked ({})", ws.display(&root)),
            Err(error) => println!("{name}: NOT unpacked: {error:#}"),
        }
    }
}

/// This machine's archive with its backports, by way of apt with lists of its own.
struct Archive {
    directory: PathBuf,
    release: String,
}

impl Archive {
    fn open(ws: &Workspace) -> Result<Self> {
        let directory = ws.target().join("peers.apt");
        apt::prepare(&directory)?;
        let said = apt::lists(ws, "$(LABEL) $(CODENAME) $(REPO_URI)")?;
        let (release, uri) = release(&said).context("this is no Debian")?;
        let line = |suite: &str| format!("deb {uri} {suite} main\n");
        fs::write(directory.join("sources.list"), line(release) + &line(&format!("{release}-backports")))?;
        let archive = Self { release: release.to_owned(), directory };
        process::run_with_retries(archive.apt(ws).args(["-qq", "update"]))?;
        Ok(archive)
    }

    /// It knows what is installed here, so that it fetches only what is not.
    fn apt(&self, ws: &Workspace) -> Command {
        apt::within(ws, "apt-get", &self.directory, &[])
    }

    fn unpack(&self, ws: &Workspace, name: &str, is_backport: bool, root: &Path) -> Result<()> {
        let parcels = self.directory.join("cache/archives");
        let wanted = if is_backport { format!("{name}/{}-backports", self.release) } else { name.to_owned() };
        let mut fetch = self.apt(ws);
        fetch.args(["install", "-q", "-y", "--no-install-recommends", "--download-only", &wanted]);
        process::run_with_retries(&mut fetch)?;
        fs::create_dir_all(root)?;
        for parcel in fs::read_dir(&parcels)?.filter_map(Result::ok).map(|entry| entry.path()) {
            if parcel.extension().is_some_and(|extension| extension == "deb") {
                process::run(ws.command("dpkg-deb").arg("--extract").arg(&parcel).arg(root))?;
                fs::remove_file(parcel)?;
            }
        }
        // A system has links in place of these.
        for part in
            ["lib", "bin", "sbin", "lib64"].map(|part| root.join(part)).iter().filter(|part| part.is_dir())
        {
            let place = root.join("usr").join(part.file_name().unwrap_or_default());
            fs::create_dir_all(&place)?;
            process::run(ws.command("cp").arg("--archive").arg(part.join(".")).arg(place))?;
            fs::remove_dir_all(part)?;
        }
        for link in LINKS.map(|link| root.join("usr/sbin").join(link)) {
            let target = format!("{}-nft", link.file_name().unwrap_or_default().display());
            if link.with_file_name(&target).exists() && fs::symlink_metadata(&link).is_err() {
                symlink(target, &link)?;
            }
        }
        fs::create_dir_all(root.join("unpacked"))?;
        fs::write(root.join("unpacked").join(name), "").context("a note that it was unpacked")
    }
}

/// The name of Debian's release, and the address of its archive, of the lines `LABEL CODENAME URI`.
fn release(said: &str) -> Option<(&str, &str)> {
    said.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (label, release, uri) = (words.next()?, words.next()?, words.next()?);
        (label == "Debian" && !release.contains('-')).then_some((release, uri))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_that_of_debian_itself() {
        let said = "Node nodistro https://a.example\nDebian-Security bookworm-security http://d.example/security\n\
                    Debian bookworm-updates http://d.example/debian\nDebian bookworm http://d.example/debian\n";
        assert_eq!(release(said), Some(("bookworm", "http://d.example/debian")));
        assert_eq!(release("Ubuntu noble http://u.example\n"), None);
    }
}
