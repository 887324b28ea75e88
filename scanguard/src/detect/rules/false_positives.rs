//! Tests all rules together: traffic that is no scan gives no finding, and one scan gives one finding.

use scanguard_common::{
    oracle::Reach,
    outcome::{Answer, ProbeClass, Service},
};

use super::testing::{Script, tcp, told, udp};

const ICMP: Service = Service { protocol: 1, port: 0 };

type Play = fn(&mut Script);

/// A round of a monitor of twelve services.
fn monitor(script: &mut Script, source: u8, reach: Reach) {
    for port in 0..12 {
        script.probe_met(source, ProbeClass::Syn, 1, tcp(1_000 + port * 37), reach);
        match reach {
            Reach::Open => script.completed(source),
            Reach::Closed | Reach::Dark | Reach::Unknown => script.answer(source, Answer::Reset),
        };
    }
}

#[test]
fn who_met_other_services_or_none_is_found_where_a_monitor_is_not() {
    let mut script = Script::all_rules();
    for second in (0..300).step_by(60) {
        script.at(second);
        monitor(&mut script, 1, Reach::Open);
        // It only ever met what the monitor does not ask for.
        script.open(3, 1, 443).completed(3);
    }
    for source in 1..=3 {
        script.at(600 + u64::from(source) * 10);
        monitor(&mut script, source, Reach::Closed);
    }
    let found: std::collections::BTreeSet<_> =
        script.events().iter().map(|event| event.finding.source.to_ip().to_string()).collect();
    assert_eq!(found, ["192.0.2.2".to_owned(), "192.0.2.3".to_owned()].into());
}

#[test]
fn ordinary_traffic_is_never_a_scan() {
    let quiet: &[(&str, Play)] = &[
        ("a browser with hundreds of connections to two ports", |script| {
            for second in 0..120 {
                for _ in 0..5 {
                    script.at(second).open(1, 1, 443).open(1, 1, 80).completed(1);
                }
            }
        }),
        ("a load test", |script| {
            for second in 0..10 {
                for _ in 0..5_000 {
                    script.at(second).open(1, 1, 80).completed(1);
                }
            }
        }),
        ("two thousand valid connections from one NAT address", |script| {
            for step in 0..2_000 {
                script.at(step / 100).open(1, 1, 443).completed(1);
            }
        }),
        ("monitoring of five open ports each second", |script| {
            for second in 0..600 {
                for port in [22, 25, 80, 443, 3306] {
                    script.at(second).open(1, 1, port).completed(1);
                }
            }
        }),
        ("one ping a second", |script| {
            for second in 0..3_600 {
                script.at(second).probe_met(1, ProbeClass::IcmpEcho, 1, ICMP, Reach::Unknown);
            }
        }),
        ("late answers of a resolver", |script| {
            for port in 0..400 {
                script.at(u64::from(port) / 10).probe(1, ProbeClass::Udp, 1, udp(32_768 + port * 77));
            }
        }),
        ("peer-to-peer datagrams of fifty peers", |script| {
            for second in 0..120 {
                for peer in 1..=50 {
                    script.at(second).probe(peer, ProbeClass::Udp, 1, udp(6_881));
                }
            }
        }),
        ("clients of a published service", |script| {
            for second in 0..300 {
                for client in 1..=20 {
                    script.at(second).probe_met(client, ProbeClass::Syn, 1, tcp(8_080), Reach::Unknown);
                    script.answer(client, Answer::SynAck);
                }
            }
        }),
        ("a client that retries a closed service for an hour", |script| {
            for second in 0..3_600 {
                script.at(second).syn(1, 1, 8_080).answer(1, Answer::Reset);
            }
        }),
        ("stray segments after a restart", |script| {
            for client in 1..=200 {
                script.open(client, 1, 443).completed(client);
            }
            script.at(100);
            for client in 1..=200 {
                script.probe(client, ProbeClass::Ack, 1, tcp(443));
                script.probe(client, ProbeClass::Maimon, 1, tcp(443));
            }
        }),
        ("traceroute and mtr", |script| {
            for second in 0..600u16 {
                script.at(second.into()).probe(1, ProbeClass::Udp, 1, udp(33_434 + second));
                script.probe_met(1, ProbeClass::IcmpEcho, 1, ICMP, Reach::Unknown);
                // mtr -T and tcptraceroute probe one port.
                script.syn(1, 1, 80);
            }
        }),
        ("a monitor whose twelve services are down for eleven minutes", |script| {
            for second in (0..600).step_by(60) {
                script.at(second);
                monitor(script, 1, Reach::Open);
            }
            for second in (600..1_260).step_by(20) {
                script.at(second);
                monitor(script, 1, Reach::Closed);
            }
            for second in (1_260..1_500).step_by(20) {
                script.at(second);
                monitor(script, 1, Reach::Open);
            }
        }),
        ("a load balancer that checks health", |script| {
            for second in 0..600 {
                script.at(second).open(1, 1, 80).completed(1).open(1, 1, 8_080).completed(1).syn(1, 1, 8_081);
            }
        }),
        ("a backup server that connects to twelve hosts", |script| {
            for second in 0..600 {
                let host = u8::try_from(second % 12).unwrap();
                script.at(second).probe_met(1, ProbeClass::Syn, host, tcp(22), Reach::Unknown);
            }
        }),
        ("passive FTP", |script| {
            for file in 0..200u16 {
                script.at(file.into()).open(1, 1, 21).completed(1).open(1, 1, 49_152 + file * 7).completed(1);
            }
        }),
        ("background noise", |script| {
            for second in 0..600u16 {
                let source = u8::try_from(second % 250).unwrap() + 1;
                let port = [22, 23, 80, 445, 3389, 8080][usize::from(second) % 6];
                script.at(second.into()).syn(source, 1, port);
            }
        }),
    ];
    for (name, play) in quiet {
        assert_eq!(told(*play), [""; 0], "{name}");
    }
}

