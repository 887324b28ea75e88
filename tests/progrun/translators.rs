//! Clients whose IPv4 address is in their IPv6 address: translators, Teredo, 6to4.

use std::{collections::BTreeSet, net::Ipv6Addr};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard::{
    sensor::{Sensor, gate::GateMode, settings::Settings, software::SoftwareSensor, test_run::TestRunSensor},
    sources::{Sources, translator},
};
use scanguard_tests::{
    fixtures::{
        frames::{tcp, v6},
        program::{self, SALT},
    },
    tables::packets::{TRANSLATED, from6},
};

use crate::{
    gate::{SYN, TCP, drops, loaded, net},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("translators: a client counts by its IPv4 address", counted),
        trial("translators: a prefix that is named counts from then on, until it is not", named),
        trial("translators: a ban of an IPv4 client holds behind every prefix, and for nobody else", banned),
        trial("translators: a ban of a whole prefix holds, also when the prefix is named later", whole),
        trial("translators: allowed is who is allowed by either address", allowed),
    ]
}

/// The client's neighbour.
const OTHER: Ipv6Addr = Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0xc000, 0x0222);
/// The client behind a prefix that somebody has to name.
const NAMED: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0xc000, 0x0221);

fn syn(client: Ipv6Addr) -> Vec<u8> {
    from6(v6(TCP, &tcp(SYN, 22)), client)
}

fn sources_of(sensor: &mut impl Sensor) -> Result<Vec<String>> {
    let mut sources = BTreeSet::new();
    sensor.poll(&mut |source, _, _| {
        sources.insert(*source);
    })?;
    for source in &sources {
        sensor.forget(source)?;
    }
    Ok(sources.iter().map(|source| source.to_ip().to_string()).collect())
}

/// The sources for which a client counts: in the kernel, and in software.
fn counted_as(kernel: &mut TestRunSensor, software: &mut SoftwareSensor, client: Ipv6Addr) -> Result<String> {
    kernel.run(&syn(client), 1)?;
    software.packet(&syn(client));
    let (kernel, software) = (sources_of(kernel)?, sources_of(software)?);
    ensure!(kernel == software && kernel.len() == 1, "{client}: {kernel:?} and {software:?}");
    Ok(kernel.concat())
}

fn counted() -> Result<()> {
    let settings = Settings::default();
    let (mut kernel, mut software) = (program::load(&settings)?, SoftwareSensor::new(&settings, SALT));
    for client in TRANSLATED {
        let source = counted_as(&mut kernel, &mut software, client)?;
        ensure!(source == "192.0.2.33", "{client} counts as {source}");
    }
    let source = counted_as(&mut kernel, &mut software, OTHER)?;
    ensure!(source == "192.0.2.34", "{OTHER} counts as {source}");
    Ok(())
}

fn named() -> Result<()> {
    let settings = Settings::default();
    let mut kernel = program::load(&settings)?;
    let prefixes = ["2001:db8:64::/96", "2001:db8:9::/48"].into_iter().map(translator);
    let prefixes = prefixes.collect::<Result<Vec<_>, _>>().map_err(anyhow::Error::msg)?;
    for (translators, expected) in
        [(&prefixes[..0], "2001:db8:64::"), (&prefixes[..], "192.0.2.33"), (&prefixes[1..], "2001:db8:64::")]
    {
        let settings = Settings { translator_prefixes: translators.to_vec(), ..settings.clone() };
        kernel.kernel.set_sources(&settings.sources())?;
        let mut software = SoftwareSensor::new(&settings, SALT);
        let source = counted_as(&mut kernel, &mut software, NAMED)?;
        ensure!(source == expected, "{translators:?}: {NAMED} counts as {source}");
    }
    Ok(())
}

fn banned() -> Result<()> {
    for ban in ["192.0.2.33/32", "192.0.2.33/31"] {
        let mut loaded = loaded(GateMode::Enforce)?;
        loaded.kernel.ban(net(ban).trunc(), None, true)?;
        for client in TRANSLATED {
            ensure!(drops(&loaded, &syn(client))?, "{client} passes the ban of {ban}");
        }
        ensure!(!drops(&loaded, &syn(OTHER))?, "{OTHER} is dropped by the ban of {ban}");
        ensure!(!drops(&loaded, &syn(NAMED))?, "{NAMED} is dropped by the ban of {ban}");
    }
    let mut loaded = loaded(GateMode::Enforce)?;
    loaded.kernel.shield_all(&mut std::iter::once((net("192.0.2.33/32"), None, true)))?;
    ensure!(drops(&loaded, &syn(TRANSLATED[0]))?, "{} passes the shield", TRANSLATED[0]);
    ensure!(!drops(&loaded, &syn(OTHER))?, "{OTHER} is dropped by the shield");
    Ok(())
}

fn whole() -> Result<()> {
    let mut loaded = loaded(GateMode::Enforce)?;
    let neighbour = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 1, 0xc000, 0x0221);
    for ban in ["64:ff9b::/64", "2001:db8:64::/64"] {
        loaded.kernel.ban(net(ban), None, true)?;
    }
    let all = |loaded: &TestRunSensor| -> Result<()> {
        for client in [TRANSLATED[0], OTHER, NAMED, neighbour] {
            ensure!(drops(loaded, &syn(client))?, "{client} passes");
        }
        ensure!(!drops(loaded, &syn(TRANSLATED[1]))?, "{} is dropped", TRANSLATED[1]);
        Ok(())
    };
    all(&loaded)?;
    let prefix = translator("2001:db8:64::/96").map_err(anyhow::Error::msg)?;
    for sources in [Sources::new(64, &[prefix]), Sources::new(64, &[])] {
        loaded.kernel.set_sources(&sources)?;
        all(&loaded)?;
    }
    for ban in ["64:ff9b::/64", "2001:db8:64::/64"] {
        ensure!(loaded.kernel.unban(net(ban))?, "{ban} was not there");
    }
    ensure!(!drops(&loaded, &syn(NAMED))?, "{NAMED} is dropped after all bans");
    Ok(())
}

fn allowed() -> Result<()> {
    for allowed in ["192.0.2.0/24", "64:ff9b::/96"] {
        let mut loaded = loaded(GateMode::Enforce)?;
        loaded.kernel.ban(net("192.0.2.33/32"), None, true)?;
        loaded.kernel.set_allowed(&[net(allowed)].into())?;
        ensure!(!drops(&loaded, &syn(TRANSLATED[0]))?, "{allowed} is allowed: {} is dropped", TRANSLATED[0]);
    }
    Ok(())
}
