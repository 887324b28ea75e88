//! The summary, and docs/coverage.md.

use std::{fmt, fs, process::Command};

use scanguard_tests::matrix::cases::{
    Case, Expect,
    outcome::{Outcome, Verdict, short},
};

/// How many came to what.
#[derive(Default)]
pub(crate) struct Summary {
    scans: u32,
    found: u32,
    honest: u32,
    quiet: u32,
    reports: u32,
    spared: u32,
    limits: u32,
    failed: u32,
    left_out: u32,
}

impl Summary {
    /// Counts.
    pub(crate) fn of(cases: &[Case], outcomes: &[Option<Outcome>]) -> Self {
        let mut summary = Self::default();
        for (case, outcome) in cases.iter().zip(outcomes) {
            let Some(outcome) = outcome else {
                summary.left_out += 1;
                continue;
            };
            match case.expect {
                Expect::Found => summary.scans += 1,
                Expect::Quiet => summary.honest += 1,
                Expect::Spared => summary.reports += 1,
            }
            match outcome.verdict {
                Verdict::Found => summary.found += 1,
                Verdict::Quiet if case.expect == Expect::Spared => summary.spared += 1,
                Verdict::Quiet => summary.quiet += 1,
                Verdict::Limited => summary.limits += 1,
                Verdict::Failed(_) => summary.failed += 1,
                Verdict::Missed | Verdict::Flagged => {}
            }
        }
        summary
    }

    /// Whether every scan was found and nothing else was.
    pub(crate) fn is_good(&self) -> bool {
        self.found == self.scans && self.quiet == self.honest && self.spared + self.limits == self.reports
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scans, found, honest, quiet, reports, spared, limits, failed, left_out } = self;
        write!(f, "{found} of {scans} scans found, {quiet} of {honest} honest cases left alone")?;
        write!(f, ", {spared} of {reports} clients of reports spared")?;
        if *limits > 0 {
            write!(f, " ({limits} are known limits)")?;
        }
        if *failed > 0 {
            write!(f, ", {failed} could not be played")?;
        }
        if *left_out > 0 {
            write!(f, ", {left_out} slow ones left out")?;
        }
        Ok(())
    }
}

/// On what the table was made.
pub(crate) struct About {
    kernel: String,
    poll_interval: String,
    tools: String,
}

/// Packages whose versions matter.
const PACKAGES: [&str; 54] = [
    "nmap",
    "masscan",
    "zmap",
    "hping3",
    "fping",
    "nginx",
    "curl",
    "wrk",
    "haproxy",
    "rsync",
    "dnsmasq-base",
    "bind9-dnsutils",
    "nftables",
    "conntrack",
    "traceroute",
    "mtr-tiny",
    "gobuster",
    "ffuf",
    "dirb",
    "wfuzz",
    "dirsearch",
    "whatweb",
    "sqlmap",
    "wapiti",
    "sslscan",
    "testssl.sh",
    "dnsrecon",
    "dnsenum",
    "nsd",
    "wget",
    "netcat-openbsd",
    "openssh-client",
    "python3-scapy",
    "pnscan",
    "doscan",
    "scanssh",
    "dmitry",
    "braa",
    "ike-scan",
    "nbtscan",
    "onesixtyone",
    "snmp",
    "sipvicious",
    "ssh-audit",
    "ipv6toolkit",
    "thc-ipv6",
    "apt",
    "unbound",
    "wireguard-go",
    "wireguard-tools",
    "keepalived",
    "isc-dhcp-client",
    "busybox-static",
    "openvpn",
];

impl About {
    /// Asks the kernel and dpkg.
    pub(crate) fn this_machine(poll_interval: &str) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let mut tools: Vec<_> = PACKAGES.iter().filter_map(|package| version(package)).collect();
        tools.sort();
        Self { kernel, poll_interval: poll_interval.to_owned(), tools: lines(&tools) }
    }
}

/// The tools as an item of a list, in lines of at most 120 columns.
fn lines(tools: &[String]) -> String {
    let options = textwrap::Options::new(120).subsequent_indent("  ").break_words(false);
    textwrap::fill(&format!("* tools: {}", tools.join(", ")), options)
}

/// `nmap 7.93+dfsg1-1`, of what is installed, or of what a program that was taken out of its package says of itself.
fn version(package: &str) -> Option<String> {
    let answer = |command: &mut Command| {
        let output = command.output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned())
    };
    let dpkg = answer(Command::new("dpkg-query").args(["-W", "-f", "${Version}", package]));
    if let Some(version) = dpkg.filter(|version| !version.is_empty()) {
        return Some(format!("{package} {version}"));
    }
    let asks = match package {
        "unbound" => "-V",
        "openvpn" => "--version",
        _ => "-v",
    };
    let said = answer(Command::new(package).arg(asks))?;
    let mut words = said.split(|c: char| c.is_whitespace() || c == '/');
    let number = words.find_map(|word| {
        let number = word.strip_prefix('v').unwrap_or(word);
        number.starts_with(|c: char| c.is_ascii_digit()).then_some(number)
    })?;
    Some(format!("{package} {number}"))
}

