//! Frames as fast as the kernel can send them, into the sensor and into programs that do nothing.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{Xdp, XdpMode},
};
use scanguard::content::sampling::Settings as Sampling;
use scanguard::sensor::{
    connections::Ground, gate::GateMode, kernel::KernelSensor, program::KernelLogLevel, settings::Settings,
};
use scanguard_common::abi;
use scanguard_tests::fixtures::{
    frames::{SOURCE, tcp, v4},
    lab::{Lab, VICTIM_INTERFACE},
    program::SALT,
};

use crate::{
    c_programs,
    model::{Cell, Table, median},
    wire::{Change, Sender},
    work::Effort,
};

/// The receiver at the victim's interface.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Receiver {
    Drop,
    Pass,
    Observing,
    Dropping,
}

/// Receivers with the frames that they get. Those that pass meet the host's stack, which has no use for them: they are for
/// another MAC address.
const ROWS: [(&str, Receiver, u8); 5] = [
    ("XDP_DROP", Receiver::Drop, SYN),
    ("ScanGuard, SYN of a banned source", Receiver::Dropping, SYN),
    ("XDP_PASS", Receiver::Pass, SYN),
    ("ScanGuard, segment of a connection", Receiver::Observing, DATA),
    ("ScanGuard, SYN of a known source", Receiver::Observing, SYN),
];
const SYN: u8 = 0x02;
const DATA: u8 = 0x18;

impl Receiver {
    /// Attached until it is dropped.
    fn attach(self, lab: &Lab) -> Result<Attached> {
        let (mut ebpf, name) = match self {
            Self::Drop => (c_programs::load("wire")?, "drop_all"),
            Self::Pass => (c_programs::load("wire")?, "pass_all"),
            Self::Observing | Self::Dropping => {
                let settings = Settings::default();
                (
                    scanguard::sensor::program::load(
                        &settings,
                        &Sampling::default(),
                        SALT,
                        KernelLogLevel(0),
                        &Ground::of_kernel()?,
                    )?,
                    abi::PROGRAM,
                )
            }
        };
        let program: &mut Xdp = match self {
            Self::Drop | Self::Pass => c_programs::program(&mut ebpf, name)?,
            Self::Observing | Self::Dropping => ebpf.program_mut(name).context(name)?.try_into()?,
        };
        lab.victim.enter(|| Ok(program.attach(VICTIM_INTERFACE, XdpMode::Driver).map(drop)?))?;
        let sensor = match self {
            Self::Drop | Self::Pass => None,
            Self::Observing | Self::Dropping => {
                let mut sensor = KernelSensor::new(&mut ebpf, Settings::default().ipv6_prefix)?;
                if self == Self::Dropping {
                    sensor.set_gate(GateMode::Enforce, false)?;
                    sensor.ban(IpAddr::from(SOURCE).into(), None, true)?;
                }
                Some(sensor)
            }
        };
        Ok(Attached { _ebpf: ebpf, _sensor: sensor })
    }
}

struct Attached {
    _ebpf: Ebpf,
    _sensor: Option<KernelSensor>,
}

/// Frames a second into each.
///
/// # Errors
/// The two hosts cannot be made, or the kernel does not send frames.
pub(crate) fn run(effort: Effort) -> Result<Table> {
    let about = format!(
        "Live frames of 60 bytes (BPF_F_TEST_XDP_LIVE_FRAMES) over a veth pair in native mode; sender and receiver \
         share one CPU. The figure is the number of frames a second that the receiving program got (the driver's \
         count), median of {} turns. If frames pass, the host's stack takes them and finds that they are for \
         another MAC address.",
        effort.turns
    );
    let mut table = Table::new("Frames into the interface", &about, &["frames_per_second", "frames_lost"]);
    if !c_programs::has_clang() {
        for (name, ..) in ROWS {
            table.push_missing(name, c_programs::NO_CLANG);
        }
        return Ok(table);
    }
    let lab = Lab::new()?;
    let sender = Sender::new(&lab, Change::None)?;
    // A second is millions of frames.
    let time = Duration::from_secs(u64::from(effort.seconds.min(2)));
    let mut rates = ROWS.map(|_| (Vec::new(), 0));
    for turn in 1..=effort.turns {
        eprintln!("live frames, turn {turn} of {}", effort.turns);
        for ((name, receiver, flags), (rates, lost)) in ROWS.into_iter().zip(&mut rates) {
            let _attached = receiver.attach(&lab).context(name)?;
            let arrived = sender.send(&v4(6, &tcp(flags, 443)), time)?;
            rates.push(arrived.rate);
            *lost += arrived.lost;
        }
    }
    for ((name, ..), (rates, lost)) in ROWS.into_iter().zip(rates) {
        table.push(name, [median(&rates).unwrap_or_default(), lost as f64].map(Cell::from));
    }
    Ok(table)
}
