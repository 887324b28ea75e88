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

/// A time in words, of which parts of a second count as long as there is no minute.
pub fn short(time: Duration) -> String {
    match time {
        time if time < Duration::from_millis(100) => format!("{:.3} s", time.as_secs_f64()),
        time if time < Duration::from_mins(1) => format!("{:.2} s", time.as_secs_f64()),
        time => left(Some(time.as_secs())),
    }
}

/// Classes with their numbers, in words: `950 syn, 3 fin`.
pub fn classes(of: &[(String, u64)]) -> String {
    let words: Vec<_> = of.iter().map(|(class, number)| format!("{number} {class}")).collect();
    words.join(", ")
}
