//! The way of an alert from a packet to an operator: a real Prometheus scrapes a real agent by our rules, and tells a real
//! Alertmanager of a real scan.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::{
        agent::{LISTEN, get},
        lab::{PATIENCE, wait_for},
        scenario::Scenario,
    },
    tables::scans::SCANS,
};
use serde_yaml_ng::{Mapping, Value as Yaml};

use crate::{
    sinks::{ALERTMANAGER, alert, alertmanager, serve},
    trial,
};

const PROMETHEUS: &str = "127.0.0.1:9090";
const RULES: &str = include_str!("../../deploy/prometheus/scanguard.rules.yml");

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("prometheus scrapes a scan, and our alert of it fires in alertmanager", scanned)]
}

/// Our rules, evaluated every second and without waiting.
fn hasty(rules: &str) -> Result<String> {
    let mut rules: Yaml = serde_yaml_ng::from_str(rules)?;
    for group in rules["groups"].as_sequence_mut().context("groups")? {
        let group = group.as_mapping_mut().context("a group")?;
        group.insert("interval".into(), "1s".into());
        for rule in group.get_mut("rules").and_then(Yaml::as_sequence_mut).context("rules")? {
            let rule: &mut Mapping = rule.as_mapping_mut().context("a rule")?;
            rule.insert("for".into(), "0s".into());
        }
    }
    Ok(serde_yaml_ng::to_string(&rules)?)
}

fn scanned() -> Result<()> {
    let scenario = Scenario::new("sinks = []\n")?;
    let lab = &scenario.lab;
    let directory = lab.victim.directory();
    let (_alertmanager, notifications) = alertmanager(&lab.victim)?;
    let rules = directory.join("rules.yml");
    fs::write(&rules, hasty(RULES)?)?;
    let file = directory.join("prometheus.yml");
    fs::write(
        &file,
        format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{ALERTMANAGER}']}}]}}]}}\n\
             scrape_configs: [{{job_name: scanguard, static_configs: [{{targets: ['{LISTEN}']}}]}}]\n",
            rules.display()
        ),
    )?;
    let mut agent = scenario.start()?;
    let log = directory.join("prometheus.log");
    let arguments = [
        &format!("--config.file={}", file.display()),
        &format!("--storage.tsdb.path={}", directory.join("prometheus").display()),
        &format!("--web.listen-address={PROMETHEUS}"),
    ];
    let _prometheus = serve(&lab.victim, "prometheus", &arguments.map(String::as_str), &log)?;
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let query = |query: &str| {
        let (status, page) = get(&lab.victim, PROMETHEUS, &format!("/api/v1/query?query={query}")).ok()?;
        (status == 200).then_some(page)
    };
    // An increase can only be seen of what was seen before.
    wait_for("the agent is scraped", PATIENCE, || {
        query("scanguard_findings_total{rule=%22vertical_scan%22,event=%22opened%22}")
            .filter(|page| page.contains("vertical_scan"))
    })
    .with_context(said)?;
    ensure!(alert(&lab.victim, "alertname", "ScanGuardScanFound").is_none(), "before there was a scan");
    SCANS[0].run(lab)?;
    let firing =
        wait_for("the alert fires", PATIENCE, || alert(&lab.victim, "alertname", "ScanGuardScanFound"))
            .with_context(|| format!("{}\n{}", said(), agent.said()))?;
    ensure!(firing["labels"]["instance"] == LISTEN && firing["labels"]["severity"] == "warning", "{firing}");
    // It counts as what it was opened by: nmap may have sent nine ports in their order first.
    let rule = firing["labels"]["rule"].as_str().context("a rule")?;
    ensure!(["vertical_scan", "sequential_test"].contains(&rule), "{firing}");
    let summary = format!("Scanning of {LISTEN}: {rule}");
    ensure!(firing["annotations"]["summary"] == summary.as_str(), "{firing}");
    let message = notifications.recv_timeout(PATIENCE).context("Alertmanager notifies nobody")?;
    ensure!(message["status"] == "firing", "{message}");
    // All else is well: none of the alerts on the agent's own trouble fires.
    for quiet in ["ScanGuardDown", "ScanGuardNotAttached", "ScanGuardPollsFail", "ScanGuardReloadFailed"] {
        ensure!(alert(&lab.victim, "alertname", quiet).is_none(), "{quiet} fires");
    }
    agent.end()?;
    let down = wait_for("the end of the agent is an alert", PATIENCE, || {
        alert(&lab.victim, "alertname", "ScanGuardDown")
    })?;
    ensure!(down["labels"]["severity"] == "critical", "{down}");
    Ok(())
}
