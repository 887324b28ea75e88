//! The severity of a finding, its confidence, and its technique of ATT&CK.

use serde::{Deserialize, Serialize};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Only recorded.
    Info,
    /// Mere curiosity, such as a ping sweep.
    Low,
    /// The source looks for ways in.
    Medium,
    /// The source looks for ways in and hides it.
    High,
}

impl Severity {
    /// The next higher severity.
    pub const fn raised(self) -> Self {
        match self {
            Self::Info => Self::Low,
            Self::Low => Self::Medium,
            Self::Medium | Self::High => Self::High,
        }
    }

    /// The name in findings and configuration.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// The confidence that a source scans.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// It may be other traffic, or another source.
    Low,
    /// It looks like a scan.
    Medium,
    /// Only scans do that, and the address is not forged.
    High,
}

impl Confidence {
    /// The name in findings.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// A technique of MITRE ATT&CK.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub enum Technique {
    /// Active Scanning.
    #[serde(rename = "T1595")]
    ActiveScanning,
    /// Active Scanning: Scanning IP Blocks.
    #[serde(rename = "T1595.001")]
    ScanningIpBlocks,
    /// Active Scanning: Vulnerability Scanning.
    #[serde(rename = "T1595.002")]
    VulnerabilityScanning,
    /// Active Scanning: Wordlist Scanning.
    #[serde(rename = "T1595.003")]
    WordlistScanning,
    /// Network Denial of Service.
    #[serde(rename = "T1498")]
    NetworkDenialOfService,
    /// Gather Victim Host Information.
    #[serde(rename = "T1592")]
    GatherHostInformation,
    /// Gather Victim Host Information: Software.
    #[serde(rename = "T1592.002")]
    GatherSoftware,
    /// Network Service Discovery: scans of networks that one is already in.
    #[serde(rename = "T1046")]
    NetworkServiceDiscovery,
}

impl Technique {
    /// The id that ATT&CK gives.
    pub const fn id(self) -> &'static str {
        match self {
            Self::ActiveScanning => "T1595",
            Self::ScanningIpBlocks => "T1595.001",
            Self::VulnerabilityScanning => "T1595.002",
            Self::WordlistScanning => "T1595.003",
            Self::NetworkDenialOfService => "T1498",
            Self::GatherHostInformation => "T1592",
            Self::GatherSoftware => "T1592.002",
            Self::NetworkServiceDiscovery => "T1046",
        }
    }
}
