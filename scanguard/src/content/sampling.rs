//! `[samples]` of the configuration.

use std::time::Duration;

use scanguard_common::sample::{Budget, Ports};

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

    /// The TCP ports whose payloads are sampled.
    pub fn tcp(&self) -> Ports {
        Ports::new(self.web_ports.iter().chain(&self.dns_ports).copied().filter(|_| self.enabled))
    }

    /// The ports of DNS.
    pub fn dns(&self) -> Ports {
        Ports::new(self.dns_ports.iter().copied().filter(|_| self.enabled))
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
        assert!(on.tcp().contains(80) && on.tcp().contains(53) && !on.tcp().contains(22));
        assert!(on.dns().contains(53) && !on.dns().contains(80));
        let off = Settings { enabled: false, ..on };
        assert_eq!((off.tcp(), off.dns()), (Ports::NONE, Ports::NONE));
    }
}
