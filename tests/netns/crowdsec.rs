//! Findings become alerts of a real CrowdSec, and what it decides is dropped by the kernel.

use std::{net::TcpStream, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::{Agent, Metrics},
    behind,
    clients::at,
    crowdsec::{Crowdsec, LISTEN, MACHINE},
    lab::{Lab, Namespace, PATIENCE, SCANNER, SCANNER6, VICTIM, run, wait_for},
    scenario::Scenario,
};

use crate::{counts::config_file, lifecycle::refused, trial};

/// Long enough for an answer over a veth pair, and for a second SYN.
const TIMEOUT: Duration = Duration::from_millis(1_500);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("crowdsec: a scan becomes an alert, and its decision does not come back as a ban", pushed),
        trial(
            "crowdsec: a decision is dropped, also while the local api is down, and ends when it is deleted",
            pulled,
        ),
        trial("crowdsec: https works only with a local api whose certificate is trusted", by_https),
        trial("crowdsec: a secret that others can read, or a wrong url, is exit code 3", wrong_settings),
    ]
}

fn configured(crowdsec: &Crowdsec<'_>, more: &str, response: &str) -> String {
    let section = crowdsec.settings();
    format!(
        "[sensor]\npoll_interval = \"100ms\"\n[response]\nmode = \"enforce\"\n{response}\n{section}\n{more}\n"
    )
}

fn connects(from: &Namespace) -> Result<bool> {
    from.enter(|| Ok(TcpStream::connect_timeout(&at(VICTIM, 80), TIMEOUT).is_ok()))
}

fn wait_until(agent: &Agent<'_>, what: &str, done: impl Fn(&Metrics) -> bool) -> Result<Metrics> {
    wait_for(what, PATIENCE, || agent.metrics().ok().filter(|metrics| done(metrics)))
        .with_context(|| agent.said())
}

fn pushed() -> Result<()> {
    let scenario = Scenario::defaults()?;
    behind::serve(&scenario.lab.victim, 80)?;
    let crowdsec = Crowdsec::start(&scenario.lab.victim)?;
    scenario.configure(&configured(&crowdsec, "push = true\npull = true", "allow_spoofable = true"))?;
    scenario.run(|lab, agent| {
        let mut nmap = lab.scanner.command("nmap");
        run(nmap.args([
            "-n",
            "-Pn",
            "-sS",
            "-p",
            "1-300",
            "--max-retries",
            "0",
            "--host-timeout",
            "5s",
            VICTIM,
        ]))?;

        let alert = wait_for("the alert", PATIENCE, || {
            let alerts = crowdsec.json(&["alerts", "list"]).ok()?;
            alerts.as_array()?.iter().find(|alert| alert["source"]["value"] == SCANNER).cloned()
        })?;
        let scenario = alert["scenario"].as_str().context("a scenario")?;
        ensure!(scenario.starts_with("scanguard/") && scenario.ends_with(&format!("@{MACHINE}")), "{alert}");
        ensure!(alert["machine_id"] == MACHINE && alert["source"]["scope"] == "Ip", "{alert}");
        ensure!(alert["events"][0]["meta"].to_string().contains("targets"), "{alert}");
        // Its profile decides, for four hours; for this host its own ban of ten minutes is what holds.
        ensure!(alert["decisions"][0]["type"] == "ban", "{alert}");
        wait_until(agent, "the decision comes back", |page| {
            page.get("scanguard_crowdsec_decisions_total{outcome=\"own\"}") >= 1.0
        })?;
        let ban = &agent.json(&["bans"])?["bans"][0];
        ensure!(ban["by"] == "rule" && ban["seconds_left"].as_u64().is_some_and(|left| left <= 660), "{ban}");
        let status = agent.json(&["status"])?;
        ensure!(status["crowdsec"]["push"]["pushed"].as_u64() >= Some(1), "{status}");
        println!("{}", crowdsec.cscli(&["alerts", "list"])?);
        println!("{}", agent.order(&["status"])?);
        ensure!(!agent.said().contains("a-password"), "the password is in the log");
        Ok(())
    })
}

