//! `sensor.mode = "auto"`: whether the agent goes by XDP or by tc, found out before it loads one of the two objects.
//!
//! All interfaces go the same way. If all take native mode, that is it. Else by tc, if all take that. Else each goes by
//! XDP: in native mode, or in generic mode where it has none. To find out, programs that do nothing are attached. The link
//! of one that was taken in native mode is kept, and the program for incoming packets takes its place later: some drivers
//! interrupt the traffic whenever a program comes or goes.

use std::collections::BTreeMap;

use aya::{
    Ebpf, EbpfLoader,
    programs::{SchedClassifier, TcAttachType, Xdp, XdpMode, links::FdLink, xdp::XdpLink},
};
use scanguard_common::abi;

use super::{
    build::Build,
    object,
    reason::words,
    settings::{Mode, Settings},
    tcx,
};
use crate::network::{Interface, Network, NetworkError, driver::explained, framing::Framing, xdp_features};

/// The way that the agent goes.
pub struct Choice {
    /// The mode to load for. [`Mode::Auto`] means by XDP, each interface in the best mode that it takes.
    pub mode: Mode,
    /// The links by which native mode was tried, by the numbers of their interfaces.
    pub(super) tried: BTreeMap<u32, FdLink>,
    /// Why an interface is not watched in native mode, by its name.
    pub(super) fallbacks: BTreeMap<String, String>,
}

impl Choice {
    /// Takes the mode that is set. If that is `auto`, finds out which, and logs why it is not native.
    ///
    /// # Errors
    /// The interfaces could not be listed.
    pub async fn make(settings: &Settings, network: &Network) -> Result<Self, NetworkError> {
        let mut choice = Self { mode: settings.mode, tried: BTreeMap::new(), fallbacks: BTreeMap::new() };
        if settings.mode != Mode::Auto {
            return Ok(choice);
        }
        let mut trial = match Trial::load() {
            Ok(trial) => trial,
            // Then the kernel does not take the others either, which says more.
            Err(error) => {
                tracing::debug!("the programs to try interfaces with: {error}");
                return Ok(choice);
            }
        };
        let present = network.interfaces().await?;
        let wanted: Vec<_> = names(settings, network, &present)
            .await?
            .into_iter()
            .map(|name| {
                let interface = present.iter().find(|interface| interface.name == name);
                (name, interface)
            })
            .collect();
        let drivers = xdp_features::with_native_xdp().await;
        if let Err(error) = &drivers {
            tracing::debug!("which drivers have native XDP is not known: {error}");
        }
        let mut native = Vec::new();
        for (name, interface) in &wanted {
            let known = drivers.as_ref().ok();
            let is_able = |interface: &Interface| known.map(|known| known.contains(&interface.index));
            let outcome = match interface {
                // It is tried when it is there.
                None => Ok(None),
                Some(interface) => trial.native(interface, is_able(interface)),
            };
            native.push((
                name.clone(),
                outcome.map(|link| choice.tried.extend(interface.map(|it| it.index).zip(link))),
            ));
        }
        let tc = || wanted.iter().try_for_each(|(name, interface)| trial.tc(name, *interface));
        (choice.mode, choice.fallbacks) = decide(&native, tc);
        if choice.mode == Mode::Tc {
            choice.tried.clear();
        }
        for (interface, why) in &choice.fallbacks {
            tracing::warn!(interface, "{why}");
        }
        Ok(choice)
    }
}

/// The mode to load for, and why it is not native mode for an interface. `native`: whether each takes that mode. `tc`:
/// whether all of them go by tc.
fn decide(
    native: &[(String, Result<(), String>)],
    tc: impl FnOnce() -> Result<(), String>,
) -> (Mode, BTreeMap<String, String>) {
    let without: Vec<_> = native.iter().filter(|(_, taken)| taken.is_err()).collect();
    if without.is_empty() {
        return (Mode::Auto, BTreeMap::new());
    }
    let by_tc = tc();
    let because = |(name, taken): &(String, Result<(), String>)| {
        let words = match (taken, &by_tc) {
            (Err(reason), Ok(())) => {
                format!("no native mode: {reason}; by tc, where a dropped packet costs more")
            }
            (Err(reason), Err(not_by_tc)) => {
                format!(
                    "no native mode: {reason}; not by tc: {not_by_tc}; generic mode costs more per packet"
                )
            }
            (Ok(()), Ok(())) => {
                let others = without.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
                format!("by tc, since all interfaces go the same way and there is no native mode at {others}")
            }
            (Ok(()), Err(_)) => return None,
        };
        Some((name.clone(), words))
    };
    let mode = if by_tc.is_ok() { Mode::Tc } else { Mode::Auto };
    (mode, native.iter().filter_map(because).collect())
}

/// The names of the interfaces that are wanted: those that are set, or that of the default route, if there is one.
pub(super) async fn names(
    settings: &Settings,
    network: &Network,
    present: &[Interface],
) -> Result<Vec<String>, NetworkError> {
    if settings.interfaces.is_empty() {
        return Ok(default_interface(network, present).await?.into_iter().collect());
    }
    Ok(settings.interfaces.clone())
}

