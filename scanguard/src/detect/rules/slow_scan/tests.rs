use scanguard_common::{oracle::Reach, outcome::Service};

use super::*;
use crate::detect::{
    findings::EventKind,
    rules::testing::{NOBODY, Script, found, tcp, udp},
};

const MINUTE: u64 = 60;

fn rule() -> Box<dyn Rule> {
    Box::new(SlowScan(Settings::default()))
}

fn one_port_every(minutes: u64) -> Vec<u8> {
    found(rule(), |script| {
        for step in 0..24 * 60 / minutes {
            script.at(step * minutes * MINUTE).syn(1, 1, u16::try_from(step).unwrap() + 1);
        }
    })
}

#[test]
fn a_port_every_fifty_four_minutes_is_found_within_a_day() {
    for minutes in [1, 5, 15, 54] {
        assert_eq!(one_port_every(minutes), [1], "every {minutes} minutes");
    }
    assert_eq!(one_port_every(120), NOBODY);
}

#[test]
fn it_is_one_finding_as_long_as_it_goes_on() {
    let mut script = Script::new(rule(), crate::detect::settings::Settings::default());
    for step in 0..96u16 {
        script.at(u64::from(step) * 15 * MINUTE).syn(1, 1, step + 1);
    }
    script.at(48 * 60 * MINUTE);
    let kinds: Vec<_> = script.events().iter().map(|event| event.kind).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&EventKind::Opened), Some(&EventKind::Closed)));
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::Opened).count(), 1);
}

#[test]
fn clients_of_a_day_are_not() {
    let retrying = found(rule(), |script| {
        for minute in 0..24 * 60 {
            script.at(minute * MINUTE).syn(1, 1, 8_080).open(1, 1, 443);
        }
    });
    assert_eq!(retrying, NOBODY);
    let busy = found(rule(), |script| {
        for hour in 0..24u16 {
            script.at(u64::from(hour) * 60 * MINUTE);
            for port in 1..=20 {
                script.open(1, 1, port);
            }
            script.syn(1, 1, 100 + hour);
        }
    });
    assert_eq!(busy, NOBODY);
}

/// A port of one address each so many seconds, 250 addresses after one another.
fn one_address_every(seconds: u64, count: u64, reach: Reach, port: fn(u64) -> u16) -> Vec<u8> {
    found(rule(), |script| {
        for step in 0..count {
            let host = u8::try_from(step % 250).unwrap();
            script.at(step * seconds).probe_met(1, Syn, host, tcp(port(step)), reach);
        }
    })
}

#[test]
fn an_address_at_a_time_is_found_whether_it_is_closed_or_dark() {
    for reach in [Reach::Closed, Reach::Dark] {
        for seconds in [34, 300, 54 * 60] {
            assert_eq!(one_address_every(seconds, 240, reach, |_| 23), [1], "{reach:?} every {seconds} s");
        }
        assert_eq!(one_address_every(120 * 60, 36, reach, |_| 23), NOBODY, "{reach:?}");
        assert_eq!(one_address_every(300, 100, reach, |step| 1 + step as u16), [1], "another port each");
    }
}

/// A SYN for a port of each of so many addresses of a routed /16, each so many seconds.
fn of_a_routed_network(seconds: u64, count: u32, port: fn(u32) -> u16) -> Vec<u8> {
    found(rule(), |script| {
        for step in 0..count {
            // In no order, as scanners do it.
            let host = step.wrapping_mul(40_503) % 65_536;
            script.at(u64::from(step) * seconds).syn_to(1, host, port(step), Reach::Unknown);
        }
    })
}

#[test]
fn of_unknown_fate_it_takes_hundreds_of_addresses_of_few_services_at_a_steady_pace() {
    assert_eq!(of_a_routed_network(34, 7_307, |_| 445), [1]);
    assert_eq!(of_a_routed_network(100, 1_800, |_| 22), [1], "the slowest that is always found");
    assert_eq!(of_a_routed_network(34, 300, |_| 22), NOBODY, "too few");
    assert_eq!(of_a_routed_network(34, 7_307, |step| 10_000 + (step % 20_000) as u16), NOBODY, "peers");
}

#[test]
fn of_unknown_fate_it_takes_a_hundred_assigned_ports_of_an_address() {
    let ports = |first: u16, count: u16| {
        found(rule(), |script| {
            for step in 0..count {
                script.at(u64::from(step) * 120).probe_met(1, Syn, 1, tcp(first + step), Reach::Unknown);
            }
        })
    };
    assert_eq!(ports(1, 150), [1]);
    assert_eq!(ports(1, 60), NOBODY);
    assert_eq!(ports(20_000, 500), NOBODY, "ports that a service opens for a while");
}

#[test]
fn of_unknown_fate_it_takes_few_targets_if_the_syns_are_crafted() {
    let hosts = |count: u8| {
        found(rule(), |script| {
            for host in 0..count {
                script.at(u64::from(host) * 225).crafted(1, host, 5555, Reach::Unknown);
            }
        })
    };
    assert_eq!(hosts(48), [1]);
    assert_eq!(hosts(24), NOBODY);
    let checks = found(rule(), |script| {
        for minute in 0..600u64 {
            (0..48).for_each(|host| _ = script.at(minute * MINUTE).crafted(1, host, 443, Reach::Unknown));
        }
    });
    assert_eq!(checks, NOBODY, "checks by half a handshake");
}

