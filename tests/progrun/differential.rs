//! Random and mutated packets through the kernel program and through the shared code on the host: same exits, same
//! classes, same state of every source.
//!
//! Short in every run of the tests; `cargo xtask fuzz differential --packets N` makes it long.

use std::{env, thread};

use anyhow::{Context as _, Result, anyhow};
use libtest_mimic::Trial;
use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng},
};
use scanguard::sensor::{FRAME_LENGTHS, settings::Settings, test_run};
use scanguard_common::classify::{self, Early};
use scanguard_tests::{
    fixtures::program,
    tables::{answers, packets},
};

use crate::{Pair, trial};

/// Packets of a run; `cargo xtask fuzz differential` sets it.
const PACKETS: &str = "SCANGUARD_DIFFERENTIAL_PACKETS";
/// The seed of the packets; a failure prints it.
const SEED: &str = "SCANGUARD_DIFFERENTIAL_SEED";
/// Takes some two seconds.
const DEFAULT_PACKETS: u64 = 20_000;
/// Packets between two comparisons. All their sources find room, so that neither table has to choose.
const BATCH: u64 = 500;
/// Bytes in which headers lie.
const HEADERS: usize = 80;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("random and mutated packets are counted alike by the kernel and on the host", differential)]
}

fn number(variable: &str, default: u64) -> Result<u64> {
    env::var(variable).map_or(Ok(default), |text| text.parse().with_context(|| format!("{variable}={text}")))
}

fn differential() -> Result<()> {
    let (packets, seed) = (number(PACKETS, DEFAULT_PACKETS)?, number(SEED, 1)?);
    // In a namespace of its own, whose sockets are none: the thread is given up for it.
    let run = thread::spawn(move || {
        test_run::isolate()?;
        run(packets, seed)
    });
    run.join().map_err(|_| anyhow!("it panicked"))?.with_context(|| format!("{SEED}={seed}"))
}

fn run(packets: u64, seed: u64) -> Result<()> {
    let mut pair = Pair::new(&Settings::default())?;
    let mut maker = Maker::new(seed);
    let mut done = 0;
    while done < packets {
        let batch: Vec<_> = (0..BATCH.min(packets - done)).map(|_| maker.frame()).collect();
        if compare(&mut pair, &batch).is_err() {
            return Err(culprit(&batch)?.context(format!("packets {done} to {}", done + BATCH)));
        }
        done += BATCH;
    }
    Ok(())
}

fn compare(pair: &mut Pair, frames: &[Vec<u8>]) -> Result<()> {
    for frame in frames {
        pair.kernel.run(frame, 1)?;
        pair.software.packet(frame);
    }
    pair.compare()
}

/// The first frame of a batch that is counted differently, in hexadecimal digits.
fn culprit(batch: &[Vec<u8>]) -> Result<anyhow::Error> {
    let mut pair = Pair::new(&Settings::default())?;
    for frame in batch {
        if let Err(error) = compare(&mut pair, std::slice::from_ref(frame)) {
            let digits: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
            return Ok(error.context(digits));
        }
    }
    Ok(anyhow!("they are counted differently, but none of them is when counted one by one"))
}

/// Makes frames out of the packet table, what leaves, and nothing.
struct Maker {
    random: TestRng,
    seeds: Vec<Vec<u8>>,
    /// Acknowledgments so far.
    flows: u32,
}

impl Maker {
    fn new(seed: u64) -> Self {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let arriving = packets::table().into_iter().map(|case| case.frame);
        let leaving = answers::table().into_iter().map(|row| row.frame);
        Self {
            random: TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
            seeds: arriving.chain(leaving).filter(|frame| program::takes(frame)).collect(),
            flows: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound.max(1))
    }

    fn seed(&mut self) -> Vec<u8> {
        let place = self.below(self.seeds.len());
        self.seeds[place].clone()
    }

    /// A frame of a length that the kernel takes.
    fn frame(&mut self) -> Vec<u8> {
        let mut frame = match self.below(10) {
            // As it is.
            0 => self.seed(),
            // Some bits or bytes of the headers changed.
            1..=5 => self.mutated(),
            // Cut, or longer than it says.
            6 => {
                let mut frame = self.mutated();
                let length = self.below(frame.len() + 40);
                frame.resize(length, 0);
                frame
            }
            // The beginning of one and the end of another.
            7 | 8 => {
                let (first, second) = (self.mutated(), self.mutated());
                let at = self.below(first.len().min(second.len()).min(HEADERS));
                [&first[..at], &second[at..]].concat()
            }
            // Noise, of a kind that is looked into.
            _ => {
                let mut frame = vec![0; self.below(120)];
                self.random.fill_bytes(&mut frame);
                let kind = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x88, 0xa8]][self.below(4)];
                if let Some(place) = frame.get_mut(12..14) {
                    place.copy_from_slice(&kind);
                }
                frame
            }
        };
        if !program::has_frags() {
            frame.truncate(program::ONE_BUFFER);
        }
        if frame.len() < *FRAME_LENGTHS.start() {
            frame.resize(*FRAME_LENGTHS.start(), 0);
        }
        self.make_new(&mut frame);
        frame
    }

    /// Gives a bare acknowledgment a flow that was not there before, by its port and address. The kernel program remembers
    /// flows that it has judged, and lets broken segments of theirs pass too; the host has no such memory, on purpose.
    fn make_new(&mut self, frame: &mut [u8]) {
        if !matches!(classify::early(&&*frame, 0), Early::Acknowledgment { .. }) {
            return;
        }
        let (addresses, length, ports) =
            if frame[12..14] == [0x08, 0x00] { (26, 4, 34) } else { (22, 16, 54) };
        self.flows += 1;
        let [_, high, port @ ..] = self.flows.to_be_bytes();
        frame[ports..ports + 2].copy_from_slice(&port);
        // Both addresses alike, so that a packet from oneself stays one; set, not changed by it: addresses differ already, and two
        // of them could become one.
        for place in [addresses, addresses + length] {
            frame[place + 1] = high;
        }
    }

    fn mutated(&mut self) -> Vec<u8> {
        let mut frame = self.seed();
        for _ in 0..=self.below(4) {
            let at = self.below(frame.len().min(HEADERS));
            if let Some(byte) = frame.get_mut(at) {
                *byte = match self.below(3) {
                    0 => *byte ^ (1 << self.random.random_range(0..8)),
                    1 => [0, 1, 0x7f, 0x80, 0xff][self.random.random_range(0..5)],
                    _ => self.random.random(),
                };
            }
        }
        frame
    }
}
