//! `cargo xtask setup`: installs what is missing, says what it does, and changes nothing the second time.

mod cargo_tool;
mod extracted;
pub(crate) mod peers;
mod python_tool;
mod rust;
mod system;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

pub(crate) use self::rust::NIGHTLY;
use crate::workspace::Workspace;

/// Arguments of `setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install only what this command needs (demo needs the same as test)
    #[arg(long = "for", value_name = "COMMAND", default_value = "all")]
    purpose: Purpose,
}

/// A purpose that things are installed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Compile the agent and its eBPF program.
    Build,
    /// Compile, and look at licences and duplicates of dependencies.
    Check,
    /// The same, and look at what containers are made of and deployed with.
    Deploy,
    /// Compile, and scan the sensor with real tools.
    Test,
    /// Compile, and play the matrix: many tools, servers and clients.
    Matrix,
    /// Compile, and measure packet by packet: a compiler for the C programs that are compared with.
    Packets,
    /// Compile, and measure everything: clients, servers and peers.
    Bench,
    /// Compile, and make the packages.
    Package,
    /// The same, linked statically with musl.
    Static,
    /// Packages for arm64, made on another processor.
    Cross,
    /// Compile, and fuzz the parsers.
    Fuzz,
    /// Interpret the shared code's tests.
    Miri,
    /// Compile, and boot other kernels in virtual machines.
    Vm,
    /// The same for arm64, on another processor.
    VmCross,
    /// Build, check and test; neither matrix, bench, fuzz, vm nor Miri.
    All,
}

impl Purpose {
    fn items(self) -> Vec<Box<dyn Item>> {
        let mut items: Vec<Box<dyn Item>> = vec![
            Box::new(system::C_COMPILER),
            Box::new(rust::Toolchain),
            Box::new(rust::RUST_SRC),
            Box::new(rust::RUSTFMT),
            Box::new(rust::CLIPPY),
            Box::new(cargo_tool::BPF_LINKER),
        ];
        if matches!(self, Self::Check | Self::Deploy | Self::All) {
            items.push(Box::new(cargo_tool::CARGO_DENY));
        }
        if matches!(
            self,
            Self::Test | Self::Matrix | Self::Packets | Self::Bench | Self::Vm | Self::VmCross | Self::All
        ) {
            items.extend(system::TEST_TOOLS.map(|program| Box::new(program) as Box<dyn Item>));
        }
        if matches!(self, Self::Test | Self::All) {
            items.push(Box::new(extracted::PROMETHEUS));
            items.push(Box::new(extracted::CROWDSEC));
            items.push(Box::new(extracted::ALERTMANAGER));
            items.push(Box::new(extracted::NGINX));
            items.push(Box::new(extracted::SSHD));
            items.push(Box::new(python_tool::NATS_SERVER));
        }
        if matches!(self, Self::Package | Self::Static | Self::Cross | Self::Test | Self::All) {
            items.push(Box::new(cargo_tool::CARGO_DEB));
            items.push(Box::new(cargo_tool::CARGO_CYCLONEDX));
        }
        if matches!(self, Self::Package | Self::Static | Self::Cross | Self::All) {
            items.push(Box::new(cargo_tool::CARGO_GENERATE_RPM));
            items.push(Box::new(system::RPM));
        }
        // The following steps are not part of `all`: only one command needs them.
        if matches!(self, Self::Matrix) {
            items.extend(system::MATRIX_TOOLS.map(|program| Box::new(program) as Box<dyn Item>));
            items.push(Box::new(cargo_tool::RUSTSCAN));
            items.extend(extracted::SERVERS.map(|program| Box::new(program) as Box<dyn Item>));
        }
        if matches!(self, Self::Deploy) {
            items.push(Box::new(python_tool::HADOLINT));
            items.push(Box::new(python_tool::KUBERNETES_VALIDATE));
        }
        if matches!(self, Self::Static) {
            items.push(Box::new(system::MUSL));
        }
        if matches!(self, Self::Cross | Self::VmCross) {
            items.push(Box::new(system::ARM_COMPILER));
        }
        if matches!(self, Self::Fuzz) {
            items.push(Box::new(cargo_tool::CARGO_FUZZ));
            items.push(Box::new(system::CXX_COMPILER));
        }
        if matches!(self, Self::Vm | Self::VmCross) {
            items.extend(system::VM_TOOLS.map(|program| Box::new(program) as Box<dyn Item>));
        }
        if matches!(self, Self::VmCross) {
            items.push(Box::new(system::ARM_QEMU));
        }
        if matches!(self, Self::Miri) {
            items.push(Box::new(rust::Miri));
        }
        if matches!(self, Self::Packets | Self::Bench) {
            items.push(Box::new(system::CLANG));
        }
        if matches!(self, Self::Bench) {
            items.extend(system::BENCH_TOOLS.map(|program| Box::new(program) as Box<dyn Item>));
            items.push(Box::new(extracted::NGINX));
        }
        items
    }
}

/// One thing that can be present or installed.
trait Item {
    /// Its name, with its exact version if one is pinned.
    fn name(&self, ws: &Workspace) -> String;

    /// Where it is, if it is there in the version that is wanted.
    fn present(&self, ws: &Workspace) -> Option<String>;

    /// Installs it; whether it then is [present](Self::present) is asked separately.
    fn install(&self, ws: &Workspace) -> Result<()>;

    /// Advice to a person where [`Self::install`] cannot install it.
    fn by_hand(&self, ws: &Workspace) -> String;
}

/// Runs `cargo xtask setup`.
///
/// # Errors
/// When something is missing and could not be installed.
pub(crate) fn command(ws: &Workspace, args: &Args) -> Result<()> {
    install_missing(ws, args.purpose, true)
}

/// The setup that other commands begin with: silent about what is there already.
///
/// # Errors
/// When something is missing and could not be installed.
pub(crate) fn ensure(ws: &Workspace, purpose: Purpose) -> Result<()> {
    install_missing(ws, purpose, false)
}

fn install_missing(ws: &Workspace, purpose: Purpose, say_present: bool) -> Result<()> {
    let mut by_hand = Vec::new();
    for item in purpose.items() {
        let name = item.name(ws);
        if let Some(place) = item.present(ws) {
            if say_present {
                println!("{name}: present ({place})");
            }
            continue;
        }
        println!("{name}: missing, installing ...");
        let outcome =
            item.install(ws).and_then(|()| item.present(ws).context("it was installed, but is not found"));
        match outcome {
            Ok(place) => println!("{name}: installed ({place})"),
            Err(error) => {
                println!("{name}: NOT installed: {error:#}");
                by_hand.push(format!("  {name}: {}", item.by_hand(ws)));
            }
        }
    }
    if by_hand.is_empty() {
        return Ok(());
    }
    bail!("setup is not complete; please install by hand:\n{}", by_hand.join("\n"))
}
