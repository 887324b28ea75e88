//! tcpdump beside the sensor: the independent count.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use scanguard_common::outcome::ProbeClass;

use crate::lab::{Namespace, Process, run};

/// What tcpdump sees come in by an interface, or leave.
pub struct Capture {
    process: Process,
    file: PathBuf,
    /// What it says, once it has ended.
    said: Option<JoinHandle<Vec<String>>>,
}

impl Capture {
    /// Starts and waits until it captures.
    ///
    /// # Errors
    /// It does not.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        Self::in_direction(namespace, interface, "in", "")
    }

    /// As [`Self::start`], of what matches a filter of tcpdump's: the rest is sorted out in the kernel.
    ///
    /// # Errors
    /// It does not.
    pub fn start_filtered(namespace: &Namespace, interface: &str, filter: &str) -> Result<Self> {
        Self::in_direction(namespace, interface, "in", filter)
    }

    /// As [`Self::start`], of what leaves.
    ///
    /// # Errors
    /// It does not.
    pub fn outgoing(namespace: &Namespace, interface: &str) -> Result<Self> {
        Self::in_direction(namespace, interface, "out", "")
    }

    fn in_direction(namespace: &Namespace, interface: &str, direction: &str, filter: &str) -> Result<Self> {
        let number = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
        let file = std::env::temp_dir().join(format!("scanguard-{}-{number}.pcap", std::process::id()));
        let mut child = namespace
            .command("tcpdump")
            .args(["-Z", "root", "-n", "-U", "-Q", direction, "-s", "192", "-B", "16384"])
            .args(["-i", interface, "-w"])
            .arg(&file)
            .arg(filter)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().context("stderr")?;
        let mut capture = Self { process: Process::new(child), file, said: None };
        let mut lines = BufReader::new(stderr).lines();
        let listening = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("listening on")));
        ensure!(listening.is_some(), "tcpdump does not listen");
        // It goes on writing there; a closed pipe would end it.
        capture.said = Some(std::thread::spawn(move || lines.map_while(Result::ok).collect()));
        Ok(capture)
    }

    /// Stops it, so that everything it saw is in the file.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(&mut self) -> Result<()> {
        // tcpdump reads its ring once a second at the latest.
        std::thread::sleep(Duration::from_millis(1200));
        self.process.signal(libc::SIGINT);
        self.process.wait_within(Duration::from_secs(20))?;
        Ok(())
    }

    /// Packets that it missed, once it was stopped.
    ///
    /// # Errors
    /// It does not say.
    pub fn dropped(&mut self) -> Result<u64> {
        let said = self.said.take().context("not stopped yet, or asked before")?;
        let said = said.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let line = said.iter().find_map(|line| line.strip_suffix(" packets dropped by kernel"));
        let line =
            line.or_else(|| said.iter().find_map(|line| line.strip_suffix(" packet dropped by kernel")));
        Ok(line.with_context(|| said.join(" | "))?.parse()?)
    }

    /// Packets that match a filter of tcpdump's.
    ///
    /// # Errors
    /// tcpdump does not take it.
    pub fn count(&self, filter: &str) -> Result<u64> {
        let output = run(Command::new("tcpdump").args(["-n", "--count", "-r"]).arg(&self.file).arg(filter))?;
        let said = String::from_utf8(output.stdout)?;
        let count = said.split(' ').next().context("a number")?.trim().parse();
        count.with_context(|| format!("tcpdump --count: {said}"))
    }
}

impl Capture {
    /// What tcpdump says of each packet that matches a filter of its, a line each, the time first as seconds.
    ///
    /// # Errors
    /// tcpdump does not take it.
    pub fn lines(&self, filter: &str) -> Result<Vec<String>> {
        let output = run(Command::new("tcpdump").args(["-n", "-tt", "-r"]).arg(&self.file).arg(filter))?;
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // It may not have been made.
        let _ = std::fs::remove_file(&self.file);
    }
}

/// tcpdump's way to say which untagged, unfragmented packets are of a class; none where it cannot say it.
pub fn filter(class: ProbeClass) -> Option<String> {
    // The six flags of RFC 793, over IPv4 and over IPv6 without extension headers.
    let flags = |test: &str| {
        format!(
            "(tcp and ip[6:2] & 0x3fff = 0 and tcp[13] & 0x3f {test}) or \
             (ip6[6] = 6 and ip6[53] & 0x3f {test})"
        )
    };
    Some(match class {
        ProbeClass::Syn => flags("= 2"),
        ProbeClass::Null => flags("= 0"),
        ProbeClass::Fin => flags("= 1"),
        ProbeClass::Xmas => flags("= 0x29"),
        ProbeClass::SynFin => flags("& 3 = 3"),
        ProbeClass::SynRst => flags("& 7 = 6"),
        ProbeClass::OddFlags => return None,
        ProbeClass::IcmpEcho => "icmp[0] = 8 or (ip6[6] = 58 and ip6[40] = 128)".to_owned(),
        ProbeClass::IcmpTimestamp => "icmp[0] = 13".to_owned(),
        ProbeClass::IcmpAddressMask => "icmp[0] = 17".to_owned(),
        ProbeClass::IcmpInformation => "icmp[0] = 15".to_owned(),
        ProbeClass::Udp => "udp and udp[4:2] > 8 or (ip6[6] = 17 and ip6[44:2] > 8)".to_owned(),
        ProbeClass::UdpEmpty => "udp and udp[4:2] = 8 or (ip6[6] = 17 and ip6[44:2] = 8)".to_owned(),
        ProbeClass::SctpInit => "sctp and sctp[12] = 1 or (ip6[6] = 132 and ip6[52] = 1)".to_owned(),
        ProbeClass::SctpCookieEcho => "sctp and sctp[12] = 10 or (ip6[6] = 132 and ip6[52] = 10)".to_owned(),
        ProbeClass::IpProtocol => "ip and not (ip[9] = 1 or ip[9] = 6 or ip[9] = 17 or ip[9] = 132) and \
             not ((ip[9] = 2 or ip[9] = 4 or ip[9] = 41 or ip[9] = 47 or ip[9] = 50 or ip[9] = 51 or \
             ip[9] = 88 or ip[9] = 89 or ip[9] = 103 or ip[9] = 112 or ip[9] = 115 or ip[9] = 136) and \
             ip[2:2] > 20)"
            .to_owned(),
        ProbeClass::TinyFragment => {
            "ip[9] = 6 and (ip[6:2] & 0x3fff = 0x2000 and ip[2:2] < 40 or ip[6:2] & 0x1fff = 1)".to_owned()
        }
        // Which segments no socket wants, tcpdump cannot say. The scanned host has no connections.
        ProbeClass::Ack => flags("= 0x10"),
        ProbeClass::Maimon => flags("= 0x11"),
        ProbeClass::SynAck => flags("= 0x12 and not (tcp[0:2] >= 32768 and tcp[2:2] < 10000)"),
        ProbeClass::SynAckProbe => flags("= 0x12 and tcp[0:2] >= 32768 and tcp[2:2] < 10000"),
        ProbeClass::Land | ProbeClass::BadLength | ProbeClass::HeaderChain => return None,
    })
}
