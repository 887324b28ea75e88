//! The format of a file.

use serde::Deserialize;

use super::{
    clf,
    entry::{Entry, Unparsed},
    json,
};

/// `logs.format`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The format of the first readable lines; for each file separately, and again after each rotation.
    #[default]
    Auto,
    /// Common or combined: Apache, nginx, Traefik's default.
    #[serde(alias = "common")]
    Combined,
    /// Caddy's JSON.
    Caddy,
    /// Traefik's JSON.
    Traefik,
}

impl Format {
    const TRIED: [Self; 3] = [Self::Combined, Self::Caddy, Self::Traefik];

    /// Reads a line, and settles for its format.
    pub(super) fn parse(&mut self, line: &str) -> Result<Entry, Unparsed> {
        match self {
            Self::Combined => clf::parse(line),
            Self::Caddy => json::caddy(line),
            Self::Traefik => json::traefik(line),
            Self::Auto => {
                let mut why = Unparsed::Syntax;
                for mut format in Self::TRIED {
                    match format.parse(line) {
                        Ok(entry) => {
                            *self = format;
                            return Ok(entry);
                        }
                        Err(Unparsed::Address) => why = Unparsed::Address,
                        Err(Unparsed::Syntax) => {}
                    }
                }
                Err(why)
            }
        }
    }
}
