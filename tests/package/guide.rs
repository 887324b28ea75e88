//! docs/getting-started.md, followed to the letter: what a new user would type, and what he is promised to see.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use scanguard_tests::fixtures::lab::{
    Lab, PATIENCE, Process, VICTIM, VICTIM_INTERFACE, run, run_within, wait_for,
};

use crate::{CONFIGURATION, install, machine::Machine};

const PAGE: &str = include_str!("../../docs/getting-started.md");
/// The steps after it have a test with a real Prometheus (tests/netns/prometheus.rs).
const END: &str = "## Prometheus";
/// The finding that the page promises to show.
const FINDING: &str = "vertical_scan";

/// The page's commands.
#[derive(Debug, PartialEq)]
enum Step {
    /// A line for the shell.
    Command(&'static str),
    /// Lines of the configuration, with the section that they are in.
    Settings(&'static str),
}

fn steps(page: &'static str) -> Result<Vec<Step>> {
    let (page, _) = page.split_once(END).with_context(|| format!("no {END}"))?;
    let mut steps = Vec::new();
    // Between fences, every second part is what they hold.
    for (number, part) in page.split("```").enumerate() {
        match part.strip_prefix("toml\n") {
            Some(settings) if number % 2 == 1 => steps.push(Step::Settings(settings)),
            None if number % 2 == 0 => {
                steps.extend(part.lines().filter_map(|line| line.strip_prefix("    ")).map(Step::Command));
            }
            Some(_) | None => bail!("a block that is no TOML: {part}"),
        }
    }
    Ok(steps)
}

/// Settings of a section replace those that are there; tables of an array are added at the end.
fn edit(configuration: &str, settings: &str) -> Result<String> {
    let (section, keys) = settings.split_once('\n').context("a section")?;
    if section.starts_with("[[") {
        return Ok(format!("{configuration}\n{settings}"));
    }
    let (before, rest) = configuration.split_once(&format!("{section}\n")).context(section.to_owned())?;
    let mut lines: Vec<_> = rest.lines().collect();
    let end = lines.iter().position(|line| line.starts_with('[')).unwrap_or(lines.len());
    for line in keys.lines() {
        let (key, _) = line.split_once('=').context(line.to_owned())?;
        let place = lines[..end].iter().position(|old| old.starts_with(key));
        lines[place.with_context(|| format!("no {key} in {section}"))?] = line;
    }
    Ok(format!("{before}{section}\n{}\n", lines.join("\n")))
}

/// Software that the page has from Debian's archive, which a test does not reach: the server, beside the machine on the
/// same network, and its command.
fn alertmanager(lab: &Lab, machine: &Machine) -> Result<Process> {
    let amtool = run(Command::new("sh").args(["-c", "command -v amtool"]));
    let amtool = String::from_utf8(amtool.context("amtool: cargo xtask setup installs it")?.stdout)?;
    fs::copy(amtool.trim(), machine.path("/usr/bin/amtool"))?;
    let directory = lab.victim.directory();
    let (configuration, log) = (directory.join("alertmanager.yml"), directory.join("alertmanager.log"));
    fs::write(&configuration, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")?;
    let mut command = lab.victim.command("prometheus-alertmanager");
    command.arg(format!("--config.file={}", configuration.display()));
    command.arg(format!("--storage.path={}", directory.join("alertmanager").display()));
    command.arg("--cluster.listen-address=");
    let output = fs::File::create(&log)?;
    let child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
    let server = Process::new(child);
    wait_for("Alertmanager is ready", PATIENCE, || {
        machine.run("curl -sf localhost:9093/-/ready").ok().map(drop)
    })
    .with_context(|| fs::read_to_string(log).unwrap_or_default())?;
    Ok(server)
}

/// Does it all, with this test's names for host and interface.
pub(crate) fn followed() -> Result<()> {
    let lab = Lab::new()?;
    let machine = Machine::start(&lab.victim)?;
    let (mut is_scanned, mut shown) = (false, 0);
    let mut server = None;
    for step in steps(PAGE)? {
        match step {
            Step::Settings(settings) => {
                let settings = settings.replace("eth0", VICTIM_INTERFACE);
                let path = machine.path(CONFIGURATION);
                fs::write(&path, edit(&fs::read_to_string(&path)?, &settings)?)?;
            }
            Step::Command("apt install ./scanguard_*.deb prometheus-alertmanager") => {
                install(&machine)?;
                server = Some(alertmanager(&lab, &machine)?);
            }
            Step::Command(line) if line.starts_with("nmap ") => {
                let arguments =
                    line.split(' ').skip(1).map(|word| if word == "HOST" { VICTIM } else { word });
                run_within(lab.scanner.command("nmap").arg("-n").args(arguments), PATIENCE)?;
                is_scanned = true;
            }
            Step::Command(line) if is_scanned => {
                let said =
                    wait_for(line, PATIENCE, || machine.run(line).ok().filter(|said| said.contains(FINDING)));
                said.with_context(|| format!("{:?}", machine.run(line)))?;
                shown += 1;
            }
            Step::Command(line) => {
                let said = machine.run(line)?;
                // The expected status stands beside it.
                let expected = line.split('"').nth(1).unwrap_or_default();
                ensure!(said.contains(expected), "{line}: {said}");
            }
        }
    }
    drop(server);
    ensure!(shown == 3, "{shown} commands were to show what was found");
    let elsewhere = lab.scanner.command("curl").args(["-s", &format!("http://{VICTIM}:9823/")]).status()?;
    ensure!(!elsewhere.success(), "others see the page");
    Ok(())
}