#[test]
fn pings_of_one_address_after_another_are_a_sweep_and_those_of_a_monitor_are_not() {
    const PING: Service = Service { protocol: 1, port: 0 };
    let ping =
        |script: &mut Script, host: u8, reach: Reach| _ = script.probe_met(1, IcmpEcho, host, PING, reach);
    for seconds in [15, 30, 300, 1_500] {
        let swept = found(rule(), |script| {
            (0..48).for_each(|host| ping(script.at(u64::from(host) * seconds), host, Reach::Unknown));
        });
        assert_eq!(swept, [1], "every {seconds} s");
    }
    let monitor = found(rule(), |script| {
        for step in 0..2_000u64 {
            ping(script.at(step * 10), u8::try_from(step % 40).unwrap(), Reach::Unknown);
        }
    });
    assert_eq!(monitor, NOBODY, "forty hosts, a round every seven minutes");
    let severity = |reach: Reach| {
        let mut script = Script::new(rule(), crate::detect::settings::Settings::default());
        (0..48).for_each(|host| ping(script.at(u64::from(host) * 30), host, reach));
        script.events()[0].finding.severity
    };
    assert_eq!((severity(Reach::Unknown), severity(Reach::Dark)), (Severity::Info, Severity::Low));
}

#[test]
fn ten_addresses_asked_for_one_udp_service_are_a_scan_and_those_of_peers_are_not() {
    let asked = |port: fn(u16) -> u16, reach: Reach| {
        found(rule(), |script| {
            for step in 0..10u16 {
                let host = u8::try_from(step).unwrap();
                script.at(u64::from(step) * 150).probe_met(1, Udp, host, udp(port(step)), reach);
            }
        })
    };
    assert_eq!(asked(|_| 111, Reach::Dark), [1]);
    assert_eq!(asked(|_| 111, Reach::Closed), [1]);
    assert_eq!(asked(|_| 111, Reach::Unknown), NOBODY);
    assert_eq!(asked(|_| 51_413, Reach::Dark), NOBODY, "peers with the port of their program");
    assert_eq!(asked(|step| 6_881 + step % 9, Reach::Dark), NOBODY, "peers");
    let resolver = found(rule(), |script| {
        for step in 0..5_000u64 {
            let host = u8::try_from(step % 9).unwrap();
            script.at(step * 20).probe_met(1, Udp, host, udp(53), Reach::Dark);
        }
    });
    assert_eq!(resolver, NOBODY, "nine name servers that are gone");
}

#[test]
fn who_comes_back_to_the_same_targets_is_not() {
    for reach in [Reach::Closed, Reach::Dark, Reach::Unknown] {
        let monitor = found(rule(), |script| {
            for step in 0..6_000u64 {
                let host = u8::try_from(step % 50).unwrap();
                script.at(step * 30).probe_met(1, Syn, host, tcp(9_100), reach);
            }
        });
        assert_eq!(monitor, NOBODY, "fifty dead hosts for days, {reach:?}");
        let services = found(rule(), |script| {
            for step in 0..6_000u64 {
                let port = 8_000 + u16::try_from(step % 18).unwrap();
                script.at(step * 10).probe_met(1, Syn, 1, tcp(port), reach);
            }
        });
        assert_eq!(services, NOBODY, "eighteen dead services for hours, {reach:?}");
        let client = found(rule(), |script| {
            for step in 0..3_000u64 {
                script.at(step * 90).probe_met(1, Syn, 1, tcp(443), reach);
            }
        });
        assert_eq!(client, NOBODY, "a client of one address for days, {reach:?}");
    }
    let known = found(rule(), |script| {
        for step in 0..8_000u32 {
            script.at(u64::from(step) * 4).syn_to(1, step % 600, 443, Reach::Unknown);
        }
    });
    assert_eq!(known, NOBODY, "a client of six hundred hosts that comes back, where no answer is seen");
}

#[test]
fn a_mail_server_that_meets_many_hosts_and_peers_that_are_gone_are_not() {
    let mail = found(rule(), |script| {
        for step in 0..2_000u32 {
            let reach = if step % 10 == 0 { Reach::Closed } else { Reach::Open };
            script.at(u64::from(step) * 60).syn_to(1, step * 7, 25, reach);
        }
    });
    assert_eq!(mail, NOBODY);
    let answered = found(rule(), |script| {
        for step in 0..2_000u32 {
            script.at(u64::from(step) * 60).syn_to(1, step * 7, 25, Reach::Unknown);
            script.answer(1, scanguard_common::outcome::Answer::SynAck);
        }
    });
    assert_eq!(answered, NOBODY, "the hosts are behind this one");
    let peers = found(rule(), |script| {
        for step in 0..90u32 {
            let port = 10_000 + (step * 7_919 % 50_000) as u16;
            script.at(u64::from(step) * 900).syn_to(1, step * 331, port, Reach::Dark);
        }
    });
    assert_eq!(peers, NOBODY);
}
