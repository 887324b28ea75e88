//! Durations in the configuration: `"1s"`, `"5m"`, `"1h 30m"`, `"7d"`.

use std::{ops::RangeInclusive, str::FromStr, time::Duration};

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, de};

/// A duration, written as a number with its unit.
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
        let wrong = |_| format!("\"{text}\" is no time such as \"90s\", \"5m\", \"1h 30m\" or \"7d\"");
        // Weeks and days are fixed numbers of hours. Months and years are not allowed.
        let span =
            text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
        Duration::try_from(span.map_err(wrong)?)
            .map(Self)
            .map_err(|_| format!("\"{text}\" is less than nothing"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_from_milliseconds_to_weeks_are_taken_and_nothing_else_is() {
        for (text, seconds) in [
            ("250ms", 0.25),
            ("90s", 90.0),
            ("1h 30m", 5_400.0),
            ("1.5h", 5_400.0),
            ("1d", 86_400.0),
            ("2w", 1_209_600.0),
        ] {
            assert_eq!(text.parse(), Ok(Interval(Duration::from_secs_f64(seconds))), "{text}");
        }
        for text in ["", "7", "1 fortnight", "1mo", "1y", "99999999999999999999h"] {
            let error = text.parse::<Interval>().unwrap_err();
            assert!(error.ends_with("is no time such as \"90s\", \"5m\", \"1h 30m\" or \"7d\""), "{error}");
        }
        assert!("-1s".parse::<Interval>().unwrap_err().contains("less than nothing"));
    }
}
