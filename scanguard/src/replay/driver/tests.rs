use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::{
    config::Config,
    detect::{Detector, findings::EventKind},
    observe::Observer,
    sensor::software::SoftwareSensor,
};

const INTERVAL: Duration = Duration::from_secs(1);
const QUIET: u64 = 60;
const HORIZON: u64 = 120;

fn config() -> Config {
    let text = format!("[history]\nhorizon = \"{HORIZON}s\"\n[findings]\nquiet = \"{QUIET}s\"\n");
    Config::parse(&text).expect("a configuration")
}

fn driver() -> Driver<SoftwareSensor> {
    let config = config();
    let detector = Detector::new(config.rules.rules(), config.findings);
    let pipeline = Pipeline::new(Observer::new(config.history), detector);
    Driver::new(SoftwareSensor::new(&config.sensor, 7), pipeline, INTERVAL)
}

/// A segment without flags to a port. Three of them are a finding.
fn null(source: u8, port: u16) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[12] = 8;
    frame[14] = 0x45;
    frame[17] = 40;
    frame[23] = 6;
    frame[26..30].copy_from_slice(&Ipv4Addr::new(192, 0, 2, source).octets());
    frame[30..34].copy_from_slice(&Ipv4Addr::new(198, 51, 100, 1).octets());
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame[46] = 0x50;
    frame
}

fn time(milliseconds: i64) -> Option<Timestamp> {
    Some(Timestamp::from_millisecond(1_700_000_000_000 + milliseconds).unwrap())
}

/// Drives it by packets: time, source, target.
fn events(mut driver: Driver<SoftwareSensor>, packets: &[(i64, u8, u16)]) -> (Vec<Event>, Ended) {
    let mut events = Vec::new();
    for (at, source, port) in packets {
        driver
            .packet(time(*at), Frame::whole(&null(*source, *port)), &mut |event| events.push(event))
            .unwrap();
    }
    let ended = driver.finish(&mut |event| events.push(event)).unwrap();
    (events, ended)
}

/// As [`events`], with a poll at every interval, even in long pauses.
fn events_without_jumps(packets: &[(i64, u8, u16)]) -> (Vec<Event>, Ended) {
    let mut driver = driver();
    let mut events = Vec::new();
    for (at, source, port) in packets {
        let due = ticks(driver.clock.advance(time(*at)), INTERVAL);
        while driver.ticks < due {
            driver.poll_at(driver.ticks + 1, &mut |event| events.push(event)).unwrap();
        }
        driver.sensor.feed(&null(*source, *port)).unwrap();
    }
    let ended = driver.finish(&mut |event| events.push(event)).unwrap();
    (events, ended)
}

#[test]
fn a_finding_closes_when_it_would_have_and_not_when_the_next_packet_comes() {
    let hours = 5 * 60 * 60 * 1000;
    let (events, _) = events(driver(), &[(100, 1, 80), (200, 1, 81), (300, 1, 82), (hours, 2, 80)]);
    let told: Vec<_> = events.iter().map(|event| (event.kind, event.time)).collect();
    let at = |milliseconds: i64| time(100 + milliseconds).unwrap();
    assert_eq!(told, [(EventKind::Opened, at(1_000)), (EventKind::Closed, at(61_000))]);
}

#[test]
fn the_end_sees_what_came_last_and_closes_all() {
    let (events, ended) = events(driver(), &[(0, 1, 80), (1, 1, 81), (2, 1, 82)]);
    let told: Vec<_> = events.iter().map(|event| (event.kind, event.time)).collect();
    let end = time(2).unwrap();
    assert_eq!(told, [(EventKind::Opened, end), (EventKind::Closed, end)]);
    assert_eq!(ended.outcome.poll.tally.packets(), 3);
}

#[test]
fn absurd_times_neither_hang_nor_overflow() {
    let mut driver = driver();
    let frame = null(1, 80);
    let mut told = 0;
    for time in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX, Timestamp::MIN, Timestamp::MAX] {
        for _ in 0..3 {
            driver.packet(Some(time), Frame::whole(&frame), &mut |_| told += 1).unwrap();
        }
    }
    let ended = driver.finish(&mut |_| told += 1).unwrap();
    assert_eq!(ended.clock.backwards(), 3);
    assert_eq!(ended.outcome.poll.tally.packets(), 15);
    assert_eq!(told, 6);
}

#[test]
fn no_packets_at_all_are_no_findings() {
    let (events, ended) = events(driver(), &[]);
    assert!(events.is_empty());
    assert_eq!(ended.outcome.poll.tally.packets(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn jumping_over_quiet_times_changes_nothing(
        packets in prop::collection::vec(
            (
                prop_oneof![0i64..50, 0i64..3_000, 50_000i64..70_000, 100_000i64..400_000],
                1u8..4,
                1u16..5,
            ),
            1..80,
        )
    ) {
        let mut now = 0;
        let packets: Vec<_> = packets
            .into_iter()
            .map(|(gap, source, port)| {
                now += gap;
                (now, source, port)
            })
            .collect();
        let (jumped, jumped_end) = events(driver(), &packets);
        let (polled, polled_end) = events_without_jumps(&packets);
        prop_assert_eq!(jumped, polled);
        prop_assert_eq!(jumped_end.outcome.poll, polled_end.outcome.poll);
    }
}
