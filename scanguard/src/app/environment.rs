//! What is around the agent: interfaces that come and go, addresses, and whom this host cannot do without.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::agent::Agent;
use crate::{
    network::Local,
    respond::responder::Found,
    sensor::{attach::Change, egress},
};

/// How often the local addresses are looked at, though nothing announced a change.
const ADDRESSES_INTERVAL: Duration = Duration::from_secs(30);

impl Agent {
    /// Has the kernel ban whom the state file and the feeds have.
    pub(super) fn enter(&mut self) -> Result<()> {
        let now = self.clock.now();
        self.responder.set_feeds(self.pipeline.detector.feeds(), now, &mut self.sensor);
        self.responder.set_plain(self.pipeline.detector.plain(), now, &mut self.sensor);
        self.responder.enter(now, &mut self.sensor).context("the gate")
    }

    /// Looks at whom this host cannot do without.
    ///
    /// # Errors
    /// It cannot be told; who was known before is spared on.
    pub(super) async fn surround(&mut self, local: &Local) -> Result<()> {
        let found = self.found(local).await.context("whom not to ban (gateways, attached networks)")?;
        self.responder.surround(found, self.clock.now(), &mut self.sensor);
        Ok(())
    }

    async fn found(&mut self, local: &Local) -> Result<Found> {
        let own = local.prefixes.iter().filter_map(|(ip, bits)| IpNet::new(*ip, *bits).ok()).collect();
        let routes = self.network.routes().await?;
        let mut attached = Vec::new();
        let names = &self.config.response.allow_interfaces;
        if !names.is_empty() {
            let interfaces = self.network.interfaces().await?;
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
        // Reading /proc takes a while where there are many processes.
        let (resolvers, ssh) =
            tokio::task::block_in_place(|| (self.known.resolvers(), self.known.ssh_connections()));
        Ok(Found { own, gateways: routes.gateways, resolvers, attached, ssh })
    }

    /// The kernel announces addresses, but not networks that are accepted as a whole.
    pub(super) async fn refresh_addresses(&mut self) {
        let is_recent = self.addresses_read.is_some_and(|read| read.elapsed() < ADDRESSES_INTERVAL);
        if !self.network.addresses_changed() && is_recent {
            return;
        }
        self.addresses_read = Some(Instant::now());
        let result = match self.network.local().await {
            Ok(local) => {
                if let Err(error) = self.surround(&local).await {
                    tracing::error!("the allow list could not be brought up to date: {error:#}");
                }
                self.sensor.set_local(&local).map_err(anyhow::Error::from)
            }
            Err(error) => Err(error.into()),
        };
        if let Err(error) = result {
            tracing::error!("the local addresses could not be brought up to date: {error:#}");
        }
    }

    pub(super) async fn supervise(&mut self) {
        let changes = match self.attachments.supervise().await {
            Ok(changes) => changes,
            Err(error) => return tracing::error!("the interfaces could not be looked at: {error}"),
        };
        for (interface, change) in changes {
            match change {
                Change::Lost => {
                    tracing::error!(
                        interface,
                        "the interface is gone; the others go on, and it is attached again when it returns"
                    );
                    self.metrics.sensor.interface_lost(&interface);
                }
                Change::Detached => {
                    tracing::error!(
                        interface,
                        "somebody has taken the program off the interface: what arrived since was not seen; attaching again"
                    );
                    self.metrics.sensor.interface_lost(&interface);
                }
                Change::Returned(mode) => {
                    tracing::info!(interface, %mode, "the interface is back: attached");
                    self.metrics.sensor.attached(&interface, Some(mode));
                }
                Change::Failed(error) => {
                    tracing::error!(
                        interface,
                        "the interface is there, but the program could not be attached; trying on: {error}"
                    );
                }
                Change::EgressDetached => {
                    tracing::error!(
                        interface,
                        "somebody has taken the egress program off the interface: answers since were not seen; attaching again"
                    );
                    self.metrics.sensor.egress_lost(&interface);
                }
                Change::EgressReturned => {
                    tracing::info!(interface, "what leaves by the interface is looked at");
                }
                Change::EgressFailed(error) => {
                    tracing::error!(
                        interface,
                        "the egress program could not be attached again; trying on: {error:#}; {}",
                        egress::LOSS
                    );
                }
            }
        }
        for (interface, attached) in self.attachments.egress_states() {
            self.metrics.sensor.egress_attached(interface, attached);
        }
        let attached = self.attachments.states().any(|(_, mode)| mode.is_some());
        self.health.attached(attached);
    }
}
