//! Numbers and times in words, for people.

use std::time::Duration;

use crate::settings::Interval;

/// "1 ban", "2 bans".
pub fn count(number: impl TryInto<u64>, one: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {one}"),
        many => format!("{many} {one}s"),
    }
}

/// A time in words.
pub fn left(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "no end".to_owned(), |seconds| Interval(Duration::from_secs(seconds)).to_string())
}

/// Classes with their numbers, in words: `950 syn, 3 fin`.
pub fn classes(of: &[(String, u64)]) -> String {
    let words: Vec<_> = of.iter().map(|(class, number)| format!("{number} {class}")).collect();
    words.join(", ")
}
