//! psad behind nftables' log. It reads that every five seconds, as it is set by default.

use anyhow::Result;
use scanguard_tests::fixtures::lab::Lab;

use super::{Peer, Running, firewall_log::FirewallLog};

pub(super) const PEER: Peer = Peer { name: "psad, by nftables' log", start };

/// It sends no mail, asks nobody about addresses, and reads no journal.
const SCRIPT: &str = "sed -i 's|^HOSTNAME .*|HOSTNAME peer;|; s|^IPT_SYSLOG_FILE .*|IPT_SYSLOG_FILE {log};|; \
    s|^ALERTING_METHODS .*|ALERTING_METHODS noemail;|; s|^AUTO_DETECT_JOURNALCTL .*|AUTO_DETECT_JOURNALCTL N;|; \
    s|^ENABLE_FW_LOGGING_CHECK .*|ENABLE_FW_LOGGING_CHECK N;|; s|^ENABLE_WHOIS_LOOKUPS .*|ENABLE_WHOIS_LOOKUPS N;|; \
    s|^ENABLE_DNS_LOOKUPS .*|ENABLE_DNS_LOOKUPS N;|' /etc/psad/psad.conf && \
    mkdir -p /var/log/psad /var/lib/psad /run/psad && psad && exec sleep 600";

struct Psad<'l>(FirewallLog<'l>);

fn start<'l>(lab: &'l Lab) -> Result<Box<dyn Running + 'l>> {
    let mut log = FirewallLog::start(lab, "psad", SCRIPT)?;
    log.place.await_log("psad: starting up")?;
    Ok(Box::new(Psad(log)))
}

impl Running for Psad<'_> {
    fn has_spoken(&mut self) -> Result<bool> {
        Ok(self.0.place.is_logged("scan detected"))
    }

    fn lost(&mut self, sent: u64) -> Result<Option<u64>> {
        self.0.lost(sent)
    }
}
