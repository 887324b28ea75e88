//! The replay as a library: what no process need be started for.

use std::{net::IpAddr, sync::atomic::AtomicBool};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use libtest_mimic::Trial;
use scanguard::{
    config::Config,
    export::{
        forms::{Context, Format, Formatter},
        writer::FindingsWriter,
    },
    replay::{Replay, ReplayError, capture::CaptureError},
    sensor::{Feed, software::SoftwareSensor},
};
use scanguard_tests::fixtures::{
    captures::{ETHERNET, Timed, pcap, pcapng},
    frames::{DESTINATION, DESTINATION6, tcp, v4},
    program::SALT,
};

use crate::{
    scenes::{late_answers, port_scan},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("every prefix of a capture gives its findings so far and the packet it was cut at", prefixes),
        trial("answers that come late are found only where nobody asked", late),
        trial("findings do not depend on how a capture is divided into files", divided),
    ]
}

/// The lines that were written, and the error that ended the replay.
pub(crate) struct Replayed {
    pub(crate) lines: String,
    pub(crate) summary: String,
    pub(crate) error: Option<ReplayError>,
}

pub(crate) fn replay(files: &[&[u8]], sensor: impl Feed) -> Result<Replayed> {
    replay_at(&[], files, sensor)
}

/// Where these addresses are ours.
pub(crate) fn replay_at(local: &[IpNet], files: &[&[u8]], sensor: impl Feed) -> Result<Replayed> {
    let config = Config::default();
    let (mut lines, mut summary, mut error) = (Vec::new(), Vec::new(), None);
    let writer = FindingsWriter::new(
        &mut lines,
        Formatter::plain(Format::Json, Context::here(config.sensor.ipv6_prefix)),
    );
    let mut replay = Replay::new(&config, SALT, sensor, local.to_vec(), writer)?;
    for file in files {
        error = error.or(replay.capture(*file, &AtomicBool::new(false)).err());
    }
    replay.finish(&mut summary)?;
    Ok(Replayed { lines: String::from_utf8(lines)?, summary: String::from_utf8(summary)?, error })
}

pub(crate) fn software() -> SoftwareSensor {
    SoftwareSensor::new(&Config::default().sensor, SALT)
}

fn prefixes() -> Result<()> {
    // Three segments without flags are a finding; the last packet lets the poll come that reports it.
    let packets = [0, 100, 200, 300, 1_500].map(|at| Timed::new(at, v4(6, &tcp(0, 80))));
    for file in [pcap(ETHERNET, &packets), pcapng(ETHERNET, &packets)] {
        let (mut most, mut found) = (0, false);
        for length in 0..file.len() {
            let Replayed { lines, summary, error } = replay(&[&file[..length]], software())?;
            let counted: u64 = summary
                .strip_prefix("packets: ")
                .and_then(|rest| rest.split([',', '\n']).next()?.parse().ok())
                .with_context(|| summary.clone())?;
            ensure!(counted == most || counted == most + 1, "{length} bytes: {counted} packets after {most}");
            most = counted;
            match error {
                None | Some(ReplayError::Capture { packets: 0, .. }) => {}
                Some(ReplayError::Capture { packets, error: CaptureError::Truncated }) => {
                    ensure!(packets == counted, "{length} bytes: {counted} packets, {packets} said");
                }
                Some(other) => anyhow::bail!("{length} bytes: {other}"),
            }
            ensure!(!found || !lines.is_empty(), "{length} bytes: what was found before is found no more");
            found = !lines.is_empty();
        }
        ensure!(most == 4 && found, "{most} packets");
    }
    Ok(())
}

fn late() -> Result<()> {
    let local = [IpNet::from(IpAddr::V4(DESTINATION)), IpNet::from(IpAddr::V6(DESTINATION6))];
    for (asked, found) in [(true, false), (false, true)] {
        let file = pcap(ETHERNET, &late_answers(asked));
        let Replayed { lines, error, .. } = replay_at(&local, &[&file], software())?;
        ensure!(error.is_none() && lines.is_empty() != found, "asked: {asked}: {lines}");
    }
    Ok(())
}

fn divided() -> Result<()> {
    let packets = port_scan();
    let whole = replay(&[&pcap(ETHERNET, &packets)], software())?;
    let (first, second) = packets.split_at(77);
    let parts = replay(&[&pcap(ETHERNET, first), &pcapng(ETHERNET, second)], software())?;
    ensure!(whole.error.is_none() && parts.error.is_none() && !whole.lines.is_empty());
    ensure!(whole.lines == parts.lines && whole.summary == parts.summary, "{} {}", whole.lines, parts.lines);
    Ok(())
}
