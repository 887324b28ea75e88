//! Recognizes the first words of clients in the protocols of services other than HTTP, TLS and DNS.
//!
//! This goes by the bytes and not by the port. So a protocol that is spoken to the port of another one is seen, too.
//! The agent's parsers look closer.

use super::{Head, Start};

/// How many bytes of a stream may precede first words: the longest line by which SSH begins (RFC 4253, 4.2).
pub(super) const FURTHEST: u64 = 255;

/// Whether a segment may begin with such words, by its first two bytes.
#[inline(always)]
pub(super) fn may_begin(start: &Start) -> bool {
    match *start {
        // Line ends; an array of Redis; a TLS record; what has its length in front; TPKT (RFC 1006).
        [b'\r', b'\n'] | [b'*', b'1'..=b'9'] | [22, 3] | [0 | 3, 0] => true,
        // `SSH-`, a line of a request, a command.
        [first, next] => first.is_ascii_uppercase() && (next.is_ascii_uppercase() || next == b'-'),
    }
}

/// Whether a segment begins with first words. Requests and hellos are not looked for here.
#[inline(always)]
pub(super) fn is_segment(head: &Head) -> bool {
    match head {
        // The line of SSH, and the message behind it (RFC 4253, 7.1).
        [b'S', b'S', b'H', b'-', ..] | [0, 0, _, _, _, 20, ..] => true,
        // SMB, behind its length.
        [0, 0, _, _, 0xfe | 0xff, b'S', b'M', b'B', ..] => true,
        // X.224 in TPKT: RDP.
        [3, 0, _, _, _, 0xe0, ..] => true,
        // Redis.
        [b'*', _, b'\r', b'\n', b'$', ..] => true,
        // A command of four letters.
        [a, b, c, d, b'\r' | b'\n' | b' ', ..] => {
            a.is_ascii_uppercase()
                && b.is_ascii_uppercase()
                && c.is_ascii_uppercase()
                && d.is_ascii_uppercase()
        }
        _ => false,
    }
}

/// Whether a datagram begins with first words. Lines of requests are not looked for here.
#[inline(always)]
pub(super) fn is_datagram(head: &Head, len: usize) -> bool {
    is_snmp(head)
        || is_ike(head)
        || is_quic_probe(head, len)
        || is_coap(head)
        || match head {
            [b'M', b'-', b'S', b'E', b'A', b'R', b'C', b'H', ..] => true,
            // NetBIOS: the encoded name `*` (RFC 1002, 4.2.18).
            [_, _, _, _, 0, 1, _, _, _, _, _, _, 0x20, b'C', b'K', b'A', ..] => true,
            // memcached: one datagram, behind its header.
            [_, _, _, _, 0, 1, 0, 0, a, ..] if a.is_ascii_lowercase() => true,
            // NTP of version 1 to 4, a request of mode 6 or 7 without an error or a status (RFC 9327).
            [first, second, _, _, 0, 0, 0, 0, ..] => {
                (0x08..0x28).contains(first) && first & 6 == 6 && second & 0xc0 == 0 && len >= 8
            }
            _ => false,
        }
}

/// A sequence that begins with a version (RFC 1157, 4). Its length takes one, two or three bytes.
#[inline(always)]
fn is_snmp(head: &Head) -> bool {
    matches!(
        head,
        [0x30, 0..=0x7f, 2, 1, 0..=3, ..]
            | [0x30, 0x81, _, 2, 1, 0..=3, ..]
            | [0x30, 0x82, _, _, 2, 1, 0..=3, ..]
    )
}

/// ISAKMP of version 1 or 2 (RFC 2408, 3.1; RFC 7296, 3.1), the first message: the responder has no SPI yet. At the
/// port of NAT traversal, four zeros precede it (RFC 3948, 2.2).
#[inline(always)]
fn is_ike(head: &Head) -> bool {
    match head {
        [0, 0, 0, 0, _, _, _, _, _, _, _, _, 0, 0, 0, 0, 0, 0, 0, 0, _, 0x10 | 0x20, ..] => true,
        [a, b, c, d, _, _, _, _, 0, 0, 0, 0, 0, 0, 0, 0, _, 0x10 | 0x20, ..] => a | b | c | d != 0,
        _ => false,
    }
}

/// A long header of QUIC with a version that no server has, in the longest form of a first datagram (RFC 9000, 14.1 and
/// 15).
#[inline(always)]
fn is_quic_probe(head: &Head, len: usize) -> bool {
    let is_reserved = [head[1], head[2], head[3], head[4]].iter().all(|byte| byte & 0x0f == 0x0a);
    head[0] & 0x80 != 0 && is_reserved && head[5] <= 20 && len >= 1_000
}

/// CoAP: GET, with a token of at most eight bytes (RFC 7252, 3).
#[inline(always)]
fn is_coap(head: &Head) -> bool {
    head[0] & 0xe0 == 0x40 && head[0] & 0x0f <= 8 && head[1] == 1
}