/// The name of the interface of the best default route.
pub(super) async fn default_interface(
    network: &Network,
    present: &[Interface],
) -> Result<Option<String>, NetworkError> {
    let routes = network.default_route_interfaces().await?;
    let mut found = routes.iter().filter_map(|index| present.iter().find(|one| one.index == *index));
    Ok(found.next().map(|interface| interface.name.clone()))
}

/// Why an interface cannot go by tc, by what its packets begin with.
fn unreadable(framing: Framing) -> Option<&'static str> {
    match framing {
        Framing::Bare => Some("its packets have no Ethernet header"),
        // Nothing reads these; that is said when the program is attached.
        Framing::Ethernet | Framing::Unread(_) => None,
    }
}

/// The programs that do nothing, loaded.
struct Trial(Ebpf);

impl Trial {
    fn load() -> Result<Self, String> {
        let mut ebpf =
            EbpfLoader::new().load(object::trial(Build::of_kernel())).map_err(|error| error.to_string())?;
        Self::xdp(&mut ebpf)?.load().map_err(|error| words(&error))?;
        Self::classifier(&mut ebpf)?.load().map_err(|error| words(&error))?;
        Ok(Self(ebpf))
    }

    fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, String> {
        let program = ebpf.program_mut(abi::TRIAL_PROGRAM).ok_or("the program is not in the object")?;
        program.try_into().map_err(|error| words(&error))
    }

    fn classifier(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier, String> {
        let program = ebpf.program_mut(abi::TC_TRIAL_PROGRAM).ok_or("the program is not in the object")?;
        program.try_into().map_err(|error| words(&error))
    }

    /// The link of the program in native mode, or why an interface does not take it. None where it cannot be tried since
    /// there is a program: that of an earlier agent, or one that is not replaced. `has_native`: whether its driver has
    /// that mode, if the kernel says it.
    fn native(&mut self, interface: &Interface, has_native: Option<bool>) -> Result<Option<FdLink>, String> {
        match (interface.framing, has_native) {
            (Framing::Bare, _) => {
                return Err("no driver runs programs on packets without a link header".to_owned());
            }
            (Framing::Unread(_), _) => return Ok(None),
            _ if interface.xdp_program.is_some() => return Ok(None),
            (Framing::Ethernet, Some(false)) => {
                return Err(explained(interface, "its driver has none, as the kernel says"));
            }
            (Framing::Ethernet, Some(true) | None) => {}
        }
        let program = Self::xdp(&mut self.0)?;
        let refused = |reason: String| explained(interface, &reason);
        let id = program
            .attach_to_if_index(interface.index, XdpMode::Driver)
            .map_err(|error| refused(words(&error)))?;
        let link: XdpLink = program.take_link(id).map_err(|error| words(&error))?;
        FdLink::try_from(link).map(Some).map_err(|_| "the kernel has no XDP links (Linux 5.9)".to_owned())
    }

    /// Why an interface does not go by tc.
    fn tc(&mut self, name: &str, interface: Option<&Interface>) -> Result<(), String> {
        let Some(interface) = interface else {
            return Err(format!("{name} is not there yet, and may be of a kind without an Ethernet header"));
        };
        let refused = |reason: &str| format!("{name}: {reason}");
        if let Some(reason) = unreadable(interface.framing) {
            return Err(refused(reason));
        }
        let program = Self::classifier(&mut self.0)?;
        let attached = tcx::attach(program, name, TcAttachType::Ingress);
        attached.map(drop).map_err(|reason| refused(&format!("{reason} (by tcx, which needs Linux 6.6)")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn native(found: &[(&str, bool)]) -> Vec<(String, Result<(), String>)> {
        let taken = |is_able: bool| if is_able { Ok(()) } else { Err("none".to_owned()) };
        found.iter().map(|(name, is_able)| ((*name).to_owned(), taken(*is_able))).collect()
    }

    #[test]
    fn where_all_take_native_mode_tc_is_not_even_tried() {
        let tried = || unreachable!("tc was tried");
        assert_eq!(decide(&native(&[("eth0", true), ("eth1", true)]), tried), (Mode::Auto, BTreeMap::new()));
        assert_eq!(decide(&[], tried), (Mode::Auto, BTreeMap::new()));
    }

    #[test]
    fn one_without_native_mode_has_all_go_by_tc_and_each_says_why() {
        let (mode, why) = decide(&native(&[("eth0", true), ("br0", false)]), || Ok(()));
        assert_eq!(mode, Mode::Tc);
        assert!(why["br0"].starts_with("no native mode: none; by tc"), "{why:?}");
        assert!(why["eth0"].contains("no native mode at br0"), "{why:?}");
    }

    #[test]
    fn without_tc_only_those_without_native_mode_fall_back() {
        let (mode, why) =
            decide(&native(&[("eth0", true), ("tun0", false)]), || Err("tun0: no header".to_owned()));
        assert_eq!(mode, Mode::Auto);
        assert_eq!(why.keys().collect::<Vec<_>>(), ["tun0"]);
        assert!(why["tun0"].contains("not by tc: tun0: no header; generic mode"), "{why:?}");
    }
}
