//! Families of TCP ports: services that honest clients try together.
//!
//! A mail program that does not know its server tries seven ports, and Windows tries three to open a share. They want one
//! thing. So a source that fails at many families looks for services, and one that fails at many ports of one family
//! does not.

use crate::outcome::{DYNAMIC_START, EPHEMERAL_START};

/// Families with a number of their own, in the order of their bits.
///
/// The ports are those of IANA's registry, and the usual ones beside them.
const FAMILIES: &[&[u16]] = &[
    // The web, and the servers of applications.
    &[
        80, 81, 82, 443, 591, 3000, 5000, 5001, 7080, 7443, 8000, 8001, 8008, 8009, 8080, 8081, 8082, 8083,
        8088, 8090, 8180, 8443, 8888, 9000, 9080, 9090, 9443,
    ],
    // Mail.
    &[24, 25, 109, 110, 143, 220, 465, 587, 993, 995, 2525, 4190],
    // Windows: shares, remote calls, names.
    &[135, 137, 138, 139, 445, 593],
    // Printers.
    &[515, 631, 9100, 9101, 9102, 9103],
    // SSH.
    &[22, 222, 2222],
    // Telnet.
    &[23, 2323],
    // FTP.
    &[20, 21, 989, 990, 2121],
    // DNS.
    &[53, 853, 5353],
    // Remote desktops of Windows.
    &[3388, 3389],
    // VNC.
    &[5800, 5801, 5900, 5901, 5902, 5903, 5904, 5905, 5906, 5907, 5908, 5909],
    // Directories: LDAP, and what clients of Active Directory ask beside it.
    &[88, 389, 464, 636, 3268, 3269],
    // Microsoft SQL Server.
    &[1433, 1434],
    // MySQL.
    &[3306, 3307],
    // PostgreSQL, and the pools before it.
    &[5432, 5433, 6432],
    // Oracle.
    &[1521, 1522, 1523, 1524, 1525, 1526, 1529, 2483, 2484],
    // Redis.
    &[6379, 6380],
    // Elasticsearch, and its page.
    &[5601, 9200, 9201, 9300, 9301],
    // NFS, and the portmapper.
    &[111, 2049],
    // Docker.
    &[2375, 2376],
    // etcd.
    &[2379, 2380],
    // Kubernetes: its server, and what runs on each node.
    &[6443],
    &[10_250, 10_255],
    // Remote management of Windows.
    &[5985, 5986],
    // SIP.
    &[5060, 5061],
    // Message queues: MQTT, AMQP, Kafka. A client speaks one of these.
    &[1883, 8883],
    &[5671, 5672],
    &[9092, 9093, 9094],
    // Proxies.
    &[1080, 3128, 8118],
    // rsync.
    &[873],
    // Apple's file service, and Time Machine.
    &[548],
    // VPNs.
    &[500, 1194, 1701, 1723, 4500],
    // Cameras.
    &[554, 8554],
    // memcached.
    &[11_211],
    // MongoDB.
    &[27_017, 27_018, 27_019],
];

/// The bit of all other ports that systems hand out: RPC, FTP data, peers of BitTorrent.
const DYNAMIC: u32 = FAMILIES.len() as u32;
/// The first bit of the rest. A port of no family counts with its neighbours: members of a cluster use ports in a row.
const OTHERS: u32 = DYNAMIC + 1;
/// How many bits the rest has.
const OTHER_BITS: u32 = u64::BITS - OTHERS;
/// So many ports in a row count as one, as a power of two.
const ROW: u32 = 4;

/// A port of no family.
const NONE: u8 = u8::MAX;
/// A port of clients.
const CLIENT: u8 = NONE - 1;

/// The family of each port. It has all of them, so that the verifier sees that none lies beyond its end.
static TABLE: [u8; 1 << 16] = {
    let mut table = [NONE; 1 << 16];
    let mut port = DYNAMIC_START as usize;
    while port < table.len() {
        table[port] = if port < EPHEMERAL_START as usize { DYNAMIC as u8 } else { CLIENT };
        port += 1;
    }
    let mut family = 0;
    while family < FAMILIES.len() {
        let mut place = 0;
        while place < FAMILIES[family].len() {
            table[FAMILIES[family][place] as usize] = family as u8;
            place += 1;
        }
        family += 1;
    }
    table
};

/// The bit of the family of a port; 0 for ports of clients, at which a client of passive FTP behind a filter fails again
/// and again.
#[inline(always)]
pub fn bit(port: u16, salt: u64) -> u64 {
    let number = match TABLE[port as usize] {
        CLIENT => return 0,
        NONE => OTHERS + spread(port >> ROW, salt),
        family => u32::from(family),
    };
    // The verifier wants to see the bound.
    1 << (number & (u64::BITS - 1))
}

/// A number below [`OTHER_BITS`].
#[inline(always)]
fn spread(row: u16, salt: u64) -> u32 {
    let hash = (u64::from(row) ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    ((hash * u64::from(OTHER_BITS)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::{collections::BTreeSet, vec::Vec};

    use super::*;

    fn families(ports: impl IntoIterator<Item = u16>) -> u32 {
        ports.into_iter().fold(0, |bits, port| bits | bit(port, 7)).count_ones()
    }

    #[test]
    fn what_honest_clients_try_together_is_one() {
        for ports in [
            [25, 110, 143, 465, 587, 993, 995].as_slice(),
            &[135, 139, 445],
            &[515, 631, 9100],
            &[80, 443, 8080, 8443],
            &[5701, 5702, 5703],
            &[20_000, 25_000, 31_337],
        ] {
            assert_eq!(families(ports.iter().copied()), 1, "{ports:?}");
        }
    }

    #[test]
    fn services_of_different_kinds_are_different() {
        assert_eq!(families([21, 22, 23, 25, 80, 445, 1433, 3306, 3389, 5900, 6379, 11_211]), 12);
        assert_eq!(families([2375, 2376, 2379, 6443, 8001, 10_250, 10_255]), 5, "of a cluster");
        assert_eq!(families([1883, 5672, 9092, 11_211, 27_017]), 5, "no client speaks two of these");
        assert_eq!(families([32_768, 40_000, 65_535]), 0, "ports of clients");
        let all: Vec<_> = (0..EPHEMERAL_START).collect();
        assert_eq!(families(all), u64::BITS, "every bit is used");
    }

    #[test]
    fn no_port_has_two_families() {
        let mut seen = BTreeSet::new();
        for port in FAMILIES.iter().flat_map(|family| family.iter()) {
            assert!(seen.insert(port), "{port}");
            assert_ne!(bit(*port, 7), bit(9, 7), "{port}");
        }
    }
}
