//! Builds small databases in MaxMind's format (version 2.0, records of 24 bits), so that tests need no files.

use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;

/// A value of the data section.
pub(crate) enum Value {
    Text(String),
    Number(u32),
    Short(u16),
    Long(u64),
    Map(Vec<(&'static str, Value)>),
    List(Vec<Value>),
}

/// The type numbers of the format.
const TEXT: u8 = 2;
const SHORT: u8 = 5;
const NUMBER: u8 = 6;
const MAP: u8 = 7;
const LONG: u8 = 9;
const LIST: u8 = 11;

fn control(kind: u8, size: usize, into: &mut Vec<u8>) {
    assert!(size < 29 + 256, "small values only");
    let (short, rest) = if size < 29 { (size, None) } else { (29, Some(size - 29)) };
    let short = u8::try_from(short).unwrap();
    if kind > 7 {
        into.extend([short, kind - 7]);
    } else {
        into.push(kind << 5 | short);
    }
    into.extend(rest.map(|rest| u8::try_from(rest).unwrap()));
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    fn write(&self, into: &mut Vec<u8>) {
        match self {
            Self::Text(text) => {
                control(TEXT, text.len(), into);
                into.extend(text.as_bytes());
            }
            Self::Number(number) => {
                control(NUMBER, 4, into);
                into.extend(number.to_be_bytes());
            }
            Self::Short(number) => {
                control(SHORT, 2, into);
                into.extend(number.to_be_bytes());
            }
            Self::Long(number) => {
                control(LONG, 8, into);
                into.extend(number.to_be_bytes());
            }
            Self::Map(entries) => {
                control(MAP, entries.len(), into);
                for (key, value) in entries {
                    Self::text(key).write(into);
                    value.write(into);
                }
            }
            Self::List(values) => {
                control(LIST, values.len(), into);
                values.iter().for_each(|value| value.write(into));
            }
        }
    }
}

/// The target of a branch of the tree.
#[derive(Clone, Copy)]
enum Branch {
    Nowhere,
    Node(usize),
    Data(usize),
}

/// The bytes of a database with these networks. No network may contain another.
pub(crate) fn database(kind: &str, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Branch::Nowhere; 2]];
    let mut data = Vec::new();
    for (network, value) in networks {
        let network: IpNet = network.parse().unwrap();
        let (bits, length) = match network.network() {
            // IPv4 lies at the far left of the tree of IPv6.
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), network.prefix_len() + 96),
            IpAddr::V6(ip) => (ip.to_bits(), network.prefix_len()),
        };
        let side = |depth: u8| usize::from(bits >> (127 - depth) & 1 == 1);
        let mut node = 0;
        for depth in 0..length - 1 {
            node = match nodes[node][side(depth)] {
                Branch::Node(next) => next,
                Branch::Nowhere => {
                    nodes.push([Branch::Nowhere; 2]);
                    let next = nodes.len() - 1;
                    nodes[node][side(depth)] = Branch::Node(next);
                    next
                }
                Branch::Data(_) => panic!("{network} is within another network"),
            };
        }
        nodes[node][side(length - 1)] = Branch::Data(data.len());
        value.write(&mut data);
    }
    let mut bytes = Vec::new();
    for branch in nodes.iter().flatten() {
        let record = match branch {
            Branch::Nowhere => nodes.len(),
            Branch::Node(node) => *node,
            Branch::Data(offset) => nodes.len() + 16 + offset,
        };
        bytes.extend(&u32::try_from(record).unwrap().to_be_bytes()[1..]);
    }
    bytes.extend([0; 16]);
    bytes.extend(data);
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    let metadata = Value::Map(vec![
        ("binary_format_major_version", Value::Short(2)),
        ("binary_format_minor_version", Value::Short(0)),
        ("build_epoch", Value::Long(1_700_000_000)),
        ("database_type", Value::text(kind)),
        ("description", Value::Map(vec![("en", Value::text("made by a test"))])),
        ("ip_version", Value::Short(6)),
        ("languages", Value::List(vec![Value::text("en")])),
        ("node_count", Value::Number(u32::try_from(nodes.len()).unwrap())),
        ("record_size", Value::Short(24)),
    ]);
    metadata.write(&mut bytes);
    bytes
}

/// A record of GeoLite2-Country.
pub(crate) fn country(code: &str) -> Value {
    let code = Value::Map(vec![("geoname_id", Value::Number(1)), ("iso_code", Value::text(code))]);
    Value::Map(vec![("continent", Value::Map(vec![("code", Value::text("EU"))])), ("country", code)])
}

/// A record of GeoLite2-ASN.
pub(crate) fn asn(number: u32, organization: &str) -> Value {
    Value::Map(vec![
        ("autonomous_system_number", Value::Number(number)),
        ("autonomous_system_organization", Value::text(organization)),
    ])
}

/// A file that is removed when it is dropped.
pub(crate) struct TempFile(pub(crate) PathBuf);

impl TempFile {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("scanguard-geo-{}-{number}.mmdb", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // A file that stays behind does no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}
