//! The networks that are never banned: collects them from all that is known, and writes them to the kernel.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use ipnet::IpNet;
use scanguard_common::{abi, address::Address};

use super::{
    adopt,
    allow::{AllowList, Why},
    enforcer::Enforcer,
    ssh::{Connections, SshPeers},
};
use crate::{cidr, sensor::SensorError, sources::Sources};

/// The addresses that this host depends on, as host discovery found them.
#[derive(Clone, Debug, Default)]
pub struct Discovered {
    /// Its own addresses.
    pub own: Vec<IpNet>,
    /// Default gateways.
    pub gateways: BTreeSet<IpAddr>,
    /// Resolvers.
    pub resolvers: BTreeSet<IpAddr>,
    /// Networks directly at the interfaces of `response.allow_interfaces`.
    pub attached: Vec<(String, IpNet)>,
    /// Connections to the SSH server.
    pub ssh: Connections,
    /// IPv6 networks at the interfaces, in which each address is a source.
    pub on_link: Vec<IpNet>,
}

/// The networks that are never banned.
#[derive(Debug, Default)]
pub(super) struct AllowedNetworks {
    /// Those that a user allowed.
    pub(super) by_hand: BTreeSet<IpNet>,
    discovered: Discovered,
    ssh: SshPeers,
    /// The list that the policy uses.
    pub(super) list: AllowList,
    /// Why the kernel did not take all of the list the last time; none if it did.
    pub(super) kernel_error: Option<String>,
}

impl AllowedNetworks {
    /// Starts with the networks that a user allowed before.
    pub(super) fn new(by_hand: BTreeSet<IpNet>) -> Self {
        Self { by_hand, ..Self::default() }
    }

    /// The source to which an address belongs.
    pub(super) fn source(&self, ip: IpAddr, sources: &Sources) -> Address {
        let (ip, address) = (ip.to_canonical(), Address::from(ip.to_canonical()));
        let is_alone = self.discovered.on_link.iter().any(|net| net.contains(&ip));
        if is_alone { address } else { sources.of(address) }
    }

    /// Takes the addresses that this host depends on.
    pub(super) fn set_discovered(&mut self, discovered: Discovered, at: Duration) {
        self.ssh.see(&discovered.ssh, at);
        self.discovered = discovered;
    }

    /// Takes over the networks that an earlier agent left in the kernel.
    pub(super) fn adopt(&mut self, configured: &[IpNet], sources: &Sources, enforcer: &dyn Enforcer) {
        let known = self.collect(configured, sources);
        adopt::allowed(&mut self.by_hand, &known, enforcer);
    }

    /// Builds the list again, and writes it to the kernel if it changed or the last write failed. Returns whether it
    /// changed, and whether the kernel took it. The policy uses the new list all the same, and the next call tries
    /// again.
    pub(super) fn update(
        &mut self,
        configured: &[IpNet],
        sources: &Sources,
        enforcer: &mut dyn Enforcer,
    ) -> (bool, Result<(), SensorError>) {
        let mut list = self.collect(configured, sources);
        list.is_lacking = self.list.is_lacking;
        let changed = list != self.list;
        if !changed && self.kernel_error.is_none() {
            return (false, Ok(()));
        }
        let most = abi::MAX_ALLOWED as usize;
        if list.len() > most {
            tracing::warn!(
                "{} networks are on the allow list, but the kernel has room for only {most}",
                list.len()
            );
        }
        let result = enforcer.set_allowed(&list.nets(most));
        self.kernel_error = result.as_ref().err().map(ToString::to_string);
        list.is_lacking = result.is_err() || list.len() > most;
        self.list = list;
        (changed, result)
    }

    fn collect(&self, configured: &[IpNet], sources: &Sources) -> AllowList {
        let mut list = AllowList::default();
        let Discovered { own, gateways, resolvers, attached, .. } = &self.discovered;
        own.iter().for_each(|net| list.add(*net, Why::Own));
        configured.iter().for_each(|net| list.add(*net, Why::Configured));
        self.by_hand.iter().for_each(|net| list.add(*net, Why::Hand));
        // A user with a whole /64 comes back from another address of it (RFC 8981), and must not be locked out then.
        let of_source = |ip| sources.net(&self.source(ip, sources));
        self.ssh.addresses().for_each(|ip| list.add(of_source(ip), Why::Ssh));
        gateways.iter().for_each(|ip| list.add(cidr::host(*ip), Why::Gateway));
        resolvers.iter().for_each(|ip| list.add(cidr::host(*ip), Why::Resolver));
        attached.iter().for_each(|(name, net)| list.add(*net, Why::Interface(name.clone())));
        // A client that is allowed by its address behind a translator is counted and banned by its IPv4 address.
        let meant = |(net, why): (IpNet, &Why)| {
            let meant = sources.meant(net);
            (meant != net && *why != Why::Own).then(|| (meant, why.clone()))
        };
        for (net, why) in list.entries().filter_map(meant).collect::<Vec<_>>() {
            list.add(net, why);
        }
        list
    }
}
