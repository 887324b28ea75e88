//! The names of techniques and tactics in MITRE ATT&CK (attack.mitre.org, version 17).

use crate::detect::Technique;

/// A technique, with its sub-technique and its tactic.
pub(super) struct Attack {
    /// Id and name of the technique.
    pub(super) technique: (&'static str, &'static str),
    /// Id and name of the sub-technique, if there is one.
    pub(super) part: Option<(&'static str, &'static str)>,
    /// Id and name of the tactic.
    pub(super) tactic: (&'static str, &'static str),
}

const SCANNING: (&str, &str) = ("T1595", "Active Scanning");
const HOST: (&str, &str) = ("T1592", "Gather Victim Host Information");
const RECONNAISSANCE: (&str, &str) = ("TA0043", "Reconnaissance");

pub(super) const fn attack(technique: Technique) -> Attack {
    let (technique, part, tactic) = match technique {
        Technique::ActiveScanning => (SCANNING, None, RECONNAISSANCE),
        Technique::ScanningIpBlocks => (SCANNING, Some(("T1595.001", "Scanning IP Blocks")), RECONNAISSANCE),
        Technique::VulnerabilityScanning => {
            (SCANNING, Some(("T1595.002", "Vulnerability Scanning")), RECONNAISSANCE)
        }
        Technique::WordlistScanning => (SCANNING, Some(("T1595.003", "Wordlist Scanning")), RECONNAISSANCE),
        Technique::NetworkDenialOfService => {
            (("T1498", "Network Denial of Service"), None, ("TA0040", "Impact"))
        }
        Technique::GatherHostInformation => (HOST, None, RECONNAISSANCE),
        Technique::GatherSoftware => (HOST, Some(("T1592.002", "Software")), RECONNAISSANCE),
        Technique::NetworkServiceDiscovery => {
            (("T1046", "Network Service Discovery"), None, ("TA0007", "Discovery"))
        }
    };
    Attack { technique, part, tactic }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_that_findings_carry() {
        for technique in [
            Technique::ActiveScanning,
            Technique::ScanningIpBlocks,
            Technique::VulnerabilityScanning,
            Technique::WordlistScanning,
            Technique::NetworkDenialOfService,
            Technique::GatherHostInformation,
            Technique::GatherSoftware,
            Technique::NetworkServiceDiscovery,
        ] {
            let Attack { technique: (id, _), part, .. } = attack(technique);
            assert_eq!(part.map_or(id, |(part, _)| part), technique.id());
            assert!(technique.id().starts_with(id));
        }
    }
}
