//! Bad input and bad luck: a clear line, the documented exit code, and nothing left behind.

use std::{
    net::TcpListener,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::{
        agent::{Agent, LISTEN, binary},
        lab::{Lab, PATIENCE, VICTIM_INTERFACE, wait_for},
        scenario::Scenario,
    },
    tables::scans::SCANS,
};

use crate::{counts::config_file, faults::scan_is_counted, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("an agent whose log cannot be written runs on, and counts what is lost", unlogged),
        trial("a command whose output nobody reads ends quietly, and says when it cannot be written", unread),
        trial("sigterm and sigint end it with 0 and detach", signals),
        trial("the interface of the default route is the default", default_route),
        trial("a name that is no interface name is exit code 2", || {
            refused(&["run", "--iface", "an/interface"], 2, &["an/interface"])
        }),
        trial("a wrong configuration is exit code 3 and says every line", wrong_configuration),
        trial("a missing configuration is exit code 3", || {
            refused(&["run", "--config", "/nonexistent.toml"], 3, &["/nonexistent.toml"])
        }),
        trial("check-config has the same opinion", check_config),
        trial("missing privileges are exit code 4 and named", privileges),
        trial("a metrics port that is taken is exit code 7", port_taken),
        trial("another xdp program is never replaced, exit code 6", program_taken),
        trial("another native program is not run over in auto mode either", program_taken_auto),
        trial("generic mode is only taken when it is asked for", no_native),
        trial("a reload takes all of a right configuration and nothing of a wrong one", reload),
        trial("a killed agent leaves nothing and can be started again", killed),
        trial(
            "an interface that goes away is reported, and attached again when it returns",
            interface_returns,
        ),
    ]
}

/// Starts the agent with these arguments: it must end with this code and say these words.
pub(crate) fn refused(arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
    refused_in(&Lab::new()?, arguments, code, words)
}

pub(crate) fn refused_in(lab: &Lab, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
    let before = lab.xdp_programs()?;
    let mut agent = Agent::spawn(&lab.victim, arguments)?;
    let got = agent.exit_code()?;
    let said = agent.said();
    ensure!(got == Some(code), "exit code {got:?}: {said}");
    for word in words {
        ensure!(said.contains(word), "{word:?} is not said: {said}");
    }
    ensure!(lab.xdp_programs()? == before, "a program was left behind");
    Ok(())
}

fn signals() -> Result<()> {
    let scenario = Scenario::defaults()?;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let mut agent = scenario.start()?;
        ensure!(scenario.lab.xdp_programs()?.len() == 1, "not attached");
        agent.process.signal(signal);
        ensure!(agent.exit_code()? == Some(0), "{}", agent.said());
        ensure!(scenario.lab.xdp_programs()?.is_empty(), "still attached");
    }
    Ok(())
}

fn default_route() -> Result<()> {
    let lab = Lab::new()?;
    lab.victim.ip("route add default via 10.77.0.2")?;
    let mut agent = Agent::spawn(&lab.victim, &["run", "--listen", LISTEN])?;
    wait_for("attached", PATIENCE, || lab.xdp_programs().ok().filter(|programs| programs.len() == 1))?;
    agent.end()?;
    Ok(())
}

fn wrong_configuration() -> Result<()> {
    let file = config_file("[sensor]\nmode = \"fast\"\ninterfases = []\n")?;
    let path = file.path();
    let lines = [format!("{path}:2: sensor.mode"), format!("{path}:3: sensor.interfases")];
    refused(&["run", "--config", &path], 3, &[&lines[0], &lines[1]])
}

fn check_config() -> Result<()> {
    let wrong = config_file("[sensor]\nmode = \"fast\"\n")?;
    let right = config_file("[sensor]\nmode = \"auto\"\n")?;
    refused(&["check-config", &wrong.path()], 3, &["2: sensor.mode"])?;
    refused(&["check-config", &right.path()], 0, &[])?;
    let group = config_file("[control]\ngroup = \"nosuchgroup\"\n")?;
    for command in [&["check-config"][..], &["run", "--config"]] {
        refused(&[command, &[&group.path()]].concat(), 3, &["control.group: the group nosuchgroup"])?;
    }
    let lacking = config_file("[feeds]\nfiles = [\"/nowhere/drop.txt\"]\n")?;
    refused(&["check-config", &lacking.path()], 0, &["warning: feed /nowhere/drop.txt: No such file"])
}

