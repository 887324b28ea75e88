//! The environment of the agent: interfaces that come and go, local addresses, and the hosts that this host depends on.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use scanguard_common::{
    abi::{MAX_PUBLISHED, ServiceKey},
    address::Address,
    on_link::{MAX_ON_LINK, OnLink},
};

use super::agent::Agent;
use crate::{
    cidr,
    network::{Local, bound, routes::Routes},
    respond::allowed_networks::Discovered,
    sensor::{attach::Change, egress},
    service::ServiceManager,
};

/// How often the local addresses are read even if the kernel announced no change.
const ADDRESSES_INTERVAL: Duration = Duration::from_secs(30);

/// Finds the hosts that this host depends on, which must not be banned.
///
/// # Errors
/// They cannot be determined. The hosts that were found before stay exempt.
pub(super) async fn refresh_allow_list(agent: &mut Agent, local: &Local) -> Result<()> {
    translate(agent, local).context("the prefixes of translators")?;
    let discovered =
        discover(agent, local).await.context("the gateways and attached networks, which are never banned")?;
    let prefixes = discovered.on_link.iter().map(|net| (Address::from(net.addr()), net.prefix_len()));
    agent.sensor.set_on_link(OnLink::new(prefixes)).context("the networks at the interfaces")?;
    agent.responder.set_discovered(discovered, agent.clock.now(), &mut agent.sensor);
    Ok(())
}

/// Brings the prefixes of translators up to date with the configuration and with this host's addresses.
fn translate(agent: &mut Agent, local: &Local) -> Result<()> {
    let own: Vec<_> = local.prefixes.iter().filter_map(|(ip, bits)| IpNet::new(*ip, *bits).ok()).collect();
    let translators = agent.config.sensor.sources().apart_from(&own);
    if agent.translators.as_ref() == Some(&translators) {
        return Ok(());
    }
    let (sources, conflicts) = &translators;
    for (prefix, net) in conflicts {
        tracing::warn!(
            "sensor.translator_prefixes: {prefix} is not used, since {} is this host's own: its neighbours would be \
             taken for IPv4 clients; name only the prefix that the translator uses",
            cidr::name(*net)
        );
    }
    agent.sensor.set_sources(sources)?;
    agent.responder.set_sources(sources.clone(), agent.clock.now(), &mut agent.sensor);
    agent.translators = Some(translators);
    Ok(())
}

async fn discover(agent: &mut Agent, local: &Local) -> Result<Discovered> {
    let own = local.prefixes.iter().filter_map(|(ip, bits)| IpNet::new(*ip, *bits).ok()).collect();
    let routes = agent.network.routes().await?;
    let mut attached = Vec::new();
    let names = &agent.config.response.allow_interfaces;
    let inner = &agent.config.outbound.inner;
    if !names.is_empty() || !inner.is_empty() {
        let interfaces = agent.network.interfaces().await?;
        let inner = interfaces.iter().filter(|interface| inner.contains(&interface.name));
        let inner = inner.map(|interface| interface.index).collect();
        if let Some(leaving) = &mut agent.leaving {
            leaving.set_inner(&inner);
        }
        for name in names {
            match interfaces.iter().find(|interface| interface.name == *name) {
                Some(interface) => {
                    let nets = routes.attached.get(&interface.index).into_iter().flatten();
                    attached.extend(nets.map(|net| (name.clone(), *net)));
                }
                None => tracing::warn!("response.allow_interfaces: there is no interface {name} now"),
            }
        }
    }
    // Reading /proc takes a while if there are many processes.
    let (resolvers, ssh) =
        tokio::task::block_in_place(|| (agent.known.resolvers(), agent.known.ssh_connections()));
    let on_link = on_link(&routes);
    if let Some(leaving) = &mut agent.leaving {
        let attached = routes.attached.values().flatten();
        let own: Vec<_> = agent.config.network.home.iter().chain(attached).copied().collect();
        let near: Vec<_> = own.iter().copied().chain(routes.beyond.iter().copied()).collect();
        leaving.set_networks(own, &near);
    }
    Ok(Discovered { own, gateways: routes.gateways, resolvers, attached, ssh, on_link })
}

