//! Suricata, with one rule about many SYNs of a source: the rules that others keep for it are not in its package.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use scanguard_tests::fixtures::lab::{Lab, VICTIM_INTERFACE};

use super::{Peer, Running, place::Place};

pub(super) const PEER: Peer = Peer { name: "Suricata, af-packet", start: |lab| start(lab, "") };
/// Flows that it does not want any more are dropped from its view by an XDP program.
pub(super) const XDP_BYPASS: Peer =
    Peer { name: "Suricata, af-packet and XDP bypass", start: |lab| start(lab, BYPASS) };

const BYPASS: &str = "--set af-packet.0.xdp-mode=driver --set af-packet.0.bypass=yes \
    --set af-packet.0.xdp-filter-file=/usr/lib/suricata/ebpf/xdp_filter.bpf";
const RULE: &str = "alert tcp any any -> any any (msg:\"SYNs\"; flags:S,12; \
    threshold:type both,track by_src,count 20,seconds 1; sid:1; rev:1;)\n";

struct Suricata<'l>(Place<'l>);

fn start<'l>(lab: &'l Lab, options: &str) -> Result<Box<dyn Running + 'l>> {
    let mut place = Place::new(lab, "suricata")?;
    fs::write(place.path("suricata.rules"), RULE)?;
    let directory = place.path("").display().to_string();
    place.run(&format!(
        "exec suricata -c /etc/suricata/suricata.yaml --set af-packet.0.interface={VICTIM_INTERFACE} {options} \
         --af-packet={VICTIM_INTERFACE} -k none -S {directory}/suricata.rules -l {directory}"
    ))?;
    place.await_words("suricata.log", "ngine started.")?;
    Ok(Box::new(Suricata(place)))
}

impl Running for Suricata<'_> {
    fn has_spoken(&mut self) -> Result<bool> {
        Ok(!self.0.read("fast.log").is_empty())
    }

    fn lost(&mut self, _sent: u64) -> Result<Option<u64>> {
        let process = self.0.process()?;
        process.signal(libc::SIGINT);
        process.wait_within(Duration::from_secs(60))?;
        dropped(&self.0.read("suricata.log")).context("Suricata did not say what it lost").map(Some)
    }
}

/// The 2 of `device: edge0: packets: 404, drops: 2 (0.50%), invalid chksum: 0`. Packets that leave are among the first.
fn dropped(log: &str) -> Option<u64> {
    let (_, drops) = log.rsplit_once("drops: ")?;
    drops.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
