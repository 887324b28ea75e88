//! Floods of forged sources: named what they are, and no cover for a scan.

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    lab::{Lab, PATIENCE, Process, SCANNER, VICTIM, run_within, wait_for},
    scenario::Scenario,
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a scan during a flood of forged sources is found, and the flood is one finding",
            scan_in_flood,
        ),
        trial("backscatter is one finding, not many scanners", backscatter),
    ]
}

/// A small table, so that a short flood fills it many times over.
const CONFIG: &str =
    "[sensor]\nmax_sources = 4096\npoll_interval = \"200ms\"\n[history]\nmax_sources = 4096\n";
const MEMORY: &str = "process_resident_memory_bytes";
/// Bytes: less than 64 for each of the 400,000 sources and more that hping3 forges meanwhile.
const MOST_GROWTH: f64 = 24e6;

/// So many packets from forged sources.
fn hping(lab: &Lab, count: u32, arguments: &[&str]) -> Result<Process> {
    let mut command = lab.scanner.command("hping3");
    command.args(["--rand-source", "-q", "-c", &count.to_string()]).args(arguments).arg(VICTIM);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    Ok(Process::new(command.spawn().context("hping3")?))
}

fn scan_in_flood() -> Result<()> {
    Scenario::new(CONFIG)?.with(&["--format", "json"]).run(|lab, agent| {
        let flood = hping(lab, 20_000_000, &["--flood", "-S", "-p", "80"])?;
        let early = wait_for("the flood is under way", PATIENCE, || {
            let page = agent.metrics().ok()?;
            (page.exit("at_the_door") > 20_000.0).then_some(page)
        })?;
        let mut nmap = lab.scanner.command("nmap");
        nmap.args(["-n", "-Pn", "-sS", "--max-retries", "1", "-p", "1-200", VICTIM]);
        nmap.stdout(std::process::Stdio::null());
        run_within(&mut nmap, 2 * PATIENCE)?;
        wait_for("the scan is found", PATIENCE, || {
            agent
                .findings()
                .into_iter()
                .find(|finding| finding["rule"] == "vertical_scan" && finding["source"]["ip"] == SCANNER)
        })?;
        drop(flood);
        let page = agent.settled()?;
        let opened: Vec<_> =
            agent.findings().into_iter().filter(|finding| finding["event"] == "opened").collect();
        let floods: Vec<_> = opened.iter().filter(|finding| finding["rule"] == "flood").collect();
        ensure!(floods.len() == 1 && floods[0].get("source").is_none(), "{opened:#?}");
        ensure!(floods[0]["techniques"][0] == "T1498" && floods[0]["targets"][0]["port"] == 80, "{floods:?}");
        // The scan may open as a lesser finding of the same scanner; nobody else is accused.
        let others = opened.iter().filter(|finding| finding["rule"] != "flood");
        ensure!(
            others.clone().count() == 1 && others.clone().all(|it| it["source"]["ip"] == SCANNER),
            "{opened:#?}"
        );
        ensure!(page.get("scanguard_sources") <= 4096.0 && page.get("scanguard_history_sources") <= 4096.0);
        let growth = page.get(MEMORY) - early.get(MEMORY);
        ensure!(growth < MOST_GROWTH, "{growth} bytes more than when the flood began");
        // However the table fared, the totals hold every packet.
        let probes = page.sum("scanguard_probes_total");
        ensure!(
            probes == page.exit("probe") + page.exit("table_full") + page.exit("at_the_door"),
            "{page:?}"
        );
        Ok(())
    })
}

fn backscatter() -> Result<()> {
    Scenario::new("[sensor]\npoll_interval = \"200ms\"\n[rules.backscatter]\nwindow = \"5s\"\n")?
        .with(&["--format", "json"])
        .run(|lab, agent| {
            // A thousand SYN+ACK, two milliseconds apart, as a web server sends them that is flooded.
            let mut answers =
                hping(lab, 1_000, &["-S", "-A", "-s", "80", "-k", "-p", "40000", "-i", "u2000"])?;
            answers.wait_within(PATIENCE)?;
            wait_for("the finding", PATIENCE, || {
                agent.findings().into_iter().find(|finding| finding["rule"] == "backscatter")
            })?;
            let page = agent.settled()?;
            ensure!(page.probes("syn_ack") >= 500.0, "{page:?}");
            let rules = agent.opened();
            ensure!(rules.len() == 1 && rules.get("backscatter") == Some(&1), "{rules:?}");
            Ok(())
        })
}
