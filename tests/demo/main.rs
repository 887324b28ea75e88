//! `cargo xtask demo`: two hosts in network namespaces; one scans the other with real nmap while the sensor runs.
//! Prints what was found beside what was sent, and the metrics page.

use anyhow::{Result, ensure};
use clap::Parser;
use scanguard_common::outcome::ProbeClass;
use scanguard_tests::{
    fixtures::{
        agent::{Agent, LISTEN, Metrics},
        capture::{self, Capture},
        cgroup::Group,
        lab::{Lab, PATIENCE, SCANNER, VICTIM, VICTIM_INTERFACE, run, wait_for},
        root,
        scenario::Scenario,
    },
    tables::scans::{SCANS, Scan},
};

/// Scans a host of its own making with nmap and shows what the sensor makes of it.
#[derive(Debug, Parser)]
struct Arguments {
    /// How the sensor is attached: native, generic or auto.
    #[arg(long, default_value = "native")]
    mode: String,
    /// Print the whole metrics page, not only what is not zero.
    #[arg(long)]
    all_metrics: bool,
}

/// Scans that are shown, one of each kind.
const SHOWN: [&str; 7] =
    ["-sS -p 1-1000", "-sT", "-sX -p 1-100", "-sU -p 50-200", "-sO", "-PE --send-ip", "-sS -p 22"];

/// Short intervals, so that each scan of the one scanner is a finding of its own.
const CONFIG: &str = "\
[sensor]
poll_interval = \"100ms\"
[findings]
quiet = \"1s\"
[rules]
vertical_scan.window = \"2s\"
horizontal_sweep.window = \"2s\"
icmp_sweep.window = \"2s\"
odd_flags.window = \"2s\"
block_scan.window = \"2s\"
sequential_test.window = \"2s\"
xmas_scan.window = \"2s\"
udp_scan.window = \"2s\"
ip_protocol_scan.window = \"2s\"
";

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(root::is_root(), "network namespaces and XDP need root");
    let scenario = Scenario::new(CONFIG)?.with(&["--mode", &arguments.mode, "--format", "text"]);
    println!("victim {VICTIM} ({VICTIM_INTERFACE}), scanner {SCANNER}, in namespaces of their own");
    scenario.run(|lab, agent| {
        for line in agent.said().lines() {
            println!("  {line}");
        }
        for scan in SHOWN.iter().filter_map(|shown| SCANS.iter().find(|scan| scan.command.contains(shown))) {
            show(lab, agent, scan)?;
        }
        println!("\n$ curl http://{LISTEN}/metrics");
        let (_, page) = agent.get("/metrics")?;
        for line in page.lines().filter(|line| arguments.all_metrics || worth_showing(line)) {
            println!("{line}");
        }
        leave(lab, agent)
    })?;
    drop(scenario);
    println!("\nThe sensor ended and is detached; the namespaces are gone.");
    Ok(())
}

fn worth_showing(line: &str) -> bool {
    line.starts_with("scanguard_") && !line.ends_with(" 0") && !line.contains("_bucket{")
}

/// One scan: what went over the wire by tcpdump's count, what the sensor counted, what it said.
fn show(lab: &Lab, agent: &Agent<'_>, scan: &Scan) -> Result<()> {
    let before = agent.metrics()?;
    let shown = agent.lines().len();
    let mut capture = Capture::start(&lab.victim, VICTIM_INTERFACE)?;
    println!("\n# {}", scan.words().join(" "));
    scan.run(lab)?;
    capture.stop()?;
    let after = agent.settled()?;
    println!("  {:<18} {:>14} {:>14}", "", "tcpdump saw", "sensor counted");
    let packets = after.packets() - before.packets();
    println!("  {:<18} {:>14} {packets:>14}", "packets", capture.count("")?);
    for class in ProbeClass::ALL {
        let counted = counted(&before, &after, class);
        if let Some(filter) = capture::filter(class)
            && counted > 0.0
        {
            println!("  {:<18} {:>14} {counted:>14}", class.label(), capture.count(&filter)?);
        }
    }
    // Until its findings are closed and its probes out of every window.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    for line in agent.lines().iter().skip(shown) {
        println!("  {line}");
    }
    Ok(())
}

/// A network of others, in which nobody answers.
const OTHERS: &str = "20.7.0.0/24";

/// The other way round: the watched host itself scans others, and the finding names the process.
fn leave(lab: &Lab, agent: &Agent<'_>) -> Result<()> {
    let shown = agent.lines().len();
    lab.victim.ip(&format!("route add {OTHERS} via {SCANNER}"))?;
    let group = Group::new("-web.service")?;
    let arguments = format!("-n -Pn -sT -p 22 --max-rtt-timeout 200ms --max-retries 0 {OTHERS}");
    println!("\n# on the victim itself, in a control group like that of a unit:\n# nmap {arguments}");
    let mut nmap = lab.victim.command("nmap");
    group.hold(&mut nmap);
    run(nmap.args(arguments.split(' ')))?;
    let told = || agent.lines().into_iter().skip(shown).find(|line| line.contains("outbound_sweep"));
    let told = wait_for("the scan that leaves is found", PATIENCE, told)?;
    ensure!(told.contains("nmap") && told.contains("-web.service"), "it names its process: {told}");
    println!("  {told}\n\n$ scanguard actors explain nmap");
    for line in agent.order(&["actors", "explain", "nmap"])?.lines() {
        println!("  {line}");
    }
    Ok(())
}

fn counted(before: &Metrics, after: &Metrics, class: ProbeClass) -> f64 {
    after.probes(class.label()) - before.probes(class.label())
}