fn pulled() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let lab = &scenario.lab;
    behind::serve(&lab.victim, 80)?;
    let mut crowdsec = Crowdsec::start(&lab.victim)?;
    scenario.configure(&configured(&crowdsec, "pull = true", ""))?;
    let mut agent = scenario.start()?;
    ensure!(connects(&lab.scanner)?, "dropped before anything was decided");

    crowdsec.cscli(&["decisions", "add", "--ip", SCANNER, "--duration", "1h", "--reason", "by hand"])?;
    // Its own address, and what is no ban.
    crowdsec.cscli(&["decisions", "add", "--ip", VICTIM, "--duration", "1h"])?;
    crowdsec.cscli(&["decisions", "add", "--ip", "192.0.2.1", "--duration", "1h", "--type", "captcha"])?;
    crowdsec.cscli(&["decisions", "add", "--range", "198.51.100.0/24", "--duration", "2h"])?;
    crowdsec.cscli(&["decisions", "add", "--ip", SCANNER6, "--duration", "1h"])?;
    let page = wait_until(&agent, "the bans", |page| page.get("scanguard_bans{kind=\"crowdsec\"}") == 3.0)?;
    ensure!(page.get("scanguard_crowdsec_decisions_total{outcome=\"other_type\"}") == 1.0);
    ensure!(page.get("scanguard_bans_refused_total{reason=\"allowed\"}") >= 1.0);
    ensure!(!connects(&lab.scanner)?, "not dropped");
    let bans = agent.order(&["bans"])?;
    ensure!(bans.contains("crowdsec") && bans.contains("CrowdSec: by hand"), "{bans}");
    ensure!(agent.order(&["explain", SCANNER])?.contains("banned by CrowdSec (decision 1)"));
    println!("{bans}{}", agent.order(&["status"])?);

    // It is down: nothing that it decided is forgotten, and how old that is is said.
    crowdsec.stop();
    let age = "scanguard_crowdsec_seconds_since_pull";
    wait_until(&agent, "it is missed", |page| page.get(age) > 4.0)?;
    ensure!(!connects(&lab.scanner)?, "forgotten while the local api is down");
    let status = agent.order(&["status"])?;
    ensure!(status.contains("FAILS") && status.contains("cannot be reached"), "{status}");
    // Neither by an agent that starts meanwhile.
    agent.end()?;
    let mut agent = scenario.start()?;
    ensure!(!connects(&lab.scanner)?, "forgotten by a restart while the local api is down");
    wait_until(&agent, "it is missed", |page| page.get(age) > 2.0)?;
    crowdsec.resume()?;
    wait_until(&agent, "it is pulled from again", |page| page.get(age) < 2.0)?;
    wait_until(&agent, "the bans", |page| page.get("scanguard_bans{kind=\"crowdsec\"}") == 3.0)?;
    ensure!(!connects(&lab.scanner)?, "forgotten when the local api came back");

    crowdsec.cscli(&["decisions", "delete", "--ip", SCANNER])?;
    wait_until(&agent, "the end of the ban", |page| page.get("scanguard_bans{kind=\"crowdsec\"}") == 2.0)?;
    ensure!(connects(&lab.scanner)?, "still dropped");
    // CrowdSec cannot take back an order that somebody gave here.
    agent.order(&["ban", SCANNER])?;
    crowdsec.cscli(&["decisions", "add", "--ip", SCANNER, "--duration", "1h"])?;
    crowdsec.cscli(&["decisions", "delete", "--range", "198.51.100.0/24"])?;
    wait_until(&agent, "the end of the other", |page| page.get("scanguard_bans{kind=\"crowdsec\"}") == 1.0)?;
    crowdsec.cscli(&["decisions", "delete", "--all"])?;
    wait_until(&agent, "the end of all", |page| page.get("scanguard_bans{kind=\"crowdsec\"}") == 0.0)?;
    ensure!(!connects(&lab.scanner)?, "a ban by hand was taken back");
    agent.end()?;
    Ok(())
}

fn by_https() -> Result<()> {
    let lab = Lab::new()?;
    let mut crowdsec = Crowdsec::start(&lab.victim)?;
    // Before, since cscli does not know of the certificate.
    crowdsec.cscli(&["decisions", "add", "--ip", SCANNER, "--duration", "1h"])?;
    crowdsec.stop();
    let certificate = crowdsec.resume_with_tls()?;
    let config = config_file(&configured(&crowdsec, "pull = true", ""))?;
    let arguments = ["--config", &config.path()];

    let mut distrusting = Agent::start(&lab.victim, &arguments)?;
    wait_for("it says why not", PATIENCE, || {
        distrusting.order(&["status"]).ok().filter(|said| said.contains("invalid peer certificate"))
    })
    .with_context(|| distrusting.said())?;
    let page = distrusting.metrics()?;
    ensure!(page.get("scanguard_bans{kind=\"crowdsec\"}") == 0.0, "{page:?}");
    distrusting.end()?;

    let mut agent = Agent::start_as(&lab.victim, &arguments, |command| {
        command.env("SSL_CERT_FILE", &certificate);
    })?;
    wait_until(&agent, "the ban", |page| page.get("scanguard_bans{kind=\"crowdsec\"}") == 1.0)?;
    ensure!(!agent.said().contains("not encrypted"), "{}", agent.said());
    agent.end()?;
    Ok(())
}

fn wrong_settings() -> Result<()> {
    // Anybody can read the file of this very test's configuration.
    let open = config_file("key\n")?;
    for (text, word) in [
        (format!("pull = true\nbouncer_key_file = \"{}\"", open.path()), "chmod 600"),
        (format!("url = \"{LISTEN}\""), "is no URL"),
        ("push = true".to_owned(), "password_file"),
    ] {
        let config = config_file(&format!("[crowdsec]\n{text}\n"))?;
        refused(&["run", "--config", &config.path()], 3, &[word])?;
    }
    Ok(())
}