/// The IPv6 networks at the interfaces, as far as the program has room for them. Those that are wider than a /64 are
/// no links, but routes into tunnels.
fn on_link(routes: &Routes) -> Vec<IpNet> {
    const LINK: u8 = 64;
    let link_local = IpNet::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0).into(), 10);
    let nets = routes.attached.values().flatten();
    let mut nets: Vec<_> = nets
        .filter(|net| net.addr().is_ipv6() && net.prefix_len() >= LINK && !link_local.contains(*net))
        .copied()
        .collect();
    nets.sort_by_key(|net| (net.prefix_len(), *net));
    nets.dedup();
    nets.insert(0, link_local);
    if nets.len() > MAX_ON_LINK {
        let left_out = nets.split_off(MAX_ON_LINK);
        // Hosts of containers have a route for each of them, and this is asked every 30 seconds.
        tracing::debug!("neighbours in {} are counted by prefix: there is no room", cidr::names(&left_out));
    }
    nets
}

/// The single addresses among the local networks, without those of the loopback interface.
pub(super) fn single(local: &Local) -> BTreeSet<IpAddr> {
    let whole = |ip: &IpAddr| if ip.is_ipv4() { 32 } else { 128 };
    let addresses = local.prefixes.iter().filter(|(ip, bits)| *bits == whole(ip) && !ip.is_loopback());
    addresses.map(|(ip, _)| *ip).collect()
}

