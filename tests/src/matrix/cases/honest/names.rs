//! Clients of name servers.

use std::{fmt::Write as _, time::Duration};

use anyhow::Result;

use super::{Case, Step, honest};
use crate::{
    fixtures::stage::Stage,
    matrix::cases::servers::{self, serve_zones},
};

const fn asked(report: &'static str, name: &'static str, packets: u32, prepare: Step, act: Step) -> Case {
    honest("names", report, name, packets, act).after(prepare)
}

/// Asks these questions, `NAME TYPE` each, and insists on an answer to each.
fn ask(stage: &Stage<'_>, questions: impl Iterator<Item = String>) -> Result<()> {
    let mut text = String::new();
    for question in questions {
        writeln!(text, "{question}")?;
    }
    stage.file("questions", &text)?;
    stage.run(
        &stage.lab.scanner,
        "dig +notcp @{victim} +short +tries=1 +timeout=2 -f {dir}/questions",
        Duration::from_secs(30),
    )
}

pub(super) const CASES: &[Case] = &[
    asked(
        "NLnetLabs/unbound#362",
        "a mail server asks a list about 120 domains, three of which it lists",
        120,
        |stage| {
            let listed =
                "dom7.com A 127.0.0.2\ndom7.com TXT \"spam\"\ndom40.com A 127.0.0.4\ndom90.com A 127.0.0.2\n";
            serve_zones(stage, &[("bl.test", listed)], "")
        },
        |stage| {
            let questions = (0..120).flat_map(|domain| {
                let text = (domain == 7).then(|| "dom7.com.bl.test TXT".to_owned());
                [Some(format!("dom{domain}.com.bl.test A")), text].into_iter().flatten()
            });
            ask(stage, questions)
        },
    ),
    asked(
        "NLnetLabs/unbound#362",
        "a mail server asks a list about 120 addresses of one network, one of which it lists",
        120,
        |stage| serve_zones(stage, &[("bl.test", "7.2.0.192 A 127.0.0.2\n")], ""),
        |stage| ask(stage, (0..120).map(|host| format!("{host}.2.0.192.bl.test A"))),
    ),
    asked(
        "kubernetes/kubernetes#14051",
        "pods ask for 80 outer names under their search domain first",
        150,
        |stage| serve_zones(stage, &[("corp.test", "www A 192.0.2.1\napi A 192.0.2.2\n")], ""),
        |stage| {
            let outer =
                (0..80).flat_map(|site| ["A", "AAAA"].map(|kind| format!("site{site}.com.corp.test {kind}")));
            let ours = ["www", "api"].map(|host| format!("{host}.corp.test A"));
            ask(stage, ours.into_iter().chain(outer))
        },
    ),
    asked(
        "AdguardTeam/AdGuardHome#3157",
        "a filter asks for the names of 120 neighbours, five of which have one",
        120,
        |stage| {
            let names: String = (1..=5).map(|host| format!("{host}.0 PTR host{host}.lan.test.\n")).collect();
            serve_zones(stage, &[("77.10.in-addr.arpa", &names)], "")
        },
        |stage| ask(stage, (1..=120).map(|host| format!("{host}.0.77.10.in-addr.arpa PTR"))),
    ),
    asked(
        "PowerDNS/pdns#13671",
        "a forwarder of many users: 300 questions in 20 zones, and ANY of three users",
        300,
        servers::zones,
        |stage| {
            let some = (0..300).map(|number| {
                let kind = if number % 2 == 0 { "A" } else { "AAAA" };
                format!("host{}.zone{}.test {kind}", number / 20, number % 20)
            });
            let any = [3, 9, 14].map(|zone| format!("zone{zone}.test ANY"));
            ask(stage, some.chain(any))
        },
    ),
    asked(
        "stratosphereips/StratosphereLinuxIPS#1739",
        "a client asks the router for 100 names, from another port each time",
        100,
        servers::zones,
        |stage| ask(stage, (0..100).map(|number| format!("host{}.zone{}.test A", number % 30, number % 20))),
    ),
];
