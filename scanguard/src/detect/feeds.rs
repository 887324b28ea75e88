//! Feeds of known-bad networks: plain lists of addresses and prefixes, FireHOL netsets, Spamhaus DROP (text, and JSON
//! with one object a line).
//!
//! Sorted ranges rather than a trie: a feed is loaded once and asked often, and a hundred thousand networks are 4 MiB.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use scanguard_common::address::Address;
use serde::Deserialize;

use crate::{settings::Section, whole_file};

/// Maximum size of a feed file, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// `[feeds]`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings {
    /// The files to read.
    pub files: Vec<PathBuf>,
}

impl Settings {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let settings = Self { files: section.value("files", Vec::new(), |_| Ok(())) };
        section.finish();
        settings
    }
}

/// A fault in a feed. The rest of the feed is used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Line, counted from 1; 0 for the file as a whole.
    pub line: usize,
    /// The description of the fault.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        write!(f, " {}", self.message)
    }
}

/// The first and last address of a network, as numbers.
type Range = (u128, u128);

/// One file.
#[derive(Clone, Debug)]
struct Feed {
    path: PathBuf,
    name: String,
    /// Sorted, and with gaps between them.
    ranges: Arc<[Range]>,
}

/// All feeds.
#[derive(Clone, Debug, Default)]
pub struct Feeds(Vec<Feed>);

impl Feeds {
    /// Reads the files. If a file cannot be read or is empty, its feed stays as it was in `before`.
    pub fn load(paths: &[PathBuf], before: &Self) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut feeds = Vec::new();
        for path in paths {
            let ranges = match read(path) {
                Ok(text) => {
                    let (ranges, wrong) = parse(&text);
                    problems.extend(wrong.into_iter().map(|(line, message)| Problem {
                        path: path.clone(),
                        line,
                        message,
                    }));
                    if ranges.is_empty() { Err("there is no network in it".to_owned()) } else { Ok(ranges) }
                }
                Err(error) => Err(error),
            };
            let old = before.0.iter().find(|feed| feed.path == *path);
            let ranges = match (ranges, old) {
                (Ok(ranges), _) => ranges.into(),
                (Err(error), Some(old)) => {
                    let message = format!("{error}; the content that was read before stays in use");
                    problems.push(Problem { path: path.clone(), line: 0, message });
                    Arc::clone(&old.ranges)
                }
                (Err(message), None) => {
                    problems.push(Problem { path: path.clone(), line: 0, message });
                    continue;
                }
            };
            let name = path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            feeds.push(Feed { path: path.clone(), name, ranges });
        }
        (Self(feeds), problems)
    }

    /// Parses one feed from the text of a file. Also returns the lines that are not networks, by their number from 1.
    pub fn parse(name: &str, text: &str) -> (Self, Vec<(usize, String)>) {
        let (ranges, wrong) = parse(text);
        (Self(vec![Feed { path: PathBuf::new(), name: name.to_owned(), ranges: ranges.into() }]), wrong)
    }

    /// The name of the first feed that lists an address.
    pub fn listing(&self, address: &Address) -> Option<&str> {
        let number = number(address.to_ip());
        let lists = |feed: &&Feed| {
            let after = feed.ranges.partition_point(|(first, _)| *first <= number);
            after.checked_sub(1).is_some_and(|place| feed.ranges[place].1 >= number)
        };
        self.0.iter().find(lists).map(|feed| feed.name.as_str())
    }

    /// All networks, with the names of their feeds, as prefixes.
    pub fn networks(&self) -> impl Iterator<Item = (IpNet, &str)> {
        self.0.iter().flat_map(|feed| {
            feed.ranges.iter().flat_map(|range| prefixes(*range)).map(|net| (net, feed.name.as_str()))
        })
    }

    /// Number of networks, after adjacent ones were joined.
    pub fn len(&self) -> usize {
        self.0.iter().map(|feed| feed.ranges.len()).sum()
    }

    /// Whether no network is listed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = whole_file::read(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    // A line that is not text is a fault, but the others are used.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The networks of a feed, and the lines that are not networks.
fn parse(text: &str) -> (Vec<Range>, Vec<(usize, String)>) {
    let (mut ranges, mut wrong) = (Vec::new(), Vec::new());
    for (place, line) in text.lines().enumerate() {
        match parse_line(line) {
            Ok(Some(range)) => ranges.push(range),
            Ok(None) => {}
            Err(message) => wrong.push((place + 1, message)),
        }
    }
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joined = next.0 <= kept.1.saturating_add(1);
        if joined {
            kept.1 = kept.1.max(next.1);
        }
        joined
    });
    (ranges, wrong)
}

