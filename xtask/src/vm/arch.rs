//! Processors that guests have.

use std::{env, process::Command};

use crate::{setup::Purpose, target::Target, workspace::Workspace};

/// A processor that qemu emulates.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Arch {
    /// Debian's amd64.
    #[value(name = "x86_64")]
    X86,
    /// Debian's arm64.
    #[value(name = "aarch64")]
    Arm,
}

impl Arch {
    /// This machine's.
    pub(super) fn of_host() -> Self {
        if env::consts::ARCH == "aarch64" { Self::Arm } else { Self::X86 }
    }

    /// The name in Debian's archive.
    pub(super) fn debian(self) -> &'static str {
        match self {
            Self::X86 => "amd64",
            Self::Arm => "arm64",
        }
    }

    /// The name of Debian's directories of libraries.
    pub(super) fn libraries(self) -> &'static str {
        match self {
            Self::X86 => "x86_64-linux-gnu",
            Self::Arm => "aarch64-linux-gnu",
        }
    }

    /// What cargo builds for it.
    pub(super) fn target(self) -> Target<'static> {
        match self {
            _ if self == Self::of_host() => Target::HOST,
            Self::X86 => Target::new(Some("x86_64-unknown-linux-gnu")),
            Self::Arm => Target::new(Some("aarch64-unknown-linux-gnu")),
        }
    }

    /// What has to be installed.
    pub(super) fn purpose(self) -> Purpose {
        if self == Self::of_host() { Purpose::Vm } else { Purpose::VmCross }
    }

    /// qemu, with the machine that it emulates.
    pub(super) fn qemu(self, ws: &Workspace) -> Command {
        match self {
            Self::X86 => {
                let mut qemu = ws.command("qemu-system-x86_64");
                qemu.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"]);
                qemu
            }
            Self::Arm => {
                let mut qemu = ws.command("qemu-system-aarch64");
                // Pointers are signed by a function that costs less than the processor's own.
                qemu.args(["-machine", "virt,gic-version=3", "-accel", "tcg,thread=multi"]);
                qemu.args(["-cpu", "max,pauth-impdef=on"]);
                qemu
            }
        }
    }

    /// The device of the serial console.
    pub(super) fn console(self) -> &'static str {
        match self {
            Self::X86 => "ttyS0",
            Self::Arm => "ttyAMA0",
        }
    }
}
