//! `[samples]` of the configuration.

use std::time::Duration;

use scanguard_common::{
    content::PortSet,
    sample::{Budget, Ports},
};

use crate::settings::Section;

/// `[samples]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Whether the beginnings of clients' messages are sampled.
    pub enabled: bool,
    /// TCP ports of HTTP or TLS. The payload tells which of the two it is.
    pub web_ports: Vec<u16>,
    /// UDP and TCP ports of DNS.
    pub dns_ports: Vec<u16>,
    /// TCP and UDP ports of other protocols, as far as they are not among those before. The payload tells which it is.
    pub service_ports: Vec<u16>,
    /// Samples a second of one source's messages, and as many of the answers to it.
    pub source_budget: u32,
    /// Samples a second on each CPU of messages over TCP, and as many over UDP.
    pub cpu_budget: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            web_ports: vec![80, 443, 8080, 8443],
            dns_ports: vec![53],
            service_ports: vec![22, 123, 137, 161, 443, 445, 500, 1900, 3389, 4500, 5060, 5683, 6379, 11_211],
            source_budget: 200,
            cpu_budget: 5_000,
        }
    }
}

/// How many samples may be taken in an epoch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Budgets {
    /// Of one source's messages, and as many of the answers to it.
    pub source: Budget,
    /// On each CPU, for each protocol. Unused samples are saved for as many epochs as those of a source.
    pub cpu: Budget,
}

/// With this many a second the agent has no time for anything else.
const MAX_BUDGET: u32 = 1_000_000;

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let default = Self::default();
        let settings = Self {
            enabled: section.value("enabled", default.enabled, |_| Ok(())),
            web_ports: section.value("web_ports", default.web_ports, |ports| check_ports(ports)),
            dns_ports: section.value("dns_ports", default.dns_ports, |ports| check_ports(ports)),
            service_ports: section.value("service_ports", default.service_ports, |ports| check_ports(ports)),
            source_budget: section.number("source_budget", default.source_budget, 1..=MAX_BUDGET),
            cpu_budget: section.number("cpu_budget", default.cpu_budget, 1..=MAX_BUDGET),
        };
        if let Some(port) = settings.web_ports.iter().find(|port| settings.dns_ports.contains(port)) {
            let message = format!("port {port} is in web_ports and in dns_ports: it speaks one of them");
            section.contradiction(&["web_ports", "dns_ports"], message);
        }
        section.finish();
        settings
    }

    /// One of the sets of ports that the program has. At a port of several lists the list of `web_ports` decides for
    /// TCP, and that of `dns_ports` for UDP.
    pub fn ports(&self, set: PortSet) -> Ports {
        let Self { web_ports, dns_ports, service_ports, .. } = self;
        let lists: &[&[u16]] = match set {
            PortSet::Tcp => &[web_ports, dns_ports, service_ports],
            PortSet::Web => &[web_ports],
            PortSet::Dns => &[dns_ports],
            PortSet::Udp => &[dns_ports, service_ports],
        };
        Ports::new(lists.iter().copied().flatten().copied().filter(|_| self.enabled))
    }

    /// The budgets of a source and of a CPU for epochs of this length, at least one sample each. Unused samples are
    /// saved for a second: scanners with word lists send hundreds of requests within one short epoch.
    pub fn budgets(&self, epoch: Duration) -> Budgets {
        let epochs = 1_000_000_000 / epoch.as_nanos().clamp(1, 1_000_000_000);
        let epochs = u32::try_from(epochs).unwrap_or(u32::MAX);
        let of = |per_second: u32| {
            let samples = u128::from(per_second).saturating_mul(epoch.as_nanos()) / 1_000_000_000;
            Budget { samples: u32::try_from(samples).unwrap_or(u32::MAX).max(1), epochs }
        };
        Budgets { source: of(self.source_budget), cpu: of(self.cpu_budget) }
    }
}

fn check_ports(ports: &[u16]) -> Result<(), String> {
    if ports.contains(&0) { Err("0 is no port".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_go_by_the_length_of_an_epoch() {
        let settings = Settings { source_budget: 200, cpu_budget: 5_000, ..Settings::default() };
        for (epoch, budgets) in [
            (Duration::from_secs(1), (200, 5_000, 1)),
            (Duration::from_millis(300), (60, 1_500, 3)),
            (Duration::from_millis(10), (2, 50, 100)),
            (Duration::from_millis(1), (1, 5, 1_000)),
            (Duration::from_secs(60), (12_000, 300_000, 1)),
            (Duration::MAX, (u32::MAX, u32::MAX, 1)),
        ] {
            let (source, cpu, epochs) = budgets;
            let of = |samples| Budget { samples, epochs };
            assert_eq!(settings.budgets(epoch), Budgets { source: of(source), cpu: of(cpu) }, "{epoch:?}");
        }
    }

    #[test]
    fn a_port_speaks_one_thing() {
        for (text, said) in [
            ("web_ports = [80, 53]", "2: samples.web_ports: port 53 is in web_ports and in dns_ports"),
            ("dns_ports = [0]", "2: samples.dns_ports: 0 is no port"),
            ("web_ports = [70000]", "2: samples.web_ports: "),
            ("source_budget = 0", "2: samples.source_budget: 0 is not within"),
        ] {
            let problems = crate::config::Config::parse(&format!("[samples]\n{text}\n")).expect_err(text);
            let problem = format!("{}: {}", problems[0].line, problems[0].message);
            assert!(problem.starts_with(said), "{problem}");
        }
        for text in ["web_ports = []", "dns_ports = [53, 5353]\nweb_ports = [8000, 8000]"] {
            assert!(crate::config::Config::parse(&format!("[samples]\n{text}\n")).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_off_has_no_ports() {
        let on = Settings::default();
        for (set, port, expected) in [
            (PortSet::Tcp, 80, true),
            (PortSet::Tcp, 53, true),
            (PortSet::Tcp, 22, true),
            (PortSet::Tcp, 25, false),
            (PortSet::Web, 443, true),
            (PortSet::Web, 22, false),
            (PortSet::Dns, 53, true),
            (PortSet::Dns, 80, false),
            (PortSet::Udp, 53, true),
            (PortSet::Udp, 443, true),
            (PortSet::Udp, 80, false),
        ] {
            assert_eq!(on.ports(set).contains(port), expected, "{set:?} {port}");
        }
        let off = Settings { enabled: false, ..on };
        assert!(PortSet::ALL.into_iter().all(|set| off.ports(set) == Ports::NONE));
    }
}
