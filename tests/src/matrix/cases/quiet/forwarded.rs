//! Services in another namespace, to which the watched host forwards, by DNAT or by routing.

use std::time::Duration;

use anyhow::Result;

use super::services::each_second;
use crate::fixtures::{
    clients::{at, knock, visit},
    lab::{Namespace, VICTIM},
    stage::Stage,
};

const INNER: &str = "10.79.0.2";
const MANY: std::ops::Range<u16> = 8_000..8_025;

/// The other namespace with nginx, as a container has it.
fn container(stage: &mut Stage<'_>) -> Result<()> {
    let lab = stage.lab;
    let inner = Namespace::new("inner")?;
    lab.victim.join([("pub0", "10.79.0.1/24"), ("in0", "10.79.0.2/24")], &inner)?;
    inner.ip("route add default via 10.79.0.1")?;
    lab.victim.sysctl("ipv4/ip_forward", "1")?;
    lab.scanner.ip("route add 10.79.0.0/24 via 10.77.0.1")?;
    stage.nginx(&inner, &[80])?;
    stage.hosts.push(inner);
    Ok(())
}

fn publish(stage: &mut Stage<'_>, ports: &str) -> Result<()> {
    container(stage)?;
    let rules = stage.file(
        "dnat.nft",
        &format!(
            "table ip nat {{\n chain in {{\n  type nat hook prerouting priority -100;\n  \
             tcp dport {ports} dnat to {INNER}:80\n }}\n}}\n"
        ),
    )?;
    stage.run(&stage.lab.victim, &format!("nft -f {rules}"), Duration::from_secs(10))
}

pub(super) fn one_service(stage: &mut Stage<'_>) -> Result<()> {
    publish(stage, "8080")
}

pub(super) fn many_services(stage: &mut Stage<'_>) -> Result<()> {
    publish(stage, &format!("{}-{}", MANY.start, MANY.end - 1))
}

pub(super) fn routed(stage: &mut Stage<'_>) -> Result<()> {
    container(stage)
}

pub(super) fn clients(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| (0..300).try_for_each(|_| Ok(visit(at(VICTIM, 8080))?)))
}

pub(super) fn monitoring(stage: &mut Stage<'_>) -> Result<()> {
    stage
        .lab
        .scanner
        .enter(|| each_second(20, || MANY.into_iter().try_for_each(|port| Ok(knock(at(VICTIM, port))?))))
}

pub(super) fn routed_clients(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| (0..300).try_for_each(|_| Ok(visit(at(INNER, 80))?)))
}