fn privileges() -> Result<()> {
    let lab = Lab::new()?;
    let mut command = lab.victim.command("setpriv");
    command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin", "--"]);
    command.arg(binary()?).args(["run", "--iface", VICTIM_INTERFACE]);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(4), "{:?}: {said}", output.status);
    ensure!(said.contains("CAP_NET_ADMIN") && !said.contains("CAP_BPF,"), "{said}");
    Ok(())
}

fn port_taken() -> Result<()> {
    let lab = Lab::new()?;
    let _taken = lab.victim.enter(|| TcpListener::bind(LISTEN).context("bind"))?;
    refused_in(&lab, &["run", "--iface", VICTIM_INTERFACE, "--listen", LISTEN], 7, &[LISTEN, "--listen"])
}

/// A socket and a state file for a second agent.
fn own_files(lab: &Lab) -> [String; 4] {
    let file = |name| lab.victim.directory().join(name).display().to_string();
    ["--socket".to_owned(), file("second.sock"), "--state".to_owned(), file("second.json")]
}

fn program_taken() -> Result<()> {
    let lab = Lab::new()?;
    // Somebody else's program: that of another agent is as good as any.
    let other = Agent::start(&lab.victim, &[])?;
    let pid = format!("(pid {})", other.process.child.id());
    let arguments = ["run", "--iface", VICTIM_INTERFACE, "--listen", "127.0.0.1:9824"];
    refused_in(
        &lab,
        &[&arguments, own_files(&lab).each_ref().map(String::as_str).as_slice()].concat(),
        6,
        &["scanguard_xdp", "scanguard", &pid, "does not replace"],
    )
}

fn program_taken_auto() -> Result<()> {
    let lab = Lab::new()?;
    let _other = Agent::start(&lab.victim, &["--mode", "generic"])?;
    let arguments = ["run", "--iface", VICTIM_INTERFACE, "--mode", "auto", "--listen", "127.0.0.1:9824"];
    refused_in(
        &lab,
        &[&arguments, own_files(&lab).each_ref().map(String::as_str).as_slice()].concat(),
        6,
        &["does not replace"],
    )
}

/// The loopback interface has no native XDP.
fn no_native() -> Result<()> {
    let lab = Lab::new()?;
    refused_in(&lab, &["run", "--iface", "lo", "--listen", LISTEN], 6, &["native mode", "--mode auto"])?;
    let mut agent =
        Agent::spawn(&lab.victim, &["run", "--iface", "lo", "--mode", "auto", "--listen", LISTEN])?;
    let page = wait_for("the metrics", PATIENCE, || agent.metrics().ok())?;
    ensure!(page.get("scanguard_xdp_attached{interface=\"lo\",mode=\"tc\"}") == 1.0, "{page:?}");
    ensure!(page.get("scanguard_xdp_attached{interface=\"lo\",mode=\"native\"}") == 0.0, "{page:?}");
    ensure!(agent.said().contains("no native mode: its driver has none"), "{}", agent.said());
    agent.end()?;
    Ok(())
}

fn reload() -> Result<()> {
    let scenario = Scenario::new("[rules.vertical_scan]\nenabled = false\n")?.with(&["--format", "json"]);
    scenario.run(|lab, agent| {
        let reloads = |agent: &Agent<'_>, outcome: &str| {
            agent.metrics().map_or(0.0, |page| {
                page.get(&format!("scanguard_config_reloads_total{{outcome=\"{outcome}\"}}"))
            })
        };
        let found =
            |agent: &Agent<'_>| agent.findings().iter().any(|finding| finding["rule"] == "vertical_scan");
        SCANS[0].run(lab)?;
        ensure!(agent.settled()?.probes("syn") >= 1000.0 && !found(agent), "{:?}", agent.opened());

        let wrong = "[rules.vertical_scan]\nenabled = true\nservices = 0\n[geo]\nasn = \"/nowhere.mmdb\"\n";
        scenario.configure(wrong)?;
        let problems = ["rules.vertical_scan.services", "toml:5: geo.asn: /nowhere.mmdb: No such file"];
        refused_in(lab, &["reload"], 3, &problems)?;
        ensure!(reloads(agent, "failure") == 1.0);
        for problem in problems {
            ensure!(agent.said().contains(problem), "{}", agent.said());
        }
        agent.process.signal(libc::SIGHUP);
        wait_for("the refusal", PATIENCE, || (reloads(agent, "failure") == 2.0).then_some(()))?;

        scenario.configure("[rules.vertical_scan]\nservices = 50\n[metrics]\nlisten = \"[::]:1\"\n")?;
        refused_in(lab, &["reload"], 0, &[])?;
        ensure!(reloads(agent, "success") == 1.0);
        // The command line goes before the file, so that the listener has not changed.
        ensure!(!agent.said().contains("at the next start only"), "{}", agent.said());
        let before = agent.metrics()?.probes("syn");
        SCANS[0].run(lab)?;
        ensure!(agent.settled()?.probes("syn") >= before + 1000.0, "the counters started anew");
        wait_for("the finding", PATIENCE, || found(agent).then_some(()))?;
        Ok(())
    })
}

