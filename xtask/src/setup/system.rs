//! Programs from the packages of the distribution.

use std::{process::Command, sync::Once};

use anyhow::{Context, Result};

use super::Item;
use crate::{
    process,
    workspace::{Workspace, is_root},
};

/// A program and the packages that hold it, by package manager.
pub(super) struct Program {
    name: &'static str,
    packages: Packages,
}

/// Names of packages, separated by spaces.
pub(super) struct Packages {
    /// Debian, Ubuntu.
    pub(super) apt: &'static str,
    /// Fedora.
    pub(super) dnf: &'static str,
    /// Arch.
    pub(super) pacman: &'static str,
    /// Alpine.
    pub(super) apk: &'static str,
}

impl Packages {
    pub(super) const fn same_everywhere(name: &'static str) -> Self {
        Self { apt: name, dnf: name, pacman: name, apk: name }
    }
}

/// Links every Rust program, and compiles the C in cargo-deny's cryptography. Cargo could hardly have built
/// xtask without it: here it is checked for those who link with something else.
pub(super) const C_COMPILER: Program = Program {
    name: "cc",
    packages: Packages { apt: "gcc libc6-dev", dnf: "gcc", pacman: "gcc", apk: "gcc musl-dev" },
};

/// Compiles libFuzzer.
pub(super) const CXX_COMPILER: Program =
    Program { name: "c++", packages: Packages { apt: "g++", dnf: "gcc-c++", pacman: "gcc", apk: "g++" } };

/// Compiles the C in the agent's cryptography against musl, for a static binary.
pub(super) const MUSL: Program = Program {
    name: "musl-gcc",
    packages: Packages { apt: "musl-tools", dnf: "musl-gcc", pacman: "musl", apk: "musl-dev gcc" },
};

/// Compiles and links for arm64, on another processor.
pub(super) const ARM_COMPILER: Program = Program {
    name: "aarch64-linux-gnu-gcc",
    packages: Packages {
        apt: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
        dnf: "gcc-aarch64-linux-gnu",
        pacman: "aarch64-linux-gnu-gcc",
        apk: "gcc-aarch64-linux-gnu",
    },
};

/// Finds which libraries the RPM package needs; the tests install it.
pub(super) const RPM: Program = Program {
    name: "rpm",
    packages: Packages { dnf: "rpm-build", pacman: "rpm-tools", ..Packages::same_everywhere("rpm") },
};

/// Programs with which the tests and the demo scan, look and set up. Debian's dnsmasq-base has no service.
pub(super) const TEST_TOOLS: [Program; 27] = [
    Program { name: "nmap", packages: Packages::same_everywhere("nmap") },
    Program {
        name: "hping3",
        packages: Packages { apt: "hping3", dnf: "hping3", pacman: "hping", apk: "hping3" },
    },
    Program {
        name: "ip",
        packages: Packages { apt: "iproute2", dnf: "iproute", pacman: "iproute2", apk: "iproute2" },
    },
    Program { name: "tcpdump", packages: Packages::same_everywhere("tcpdump") },
    Program { name: "nft", packages: Packages::same_everywhere("nftables") },
    Program {
        name: "ping",
        packages: Packages { apt: "iputils-ping", dnf: "iputils", pacman: "iputils", apk: "iputils" },
    },
    // Somebody who logs in.
    Program {
        name: "ssh",
        packages: Packages {
            apt: "openssh-client",
            dnf: "openssh-clients",
            pacman: "openssh",
            apk: "openssh-client",
        },
    },
    Program { name: "ethtool", packages: Packages::same_everywhere("ethtool") },
    // Sets the clock of one agent; the kernel has no namespace for the time of day.
    Program { name: "faketime", packages: Packages::same_everywhere("faketime") },
    Program { name: "nsenter", packages: Packages::same_everywhere("util-linux") },
    // A terminal for replay.
    Program {
        name: "script",
        packages: Packages {
            apt: "bsdutils",
            dnf: "util-linux-script",
            pacman: "util-linux",
            apk: "util-linux-misc",
        },
    },
    Program { name: "tmux", packages: Packages::same_everywhere("tmux") },
    // Findings are sent to one that a test starts; the service of the package, which most Debian hosts have, is left alone.
    Program { name: "rsyslogd", packages: Packages::same_everywhere("rsyslog") },
    Program { name: "systemd-analyze", packages: Packages::same_everywhere("systemd") },
    // The package is installed by it, in a mount namespace.
    Program { name: "dpkg", packages: Packages::same_everywhere("dpkg") },
    Program {
        name: "jsonschema",
        packages: Packages {
            apt: "python3-jsonschema",
            dnf: "python3-jsonschema",
            pacman: "python-jsonschema",
            apk: "py3-jsonschema",
        },
    },
    same("curl"),
    // Sends bulk data over links of jumbo frames. Debian's starts no server unless it is asked to.
    same("iperf3"),
    // libxdp's tools, whose programs are on an interface before or after the agent's.
    Program { name: "xdp-loader", packages: Packages::same_everywhere("xdp-tools") },
    Program { name: "xdp-filter", packages: Packages::same_everywhere("xdp-tools") },
    Program { name: "bpftool", packages: Packages { pacman: "bpf", ..Packages::same_everywhere("bpftool") } },
    same("gobuster"),
    // Asks each host of a fleet once.
    same("zmap"),
    // The browser that the page is looked at in, and what drives it.
    same("chromium"),
    Program {
        name: "chromedriver",
        packages: Packages {
            apt: "chromium-driver",
            dnf: "chromedriver",
            pacman: "chromium",
            apk: "chromium-chromedriver",
        },
    },
    Program {
        name: "dig",
        packages: Packages { apt: "bind9-dnsutils", dnf: "bind-utils", pacman: "bind", apk: "bind-tools" },
    },
    Program {
        name: "dnsmasq",
        packages: Packages { apt: "dnsmasq-base", dnf: "dnsmasq", pacman: "dnsmasq", apk: "dnsmasq" },
    },
];

