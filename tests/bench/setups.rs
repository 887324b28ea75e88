//! Setups of the victim while work is done, by the program that looks at its packets: nothing, an empty program, the
//! sensor, or a peer.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{Ebpf, programs::XdpMode};
use scanguard_tests::fixtures::{
    agent::Agent,
    lab::{Lab, Namespace, Process, VICTIM_INTERFACE, run, wait_for},
};

use crate::{c_programs, wire};

/// A setup of the victim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Setup {
    /// Only the host.
    Nothing,
    /// An XDP program that passes everything: what the interface's driver needs for any.
    EmptyXdp,
    /// The agent, with its defaults.
    ScanGuard,
    /// The same, by tc.
    ScanGuardByTc,
    /// nftables: a set with timeout, and a limit for each of its elements.
    NftSet,
    /// iptables: hashlimit.
    Hashlimit,
    /// iptables: recent.
    Recent,
    /// Suricata, in af-packet mode.
    Suricata,
}

impl Setup {
    /// The name of its row.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::EmptyXdp => "empty XDP program",
            Self::ScanGuard => "ScanGuard",
            Self::ScanGuardByTc => "ScanGuard, mode tc",
            Self::NftSet => "nftables, dynamic set with timeout and limit",
            Self::Hashlimit => "iptables, hashlimit",
            Self::Recent => "iptables, recent",
            Self::Suricata => "Suricata, af-packet",
        }
    }

    /// Puts it in place on the victim.
    ///
    /// # Errors
    /// It is not there, or this kernel does not take it.
    pub(crate) fn start(self, lab: &Lab) -> Result<Running<'_>> {
        Ok(match self {
            Self::Nothing => Running::Nothing,
            Self::EmptyXdp => Running::Xdp {
                before: wire::received(&lab.victim)?,
                _program: attach_empty(lab)?,
                host: &lab.victim,
            },
            Self::ScanGuard => agent(lab, "native")?,
            Self::ScanGuardByTc => agent(lab, "tc")?,
            Self::NftSet => {
                nft(&lab.victim, NFT_TABLE)?;
                Running::Nft(Undo(&lab.victim, NFT_UNDO))
            }
            Self::Hashlimit => iptables(&lab.victim, HASHLIMIT)?,
            Self::Recent => iptables(&lab.victim, RECENT)?,
            Self::Suricata => suricata(lab)?,
        })
    }
}

/// In place until it is dropped.
pub(crate) enum Running<'l> {
    /// As its name says.
    Nothing,
    /// A program on the interface, and what that had received before.
    Xdp {
        /// Attached as long as it lives.
        _program: Ebpf,
        /// Packets.
        before: u64,
        /// Where.
        host: &'l Namespace,
    },
    /// The agent, and what it had counted before.
    Agent {
        /// Running.
        agent: Box<Agent<'l>>,
        /// Packets.
        before: f64,
    },
    /// nftables' rules.
    Nft(Undo<'l>),
    /// iptables' rules.
    Iptables(Undo<'l>),
    /// Running, with the file that it logs to.
    Suricata(Process, PathBuf),
}

impl Running<'_> {
    /// How many packets it has seen since it was put in place, if it counts; it may be ended by this.
    ///
    /// # Errors
    /// It does not say.
    pub(crate) fn seen(&mut self) -> Result<Option<u64>> {
        Ok(match self {
            Self::Nothing => None,
            Self::Xdp { before, host, .. } => Some(wire::received(host)? - *before),
            Self::Agent { agent, before } => Some((agent.settled()?.packets() - *before) as u64),
            Self::Nft(Undo(host, _)) => {
                let output =
                    run(host.command("nft").args(["-j", "list", "counter", "inet", "bench", "seen"]))?;
                let listed: serde_json::Value = serde_json::from_slice(&output.stdout)?;
                let items = listed["nftables"].as_array().context("a list")?;
                Some(items.iter().find_map(|item| item["counter"]["packets"].as_u64()).context("a counter")?)
            }
            Self::Iptables(Undo(host, _)) => {
                let output = run(host.command("iptables").args("-t raw -nvxL PREROUTING 1".split(' ')))?;
                let text = String::from_utf8_lossy(&output.stdout);
                Some(text.split_whitespace().next().context("a count")?.parse()?)
            }
            Self::Suricata(process, log) => {
                process.signal(libc::SIGINT);
                process.wait_within(Duration::from_secs(60))?;
                Some(
                    suricata_packets(&std::fs::read_to_string(log)?)
                        .context("Suricata did not say what it saw")?,
                )
            }
        })
    }
}

/// A command that takes rules away again.
pub(crate) struct Undo<'l>(&'l Namespace, &'static str);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        // The rules go with the namespace in any case.
        let _ = run(self.0.command("sh").args(["-c", self.1]));
    }
}

