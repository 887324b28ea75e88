//! Tests valid databases, and every way in which a database can be invalid.

use super::{
    builder::{TempFile, Value, asn, country, database},
    *,
};
use crate::config::Config;

fn countries() -> Vec<u8> {
    let registered = Value::Map(vec![("iso_code", Value::text("FR"))]);
    database(
        "Test-Country",
        &[
            ("192.0.2.0/25", country("DE")),
            ("192.0.2.128/32", country("??")),
            ("198.51.100.0/24", Value::Map(vec![("registered_country", registered)])),
            ("2001:db8::/32", country("JP")),
        ],
    )
}

fn networks() -> Vec<u8> {
    let name = format!("Ev\u{1b}[31mil {}", "x".repeat(150));
    database("Test-ASN", &[("192.0.2.0/24", asn(64_500, "Example")), ("203.0.113.0/24", asn(64_501, &name))])
}

fn config(section: &str) -> Result<Config, Vec<String>> {
    let problems = |problem: &crate::settings::Problem| format!("{}: {}", problem.line, problem.message);
    Config::parse(section).map_err(|all| all.iter().map(problems).collect())
}

fn origin(geo: &Geo, ip: &str) -> String {
    geo.origin(&ip.parse::<IpAddr>().unwrap().into()).to_string()
}

#[test]
fn an_address_has_a_country_and_a_network() {
    let (countries, networks) = (TempFile::new(&countries()), TempFile::new(&networks()));
    let text = format!("[geo]\ncountry = {:?}\nasn = {:?}\n", countries.0.display(), networks.0.display());
    let geo = config(&text).unwrap().geo;
    for (ip, expected) in [
        ("192.0.2.1", "DE, AS64500 Example"),
        ("192.0.2.128", "AS64500 Example"),
        ("192.0.2.129", "AS64500 Example"),
        ("198.51.100.7", "FR"),
        ("2001:db8::1", "JP"),
        ("2001:db9::1", ""),
        ("10.0.0.1", ""),
    ] {
        assert_eq!(origin(&geo, ip), expected, "{ip}");
    }
    let evil = geo.origin(&"203.0.113.1".parse::<IpAddr>().unwrap().into()).network.unwrap();
    let name = evil.organization.unwrap();
    assert!(name.starts_with("Ev[31mil x") && name.chars().count() == MAX_NAME, "{name:?}");
    assert_eq!(geo.described().count(), 2);
    assert!(geo.described().all(|text| text.ends_with(", made 2023-11-14T22:13:20Z")));
}

#[test]
fn without_a_database_nothing_is_known() {
    assert_eq!(origin(&Geo::default(), "192.0.2.1"), "");
    assert_eq!(config("[geo]\ncountry = \"\"\n").unwrap().geo, Geo::default());
}

#[test]
fn a_file_that_is_no_database_is_a_wrong_setting_with_line_cause_and_next_step() {
    let (countries, networks) = (countries(), networks());
    let said = |bytes: &[u8]| {
        let file = TempFile::new(bytes);
        let said = config(&format!("# geo\n[geo]\ncountry = {:?}\n", file.0.display())).unwrap_err();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with(&format!("3: geo.country: {}: ", file.0.display())), "{said:?}");
        assert!(
            said[0].ends_with("(such as GeoLite2-Country.mmdb) again, or leave the setting out"),
            "{said:?}"
        );
        said[0].clone()
    };
    assert!(said(b"").contains("no whole MaxMind database"));
    assert!(said(b"<html>please log in</html>").contains("no whole MaxMind database"));
    assert!(said(&countries[..countries.len() / 2]).contains("no whole MaxMind database"));
    assert!(said(&networks).contains("of the type \"Test-ASN\""));
    let mut loop_in_tree = countries;
    loop_in_tree[0..6].fill(0);
    assert!(said(&loop_in_tree).contains("no whole MaxMind database"));
    let missing = config("[geo]\nasn = \"/nowhere/asn.mmdb\"\ncountry = \"/tmp\"\n").unwrap_err();
    assert!(missing[0].starts_with("2: geo.asn: /nowhere/asn.mmdb: No such file"), "{missing:?}");
    assert!(missing[0].contains("GeoLite2-ASN.mmdb"), "{missing:?}");
    assert!(missing[1].starts_with("3: geo.country: /tmp: not a file"), "{missing:?}");
}

proptest::proptest! {
    // A database that is damaged is refused, or used as far as it goes.
    #[test]
    fn no_damage_is_too_bad(place in proptest::prelude::any::<proptest::sample::Index>(), byte: u8, last in 0u8..255) {
        let mut bytes = networks();
        proptest::prop_assert!(Database::new(Path::new("whole"), bytes.clone(), Kind::Asn).is_ok());
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(database) = Database::new(Path::new("damaged"), bytes, Kind::Asn) {
            let _ = database.network(IpAddr::from([192, 0, 2, last]));
            let _ = database.country(IpAddr::from([203, 0, 113, last]));
            let _ = database.to_string();
        }
    }
}
