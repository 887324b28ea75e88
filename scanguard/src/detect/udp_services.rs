//! Services over UDP that scanners look for, by their assigned ports, and how many of them a source missed.
//!
//! Late answers, media and peers go to any port, so many closed ports are needed until they are a scan. Those in this list
//! are few, and somebody who misses many of them looks for services. A bitmap shows whether one of them was missed: each
//! port has a bit in it.

use scanguard_common::{
    outcome::Service,
    sketch::{SERVICE_WORDS, service_bit},
    wire::protocol,
};

/// Services by what a client wants of them: each line is one. The ports are those of IANA's registry. The list is short,
/// since each port in it may be set by chance: it has the most frequent ones of nmap's list (nmap-services), and those
/// that amplify.
const FAMILIES: &[&[u16]] = &[
    // Echo, characters.
    &[7, 19],
    // DNS.
    &[53],
    // DHCP.
    &[67],
    // TFTP.
    &[69],
    // The portmapper.
    &[111],
    // NTP.
    &[123],
    // Windows: names, datagrams, remote calls, shares.
    &[135, 137, 138, 445],
    // SNMP.
    &[161],
    // X.
    &[177],
    // Directories.
    &[389],
    // QUIC.
    &[443],
    // VPNs.
    &[500, 4500],
    // Logs.
    &[514],
    // RIP.
    &[520],
    // IPMI.
    &[623],
    // Printers.
    &[631],
    // Microsoft SQL Server.
    &[1434],
    // SSDP.
    &[1900],
    // SIP.
    &[5060],
    // NAT-PMP.
    &[5351],
    // DNS of the link.
    &[5353],
    // CoAP.
    &[5683],
    // memcached.
    &[11_211],
];

/// How many of the list were missed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Named {
    /// Ports.
    pub ports: u64,
    /// Services: several ports of the same one count once.
    pub families: u64,
}

/// Those whose bits are set in a bitmap of missed services with this salt, less as many as other ports set by chance.
pub fn named(missed: &[u64; SERVICE_WORDS], salt: u64) -> Named {
    let is_set = |port: &&u16| {
        let bit = service_bit(Service { protocol: protocol::UDP, port: **port }, salt);
        missed.get(bit.word).is_some_and(|word| word & bit.mask != 0)
    };
    let bits = f64::from(u64::BITS) * SERVICE_WORDS as f64;
    let set: u32 = missed.iter().map(|word| word.count_ones()).sum();
    let filled = f64::from(set) / bits;
    let of = |families: &[&[u16]]| {
        let (mut found, mut by_chance) = (0.0, 0.0);
        for family in families {
            found += f64::from(u8::from(family.iter().any(|port| is_set(&port))));
            by_chance += 1.0 - (1.0 - filled).powf(family.len() as f64);
        }
        // Of those that were not missed, so many are set nevertheless.
        let all = families.len() as f64;
        let missed = (found - by_chance) / (1.0 - by_chance / all).max(f64::MIN_POSITIVE);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to some dozens")]
        let missed = missed.round().clamp(0.0, all) as u64;
        missed
    };
    let ports: Vec<&[u16]> = FAMILIES.iter().flat_map(|family| family.chunks(1)).collect();
    Named { ports: of(&ports), families: of(FAMILIES) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap(ports: impl IntoIterator<Item = u16>) -> [u64; SERVICE_WORDS] {
        ports.into_iter().fold([0; SERVICE_WORDS], |mut words, port| {
            let bit = service_bit(Service { protocol: protocol::UDP, port }, 7);
            words[bit.word] |= bit.mask;
            words
        })
    }

    #[test]
    fn services_count_by_what_clients_want() {
        assert_eq!(named(&bitmap([]), 7), Named::default());
        let near = |ports: &[u16], expected: Named| {
            let Named { ports, families } = named(&bitmap(ports.iter().copied()), 7);
            ports.abs_diff(expected.ports) <= 1 && families.abs_diff(expected.families) <= 1
        };
        assert!(near(&[53, 123, 137, 138], Named { ports: 4, families: 3 }));
        // The ten that nmap asks for first.
        let first = [631, 161, 137, 123, 138, 1434, 445, 135, 67, 53];
        assert!(near(&first, Named { ports: 10, families: 7 }));
    }

    #[test]
    fn other_ports_are_hardly_taken_for_them() {
        let most = (0..200).map(|from| {
            let ports = (0..20).map(|port| 12_000 + from * 97 + port * 13);
            named(&bitmap(ports), 7).families
        });
        assert!(most.clone().max() <= Some(4), "{:?}", most.max());
    }

    #[test]
    fn no_port_is_in_two_families() {
        let mut ports: Vec<_> = FAMILIES.iter().copied().flatten().collect();
        let all = ports.len();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), all);
    }
}
