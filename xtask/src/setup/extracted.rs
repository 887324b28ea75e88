//! Single programs out of packages that would bring a server which starts at once.
//!
//! CrowdSec's package would also register this machine at the central service, and fail where it cannot be reached.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{
    Item,
    system::{self, Packages},
};
use crate::{process, workspace::Workspace};

/// The programs that are wanted from a package.
pub(super) struct Extracted {
    name: &'static str,
    packages: Packages,
    /// Where they are in Debian's package.
    paths: &'static [&'static str],
    /// Debian's packages of the libraries that it needs beyond a base system's.
    libraries: &'static str,
    /// Below /usr/share, what the first of the programs opens there, by a path that is compiled in.
    shared: Option<&'static str>,
}

/// Scrapes the agent in a test that starts it, and checks our metrics and alert rules.
pub(super) const PROMETHEUS: Extracted = Extracted {
    name: "prometheus",
    packages: Packages {
        apt: "prometheus",
        dnf: "golang-github-prometheus",
        pacman: "prometheus",
        apk: "prometheus",
    },
    paths: &["usr/bin/prometheus", "usr/bin/promtool"],
    libraries: "",
    shared: None,
};

/// CrowdSec's Local API, with which the agent shares findings, and its command.
pub(super) const CROWDSEC: Extracted = Extracted {
    name: "crowdsec",
    packages: Packages::same_everywhere("crowdsec"),
    paths: &["usr/bin/crowdsec", "usr/bin/cscli"],
    libraries: "libsqlite3-0",
    shared: None,
};

/// Findings become alerts in one that a test starts.
pub(super) const ALERTMANAGER: Extracted = Extracted {
    name: "prometheus-alertmanager",
    packages: Packages {
        apt: "prometheus-alertmanager",
        dnf: "golang-github-prometheus-alertmanager",
        pacman: "alertmanager",
        apk: "alertmanager",
    },
    paths: &["usr/bin/prometheus-alertmanager", "usr/bin/amtool"],
    libraries: "",
    shared: Some("prometheus/alertmanager"),
};

/// The SSH server, which the tests of logins use.
pub(super) const SSHD: Extracted = Extracted {
    name: "sshd",
    packages: Packages {
        apt: "openssh-server",
        dnf: "openssh-server",
        pacman: "openssh",
        apk: "openssh-server",
    },
    paths: &["usr/sbin/sshd"],
    libraries: "libwrap0",
    shared: None,
};

/// The server whose requests are sampled, whose logs are followed, and that clients measure.
pub(super) const NGINX: Extracted = Extracted {
    name: "nginx",
    packages: Packages::same_everywhere("nginx"),
    paths: &["usr/sbin/nginx"],
    libraries: "libpcre2-8-0",
    shared: None,
};

/// The servers of the matrix, and the daemons that leave the host without scanning.
pub(super) const SERVERS: [Extracted; 6] = [
    NGINX,
    Extracted {
        name: "haproxy",
        packages: Packages::same_everywhere("haproxy"),
        paths: &["usr/sbin/haproxy"],
        libraries: "liblua5.3-0 libopentracing-c-wrapper0 libpcre2-posix3",
        shared: None,
    },
    Extracted {
        name: "nsd",
        packages: Packages::same_everywhere("nsd"),
        paths: &["usr/sbin/nsd"],
        libraries: "libevent-2.1-7 libfstrm0 libprotobuf-c1",
        shared: None,
    },
    Extracted {
        name: "unbound",
        packages: Packages::same_everywhere("unbound"),
        paths: &["usr/sbin/unbound"],
        libraries: "libevent-2.1-7 libnghttp2-14 libprotobuf-c1 libpython3.11",
        shared: None,
    },
    Extracted {
        name: "keepalived",
        packages: Packages::same_everywhere("keepalived"),
        paths: &["usr/sbin/keepalived"],
        libraries: "libglib2.0-0 libmnl0 libnftnl11 libnl-3-200 libnl-genl-3-200 libsnmp40",
        shared: None,
    },
    Extracted {
        name: "openvpn",
        packages: Packages::same_everywhere("openvpn"),
        paths: &["usr/sbin/openvpn"],
        libraries: "libcap-ng0 liblzo2-2 libnl-3-200 libnl-genl-3-200 libpkcs11-helper1",
        shared: None,
    },
];

impl Item for Extracted {
    fn name(&self, _: &Workspace) -> String {
        self.name.to_owned()
    }

    fn present(&self, ws: &Workspace) -> Option<String> {
        let found: Option<Vec<_>> = self.paths.iter().map(|path| ws.find_program(program(path))).collect();
        let first = found?.into_iter().next()?;
        // One of ours is of no use without it.
        let is_whole = self.shared.is_none_or(|shared| share(ws).join(shared).is_dir());
        (is_whole || !first.starts_with(ws.tools())).then(|| ws.display(&first))
    }

    /// Takes the programs out of the package instead of installing that: the package brings a server that
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
        for path in self.paths {
            fs::rename(scratch.join(path), bin.join(program(path)))
                .with_context(|| format!("the package holds no {path}"))?;
        }
        if let Some(shared) = self.shared {
            let place = share(ws).join(shared);
            _ = fs::remove_dir_all(&place);
            fs::create_dir_all(place.parent().unwrap_or(&place))?;
            fs::rename(scratch.join("usr/share").join(shared), &place)
                .with_context(|| format!("the package holds no usr/share/{shared}"))?;
            wrap(ws, program(self.paths[0]))?;
        }
        _ = fs::remove_dir_all(&scratch);
        Ok(())
    }

    fn by_hand(&self, ws: &Workspace) -> String {
        let Self { name, packages, .. } = self;
        format!("{} (only {name} is used; the service may stay off)", system::by_hand(ws, packages))
    }
}

/// The name of a program.
fn program(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn only_file_in(dir: &Path) -> Result<PathBuf> {
    let entry = fs::read_dir(dir)?.next().context("apt-get downloaded nothing")??;
    Ok(entry.path())
}

/// Files that programs expect below /usr/share.
fn share(ws: &Workspace) -> PathBuf {
    ws.tools().join("share")
}

/// Puts a script in the place of a program that lets it see [`share`] laid over /usr/share, in a mount namespace of its own (root
/// only): nothing is written outside the work tree. The process is the program's in the end.
fn wrap(ws: &Workspace, program: &str) -> Result<()> {
    let (bin, lib) = (ws.tools().join("bin"), ws.tools().join("lib"));
    fs::create_dir_all(&lib)?;
    fs::rename(bin.join(program), lib.join(program))?;
    let script = bin.join(program);
    let text = format!(
        "#!/bin/sh\n\
         # Made by `cargo xtask setup`.\n\
         tools=$(cd \"$(dirname \"$0\")/..\" && pwd) || exit\n\
         # shellcheck disable=SC2016\n\
         exec unshare --mount sh -c 'mount -t overlay overlay -o \"lowerdir=$0/share:/usr/share\" /usr/share &&\n\
         exec \"$0/lib/{program}\" \"$@\"' \"$tools\" \"$@\"\n"
    );
    fs::write(&script, text).with_context(|| format!("cannot write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