/// The kernel announces changed addresses, but not networks that are accepted as a whole.
pub(super) async fn refresh_addresses(agent: &mut Agent) {
    agent.metrics.netlink_overruns(agent.network.overruns());
    let is_recent = agent.addresses_read.is_some_and(|read| read.elapsed() < ADDRESSES_INTERVAL);
    if !agent.network.addresses_changed() && is_recent {
        return;
    }
    agent.addresses_read = Some(Instant::now());
    let result = match agent.network.local().await {
        Ok(local) => {
            if let Err(error) = refresh_allow_list(agent, &local).await {
                tracing::error!("the allow list could not be brought up to date: {error:#}");
            }
            agent.own = single(&local);
            agent.sensor.set_local(&local).map_err(anyhow::Error::from)
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = result {
        tracing::error!("the local addresses could not be brought up to date: {error:#}");
    }
}

/// How often the services are read that are bound to devices.
const SOCKETS_INTERVAL: Duration = Duration::from_secs(10);
/// How many services the agent publishes at most: half of what there is room for.
const MOST_BOUND: usize = MAX_PUBLISHED as usize / 2;

/// Publishes the services that are bound to devices above the cards: the program on a card does not find their sockets.
/// If the kernel does not list them, the log says so once.
pub(super) async fn refresh_bound(agent: &mut Agent) {
    if agent.sockets_read.is_some_and(|read| read.elapsed() < SOCKETS_INTERVAL) {
        return;
    }
    agent.sockets_read = Some(Instant::now());
    if let Err(error) = publish_bound(agent).await {
        tracing::warn!("services that are bound to a device above the card may count as closed: {error:#}");
        agent.sockets = None;
    }
}

async fn publish_bound(agent: &mut Agent) -> Result<()> {
    let Some(sockets) = &mut agent.sockets else {
        return Ok(());
    };
    let interfaces = agent.network.interfaces().await?;
    let devices = bound::above(&interfaces, &agent.attachments.indices());
    // Nobody asks for all sockets where there is nothing above the cards.
    let found = if devices.is_empty() { BTreeSet::new() } else { sockets.bound_to(&devices).await? };
    let services = found.iter().flat_map(|bound| {
        let is_its = |own: &&IpAddr| {
            // A socket of IPv6 may take IPv4 as well.
            let is_any = bound.address.is_unspecified() && (bound.address.is_ipv6() || own.is_ipv4());
            is_any || **own == bound.address
        };
        agent.own.iter().filter(is_its).map(|own| ServiceKey {
            address: (*own).into(),
            port: bound.port,
            protocol: bound.protocol,
            ..ServiceKey::NONE
        })
    });
    let services: BTreeSet<_> = services.take(MOST_BOUND).collect();
    Ok(agent.sensor.publish(&services)?)
}

/// Tells everybody if the ports from which this host calls others have changed.
///
/// # Errors
/// The program could not be told.
pub(super) fn refresh_ports(agent: &mut Agent) -> Result<()> {
    if let Some(range) = agent.ports.refresh() {
        tracing::info!("this host calls others from the ports {}-{}", range.first, range.last);
        agent.pipeline.observer.set_ports(range);
        agent.sensor.set_ports(range).context("the ports from which this host calls")?;
    }
    Ok(())
}

/// Tells the program whether it sees all that leaves, and the addresses of its interfaces.
///
/// # Errors
/// The program could not be told.
pub(super) fn tell_of_interfaces(agent: &mut Agent) -> Result<()> {
    agent.sensor.set_macs(&agent.attachments.macs()).context("the MAC addresses of the interfaces")?;
    let sees = agent.attachments.sees_leaving();
    agent.sensor.set_sees_leaving(sees).context("whether what leaves is seen")
}

/// Checks whether interfaces have come or gone, and attaches the programs again where needed.
pub(super) async fn supervise(agent: &mut Agent, service: &ServiceManager) {
    let changes = match agent.attachments.supervise().await {
        Ok(changes) => changes,
        Err(error) => return tracing::error!("the interfaces could not be checked: {error}"),
    };
    for (interface, change) in changes {
        match change {
            Change::Lost => {
                tracing::error!(
                    interface,
                    "the interface is gone; the others go on, and it is attached again when it returns"
                );
                agent.metrics.sensor.interface_lost(&interface);
            }
            Change::Renamed(name) => {
                tracing::error!(
                    interface,
                    "the interface is gone: it is called {name} now, and detached; name that in sensor.interfaces, or the agent waits \
                     until there is one of the old name"
                );
                agent.metrics.sensor.interface_lost(&interface);
            }
            Change::Detached => {
                tracing::error!(
                    interface,
                    "another process detached the program from the interface: packets since then were not seen; \
                     attaching again"
                );
                agent.metrics.sensor.interface_lost(&interface);
            }
            Change::Returned(mode) => {
                tracing::info!(interface, %mode, "the interface is there: attached");
                agent.metrics.sensor.attached(&interface, Some(mode));
            }
            Change::Failed(error) => {
                tracing::error!(
                    interface,
                    "the interface is there, but the program could not be attached; trying again: {error}"
                );
            }
            Change::EgressDetached => {
                tracing::error!(
                    interface,
                    "another process detached the egress program from the interface: answers since then were not \
                     seen; attaching again"
                );
                agent.metrics.sensor.egress_lost(&interface);
            }
            Change::EgressReturned => {
                tracing::info!(interface, "the egress program is attached again");
            }
            Change::EgressFailed(error) => {
                tracing::error!(
                    interface,
                    "the egress program could not be attached again; trying again: {error}; {}",
                    egress::LOSS
                );
            }
        }
    }
    for (interface, way) in agent.attachments.egress_states() {
        agent.metrics.sensor.egress_attached(interface, way);
    }
    if let Err(error) = tell_of_interfaces(agent) {
        tracing::error!("{error:#}");
    }
    agent.note_waiting(Some(service));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(attached: &[&str]) -> Vec<String> {
        let nets = attached.iter().map(|text| text.parse().unwrap()).collect();
        let routes = Routes { attached: [(2, nets)].into(), ..Routes::default() };
        on_link(&routes).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_are_the_ipv6_networks_at_the_interfaces_and_tunnels_are_none() {
        let attached =
            ["192.0.2.0/24", "2001:db8:1:2::/64", "fe80::/64", "2000::/3", "2001:db8:5::/56", "fd77::/112"];
        assert_eq!(found(&attached), ["fe80::/10", "2001:db8:1:2::/64", "fd77::/112"]);
        assert_eq!(found(&[]), ["fe80::/10"]);
    }

    #[test]
    fn where_not_all_find_room_the_widest_do() {
        let hosts: Vec<_> = (1..20).map(|host| format!("2001:db8::{host:x}/128")).collect();
        let mut attached: Vec<_> = hosts.iter().map(String::as_str).collect();
        attached.push("fd77::/64");
        let found = found(&attached);
        assert_eq!((found.len(), found[1].as_str()), (MAX_ON_LINK, "fd77::/64"));
    }
}
