//! The format of a file.

use serde::Deserialize;

use super::{
    clf,
    entry::{Entry, Unparsed},
    fields::{self, Fields},
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
    /// JSON with the fields of `[logs.json]`.
    Json,
}

impl Format {
    const TRIED: [Self; 4] = [Self::Combined, Self::Caddy, Self::Traefik, Self::Json];

    /// Reads a line, and settles for its format.
    pub(super) fn parse(&mut self, line: &str, names: &Fields) -> Result<Entry, Unparsed> {
        match self {
            Self::Combined => clf::parse(line),
            Self::Caddy => json::caddy(line),
            Self::Traefik => json::traefik(line),
            Self::Json => fields::parse(line, names),
            Self::Auto => {
                let mut why = Unparsed::Syntax;
                for mut format in Self::TRIED {
                    match format.parse(line, names) {
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