/// A line of Spamhaus's JSON. The last line has no network; it holds the date of the list.
#[derive(Deserialize)]
struct Drop {
    cidr: Option<String>,
}

fn parse_line(line: &str) -> Result<Option<Range>, String> {
    let line = line.trim().trim_start_matches('\u{feff}');
    if line.starts_with('{') {
        let drop: Drop = serde_json::from_str(line).map_err(|error| format!("no JSON object: {error}"))?;
        return drop.cidr.as_deref().map(network).transpose();
    }
    let network_only = line.split(['#', ';']).next().unwrap_or_default().trim();
    if network_only.is_empty() { Ok(None) } else { network(network_only).map(Some) }
}

fn network(text: &str) -> Result<Range, String> {
    let wrong = || format!("{:?} is no address or prefix", text.chars().take(60).collect::<String>());
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (text, None),
    };
    let ip: IpAddr = address.trim().parse().map_err(|_| wrong())?;
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    let length: u32 = length.map_or(Ok(bits), |length| length.trim().parse()).map_err(|_| wrong())?;
    if length > bits {
        return Err(wrong());
    }
    if length == 0 {
        return Err(format!("{text} is everybody"));
    }
    let rest = u128::MAX.checked_shr(128 - bits + length).unwrap_or(0);
    let number = number(ip);
    Ok((number & !rest, number | rest))
}

/// The smallest set of networks that covers a range.
fn prefixes((first, last): Range) -> Box<dyn Iterator<Item = IpNet>> {
    let ip = |number| Ipv6Addr::from_bits(number).to_canonical();
    match (ip(first), ip(last)) {
        (IpAddr::V4(first), IpAddr::V4(last)) => Box::new(Ipv4Subnets::new(first, last, 0).map(IpNet::from)),
        // No feed has a range of both families; as IPv6 the result is still right.
        (IpAddr::V4(_) | IpAddr::V6(_), _) => Box::new(
            Ipv6Subnets::new(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last), 0).map(IpNet::from),
        ),
    }
}

/// The address as a number, with IPv4 mapped into IPv6.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const FEED: &str = "\u{feff}# comment
198.51.100.0/24
192.0.2.7 ; SBL1
not an address
2001:db8::/32

{\"cidr\":\"203.0.113.0/25\",\"sblid\":\"SBL2\",\"rir\":\"ripencc\"}
{\"type\":\"metadata\",\"timestamp\":1,\"size\":1,\"records\":1}
{\"cidr\":
10.0.0.0/33
0.0.0.0/0
203.0.113.128/25
";

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    fn feeds(text: &str) -> (Feeds, Vec<usize>) {
        let (feeds, wrong) = Feeds::parse("feed", text);
        (feeds, wrong.into_iter().map(|(line, _)| line).collect())
    }

    #[test]
    fn every_format_is_read_and_wrong_lines_are_named() {
        let (feeds, wrong) = feeds(FEED);
        assert_eq!(wrong, [4, 9, 10, 11]);
        assert_eq!(feeds.len(), 4, "two halves were joined");
        let networks: Vec<_> = feeds.networks().map(|(net, _)| net.to_string()).collect();
        assert_eq!(networks, ["192.0.2.7/32", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"]);
        for listed in ["198.51.100.255", "192.0.2.7", "2001:db8:ffff::1", "203.0.113.127", "203.0.113.255"] {
            assert_eq!(feeds.listing(&address(listed)), Some("feed"), "{listed}");
        }
        for clean in ["198.51.101.0", "192.0.2.8", "2001:db9::", "203.0.112.255", "0.0.0.0", "::1"] {
            assert_eq!(feeds.listing(&address(clean)), None, "{clean}");
        }
    }

    #[test]
    fn a_feed_that_is_empty_or_gone_stays_as_it_was() {
        let path = std::env::temp_dir().join(format!("scanguard-feed-{}.netset", std::process::id()));
        fs::write(&path, "192.0.2.0/24\nnonsense\n").unwrap();
        let paths = [path.clone()];
        let (first, problems) = Feeds::load(&paths, &Feeds::default());
        assert!(problems.len() == 1 && problems[0].to_string().contains(".netset:2: "), "{problems:?}");
        fs::write(&path, "# nothing\n").unwrap();
        let (second, problems) = Feeds::load(&paths, &first);
        assert!(problems[0].message.contains("stays in use"), "{problems:?}");
        fs::remove_file(&path).unwrap();
        let (third, problems) = Feeds::load(&paths, &second);
        assert_eq!(problems.len(), 1);
        assert!(third.listing(&address("192.0.2.9")).is_some());
        let (none, problems) = Feeds::load(&paths, &Feeds::default());
        assert!(none.is_empty() && problems.len() == 1);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_wrong(text in ".*") {
            let _ = parse(&text);
        }
    }
}