/// Has a shell, nc and udhcpc, without a library.
const BUSYBOX: Program = Program {
    name: "busybox",
    packages: Packages { apt: "busybox-static", ..Packages::same_everywhere("busybox") },
};

/// Programs with which the matrix scans, serves and visits, beyond [`TEST_TOOLS`]. None of these packages
/// starts anything: Debian's rsync leaves its daemon off.
pub(super) const MATRIX_TOOLS: [Program; 43] = [
    same("masscan"),
    same("fping"),
    // Debian, Fedora and Arch have it in nmap's package.
    Program {
        name: "nping",
        packages: Packages { apt: "nmap", dnf: "nmap", pacman: "nmap", apk: "nmap-nping" },
    },
    same("wrk"),
    same("rsync"),
    same("traceroute"),
    Program { name: "mtr", packages: Packages { apt: "mtr-tiny", dnf: "mtr", pacman: "mtr", apk: "mtr" } },
    Program {
        name: "conntrack",
        packages: Packages {
            apt: "conntrack",
            dnf: "conntrack-tools",
            pacman: "conntrack-tools",
            apk: "conntrack-tools",
        },
    },
    // Scanners of web sites, of TLS and of name servers. Not every distribution has all of them.
    same("ffuf"),
    same("dirb"),
    same("wfuzz"),
    // Debian's lacks one that it needs.
    Program {
        name: "dirsearch",
        packages: Packages { apt: "dirsearch python3-chardet", ..Packages::same_everywhere("dirsearch") },
    },
    same("whatweb"),
    same("wapiti"),
    same("wafw00f"),
    same("hydra"),
    same("sqlmap"),
    same("sslscan"),
    Program { name: "testssl", packages: Packages::same_everywhere("testssl.sh") },
    same("dnsrecon"),
    same("dnsenum"),
    same("wget"),
    Program { name: "aria2c", packages: Packages::same_everywhere("aria2") },
    same("openssl"),
    // Scanners of ports, of services over UDP and of IPv6.
    same("pnscan"),
    same("doscan"),
    same("scanssh"),
    same("dmitry"),
    same("braa"),
    same("ike-scan"),
    same("nbtscan"),
    same("onesixtyone"),
    same("ssh-audit"),
    Program { name: "svmap", packages: Packages::same_everywhere("sipvicious") },
    Program { name: "scan6", packages: Packages::same_everywhere("ipv6toolkit") },
    Program { name: "atk6-alive6", packages: Packages::same_everywhere("thc-ipv6") },
    Program {
        name: "nc",
        packages: Packages {
            apt: "netcat-openbsd",
            dnf: "netcat",
            pacman: "openbsd-netcat",
            apk: "netcat-openbsd",
        },
    },
    Program {
        name: "snmpget",
        packages: Packages { apt: "snmp", dnf: "net-snmp-utils", pacman: "net-snmp", apk: "net-snmp-tools" },
    },
    // WireGuard without the kernel's module, which not every kernel has.
    same("wireguard-go"),
    Program { name: "wg", packages: Packages::same_everywhere("wireguard-tools") },
    Program {
        name: "dhclient",
        packages: Packages {
            apt: "isc-dhcp-client",
            dnf: "dhcp-client",
            pacman: "dhclient",
            apk: "dhclient",
        },
    },
    BUSYBOX,
    Program {
        name: "scapy",
        packages: Packages { apt: "python3-scapy", dnf: "python3-scapy", pacman: "scapy", apk: "scapy" },
    },
];

