//! Rules of nftables and iptables that find sources with more than 20 SYNs a second. They only count, like the sensor.

use anyhow::{Context as _, Result};
use scanguard_tests::fixtures::lab::{Lab, run};

use super::{Peer, Running, place::Place};

pub(super) const NFTABLES: Peer = Peer { name: "nftables, meter", start: nftables };
pub(super) const HASHLIMIT: Peer = Peer { name: "iptables, hashlimit", start: hashlimit };

const TABLE: &str = "table inet bench {
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

struct Nftables<'l>(&'l Lab);

fn nftables<'l>(lab: &'l Lab) -> Result<Box<dyn Running + 'l>> {
    lab.victim.filter(TABLE)?;
    Ok(Box::new(Nftables(lab)))
}

impl Nftables<'_> {
    fn counter(&self, name: &str) -> Result<u64> {
        let output =
            run(self.0.victim.command("nft").args(["-j", "list", "counter", "inet", "bench", name]))?;
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let items = listed["nftables"].as_array().context("a list")?;
        items.iter().find_map(|item| item["counter"]["packets"].as_u64()).context("a counter")
    }
}

impl Running for Nftables<'_> {
    fn has_spoken(&mut self) -> Result<bool> {
        Ok(self.counter("over")? > 0)
    }

    fn lost(&mut self, sent: u64) -> Result<Option<u64>> {
        Ok(Some(sent.saturating_sub(self.counter("seen")?)))
    }
}

impl Drop for Nftables<'_> {
    fn drop(&mut self) {
        // The table goes with the namespace in any case.
        let _ = self.0.victim.filter("delete table inet bench");
    }
}

/// The first rule counts all packets, the second those of sources with more than 20 SYNs a second. The program stays, so
/// that the rules can be asked for where iptables is.
const RULES: &str = "iptables -t raw -A PREROUTING && \
    iptables -t raw -A PREROUTING -p tcp --syn -m hashlimit --hashlimit-name bench --hashlimit-mode srcip \
    --hashlimit-above 20/second --hashlimit-burst 40 && : > $0/ready && \
    while sleep 0.05; do iptables -t raw -nvxL PREROUTING > $0/new && mv $0/new $0/counts; done";

struct Hashlimit<'l>(Place<'l>, &'l Lab);

fn hashlimit<'l>(lab: &'l Lab) -> Result<Box<dyn Running + 'l>> {
    let mut place = Place::new(lab, "iptables")?;
    let directory = place.path("").display().to_string();
    place.run(&RULES.replace("$0", directory.trim_end_matches('/')))?;
    place.await_file("counts")?;
    Ok(Box::new(Hashlimit(place, lab)))
}

impl Hashlimit<'_> {
    /// The packets of a rule, by its place.
    fn counter(&self, rule: usize) -> Result<u64> {
        let text = self.0.read("counts");
        let line = text.lines().nth(2 + rule).context("iptables lists no rule")?;
        line.split_whitespace().next().context("a count")?.parse().context("a count")
    }
}

impl Running for Hashlimit<'_> {
    fn has_spoken(&mut self) -> Result<bool> {
        Ok(self.counter(1)? > 0)
    }

    fn lost(&mut self, sent: u64) -> Result<Option<u64>> {
        Ok(Some(sent.saturating_sub(self.counter(0)?)))
    }
}

impl Drop for Hashlimit<'_> {
    fn drop(&mut self) {
        // As above; whichever of the two made the table, nft can empty it.
        let _ = self.1.victim.filter("delete table ip raw");
    }
}
