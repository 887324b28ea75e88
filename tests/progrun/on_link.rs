//! Neighbours at an interface: each address is a source, and is banned alone.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use libtest_mimic::Trial;
use scanguard::sensor::{Sensor as _, gate::GateMode, test_run::TestRunSensor};
use scanguard_common::{address::Address, on_link::OnLink};
use scanguard_tests::fixtures::frames::{SOURCE6, tcp, v4, v6};

use crate::{
    gate::{SYN, TCP, drops, loaded, net},
    trial,
};

const HOUR: Option<Duration> = Some(Duration::from_secs(3600));
/// The last byte of the source in an IPv6 frame.
const LAST_OF_SOURCE: usize = 14 + 8 + 15;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("on link: neighbours are counted one by one, and others by their prefix", counted),
        trial("on link: one neighbour is banned or shielded from alone, and all of them together", banned),
    ]
}

/// A SYN from a neighbour, to a closed port.
fn syn_from(last: u8) -> Vec<u8> {
    let mut frame = v6(TCP, &tcp(SYN, 81));
    frame[LAST_OF_SOURCE] = last;
    frame
}

fn set_link(loaded: &mut TestRunSensor, link: &str) -> Result<()> {
    let link = net(link);
    Ok(loaded.kernel.set_on_link(OnLink::new([(Address::from(link.addr()), link.prefix_len())]))?)
}

fn sources(loaded: &mut TestRunSensor) -> Result<BTreeSet<String>> {
    let mut sources = BTreeSet::new();
    loaded.poll(&mut |source, _, _| {
        sources.insert(source.to_ip().to_string());
    })?;
    Ok(sources)
}

fn counted() -> Result<()> {
    let mut loaded = loaded(GateMode::Off)?;
    for last in 1..=3 {
        loaded.run(&syn_from(last), 1)?;
    }
    loaded.run(&v4(TCP, &tcp(SYN, 81)), 1)?;
    ensure!(sources(&mut loaded)? == ["192.0.2.7", "2001:db8:7:7::"].map(str::to_owned).into());
    set_link(&mut loaded, "2001:db8:7:7::/64")?;
    for last in 1..=3 {
        loaded.run(&syn_from(last), 1)?;
    }
    let neighbours = [1, 2, 3].map(|last| format!("2001:db8:7:7:1:2:3:{last}"));
    let found = sources(&mut loaded)?;
    ensure!(found == neighbours.into(), "{found:?}");
    // A part of the prefix is a link, too.
    set_link(&mut loaded, "2001:db8:7:7:1:2:3:2/127")?;
    for last in 1..=3 {
        loaded.run(&syn_from(last), 1)?;
    }
    let found = sources(&mut loaded)?;
    ensure!(
        found == ["2001:db8:7:7::", "2001:db8:7:7:1:2:3:2", "2001:db8:7:7:1:2:3:3"].map(str::to_owned).into()
    );
    Ok(())
}

fn banned() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    set_link(&mut loaded, "2001:db8:7:7::/64")?;
    let one = IpNet::from(IpAddr::from(SOURCE6));
    let [this, other] = [syn_from(4), syn_from(5)];
    loaded.kernel.ban(one, HOUR, true)?;
    ensure!(drops(&loaded, &this)? && !drops(&loaded, &other)?, "the ban of one");
    loaded.kernel.unban(one)?;
    loaded.kernel.shield_all(&mut std::iter::once((one, HOUR, true)))?;
    ensure!(drops(&loaded, &this)? && !drops(&loaded, &other)?, "the shield from one");
    loaded.kernel.unshield_all(&mut std::iter::once(one))?;
    loaded.kernel.ban(net("2001:db8:7:7::/64"), HOUR, true)?;
    ensure!(drops(&loaded, &this)? && drops(&loaded, &other)?, "the ban of all");
    loaded.kernel.set_allowed(&BTreeSet::from([net("2001:db8:7:7:1:2:3:5/128")]))?;
    ensure!(drops(&loaded, &this)? && !drops(&loaded, &other)?, "the gateway is spared");
    Ok(())
}
