//! The ports from which this host's kernel calls others: net.ipv4.ip_local_port_range of the network namespace, for
//! both families.

use std::fs;

use scanguard_common::outcome::PortRange;

/// The kernel announces no change of it, so it has to be read again and again.
const FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The range as it was read last.
#[derive(Debug, Default)]
pub struct Ports {
    range: Option<PortRange>,
    is_unreadable: bool,
}

impl Ports {
    /// Reads the range. Returns it if it has changed, and the first time. If it cannot be read, the last one stays, or
    /// Linux's default, and the log says so once.
    pub fn refresh(&mut self) -> Option<PortRange> {
        self.take(fs::read_to_string(FILE).map_err(|error| error.to_string()))
    }

    fn take(&mut self, read: Result<String, String>) -> Option<PortRange> {
        let parsed =
            read.and_then(|text| parse(&text).ok_or_else(|| format!("{text:?} is no range of ports")));
        let range = match parsed {
            Ok(range) => range,
            Err(error) => {
                if !self.is_unreadable {
                    let PortRange { first, last } = self.range.unwrap_or_default();
                    tracing::warn!(
                        "{FILE}: {error}; the ports from which this host calls are taken to be {first}-{last}"
                    );
                }
                self.is_unreadable = true;
                return None;
            }
        };
        self.is_unreadable = false;
        let before = self.range.replace(range);
        (before != Some(range)).then_some(range)
    }
}

/// Two numbers with white space between them, the first not greater than the second.
fn parse(text: &str) -> Option<PortRange> {
    let mut words = text.split_ascii_whitespace().map(str::parse);
    let (Some(Ok(first)), Some(Ok(last)), None) = (words.next(), words.next(), words.next()) else {
        return None;
    };
    (first != 0 && first <= last).then_some(PortRange { first, last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_kernel_writes_them() {
        for (text, range) in [
            ("32768\t60999\n", Some((32_768, 60_999))),
            ("1024 65535", Some((1_024, 65_535))),
            ("5000\t5000\n", Some((5_000, 5_000))),
            ("1 1", Some((1, 1))),
            ("60999 32768", None),
            ("0 0", None),
            ("0 65535", None),
            ("1024", None),
            ("1024 65536", None),
            ("1024 2000 3000", None),
            ("1024-65535", None),
            ("-1 5", None),
            ("", None),
        ] {
            let expected = range.map(|(first, last)| PortRange { first, last });
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_change_is_told_once_and_what_cannot_be_read_changes_nothing() {
        let mut ports = Ports::default();
        let mut take = |text: &str| ports.take(Ok(text.to_owned()));
        let wide = PortRange { first: 1_024, last: 65_535 };
        assert_eq!(take("32768 60999"), Some(PortRange::DEFAULT), "an earlier agent may have told another");
        assert_eq!(take("32768 60999"), None);
        assert_eq!(take("1024 65535"), Some(wide));
        assert_eq!(take("1024 65535"), None);
        assert_eq!(take("nonsense"), None);
        assert_eq!(take("1024 65535"), None, "it was that before");
        assert_eq!(take("32768 60999"), Some(PortRange::DEFAULT));
        assert_eq!(ports.take(Err("gone".to_owned())), None);
    }
}
