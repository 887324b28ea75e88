//! In software and through the kernel, every capture becomes the same: at each poll the same totals and
//! states, and in the end the same lines.

use std::{
    collections::BTreeMap,
    net::{IpAddr, TcpListener},
};

use anyhow::{Result, ensure};
use ipnet::IpNet;
use libtest_mimic::{Failed, Trial};
use scanguard::{
    config::Config,
    content::{sample::Sample, sampling::Settings as Sampling},
    sensor::{
        Feed, Poll, Sensor, SensorError, TurnedAway, Visit, software::SoftwareSensor, test_run::isolate,
    },
};
use scanguard_common::{account::SourceState, address::Address};
use scanguard_tests::fixtures::{
    captures::{ETHERNET, pcap},
    frames::{DESTINATION, DESTINATION6},
    program::{self, EPOCH, SALT},
    root,
};

use crate::{
    library::replay_at,
    scenes::{Scene, scenes},
    silence, strays,
};

pub(crate) fn trials() -> Vec<Trial> {
    let strays = strays::cases().into_iter();
    let strays = strays.map(|case| Scene { name: case.name, file: pcap(ETHERNET, &case.packets) });
    let silence = silence::cases().into_iter();
    let silence = silence.map(|case| Scene { name: case.name, file: pcap(ETHERNET, &case.packets) });
    scenes()
        .into_iter()
        .chain(strays)
        .chain(silence)
        .map(|scene| {
            root::trial(format!("the kernel agrees: {}", scene.name), move || {
                let ours = [IpNet::from(IpAddr::V4(DESTINATION)), IpNet::from(IpAddr::V6(DESTINATION6))];
                isolated(|| agree(&scene, &[]))
                    .and_then(|()| isolated(|| agree(&scene, &ours)))
                    .map_err(|error| Failed::from(format!("{error:#}")))
            })
        })
        .collect()
}

/// A sensor that writes down what it hands on. The time of insertion is each sensor's own.
struct Recorder<'r, S> {
    sensor: S,
    polls: &'r mut Vec<(Poll, Seen)>,
}

type Seen = BTreeMap<Address, (SourceState, u32)>;

impl<S: Sensor> Sensor for Recorder<'_, S> {
    fn poll(&mut self, each: &mut Visit<'_>) -> Result<Poll, SensorError> {
        let mut seen = Seen::new();
        let poll = self.sensor.poll(&mut |source, state, ended| {
            seen.insert(*source, (SourceState { born_ns: 0, ..*state }, ended));
            each(source, state, ended);
        })?;
        self.polls.push((poll, seen));
        Ok(poll)
    }

    fn look(&mut self, source: &Address) -> Result<Option<(SourceState, u32)>, SensorError> {
        self.sensor.look(source)
    }

    fn forget(&mut self, source: &Address) -> Result<Option<SourceState>, SensorError> {
        self.sensor.forget(source)
    }

    fn turned_away(&mut self) -> Result<TurnedAway, SensorError> {
        self.sensor.turned_away()
    }

    fn sees_handshakes(&self) -> bool {
        self.sensor.sees_handshakes()
    }

    fn sees_leaving(&self) -> bool {
        self.sensor.sees_leaving()
    }

    fn set_sees_answers(&mut self, sees: bool) -> Result<(), SensorError> {
        self.sensor.set_sees_answers(sees)
    }
}

impl<S: Feed> Feed for Recorder<'_, S> {
    fn feed(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.sensor.feed(frame)
    }

    fn feed_refused(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.sensor.feed_refused(frame)
    }

    fn feed_unanswered(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.sensor.feed_unanswered(frame)
    }

    fn feed_leaving(&mut self, frame: &[u8]) -> Result<(), SensorError> {
        self.sensor.feed_leaving(frame)
    }

    fn samples(&mut self) -> Vec<Sample<Vec<u8>>> {
        self.sensor.samples()
    }

    fn set_home(&mut self, home: &[IpNet]) -> Result<(), SensorError> {
        self.sensor.set_home(home)
    }

    fn set_sees_leaving(&mut self, sees: bool) -> Result<(), SensorError> {
        self.sensor.set_sees_leaving(sees)
    }
}

/// In a thread of its own, since it moves into a namespace that is left behind.
fn isolated(check: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    std::thread::scope(|scope| {
        scope.spawn(check).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn agree(scene: &Scene, local: &[IpNet]) -> Result<()> {
    let settings = Config::default().sensor;
    let (mut counted, mut ran) = (Vec::new(), Vec::new());
    let software = SoftwareSensor::new(&settings, SALT).sampling(&Sampling::default(), EPOCH);
    let software = replay_at(local, &[&scene.file], Recorder { sensor: software, polls: &mut counted })?;
    // A socket here that would want one of the packets, if it were asked.
    let _listener = TcpListener::bind("0.0.0.0:77").ok();
    isolate()?;
    let kernel = program::load(&settings)?;
    let kernel = replay_at(local, &[&scene.file], Recorder { sensor: kernel, polls: &mut ran })?;
    ensure!(counted.len() == ran.len(), "{} polls and {}", counted.len(), ran.len());
    for (number, (counted, ran)) in counted.iter().zip(&ran).enumerate() {
        ensure!(counted == ran, "poll {number}: the software has {counted:?}, the kernel {ran:?}");
    }
    ensure!(software.error.is_none() && kernel.error.is_none(), "it was not read to its end");
    ensure!(software.lines == kernel.lines, "{}\n{}", software.lines, kernel.lines);
    ensure!(software.summary == kernel.summary, "{}\n{}", software.summary, kernel.summary);
    Ok(())
}
