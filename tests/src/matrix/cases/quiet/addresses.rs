//! Clients of many addresses of a host that has them all and serves all of them by listeners on the wildcard address:
//! an anycast host, a balancer of many virtual addresses.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Case, datagrams, quiet, services};
use crate::fixtures::{
    clients::{ask_and_forget, at, knock, visit},
    lab::{ROUTED, SCANNER},
    stage::{ROUTED6, Stage},
};

const fn many(name: &'static str, packets: u32, act: fn(&mut Stage<'_>) -> Result<()>) -> Case {
    quiet("clients of many addresses of this host", name, packets, act).after(services::web)
}

pub(super) const CASES: &[Case] = &[
    many("a client visits 100 addresses of an anycast host, twice", 1_000, |stage| {
        stage.lab.scanner.enter(|| {
            (1..=100).chain(1..=100).try_for_each(|host| Ok(visit(at(&format!("{ROUTED}.{host}"), 80))?))
        })
    }),
    many("a client visits 100 addresses of an anycast host over IPv6", 500, |stage| {
        stage
            .lab
            .scanner
            .enter(|| (1..=100).try_for_each(|host| Ok(visit(at(&format!("{ROUTED6}{host:x}"), 80))?)))
    }),
    many("health checks of twelve virtual addresses at two ports, each second for 15 s", 1_000, |stage| {
        stage.lab.scanner.enter(|| {
            services::each_second(15, || {
                let services = (1..=12).flat_map(|host| [80, 443].map(|port| (host, port)));
                services
                    .into_iter()
                    .try_for_each(|(host, port)| Ok(knock(at(&format!("{ROUTED}.{host}"), port))?))
            })
        })
    }),
    many("half-open health checks of 20 virtual addresses, each second for 8 s", 320, |stage| {
        let mut source_port = 20_000;
        stage.lab.scanner.enter(|| {
            services::each_second(8, || {
                (1..=20).try_for_each(|host| {
                    source_port += 1;
                    ask_and_forget(SCANNER, source_port, at(&format!("{ROUTED}.{host}"), 443))
                })
            })
        })
    }),
    many("a browser fetches from 60 addresses of a host, six at once", 600, |stage| {
        stage.client(
            "curl -sS -Z --parallel-max 6 -H Connection:close -o /dev/null http://{routed}.[1-60]/pages[1-2].js",
        )
    }),
    many("a resolver asks 60 addresses of an anycast name server", 60, |stage| {
        let questions = (1..=60).fold(String::new(), |mut questions, host| {
            // Writing to a String does not fail.
            let _ = writeln!(questions, "@{ROUTED}.{host} host{host}.example.net");
            questions
        });
        stage.file("questions", &questions)?;
        stage.client("dig +short +tries=1 +timeout=2 -f {dir}/questions")
    })
    .after(|stage| datagrams::resolver(stage, true)),
];
