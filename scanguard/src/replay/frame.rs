//! Turns the captured part of a packet into a frame that every sensor takes.

use scanguard_common::{content, packet::Packet, wire::Wire};

use super::capture;
use crate::{
    content::sample::Sample,
    sensor::{FRAME_LENGTHS, software::judge_blindly},
};

/// A frame for sensors.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'f> {
    /// All of it.
    pub bytes: &'f [u8],
    /// Only this many bytes were captured; the rest is padding.
    pub captured: usize,
}

impl<'f> Frame<'f> {
    /// A frame that was captured whole.
    pub fn whole(bytes: &'f [u8]) -> Self {
        Self { bytes, captured: bytes.len() }
    }

    /// Removes padding from samples of this frame.
    pub fn trim(&self, samples: &mut Vec<Sample<Vec<u8>>>) {
        if self.captured == self.bytes.len() {
            return;
        }
        let offset = content::payload(&self.bytes).map_or(0, |payload| payload.offset);
        for sample in &mut *samples {
            sample.bytes.truncate(self.captured.saturating_sub(offset));
        }
        samples.retain(|sample| !sample.bytes.is_empty());
    }
}

/// Builds frames in memory that is allocated once.
#[derive(Default)]
pub struct Frames {
    ethernet: Vec<u8>,
    whole: Vec<u8>,
}

/// A packet of which only the beginning was captured.
struct Cut<'f> {
    captured: &'f [u8],
    frame_len: usize,
}

impl Packet for Cut<'_> {
    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        self.captured.view(offset)
    }

    fn load(&self, offset: usize, into: &mut [u8]) -> bool {
        self.captured.load(offset, into)
    }

    fn frame_len(&self) -> usize {
        self.frame_len
    }
}

impl Frames {
    /// The frame of a packet; nothing if it is too short to be one.
    ///
    /// A capture may have only the beginning of a packet (tcpdump -s). If that is enough to classify it, the rest is
    /// filled with zeros. Sensors read these only as parts of samples, see [`Frame::trim`]. Otherwise the frame stays
    /// cut and is counted as such: nothing is concluded from zeros that nobody sent.
    pub fn frame<'f>(&'f mut self, packet: &capture::Packet<'f>) -> Option<Frame<'f>> {
        let Self { ethernet, whole } = self;
        let captured = packet.link.ethernet(packet.data, ethernet)?;
        let (shortest, longest) = (*FRAME_LENGTHS.start(), *FRAME_LENGTHS.end());
        let captured = &captured[..captured.len().min(longest)];
        if captured.len() < shortest {
            return None;
        }
        let missing = packet.wire_len.saturating_sub(packet.data.len());
        let frame_len = captured.len().saturating_add(missing).min(longest);
        if frame_len == captured.len() {
            return Some(Frame::whole(captured));
        }
        whole.clear();
        whole.extend_from_slice(captured);
        whole.resize(frame_len, 0);
        let seen = judge_blindly(&Cut { captured, frame_len });
        if seen != judge_blindly(&whole.as_slice()) {
            return Some(Frame::whole(captured));
        }
        Some(Frame { bytes: whole, captured: captured.len() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scanguard_common::{
        oracle::Reach,
        outcome::{Exit, Flow, ProbeClass},
    };

    use super::*;
    use crate::{
        replay::capture::Link,
        sensor::{Feed as _, settings::Settings, software::SoftwareSensor},
    };

    /// A SYN with 1,000 bytes of data, in an IPv4 packet.
    fn syn() -> Vec<u8> {
        let mut packet = vec![0; 1040];
        packet[0] = 0x45;
        packet[2..4].copy_from_slice(&1040u16.to_be_bytes());
        packet[9] = 6;
        packet[15] = 1;
        packet[32] = 0x50;
        packet[33] = 2;
        packet
    }

    type Outcome = Result<(ProbeClass, Reach, Flow), Exit>;

    fn outcome(data: &[u8], wire_len: usize) -> Option<Outcome> {
        let mut frames = Frames::default();
        let packet = capture::Packet { time: None, link: Link::Raw, data, wire_len };
        frames.frame(&packet).map(|frame| judge_blindly(&frame.bytes))
    }

    fn is_syn(outcome: Option<Outcome>) -> bool {
        matches!(outcome, Some(Ok((ProbeClass::Syn, ..))))
    }

    #[test]
    fn a_packet_cut_behind_its_headers_is_what_the_whole_packet_is() {
        let packet = syn();
        assert!(is_syn(outcome(&packet, packet.len())));
        assert!(is_syn(outcome(&packet[..40], packet.len())));
    }

    #[test]
    fn a_packet_cut_within_its_headers_is_cut_and_no_probe_of_zeros() {
        let packet = syn();
        for length in 0..40 {
            let outcome = outcome(&packet[..length], packet.len());
            assert!(!is_syn(outcome), "{length}: {outcome:?}");
            assert!(!matches!(outcome, Some(Ok((class, ..))) if class != ProbeClass::BadLength));
        }
        assert_eq!(outcome(&packet[..19], packet.len()), Some(Err(Exit::TruncatedIp)));
    }

    #[test]
    fn samples_hold_nothing_that_was_not_captured() {
        let mut packet = syn();
        packet[33] = 0x10;
        packet[22..24].copy_from_slice(&80u16.to_be_bytes());
        packet[40..56].copy_from_slice(b"GET /secret HTTP");
        for captured in 40..packet.len() {
            let mut frames = Frames::default();
            let cut = capture::Packet {
                time: None,
                link: Link::Raw,
                data: &packet[..captured],
                wire_len: packet.len(),
            };
            let frame = frames.frame(&cut).unwrap();
            let content = crate::content::sampling::Settings::default();
            let mut sensor = SoftwareSensor::new(&Settings::default(), 7).sampling(&content, Duration::MAX);
            sensor.packet(frame.bytes);
            let mut samples = sensor.samples();
            frame.trim(&mut samples);
            let sampled: Vec<_> = samples.iter().map(|sample| sample.bytes.as_slice()).collect();
            let expected = &packet[40..captured.min(40 + 512)];
            // The method, the space and the target are there.
            assert_eq!(sampled, if captured >= 45 { vec![expected] } else { vec![] }, "{captured}");
        }
    }

    #[test]
    fn lengths_that_nobody_can_have_sent_cost_no_memory() {
        let packet = syn();
        let mut frames = Frames::default();
        let packet = capture::Packet { time: None, link: Link::Raw, data: &packet, wire_len: usize::MAX };
        assert_eq!(frames.frame(&packet).map(|frame| frame.bytes.len()), Some(*FRAME_LENGTHS.end()));
    }
}
