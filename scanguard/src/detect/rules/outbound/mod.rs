//! The rules about what leaves this host: who asks others, and whether that is a scan. Each has one file.

mod block;
mod bogon;
mod crafted;
mod first_network_use;
#[cfg(test)]
mod honest;
mod knocks;
mod logins;
mod peers;
mod raw_socket;
mod sequential;
mod slow;
mod sweep;
#[cfg(test)]
pub(crate) mod testing;
mod tried;
mod unexpected_protocol;
mod vertical;

use super::entry::Registered;

/// The rules, in the order of evaluation: the most specific ones come first.
pub(super) const ALL: &[&dyn Registered] = &[
    &block::RULE,
    &vertical::RULE,
    &sweep::RULE,
    &crafted::RULE,
    &knocks::RULE,
    &bogon::RULE,
    &sequential::RULE,
    &slow::RULE,
    &logins::RULE,
    &first_network_use::RULE,
    &unexpected_protocol::RULE,
    &raw_socket::RULE,
];

/// Those about scans. The others are notices about a program, and no part of a scan.
pub const SCANS: [&str; 9] = [
    "outbound_block",
    "outbound_vertical",
    "outbound_sweep",
    "outbound_crafted",
    "outbound_knocks",
    "outbound_bogon",
    "outbound_sequential",
    "outbound_slow",
    "outbound_logins",
];

/// Whether a rule is one of the notices.
pub fn is_notice(rule: &str) -> bool {
    names().any(|name| name == rule) && !SCANS.contains(&rule)
}

/// The names of the rules, whether they are enabled or not.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|rule| rule.name())
}
