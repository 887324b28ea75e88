//! Real scans by real tools: how they are called, what they send and what is to be found.

use std::time::Duration;

use anyhow::Result;
use scanguard_common::outcome::ProbeClass::{self, *};

use crate::fixtures::lab::{Lab, ROUTED, VICTIM, VICTIM6, run_within};

/// A scan.
#[derive(Clone, Copy, Debug)]
pub struct Scan {
    /// The command, `{victim}`, `{victim6}` and `{routed}` to be filled in.
    pub command: &'static str,
    /// Classes of probes that it sends to the victim; it may send others, too.
    pub sends: &'static [ProbeClass],
    /// Rules that find it.
    pub found_as: &'static [&'static str],
    /// The tool's own exit status means nothing (hping3 fails when nobody answers).
    pub may_fail: bool,
}

const fn scan(
    command: &'static str,
    sends: &'static [ProbeClass],
    found_as: &'static [&'static str],
) -> Scan {
    Scan { command, sends, found_as, may_fail: false }
}

const fn hping(
    command: &'static str,
    sends: &'static [ProbeClass],
    found_as: &'static [&'static str],
) -> Scan {
    Scan { command, sends, found_as, may_fail: true }
}

const VERTICAL: &[&str] = &["vertical_scan"];
const ODD: &[&str] = &["odd_flags"];
const ICMP_SWEEP: &[&str] = &["icmp_sweep"];

/// A scan that hides among decoys, one of which is the scanner.
pub const DECOYS: Scan = scan("nmap -n -Pn -sS -p 1-100 -D 10.77.0.50,10.77.0.51 {victim}", &[Syn], VERTICAL);

/// All of them.
pub const SCANS: &[Scan] = &[
    scan("nmap -n -Pn -sS -p 1-1000 {victim}", &[Syn], VERTICAL),
    scan("nmap -n -Pn -sT -p 1-200 {victim}", &[Syn], VERTICAL),
    scan("nmap -n -Pn -sF -p 1-100 --max-retries 1 {victim}", &[Fin], &["fin_scan"]),
    scan("nmap -n -Pn -sN -p 1-100 --max-retries 1 {victim}", &[Null], &["null_scan"]),
    scan("nmap -n -Pn -sX -p 1-100 --max-retries 1 {victim}", &[Xmas], &["xmas_scan"]),
    scan("nmap -n -Pn -sA -p 1-100 {victim}", &[Ack], &["ack_scan"]),
    scan("nmap -n -Pn -sM -p 1-100 {victim}", &[Maimon], &["maimon_scan"]),
    scan("nmap -n -Pn -sS --scanflags SYNACK -p 1-100 {victim}", &[SynAckProbe], &["syn_ack_scan"]),
    scan("nmap -n -Pn -sS --scanflags SYNACK -g 443 -p 1-200 {victim}", &[SynAckProbe], &["syn_ack_scan"]),
    // Port 53 is asked for its version.
    scan("nmap -n -Pn -sU -p 50-200 --max-retries 1 {victim}", &[Udp, UdpEmpty], &["dns_probe", "udp_scan"]),
    scan("nmap -n -Pn -sY -p 1-100 --max-retries 1 {victim}", &[SctpInit], &["sctp_scan"]),
    scan("nmap -n -Pn -sZ -p 1-100 --max-retries 1 {victim}", &[SctpCookieEcho], &["sctp_scan"]),
    scan(
        "nmap -n -Pn -O --max-os-tries 1 -p 1-40 {victim}",
        &[Syn, Xmas],
        &["os_fingerprint", "vertical_scan"],
    ),
    scan("nmap -n -Pn -sW -p 1-100 {victim}", &[Ack], &["ack_scan"]),
    scan("nmap -n -Pn -sO -p 130-180 --max-retries 1 {victim}", &[IpProtocol], &["ip_protocol_scan"]),
    scan("nmap -n -Pn -sS -f -p 1-60 --max-retries 1 {victim}", &[TinyFragment], &["fragment_scan"]),
    scan("nmap -n -sn -PE --send-ip {routed}.0/27", &[IcmpEcho], ICMP_SWEEP),
    scan("nmap -n -sn -PP --send-ip {routed}.0/27", &[IcmpTimestamp], ICMP_SWEEP),
    scan("nmap -n -sn -PM --max-retries 0 --send-ip {routed}.0/27", &[IcmpAddressMask], ICMP_SWEEP),
    scan("nmap -n -Pn -sS -p 22 --send-ip {routed}.0/26", &[Syn], &["horizontal_sweep"]),
    scan("nmap -6 -n -Pn -sS -p 1-200 {victim6}", &[Syn], VERTICAL),
    scan("nmap -6 -n -Pn -sX -p 1-60 --max-retries 1 {victim6}", &[Xmas], &["xmas_scan"]),
    scan("nmap -6 -n -Pn -sU -p 50-100 --max-retries 1 {victim6}", &[UdpEmpty], &["dns_probe", "udp_scan"]),
    scan("nmap -6 -n -sn -PE {victim6}", &[], &[]),
    hping("hping3 -c 5 -i u1000 -q -S -F -p 80 {victim}", &[SynFin], ODD),
    hping("hping3 -c 5 -i u1000 -q -S -R -p 80 {victim}", &[SynRst], ODD),
    hping("hping3 -c 5 -i u1000 -q -U -p 80 {victim}", &[OddFlags], ODD),
    hping("hping3 -c 5 -i u1000 -q -S -F -R -P -A -U -p 80 {victim}", &[SynFin], ODD),
];

impl Scan {
    /// Runs it from the scanner.
    ///
    /// # Errors
    /// The tool could not be started, failed, or took too long.
    pub fn run(&self, lab: &Lab) -> Result<()> {
        let words = self.words();
        let mut command = lab.scanner.command(&words[0]);
        command.args(&words[1..]);
        match run_within(&mut command, Duration::from_secs(90)) {
            Err(_) if self.may_fail => Ok(()),
            result => result,
        }
    }

    /// The command with its addresses.
    pub fn words(&self) -> Vec<String> {
        self.command
            .split(' ')
            .map(|word| {
                word.replace("{victim6}", VICTIM6).replace("{victim}", VICTIM).replace("{routed}", ROUTED)
            })
            .collect()
    }
}
