//! Looks up the country and autonomous system of a source in databases of MaxMind's format (GeoLite2 and others with
//! the same fields). The databases are read with the configuration; if one cannot be read, the configuration is wrong.
//!
//! Only some sources are looked up: those of findings, and, for `never_seen`, those that completed connections.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use maxminddb::{Reader, WithinOptions};
use scanguard_common::address::Address;
use serde::Deserialize;

use crate::{settings::Section, whole_file};

/// Maximum size of a database, in bytes: the largest of MaxMind's has a few hundred MiB.
const MAX_FILE_BYTES: u64 = 1 << 30;
/// Number of networks that are searched for a record with the needed fields.
const MAX_TRIED: usize = 10_000;
/// Maximum length of an organization's name, in characters.
const MAX_NAME: usize = 100;

/// A country: two letters of ISO 3166-1.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Country([u8; 2]);

impl Country {
    /// Parses two capital letters; none if the text is anything else.
    pub fn new(code: &str) -> Option<Self> {
        let letters: [u8; 2] = code.as_bytes().try_into().ok()?;
        letters.iter().all(u8::is_ascii_uppercase).then_some(Self(letters))
    }

    /// The letters.
    pub fn as_str(&self) -> &str {
        // They are ASCII letters.
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An autonomous system.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Network {
    /// Its number.
    pub number: u32,
    /// Its organization: at most 100 characters, without control characters.
    pub organization: Option<String>,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.number)?;
        self.organization.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

/// The known origin of an address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Origin {
    /// Country.
    pub country: Option<Country>,
    /// Autonomous system.
    pub network: Option<Network>,
}

impl fmt::Display for Origin {
    /// "DE, AS3320 Deutsche Telekom AG"; empty if nothing is known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.country, &self.network) {
            (Some(country), Some(network)) => write!(f, "{country}, {network}"),
            (Some(country), None) => country.fmt(f),
            (None, Some(network)) => network.fmt(f),
            (None, None) => Ok(()),
        }
    }
}

/// `[geo]`: the databases that are in use.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Geo {
    country: Option<Arc<Database>>,
    network: Option<Arc<Database>>,
}

impl Geo {
    pub(crate) fn read(mut section: Section<'_, '_>) -> Self {
        let mut database = |key, kind| {
            let mut database = None;
            section.value(key, PathBuf::new(), |path| {
                if !path.as_os_str().is_empty() {
                    let opened = Database::open(path, kind);
                    database = Some(Arc::new(opened.map_err(|error| error.in_words(path, kind))?));
                }
                Ok(())
            });
            database
        };
        let geo = Self { country: database("country", Kind::Country), network: database("asn", Kind::Asn) };
        section.finish();
        geo
    }

    /// Looks up an address; empty without a database.
    pub fn origin(&self, address: &Address) -> Origin {
        let ip = address.to_ip();
        Origin {
            country: self.country.as_ref().and_then(|database| database.country(ip)),
            network: self.network.as_ref().and_then(|database| database.network(ip)),
        }
    }

    /// The description of each database by its own metadata, for the log.
    pub fn described(&self) -> impl Iterator<Item = String> {
        self.country.iter().chain(&self.network).map(ToString::to_string)
    }
}

/// The kind of record that a database has to hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Country,
    Asn,
}

/// The reason why a file cannot be used as a database.
#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}")]
    Read(#[from] std::io::Error),
    #[error("it is no whole MaxMind database: {0}")]
    Broken(#[from] maxminddb::MaxMindDbError),
    #[error("it is of the type {0:?}, which does not have the needed data")]
    Other(String),
}

impl OpenError {
    /// The error with the file's name and the next step.
    fn in_words(&self, path: &Path, kind: Kind) -> String {
        let wanted = match kind {
            Kind::Country => "countries (such as GeoLite2-Country.mmdb)",
            Kind::Asn => "autonomous systems (such as GeoLite2-ASN.mmdb)",
        };
        let path = path.display();
        format!("{path}: {self}; download a database of {wanted} again, or leave the setting out")
    }
}

/// A database in memory.
struct Database {
    path: PathBuf,
    reader: Reader<Vec<u8>>,
}

/// The fields that are used of a country record.
#[derive(Deserialize)]
struct CountryRecord {
    country: Option<Code>,
    /// The country where the network is registered, used if its location is unknown.
    registered_country: Option<Code>,
}

#[derive(Deserialize)]
struct Code {
    iso_code: Option<String>,
}

/// The fields that are used of an autonomous system record.
#[derive(Deserialize)]
struct AsnRecord {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<String>,
}

impl CountryRecord {
    fn country(self) -> Option<Country> {
        let code = |code: Option<Code>| Country::new(&code?.iso_code?);
        code(self.country).or_else(|| code(self.registered_country))
    }
}

impl AsnRecord {
    fn network(self) -> Option<Network> {
        // Text from the file is written to terminals.
        let clean =
            |name: String| name.chars().filter(|char| !char.is_control()).take(MAX_NAME).collect::<String>();
        let organization = self.autonomous_system_organization.map(clean).filter(|name| !name.is_empty());
        Some(Network { number: self.autonomous_system_number?, organization })
    }
}

impl Database {
    fn open(path: &Path, kind: Kind) -> Result<Self, OpenError> {
        Self::new(path, whole_file::read(path, MAX_FILE_BYTES)?, kind)
    }

    fn new(path: &Path, bytes: Vec<u8>, kind: Kind) -> Result<Self, OpenError> {
        let reader = Reader::from_source(bytes)?;
        // A lost byte shows here, in the tree or in the data, and not later in a look-up.
        reader.verify()?;
        let database = Self { path: path.to_owned(), reader };
        if database.holds(kind)? { Ok(database) } else { Err(OpenError::Other(database.kind().to_owned())) }
    }

    /// Whether any of the first networks has the needed fields. The name of the type depends on the maker of the
    /// database.
    fn holds(&self, kind: Kind) -> Result<bool, OpenError> {
        for found in self.reader.networks(WithinOptions::default())?.take(MAX_TRIED) {
            let found = found?;
            let holds = match kind {
                Kind::Country => found
                    .decode::<CountryRecord>()
                    .is_ok_and(|record| record.and_then(CountryRecord::country).is_some()),
                Kind::Asn => found
                    .decode::<AsnRecord>()
                    .is_ok_and(|record| record.and_then(AsnRecord::network).is_some()),
            };
            if holds {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// An address that the database does not contain (IPv6 in an IPv4 database, or a private address) has no record.
    fn country(&self, ip: IpAddr) -> Option<Country> {
        self.reader.lookup(ip).ok()?.decode::<CountryRecord>().ok()??.country()
    }

    fn network(&self, ip: IpAddr) -> Option<Network> {
        self.reader.lookup(ip).ok()?.decode::<AsnRecord>().ok()??.network()
    }
}

impl PartialEq for Database {
    /// Whether both come from the same file, built at the same time.
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.reader.metadata() == other.reader.metadata()
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let built = i64::try_from(self.reader.metadata().build_epoch).ok();
        let built = built.and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
        write!(f, "{}: {}", self.path.display(), self.kind())?;
        built.iter().try_for_each(|built| write!(f, ", made {built}"))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.path).finish()
    }
}

#[cfg(test)]
pub(crate) mod builder;
#[cfg(test)]
mod tests;
