//! A scan as seen from outside: lines on standard output, the metrics page, health.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::{
        agent::Metrics,
        lab::{PATIENCE, SCANNER, VICTIM, wait_for},
        scenario::Scenario,
    },
    tables::scans::{DECOYS, SCANS},
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a scan is one finding from opened to closed, as json lines", life_of_a_finding),
        trial("a scan is found at once, not at the next poll", found_at_once),
        trial("decoys are each doubted", decoys),
        trial("the metrics page passes promtool and names no address", metrics_page),
        trial("the metrics page names the fastest sources where it is asked to", top_sources),
        trial("the landing page and health pages answer", pages),
        trial("the kernel program's log appears in the agent's", kernel_log),
    ]
}

fn life_of_a_finding() -> Result<()> {
    Scenario::new("[sensor]\npoll_interval = \"100ms\"\n[findings]\nquiet = \"1s\"\n")?
        .with(&["--format", "json"])
        .run(|lab, agent| {
            SCANS[0].run(lab)?;
            wait_for("the finding is closed", PATIENCE, || {
                agent.findings().iter().any(|finding| finding["event"] == "closed").then_some(())
            })?;
            let findings = agent.findings();
            ensure!(findings.iter().all(|finding| finding["id"] == findings[0]["id"]), "{findings:#?}");
            let (first, last) = (&findings[0], findings.last().context("a finding")?);
            ensure!(first["event"] == "opened" && last["event"] == "closed", "{findings:#?}");
            for finding in [first, last] {
                ensure!(finding["source"]["ip"] == SCANNER, "{finding}");
                let target = &finding["targets"][0];
                ensure!(target["ip"] == VICTIM && target["protocol"] == "tcp", "{finding}");
                ensure!(finding["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{finding}");
            }
            // It may have been opened by a rule that takes fewer probes and says less.
            ensure!(last["rule"] == "vertical_scan" && last["techniques"][0] == "T1595.002", "{last}");
            let probes = last["counts"]["probes"].as_u64().context("a number")?;
            let services = last["counts"]["services"].as_f64().context("a number")?;
            ensure!(probes >= 1000, "{probes} probes");
            // 1,000 ports; five standard errors of linear counting.
            ensure!((services - 1000.0).abs() < 250.0, "{services} services");
            Ok(())
        })
}

fn found_at_once() -> Result<()> {
    let scenario = Scenario::new("[sensor]\npoll_interval = \"60s\"\n")?.with(&["--format", "json"]);
    // The first poll comes at the start, the next one long after this test.
    scenario.run(|lab, agent| {
        SCANS[0].run(lab)?;
        let opened = wait_for("the finding", PATIENCE, || agent.findings().into_iter().next())?;
        let first = ["sequential_test", "vertical_scan"].iter().any(|rule| opened["rule"] == *rule);
        ensure!(first && opened["event"] == "opened", "{opened}");
        // At the ninth or twentieth port, give or take what the estimate is off, not at the end of the scan.
        let probes = opened["counts"]["probes"].as_u64().context("a number")?;
        ensure!(probes < 1000, "found after {probes} probes");
        let page = agent.metrics()?;
        ensure!(page.get("scanguard_detection_latency_seconds_count") == 1.0, "{page:?}");
        Ok(())
    })
}

fn decoys() -> Result<()> {
    Scenario::defaults()?.with(&["--format", "json"]).run(|lab, agent| {
        DECOYS.run(lab)?;
        // Of each source what was said last.
        wait_for("three doubted sources", PATIENCE, || {
            let findings = agent.findings();
            let last: std::collections::BTreeMap<_, _> =
                findings.iter().map(|finding| (finding["source"]["ip"].as_str(), finding)).collect();
            let doubted = last.values().filter(|finding| {
                finding["confidence"] == "low"
                    && finding["spoofable"]
                        .as_str()
                        .is_some_and(|spoofable| spoofable.contains("yes: 3 sources"))
            });
            (last.len() == 3 && doubted.count() == 3).then_some(())
        })?;
        Ok(())
    })
}

fn metrics_page() -> Result<()> {
    Scenario::defaults()?.run(|lab, agent| {
        SCANS[0].run(lab)?;
        agent.settled()?;
        let (_, page) = agent.get("/metrics")?;
        ensure!(!page.contains(SCANNER), "an address is in the metrics");
        ensure!(page.contains("scanguard_xdp_attached{interface=\"edge0\",mode=\"native\"} 1"), "{page}");
        ensure!(page.contains("process_resident_memory_bytes"), "{page}");
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("promtool: cargo xtask setup installs it")?;
        promtool.stdin.take().context("stdin")?.write_all(page.as_bytes())?;
        let output = promtool.wait_with_output()?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
        Ok(())
    })
}

fn top_sources() -> Result<()> {
    Scenario::new("[metrics]\ntop_sources = 1\n")?.run(|lab, agent| {
        let series = format!("scanguard_top_source_probes_per_second{{source=\"{SCANNER}\"}}");
        SCANS[0].run(lab)?;
        let rate = |page: &Metrics| page.get(&series);
        wait_for("the scanner's rate", PATIENCE, || agent.metrics().ok().filter(|page| rate(page) >= 100.0))?;
        // The rate is one of ten seconds.
        wait_for("its end", PATIENCE, || agent.metrics().ok().filter(|page| rate(page) == 0.0))?;
        let (_, page) = agent.get("/metrics")?;
        ensure!(!page.contains(SCANNER), "a series is left: {page}");
        Ok(())
    })
}

fn pages() -> Result<()> {
    Scenario::defaults()?.run(|_, agent| {
        for (path, status, words) in [
            ("/", 200, "href=\"metrics\""),
            ("/healthz", 200, "ok"),
            ("/readyz", 200, "ok"),
            ("/nothing", 404, ""),
        ] {
            let (got, body) = agent.get(path)?;
            ensure!(got == status && body.contains(words), "{path}: {got}: {body}");
        }
        Ok(())
    })
}

fn kernel_log() -> Result<()> {
    Scenario::defaults()?.with(&["--log", "debug"]).run(|lab, agent| {
        SCANS[0].run(lab)?;
        agent.settled()?;
        ensure!(agent.said().contains("new source"), "{}", agent.said());
        Ok(())
    })
}