fn agent<'l>(lab: &'l Lab, mode: &str) -> Result<Running<'l>> {
    let agent = Agent::start(&lab.victim, &["--mode", mode, "--format", "json"])?;
    Ok(Running::Agent { before: agent.metrics()?.packets(), agent: Box::new(agent) })
}

fn attach_empty(lab: &Lab) -> Result<Ebpf> {
    let mut ebpf = c_programs::load("wire")?;
    let program = c_programs::program(&mut ebpf, "pass_all")?;
    lab.victim.enter(|| Ok(program.attach(VICTIM_INTERFACE, XdpMode::Driver).map(drop)?))?;
    Ok(ebpf)
}

/// Rules of nftables that find sources with more than 20 SYNs a second. Like the sensor, they only count.
const NFT_TABLE: &str = "table inet bench {
    counter seen {}
    counter over {}
    set sources { type ipv4_addr; size 65535; flags dynamic,timeout; timeout 60s; }
    chain input {
        type filter hook prerouting priority raw;
        counter name seen
        tcp flags & (syn|ack) == syn update @sources { ip saddr limit rate over 20/second burst 40 packets } \
counter name over
    }
}";
const NFT_UNDO: &str = "nft delete table inet bench";

fn nft(host: &Namespace, table: &str) -> Result<()> {
    run(host.command("nft").arg(table)).map(drop).map_err(|error| unavailable("nft", &error))
}

/// The first rule of each counts all packets, the second those of sources with more than 20 SYNs a second.
const HASHLIMIT: &str = "iptables -t raw -A PREROUTING && \
    iptables -t raw -A PREROUTING -p tcp --syn -m hashlimit --hashlimit-name bench --hashlimit-mode srcip \
    --hashlimit-above 20/second --hashlimit-burst 40";
/// `recent` keeps at most 255 hits of a source (ip_pkt_list_tot).
const RECENT: &str = "iptables -t raw -A PREROUTING && \
    iptables -t raw -A PREROUTING -p tcp --syn -m recent --name bench --set && \
    iptables -t raw -A PREROUTING -p tcp --syn -m recent --name bench --rcheck --seconds 1 --hitcount 20";
const IPTABLES_UNDO: &str = "iptables -t raw -F PREROUTING";

fn iptables<'l>(host: &'l Namespace, rules: &str) -> Result<Running<'l>> {
    // First, so that half of the rules go too.
    let undo = Undo(host, IPTABLES_UNDO);
    run(host.command("sh").args(["-c", rules])).map_err(|error| unavailable("iptables", &error))?;
    Ok(Running::Iptables(undo))
}

fn unavailable(program: &str, error: &anyhow::Error) -> anyhow::Error {
    if !is_installed(program) {
        return anyhow::anyhow!("not installed");
    }
    // The command's own words come last.
    let text = format!("{error:#}");
    let words = text.rsplit_once("exit status: ").map_or(text.as_str(), |(_, words)| words);
    anyhow::anyhow!(
        "not available on this kernel: {}",
        words.split_whitespace().collect::<Vec<_>>().join(" ")
    )
}

fn is_installed(program: &str) -> bool {
    let quiet = || Stdio::null();
    Command::new(program).arg("--version").stdin(quiet()).stdout(quiet()).stderr(quiet()).status().is_ok()
}

/// Where Debian's package has its configuration.
const SURICATA_CONFIG: &str = "/etc/suricata/suricata.yaml";

fn suricata(lab: &Lab) -> Result<Running<'_>> {
    ensure!(is_installed("suricata"), "not installed");
    let directory = lab.victim.directory().join("suricata");
    std::fs::create_dir_all(&directory)?;
    let mut command = lab.victim.command("suricata");
    command.args(["-c", SURICATA_CONFIG, &format!("--af-packet={VICTIM_INTERFACE}"), "-k", "none", "-l"]);
    let quiet = command.arg(&directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut process = Process::new(quiet.spawn()?);
    let log = directory.join("suricata.log");
    // "Engine started." of version 7, "engine started." of those before.
    let started = wait_for("Suricata starts", Duration::from_secs(120), || {
        let ended = process.child.try_wait().ok().flatten().is_some();
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        (ended || text.contains("ngine started.")).then_some(!ended)
    })?;
    if !started {
        bail!(
            "Suricata ended: {}",
            std::fs::read_to_string(&log).unwrap_or_default().lines().last().unwrap_or_default()
        );
    }
    Ok(Running::Suricata(process, log))
}

/// The 24 of `Stats for 'edge0':  pkts: 24, drop: 2 (8.33%), invalid chksum: 0`, less what was dropped.
fn suricata_packets(log: &str) -> Option<u64> {
    let (_, stats) = log.rsplit_once("pkts: ")?;
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok();
    let (_, drop) = stats.split_once("drop: ")?;
    number(stats)?.checked_sub(number(drop)?)
}