fn killed() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let mut agent = scenario.start()?;
    agent.process.signal(libc::SIGKILL);
    agent.exit_code()?;
    wait_for("detached", PATIENCE, || scenario.lab.xdp_programs().ok().filter(Vec::is_empty))?;
    scenario.run(|lab, again| {
        SCANS[0].run(lab)?;
        ensure!(again.settled()?.probes("syn") >= 1000.0);
        Ok(())
    })
}

fn interface_returns() -> Result<()> {
    let scenario = Scenario::defaults()?.with(&["--iface", "other0"]);
    scenario.lab.victim.ip("link add other0 type veth peer name other1")?;
    scenario.run(|lab, agent| {
        let attached = |agent: &Agent<'_>, name: &str| {
            agent.metrics().is_ok_and(|metrics| {
                metrics.get(&format!("scanguard_xdp_attached{{interface=\"{name}\",mode=\"native\"}}")) == 1.0
            })
        };
        ensure!(attached(agent, VICTIM_INTERFACE) && attached(agent, "other0"));
        lab.victim.ip(&format!("link del {VICTIM_INTERFACE}"))?;
        wait_for("the loss is reported", PATIENCE, || (!attached(agent, VICTIM_INTERFACE)).then_some(()))?;
        ensure!(attached(agent, "other0"), "the other one was lost too");
        let lost = agent
            .metrics()?
            .get(&format!("scanguard_interface_losses_total{{interface=\"{VICTIM_INTERFACE}\"}}"));
        ensure!(lost == 1.0, "{lost} losses");
        ensure!(agent.get("/readyz")?.0 == 200, "it still sees packets");
        lab.connect()?;
        wait_for("attached again", PATIENCE, || attached(agent, VICTIM_INTERFACE).then_some(()))?;
        scan_is_counted(lab, agent)?;
        ensure!(
            agent.said().contains("is gone") && agent.said().contains("is there: attached"),
            "{}",
            agent.said()
        );
        lab.victim.ip("link del other0")?;
        Ok(())
    })?;
    ensure!(scenario.lab.xdp_programs()?.is_empty());
    Ok(())
}

fn unlogged() -> Result<()> {
    let lab = Lab::new()?;
    let mut agent = Agent::start_as(&lab.victim, &[], |command| {
        // SAFETY: nothing but system calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                let full = libc::open(c"/dev/full".as_ptr(), libc::O_WRONLY);
                if full < 0 || libc::dup2(full, libc::STDERR_FILENO) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
    })?;
    let lost = "scanguard_log_lines_lost_total";
    wait_for("the count", PATIENCE, || (agent.metrics().ok()?.get(lost) >= 3.0).then_some(()))?;
    agent.order(&["ban", "192.0.2.1"])?;
    agent.end()?;
    Ok(())
}

fn unread() -> Result<()> {
    for arguments in [&["print-config"][..], &["print-list", "paths"], &["completions", "bash"], &["doctor"]]
    {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let output =
            Command::new(binary()?).args(arguments).stdout(writer).stderr(Stdio::piped()).output()?;
        ensure!(output.status.code() == Some(0) && output.stderr.is_empty(), "{arguments:?}: {output:?}");
        let full = std::fs::File::options().write(true).open("/dev/full")?;
        let output = Command::new(binary()?).args(arguments).stdout(full).stderr(Stdio::piped()).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.code() == Some(1) && said.contains("standard output: "),
            "{arguments:?}: {said}"
        );
    }
    Ok(())
}
