//! Lengths of time in the configuration: `"1s"`, `"5m"`, `"1h 30m"`.

use std::{ops::RangeInclusive, str::FromStr, time::Duration};

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de};

/// A length of time, written as a number with its unit.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Interval(pub Duration);

impl Interval {
    /// The range from `low` to `high`.
    pub fn between(low: Duration, high: Duration) -> RangeInclusive<Self> {
        Self(low)..=Self(high)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span: SignedDuration =
            text.parse().map_err(|_| format!("\"{text}\" is no time such as \"90s\" or \"5m\""))?;
        Duration::try_from(span).map(Self).map_err(|_| format!("\"{text}\" is less than nothing"))
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match SignedDuration::try_from(self.0) {
            Ok(span) => write!(f, "{span:#}"),
            Err(_) => write!(f, "{:?}", self.0),
        }
    }
}
