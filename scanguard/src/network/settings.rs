//! `[network]` of the configuration.

use ipnet::IpNet;

use crate::{cidr, settings::Section};

/// `[network]`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// Networks that are routed to this host, in addition to its own addresses.
    pub home: Vec<IpNet>,
}

/// The kernel's trie has room for a few times as many, including local ones.
const MAX_HOME: usize = 4_096;

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let settings = Self { home: section.list("home", MAX_HOME, Vec::new(), prefix) };
        section.finish();
        settings
    }
}

/// A network in its usual notation: it has no bits beyond its prefix, and it is not everything.
fn prefix(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| match text.parse::<std::net::IpAddr>() {
        Ok(address) => {
            format!("\"{text}\" is an address; as a network it is \"{}\"", IpNet::from(address))
        }
        Err(_) => format!("\"{text}\" is no network such as \"192.0.2.0/24\" or \"2001:db8::/56\""),
    })?;
    if net.prefix_len() == 0 {
        return Err(format!("\"{text}\" contains all addresses: name the networks that are routed here"));
    }
    cidr::without_host_bits(text, net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_taken_as_they_should_be_written_only() {
        for text in ["10.78.0.0/24", "192.0.2.1/32", "2001:db8::/56", "2001:db8::1/128"] {
            assert_eq!(prefix(text).unwrap().to_string(), text);
        }
        for (text, said) in [
            ("10.78.0.1/24", "is \"10.78.0.0/24\" meant?"),
            ("2001:db8::1/56", "is \"2001:db8::/56\" meant?"),
            ("192.0.2.1", "\"192.0.2.1/32\""),
            ("2001:db8::1", "\"2001:db8::1/128\""),
            ("0.0.0.0/0", "contains all addresses"),
            ("::/0", "contains all addresses"),
            ("10.78.0.0/33", "is no network"),
            ("home", "is no network"),
            ("", "is no network"),
        ] {
            let message = prefix(text).expect_err(text);
            assert!(message.contains(said), "{text}: {message}");
        }
    }
}
