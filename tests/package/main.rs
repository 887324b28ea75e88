//! The packages: installed, started by systemd, and purged, on a machine of their own.

mod guide;
mod kubernetes;
mod machine;
mod rpm;
mod service;

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use scanguard_tests::{
    fixtures::{
        agent::binary,
        injected::Injected,
        lab::{Lab, PATIENCE, VICTIM, VICTIM_INTERFACE, run_within, wait_for},
        root,
    },
    links::links,
    tables::taken_over::{Ground, tried},
};

use self::{
    machine::Machine,
    service::{FLEET_UNIT, Service, UNIT},
};

const CONFIGURATION: &str = "/etc/scanguard/scanguard.toml";
const STATE: &str = "/var/lib/scanguard";
const FINDINGS: &str = "/var/log/scanguard/findings.json";
const PINS: &str = "/sys/fs/bpf/scanguard";

fn main() -> ExitCode {
    let trials = vec![
        trial("package: the units pass systemd-analyze verify, and security with at most 2.0", unit),
        trial(
            "package: installed, systemd runs it as its unit says, it finds a scan, and purged leaves nothing",
            life,
        ),
        trial(
            "package: the rpm makes the user, runs, finds a scan, is upgraded, and erased it leaves nothing attached",
            rpm::life,
        )
        // Its tool takes minutes to build.
        .with_kind("root; an rpm, which `cargo xtask package --debug` makes")
        .with_ignored_flag(!root::is_root() || package("rpm").is_err()),
        trial(
            "package: docs/getting-started.md leads from the package to an alert in a real Alertmanager",
            guide::followed,
        ),
        kubernetes::trial(),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, test: fn() -> Result<()>) -> Trial {
    root::trial(name, move || test().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// The package of that kind that `cargo xtask package --debug` made.
fn package(kind: &str) -> Result<PathBuf> {
    let binary = binary()?;
    let directory = binary.parent().and_then(|debug| debug.parent()).context("a target directory")?;
    let directory = directory.join("package/debug");
    let files = fs::read_dir(&directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut packages = files.filter(|path| path.extension().is_some_and(|extension| extension == kind));
    packages.next().with_context(|| {
        format!("no {kind} in {}: `cargo xtask package --debug` makes it", directory.display())
    })
}

fn install(machine: &Machine) -> Result<()> {
    fs::copy(package("deb")?, machine.path("/tmp/scanguard.deb"))?;
    machine.run("dpkg -i /tmp/scanguard.deb").map(drop)
}

fn unit() -> Result<()> {
    let lab = Lab::new()?;
    let machine = Machine::start(&lab.victim)?;
    install(&machine)?;
    for unit in [UNIT, FLEET_UNIT] {
        // It exits with 0 where it only warns, such as of settings that it does not know.
        let said = machine.run(&format!("systemd-analyze verify --man=no {unit}"))?;
        ensure!(!said.contains("scanguard"), "{said}");
        machine.run(&format!("systemd-analyze security --offline=true --threshold=20 --no-pager {unit}"))?;
    }
    // Where there is no configuration of the role, nothing runs.
    machine.run("systemctl start scanguard-fleet")?;
    let state = machine.run("systemctl show --value --property=ActiveState scanguard-fleet")?;
    ensure!(state.trim() == "inactive", "{state}");
    Ok(())
}

/// Has the installed configuration watch the victim's interface, and the program stay when the agent ends.
fn configure(machine: &Machine) -> Result<String> {
    let path = machine.path(CONFIGURATION);
    let mut text = fs::read_to_string(&path)?;
    let interfaces = format!("interfaces = [\"{VICTIM_INTERFACE}\"]");
    for (default, wanted) in [("interfaces = []", interfaces.as_str()), ("persist = false", "persist = true")]
    {
        ensure!(text.contains(default), "no {default} in {CONFIGURATION}");
        text = text.replacen(default, wanted, 1);
    }
    for sink in ["kind = \"stdout\"".to_owned(), format!("kind = \"file\"\npath = \"{FINDINGS}\"")] {
        text += &format!("\n[[sinks]]\n{sink}\n");
    }
    fs::write(path, &text)?;
    Ok(text)
}

/// The pages that were installed lead to one another as they do in the tree.
fn links_hold(machine: &Machine, installed: &str) -> Result<()> {
    let mut broken = Vec::new();
    for page in installed.lines().filter(|path| path.ends_with(".md")) {
        let page = machine.path(page);
        let directory = page.parent().context("a directory")?;
        let text = fs::read_to_string(&page)?;
        let files = links(&text).into_iter().map(|link| directory.join(link.file));
        broken.extend(files.filter(|file| !file.exists()));
    }
    ensure!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
    Ok(())
}

/// Whatever code could try in the service is refused.
fn harmless(machine: &Machine, service: &Service<'_>) -> Result<()> {
    machine.run("mkdir /srv/ground")?;
    let root = machine.path("/");
    let ground = Ground::within(&root, Path::new("/srv/ground"), Path::new("/sys/fs/bpf"))?;
    let injected = Injected::into(service.pid()?)?;
    // The machine's first process.
    let succeeded = tried(&injected, &ground, 1)?;
    drop(injected);
    ensure!(succeeded.is_empty(), "{succeeded:#?}");
    ground.is_unharmed()
}

fn life() -> Result<()> {
    let lab = Lab::new()?;
    let machine = Machine::start(&lab.victim)?;
    install(&machine)?;
    machine.run("getent group scanguard")?;
    machine.run("scanguard check-config /etc/scanguard/scanguard.toml")?;
    let installed = machine.run("dpkg -L scanguard")?;
    for file in ["man1/scanguard-run.1.gz", "bash-completion/completions/scanguard", "scanguard.rules.yml"] {
        ensure!(installed.contains(file), "{file} is not in the package:\n{installed}");
    }

    links_hold(&machine, &installed)?;

    let configuration = configure(&machine)?;
    // An earlier version ran as root.
    for file in ["/var/lib/scanguard/state.json.lock", FINDINGS] {
        let path = machine.path(file);
        fs::create_dir_all(path.parent().context("a directory")?)?;
        fs::write(&path, "")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640))?;
    }
    let service = Service::start(&machine)?;
    let user: u32 = machine.run("id --user scanguard")?.trim().parse()?;
    for file in [STATE, "/var/lib/scanguard/state.json.lock", FINDINGS, "/run/scanguard/control.sock", PINS] {
        let owner = fs::metadata(machine.path(file)).with_context(|| file.to_owned())?.uid();
        ensure!(owner == user, "{file} belongs to {owner}");
    }
    let said = machine.run("scanguard status")?;
    ensure!(said.contains(&format!("user scanguard (uid {user}); capabilities: none")), "{said}");
    harmless(&machine, &service)?;
    service.is("StatusText", "attached")?;
    let watchdog = "WatchdogTimestampMonotonic";
    let first = service.property(watchdog)?;
    service.becomes(watchdog, |last| last != first)?;
    run_within(lab.scanner.command("nmap").args(["-n", "-Pn", "-sS", "-p", "1-200", VICTIM]), PATIENCE)?;
    service.finds("vertical_scan")?;
    // The unit's umask would leave nothing to those who collect it.
    let mode = wait_for("the file of findings", PATIENCE, || {
        fs::metadata(machine.path(FINDINGS)).ok().map(|file| file.permissions().mode() & 0o777)
    })?;
    ensure!(mode == 0o640, "the mode of {FINDINGS} is {mode:o}");

    service.control("reload")?;
    service.becomes("StatusText", |said| said == "attached; the configuration was read again")?;
    fs::write(machine.path(CONFIGURATION), "[sensor]\npersit = true\n")?;
    service.control("reload")?;
    service.becomes("StatusText", |said| said.contains("the old one is in force"))?;
    fs::write(machine.path(CONFIGURATION), &configuration)?;

    // An upgrade starts it again, and leaves what was configured.
    let before = service.property("MainPID")?;
    install(&machine)?;
    service.becomes("SubState", |state| state == "running")?;
    ensure!(service.property("MainPID")? != before, "the old one still runs: {}", service.journal());
    ensure!(
        fs::read_to_string(machine.path(CONFIGURATION))? == configuration,
        "the configuration was replaced"
    );

    service.control("stop")?;
    service.is("Result", "success")?;
    ensure!(lab.xdp_programs()?.len() == 1, "nothing outlives the agent: {}", service.journal());
    ensure!(machine.path(PINS).exists(), "nothing is pinned: {}", service.journal());
    ensure!(machine.path(STATE).exists(), "no state: {}", service.journal());

    // While it runs.
    service.control("start")?;
    let said = machine.run("dpkg --purge scanguard")?;
    service.is("ActiveState", "inactive")?;
    ensure!(lab.xdp_programs()?.is_empty(), "still attached: {said}");
    let configured = PathBuf::from(CONFIGURATION);
    let configured = configured.parent().and_then(|directory| directory.to_str()).context("a directory")?;
    let gone = installed.lines().filter(|line| line.contains("scanguard")).chain([PINS, STATE, configured]);
    let left: Vec<_> = gone.filter(|path| machine.path(path).exists()).collect();
    ensure!(left.is_empty(), "left behind: {left:?}: {said}");
    Ok(())
}
