//! The RPM package: installed by rpm(8), started by systemd, upgraded and erased, on a machine of its own. Its scripts are
//! what is tried, and where its files go; that machine is no Fedora, so that what it depends on is only looked at.

use std::fs;

use anyhow::{Result, ensure};
use scanguard_tests::fixtures::lab::{Lab, PATIENCE, VICTIM, run_within};

use crate::{configure, machine::Machine, package, service::Service};

/// rpm's database of this machine is left alone.
const RPM: &str = "rpm --dbpath /tmp/rpm";

pub(crate) fn life() -> Result<()> {
    let lab = Lab::new()?;
    let machine = Machine::start(&lab.victim)?;
    fs::copy(package("rpm")?, machine.path("/tmp/scanguard.rpm"))?;
    let needed = machine.run(&format!("{RPM} -qp --requires /tmp/scanguard.rpm"))?;
    for library in ["libc.so.6(GLIBC_", "systemd", "/bin/sh"] {
        ensure!(needed.contains(library), "{library} is not required: {needed}");
    }

    machine.run(&format!("{RPM} -i --nodeps /tmp/scanguard.rpm"))?;
    let installed = machine.run(&format!("{RPM} -ql scanguard"))?;
    for file in ["man1/scanguard-run.1", "bash-completion/completions/scanguard", "scanguard.rules.yml"] {
        ensure!(installed.contains(file), "{file} is not in the package:\n{installed}");
    }
    let user: u32 = machine.run("id --user scanguard")?.trim().parse()?;
    ensure!(machine.run("id --groups --name scanguard")?.contains("adm"), "it is not in the group adm");
    machine.run("scanguard check-config /etc/scanguard/scanguard.toml")?;
    let configuration = configure(&machine)?;
    let service = Service::start(&machine)?;
    let said = machine.run("scanguard status")?;
    ensure!(said.contains(&format!("user scanguard (uid {user}); capabilities: none")), "{said}");
    run_within(lab.scanner.command("nmap").args(["-n", "-Pn", "-sS", "-p", "1-200", VICTIM]), PATIENCE)?;
    service.finds("vertical_scan")?;

    // An upgrade: the new one's scripts, then the old one's.
    let before = service.property("MainPID")?;
    machine.run(&format!("{RPM} -U --nodeps --replacepkgs /tmp/scanguard.rpm"))?;
    service.becomes("SubState", |state| state == "running")?;
    service.becomes("MainPID", |pid| pid != before)?;
    let kept = fs::read_to_string(machine.path(crate::CONFIGURATION))?;
    ensure!(kept == configuration, "the configuration was replaced");

    // While it runs, with what persists.
    let said = machine.run(&format!("{RPM} -e scanguard"))?;
    service.is("ActiveState", "inactive")?;
    ensure!(lab.xdp_programs()?.is_empty(), "still attached: {said}");
    ensure!(!machine.path(crate::PINS).exists(), "pins are left: {said}");
    for file in installed.lines().filter(|path| !path.starts_with("/etc/")) {
        ensure!(!machine.path(file).exists(), "{file} is left: {said}");
    }
    // What was changed is kept under another name, as rpm does.
    ensure!(machine.path(&format!("{}.rpmsave", crate::CONFIGURATION)).exists(), "{said}");
    Ok(())
}
