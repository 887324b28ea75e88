//! Traffic that goes on while something else happens: SYNs of a few sources by turns, counted by who sends them.

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use crate::{
    frames::{self, V4},
    lab::{Lab, SCANNER_INTERFACE},
    wire::Wire,
};

/// Time between two packets: 2,000 a second.
const PACE: Duration = Duration::from_micros(500);
/// However long the other thing takes.
const LIMIT: Duration = Duration::from_secs(60);
const TCP: u8 = 6;
const SYN: u8 = 2;

/// Sends SYNs of these sources, by turns, to ports of the victim where nobody listens, for as long as `meanwhile`
/// takes, and at least one of each, however short that was; gives how many each source sent, and what that gave.
///
/// # Errors
/// What `meanwhile` says, or the wire.
pub fn during<T>(
    lab: &Lab,
    victim: Ipv4Addr,
    sources: &[Ipv4Addr],
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<(u64, T)> {
    let mac = lab.victim_mac_bytes()?;
    let frame = |source: &Ipv4Addr, port: u16| {
        let with = V4 { protocol: TCP, source: Some(*source), destination: Some(victim), ..V4::default() };
        frames::to(mac, &frames::v4_packet(&with, &frames::tcp(SYN, port)))
    };
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let wire = lab.scanner.enter(|| Wire::open(SCANNER_INTERFACE))?;
            let started = Instant::now();
            let mut rounds = 0;
            let mut next = started;
            while rounds == 0 || !end.load(Ordering::Relaxed) && started.elapsed() < LIMIT {
                let port = 1_000 + u16::try_from(rounds % 20_000).unwrap_or(0);
                for source in sources {
                    wire.send(&frame(source, port))?;
                    next += PACE;
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
                rounds += 1;
            }
            anyhow::Ok(rounds)
        });
        let result = meanwhile();
        end.store(true, Ordering::Relaxed);
        let rounds = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((rounds, result?))
    })
}