/// Compiles the C programs that the bench compares with, against the kernel's own headers.
pub(super) const CLANG: Program = Program {
    name: "clang",
    packages: Packages {
        apt: "clang linux-libc-dev",
        dnf: "clang kernel-headers",
        pacman: "clang linux-api-headers",
        apk: "clang linux-headers",
    },
};

/// Programs with which the bench works over a wire, beyond [`TEST_TOOLS`]. The peers of its comparisons are unpacked, not
/// installed (`peers`).
pub(super) const BENCH_TOOLS: [Program; 3] = [same("masscan"), same("zmap"), same("wrk")];

/// Boots other kernels, and packs what runs there, beyond [`TEST_TOOLS`].
pub(super) const VM_TOOLS: [Program; 6] = [
    Program {
        name: "qemu-system-x86_64",
        packages: Packages {
            apt: "qemu-system-x86",
            dnf: "qemu-system-x86-core",
            pacman: "qemu-system-x86",
            apk: "qemu-system-x86_64",
        },
    },
    BUSYBOX,
    same("cpio"),
    Program { name: "xz", packages: Packages { apt: "xz-utils", ..Packages::same_everywhere("xz") } },
    Program { name: "strip", packages: Packages::same_everywhere("binutils") },
    Program { name: "depmod", packages: Packages::same_everywhere("kmod") },
];

/// Boots kernels of arm64, on another processor.
pub(super) const ARM_QEMU: Program = Program {
    name: "qemu-system-aarch64",
    packages: Packages {
        apt: "qemu-system-arm",
        dnf: "qemu-system-aarch64-core",
        pacman: "qemu-system-aarch64",
        apk: "qemu-system-aarch64",
    },
};

/// A program whose package is called like it.
const fn same(name: &'static str) -> Program {
    Program { name, packages: Packages::same_everywhere(name) }
}

impl Item for Program {
    fn name(&self, _: &Workspace) -> String {
        self.name.to_owned()
    }

    fn present(&self, ws: &Workspace) -> Option<String> {
        ws.find_program(self.name).map(|path| ws.display(&path))
    }

    fn install(&self, ws: &Workspace) -> Result<()> {
        apt_get_install(ws, self.packages.apt)
    }

    fn by_hand(&self, ws: &Workspace) -> String {
        by_hand(ws, &self.packages)
    }
}

/// Installs Debian packages, named with spaces in between.
pub(super) fn apt_get_install(ws: &Workspace, packages: &str) -> Result<()> {
    let mut apt_get = apt_get_as_root(ws, "install")?;
    update_package_lists(ws);
    // Files that are there already are left as they are.
    apt_get.args(["-y", "--no-install-recommends", "--no-upgrade"]);
    process::run_with_retries(apt_get.args(packages.split_whitespace()))
}

/// The command that installs `packages` with the package manager of this machine, or their names if it has
/// none that is known.
pub(super) fn by_hand(ws: &Workspace, packages: &Packages) -> String {
    let Packages { apt, dnf, pacman, apk } = packages;
    let managers =
        [("apt-get", "install", apt), ("dnf", "install", dnf), ("pacman", "-S", pacman), ("apk", "add", apk)];
    match managers.into_iter().find(|(manager, ..)| ws.find_program(manager).is_some()) {
        Some((manager, verb, names)) => format!("as root, `{manager} {verb} {names}`"),
        None => {
            format!("the package is called {apt} (Debian), {dnf} (Fedora), {pacman} (Arch), {apk} (Alpine)")
        }
    }
}

/// Refreshes apt's lists once per run, if that is allowed. Where it fails, older lists may still do.
pub(super) fn update_package_lists(ws: &Workspace) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let outcome = apt_get_as_root(ws, "update").and_then(|mut apt_get| {
            // Without this apt-get calls it a success to have downloaded nothing.
            process::run_with_retries(apt_get.args(["-o", "APT::Update::Error-Mode=any"]))
        });
        if let Err(error) = outcome {
            println!("going on with the package lists that are there: {error:#}");
        }
    });
}

fn apt_get_as_root(ws: &Workspace, verb: &str) -> Result<Command> {
    ws.find_program("apt-get").context("there is no apt-get")?;
    let mut command = if is_root() {
        let mut apt_get = ws.command("apt-get");
        apt_get.env("DEBIAN_FRONTEND", "noninteractive");
        apt_get
    } else {
        process::answer(ws.command("sudo").args(["-n", "true"]))
            .context("this needs root, and sudo is not there or wants a password")?;
        let mut sudo = ws.command("sudo");
        sudo.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        sudo
    };
    // Another package manager may be at work; on a fresh machine one often is.
    command.args([verb, "-q", "-o", "DPkg::Lock::Timeout=120"]);
    Ok(command)
}
