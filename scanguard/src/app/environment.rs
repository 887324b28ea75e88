//! The environment of the agent: interfaces that come and go, local addresses, and the hosts that this host depends on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::agent::Agent;
use crate::{
    cidr,
    network::Local,
    respond::allowed_networks::Discovered,
    sensor::{attach::Change, egress},
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
    if !names.is_empty() {
        let interfaces = agent.network.interfaces().await?;
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
    Ok(Discovered { own, gateways: routes.gateways, resolvers, attached, ssh })
}

/// The kernel announces changed addresses, but not networks that are accepted as a whole.
pub(super) async fn refresh_addresses(agent: &mut Agent) {
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
            agent.sensor.set_local(&local).map_err(anyhow::Error::from)
        }
        Err(error) => Err(error.into()),
    };
    if let Err(error) = result {
        tracing::error!("the local addresses could not be brought up to date: {error:#}");
    }
}

/// Checks whether interfaces have come or gone, and attaches the programs again where needed.
pub(super) async fn supervise(agent: &mut Agent) {
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
            Change::Detached => {
                tracing::error!(
                    interface,
                    "another process detached the program from the interface: packets since then were not seen; \
                     attaching again"
                );
                agent.metrics.sensor.interface_lost(&interface);
            }
            Change::Returned(mode) => {
                tracing::info!(interface, %mode, "the interface is back: attached");
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
                    "the egress program could not be attached again; trying again: {error:#}; {}",
                    egress::LOSS
                );
            }
        }
    }
    for (interface, attached) in agent.attachments.egress_states() {
        agent.metrics.sensor.egress_attached(interface, attached);
    }
    let attached = agent.attachments.states().any(|(_, mode)| mode.is_some());
    agent.health.attached(attached);
}
