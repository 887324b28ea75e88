//! CrowdSec behind nftables' log: the parsers and the scenario of its collection `iptables`, from its package.

use anyhow::Result;
use scanguard_tests::fixtures::lab::Lab;

use super::{Peer, Running, firewall_log::FirewallLog};

pub(super) const PEER: Peer = Peer { name: "CrowdSec, by nftables' log", start };

/// It talks to nobody outside.
const SCRIPT: &str = "cd /etc/crowdsec && hub=/usr/share/crowdsec/hub own=crowdsecurity && \
    mkdir -p parsers/s00-raw parsers/s01-parse parsers/s02-enrich scenarios postoverflows notifications \
    /var/lib/crowdsec/data /var/lib/crowdsec/hub /usr/lib/crowdsec/plugins && \
    cp -r $hub/. /var/lib/crowdsec/hub && cp $hub/parsers/s00-raw/$own/syslog-logs.yaml parsers/s00-raw && \
    cp $hub/parsers/s01-parse/$own/iptables-logs.yaml parsers/s01-parse && \
    cp $hub/parsers/s02-enrich/$own/dateparse-enrich.yaml parsers/s02-enrich && \
    cp $hub/scenarios/$own/iptables-scan-multi_ports.yaml scenarios && \
    printf 'filenames:\\n  - {log}\\nlabels:\\n  type: syslog\\n' > acquis.yaml && \
    sed -i 's/daemonize: true/daemonize: false/; s|log_dir: .*|log_dir: {log}.crowdsec|; \
    /online_client/,/online_api/d' config.yaml && mkdir -p {log}.crowdsec && \
    cscli machines add peer --auto --file local_api_credentials.yaml --force && \
    exec crowdsec -c config.yaml";
const SAID: &str = "firewall.log.crowdsec/crowdsec.log";

struct Crowdsec<'l>(FirewallLog<'l>);

fn start<'l>(lab: &'l Lab) -> Result<Box<dyn Running + 'l>> {
    let mut log = FirewallLog::start(lab, "crowdsec", SCRIPT)?;
    log.place.await_words(SAID, "Starting processing data")?;
    Ok(Box::new(Crowdsec(log)))
}

impl Running for Crowdsec<'_> {
    fn has_spoken(&mut self) -> Result<bool> {
        Ok(self.0.place.read(SAID).contains("performed 'crowdsecurity/iptables-scan-multi_ports'"))
    }

    fn lost(&mut self, sent: u64) -> Result<Option<u64>> {
        self.0.lost(sent)
    }
}