#[test]
fn one_scan_is_one_finding() {
    let scans: &[(&str, Play, &[&str])] = &[
        ("a fast scan", |script| (1..=1000).for_each(|port| _ = script.syn(1, 1, port)), &["vertical_scan"]),
        (
            "one that the sequential test sees first",
            |script| (1..=200).for_each(|port| _ = script.at(u64::from(port)).syn(1, 1, port)),
            &["vertical_scan"],
        ),
        (
            "a slow one",
            |script| (1..=100).for_each(|port| _ = script.at(u64::from(port) * 30).syn(1, 1, port)),
            &["sequential_test"],
        ),
        (
            "a very slow one",
            |script| (1..=60).for_each(|port| _ = script.at(u64::from(port) * 1200).syn(1, 1, port)),
            &["slow_scan"],
        ),
        (
            "an Xmas scan of many ports",
            |script| (1..=100).for_each(|port| _ = script.probe(1, ProbeClass::Xmas, 1, tcp(port))),
            &["xmas_scan"],
        ),
        (
            "a network",
            |script| {
                for (port, host) in (1..=40).flat_map(|port| (1..=30).map(move |host| (port, host))) {
                    script.at(u64::from(port)).syn(1, host, port);
                }
            },
            &["block_scan"],
        ),
        (
            "a fast scan, and a visit hours later",
            |script| {
                (1..=500).for_each(|port| _ = script.syn(1, 1, port));
                script.at(20_000).open(1, 1, 443).completed(1);
                script.at(20_060).syn(1, 1, 8_443);
            },
            &["vertical_scan"],
        ),
        (
            "fingerprinting",
            |script| {
                for _ in 0..2 {
                    script.probe_met(1, ProbeClass::IcmpEcho, 1, ICMP, Reach::Unknown);
                }
                for second in 0..3 {
                    script.at(second).probe(1, ProbeClass::Null, 1, tcp(22));
                    script.probe(1, ProbeClass::SynFin, 1, tcp(22));
                }
                script.at(3).probe(1, ProbeClass::Xmas, 1, tcp(1)).probe(1, ProbeClass::Udp, 1, udp(40_000));
            },
            &["os_fingerprint"],
        ),
    ];
    for (name, play, expected) in scans {
        let told = told(*play);
        assert_eq!(told, *expected, "{name}");
    }
}
