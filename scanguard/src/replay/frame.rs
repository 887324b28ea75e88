//! From what was captured of a packet to a frame that every sensor takes.

use scanguard_common::{packet::Packet, wire::Wire};

use super::capture;
use crate::sensor::{FRAME_LENGTHS, software::judge_blindly};

/// Frames are put together here, so that memory is asked for once.
#[derive(Default)]
pub struct Frames {
    ethernet: Vec<u8>,
    whole: Vec<u8>,
}

/// Of which the beginning was captured.
struct Cut<'f> {
    captured: &'f [u8],
    frame_len: usize,
}

impl Packet for Cut<'_> {
    fn view<T: Wire>(&self, offset: usize) -> Option<&T> {
        self.captured.view(offset)
    }

    fn frame_len(&self) -> usize {
        self.frame_len
    }
}

impl Frames {
    /// The frame of a packet; nothing if it is too short to be one.
    ///
    /// A capture may hold the beginning of a packet only (tcpdump -s). Where that is enough to tell what it is,
    /// the rest is filled with zeros, as no sensor looks at it. Otherwise the frame stays cut, and is
    /// counted as such: nothing is read out of zeros that nobody sent.
    pub fn frame<'f>(&'f mut self, packet: &capture::Packet<'f>) -> Option<&'f [u8]> {
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
            return Some(captured);
        }
        whole.clear();
        whole.extend_from_slice(captured);
        whole.resize(frame_len, 0);
        let seen = judge_blindly(&Cut { captured, frame_len });
        Some(if seen == judge_blindly(&whole.as_slice()) { whole } else { captured })
    }
}

#[cfg(test)]
mod tests {
    use scanguard_common::{
        oracle::Reach,
        outcome::{Exit, Flow, ProbeClass},
    };

    use super::*;
    use crate::replay::capture::Link;

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
        frames.frame(&packet).map(|frame| judge_blindly(&frame))
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
    fn lengths_that_nobody_can_have_sent_cost_no_memory() {
        let packet = syn();
        let mut frames = Frames::default();
        let packet = capture::Packet { time: None, link: Link::Raw, data: &packet, wire_len: usize::MAX };
        assert_eq!(frames.frame(&packet).map(<[u8]>::len), Some(*FRAME_LENGTHS.end()));
    }
}
