//! nftables' log of each SYN, which psad and CrowdSec read: by NFLOG and ulogd2, since the kernel's own log is not there
//! for network namespaces. By itself it says nothing of scans.

use std::{fs, io::Read as _};

use anyhow::Result;
use scanguard_tests::fixtures::lab::Lab;

use super::{
    Peer, Running,
    place::{Place, require},
};

pub(super) const PEER: Peer = Peer { name: "nftables' log by ulogd2, read by nobody", start };

const TABLE: &str = "table inet bench {
    chain input {
        type filter hook prerouting priority raw
        tcp flags & (syn|ack) == syn log prefix \"kernel: \" group 5 queue-threshold 50
    }
}";
/// The file with the lines.
pub(super) const LOG: &str = "firewall.log";
const STACK: &str = "log1:NFLOG,base1:BASE,ifi1:IFINDEX,ip2str1:IP2STR,print1:PRINTPKT,emu1:LOGEMU";

/// The rules and the place in which ulogd2 runs.
pub(super) struct FirewallLog<'l> {
    pub(super) place: Place<'l>,
    lab: &'l Lab,
}

impl<'l> FirewallLog<'l> {
    /// Starts the log, and then this script in the same place; `{log}` in it is the file.
    ///
    /// # Errors
    /// ulogd2 is not installed, or does not start.
    pub(super) fn start(lab: &'l Lab, program: &str, script: &str) -> Result<Self> {
        require("ulogd")?;
        let place = Place::new(lab, program)?;
        let (log, configuration) = (place.path(LOG).display().to_string(), place.path("ulogd.conf"));
        fs::write(
            &configuration,
            format!(
                "[global]\nlogfile=\"{log}.ulogd\"\nstack={STACK}\n[log1]\ngroup=5\n[emu1]\nfile=\"{log}\"\nsync=1\n"
            ),
        )?;
        lab.victim.filter(TABLE)?;
        let mut started = Self { place, lab };
        let script = script.replace("{log}", &log);
        started.place.run(&format!("ulogd -d -c {} && : >> {log} && {script}", configuration.display()))?;
        Ok(started)
    }

    /// Packets without a line.
    ///
    /// # Errors
    /// The log cannot be read.
    pub(super) fn lost(&self, sent: u64) -> Result<Option<u64>> {
        let (mut file, mut buffer, mut lines) = (fs::File::open(self.place.path(LOG))?, vec![0; 1 << 16], 0);
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok(Some(sent.saturating_sub(lines)));
            }
            lines += buffer[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
        }
    }
}

impl Drop for FirewallLog<'_> {
    fn drop(&mut self) {
        // The table goes with the namespace in any case.
        let _ = self.lab.victim.filter("delete table inet bench");
    }
}

struct Unread<'l>(FirewallLog<'l>);

fn start<'l>(lab: &'l Lab) -> Result<Box<dyn Running + 'l>> {
    let mut log = FirewallLog::start(lab, "ulogd", "exec sleep 600")?;
    log.place.await_file(LOG)?;
    Ok(Box::new(Unread(log)))
}

impl Running for Unread<'_> {
    fn has_spoken(&mut self) -> Result<bool> {
        Ok(false)
    }

    fn lost(&mut self, sent: u64) -> Result<Option<u64>> {
        self.0.lost(sent)
    }
}