/// The whole page.
pub(crate) fn markdown(about: &About, cases: &[Case], outcomes: &[Option<Outcome>]) -> String {
    let About { kernel, poll_interval, tools } = about;
    let summary = Summary::of(cases, outcomes);
    let mut page = format!(
        "# Coverage\n\n\
         This page is generated by `cargo xtask matrix --write`, not by hand. Real tools run in network namespaces against the\n\
         real agent, each case on its own. The configuration is the default, except for `poll_interval = \"{poll_interval}\"`.\n\
         Scans must be found; honest traffic must cause no finding. The last chapter has honest clients of public reports,\n\
         most of which were accused or banned there: in `enforce` each must be served to its end, without a finding above\n\
         `info`. Rows that say *limit* are accused all the same, for the reason given.\n\n\
         **{summary}.**\n\n\
         * kernel: {kernel}, native XDP on veth; the agent is built for debugging\n\
         {tools}\n\
         * *probes before*: probes of the source that the sensor had seen when the first finding was opened, out of all that it\n  \
         saw in the case. For rules about messages these are requests, hellos and queries.\n\
         * *latency*: from the first packet on the wire (tcpdump) to the time of that finding. It contains the time that the\n  \
         tool takes to send so many probes.\n\
         * addresses: the scanned host is 10.77.0.1 (fd77::1); 10.78.0.0/24 (fd78::/64) are routed to it\n",
    );
    let rows: Vec<_> = cases.iter().zip(outcomes).collect();
    let chapters =
        [(Expect::Found, "Scans"), (Expect::Quiet, "Honest traffic"), (Expect::Spared, "Honest clients")];
    for (expect, title) in chapters {
        page += &format!("\n## {title}\n");
        let mut group = "";
        for (case, outcome) in rows.iter().filter(|(case, _)| case.expect == expect) {
            if case.group != group {
                group = case.group;
                page += &heading(expect, group);
            }
            page += &row(case, outcome.as_ref());
        }
    }
    page
}

fn heading(expect: Expect, group: &str) -> String {
    match expect {
        Expect::Found => format!(
            "\n### {group}\n\n| case | detected | as | probes before | latency |\n|---|---|---|---|---|\n"
        ),
        Expect::Quiet => {
            format!(
                "\n### {group}\n\n| case | flagged | as | packets | of them probes |\n|---|---|---|---|---|\n"
            )
        }
        Expect::Spared => format!(
            "\n### {group}\n\n| report | client | accused | as | packets | of them probes |\n|---|---|---|---|---|---|\n"
        ),
    }
}

/// A link to a report: `project#number`.
fn link(report: &str) -> String {
    let (project, number) = report.split_once('#').unwrap_or((report, ""));
    format!("[{report}](https://github.com/{project}/issues/{number})")
}

fn row(case: &Case, outcome: Option<&Outcome>) -> String {
    let name = match case.expect {
        Expect::Found => format!("`{}`", case.name),
        Expect::Quiet => case.name.to_owned(),
        Expect::Spared => format!("{} | {}", link(case.report), case.name),
    };
    let Some(outcome) = outcome else {
        return format!("| {name} | not run (`--slow`) | | | |\n");
    };
    let (packets, probes) = outcome.packets();
    let or_none = |text: Option<String>| text.unwrap_or_default();
    match &outcome.verdict {
        Verdict::Found => {
            let before = outcome.probes_before().map(|before| format!("{before} of {}", outcome.evidence()));
            let latency = or_none(outcome.latency().map(short));
            format!("| {name} | yes | {} | {} | {latency} |\n", outcome.rules(), or_none(before))
        }
        Verdict::Missed => format!("| {name} | **no** | {} | never, of {probes} | |\n", outcome.rules()),
        // An honest client may have a finding at `info`.
        Verdict::Quiet => format!("| {name} | no | {} | {packets} | {probes} |\n", outcome.rules()),
        Verdict::Limited => {
            format!("| {name} | **limit**: {} | {} | {packets} | {probes} |\n", case.limit, outcome.rules())
        }
        Verdict::Flagged => format!("| {name} | **yes** | {} | {packets} | {probes} |\n", outcome.rules()),
        Verdict::Failed(_) => format!("| {name} | **could not be played** | | | |\n"),
    }
}
