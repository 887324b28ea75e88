//! How the kernel's TCP proves that a client sent something: the segment's sequence and acknowledgment numbers fit
//! those of the socket. An attacker who forges the source address never sees these numbers.

use crate::outcome::numbered;

numbered! {
    /// Fields of the kernel's structures that the program reads. The label is the path to the field: the structure,
    /// then its members. The agent finds their offsets ([`crate::abi::FIELD_OFFSETS`]).
    Field[FIELDS] {
        /// Address family of a socket.
        Family = "sock_common.skc_family",
        /// Local port, in host byte order.
        LocalPort = "sock_common.skc_num",
        /// Remote address of a socket of AF_INET.
        RemoteV4 = "sock_common.skc_daddr",
        /// Remote address of a socket of AF_INET6. An IPv4 peer's address is mapped.
        RemoteV6 = "sock_common.skc_v6_daddr",
        /// Local address of a socket of AF_INET.
        LocalV4 = "sock_common.skc_rcv_saddr",
        /// Local address of a socket of AF_INET6.
        LocalV6 = "sock_common.skc_v6_rcv_saddr",
        /// Remote port, in network byte order.
        RemotePort = "sock_common.skc_dport",
        /// Local port in network byte order. It stays when a socket that ends has given [`Field::LocalPort`] back.
        LastLocalPort = "inet_sock.inet_sport",
        /// Network namespace of a socket: a pointer to `struct net`.
        Namespace = "sock_common.skc_net.net",
        /// Number of a network namespace: the inode of /proc/PID/ns/net.
        NamespaceNumber = "net.ns.inum",
        /// The next sequence number that a socket expects.
        Wanted = "tcp_sock.rcv_nxt",
        /// How many bytes a socket has received in order. It grows together with the number before.
        Received = "tcp_sock.bytes_received",
        /// The first sequence number of a socket that is not acknowledged yet.
        Unacknowledged = "tcp_sock.snd_una",
        /// The next sequence number that a socket sends.
        NextSent = "tcp_sock.snd_nxt",
        /// Sequence number of the SYN of a client whose handshake is not completed.
        ClientFirst = "tcp_request_sock.rcv_isn",
        /// Sequence number of the SYN and ACK that was sent to that client.
        OurFirst = "tcp_request_sock.snt_isn",
    }
}

/// The two numbers of a segment, in host byte order.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Numbers {
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// Its acknowledgment number.
    pub acknowledgment: u32,
}

/// The numbers of a connected socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Expected {
    /// See [`Field::Wanted`].
    pub wanted: u32,
    /// See [`Field::Unacknowledged`].
    pub unacknowledged: u32,
    /// See [`Field::NextSent`].
    pub next_sent: u32,
}

/// How many bytes of its stream precede a segment that fits. `received` is read after `wanted`: if bytes arrive between
/// the two, the result is too large, and never the beginning of the stream.
#[inline(always)]
pub const fn position(numbers: Numbers, wanted: u32, received: u64) -> u64 {
    received.wrapping_add(numbers.sequence.wrapping_sub(wanted) as u64)
}

/// How far ahead of the expected number a segment may begin, because earlier segments may still wait for processing.
/// It is less than the smallest window that Linux offers at first (64 KiB).
const AHEAD: u32 = 0xffff;

/// Whether the sender of a segment sees the packets of its connection.
///
/// One of the two numbers must be exactly the next one, and the other within what is on its way. A guess at both
/// succeeds once in more than 2^40 tries: with at most 16 MiB unacknowledged, there are 2^32 sequence numbers for each
/// of 2^8 acknowledgments; ahead of the expected number, 2^32 acknowledgments for each of 2^16 sequence numbers.
#[inline(always)]
pub const fn fits(numbers: Numbers, expected: Expected) -> bool {
    let Numbers { sequence, acknowledgment } = numbers;
    let Expected { wanted, unacknowledged, next_sent } = expected;
    let ahead = sequence.wrapping_sub(wanted);
    let on_the_way = next_sent.wrapping_sub(unacknowledged);
    // As in Linux (tcp_ack): an acknowledgment below the unacknowledged number is old, and one beyond the sent number
    // is false.
    let acknowledged = acknowledgment.wrapping_sub(unacknowledged);
    let is_plausible = acknowledged <= on_the_way && on_the_way < 1 << 24;
    ahead == 0 && is_plausible || ahead <= AHEAD && acknowledgment == next_sent
}

/// The same while the handshake is not completed: the first segment with data may arrive together with the
/// acknowledgment that completes it, or just after it.
#[inline(always)]
pub const fn fits_request(numbers: Numbers, client_first: u32, our_first: u32) -> bool {
    numbers.sequence == client_first.wrapping_add(1) && numbers.acknowledgment == our_first.wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected = Expected { wanted: 1_000, unacknowledged: 5_000, next_sent: 5_100 };

    fn fits_with(sequence: u32, acknowledgment: u32, expected: Expected) -> bool {
        fits(Numbers { sequence, acknowledgment }, expected)
    }

    #[test]
    fn the_next_segment_fits_if_it_acknowledges_what_is_on_its_way() {
        for (acknowledgment, expected) in
            [(4_999, false), (5_000, true), (5_050, true), (5_100, true), (5_101, false), (0, false)]
        {
            assert_eq!(fits_with(1_000, acknowledgment, EXPECTED), expected, "{acknowledgment}");
        }
    }

    #[test]
    fn a_segment_ahead_fits_only_with_the_newest_acknowledgment() {
        for (sequence, acknowledgment, expected) in [
            (1_001, 5_100, true),
            (1_000 + AHEAD, 5_100, true),
            (1_001 + AHEAD, 5_100, false),
            (1_001, 5_099, false),
            (999, 5_100, false),
            (999, 5_000, false),
        ] {
            assert_eq!(
                fits_with(sequence, acknowledgment, EXPECTED),
                expected,
                "{sequence} {acknowledgment}"
            );
        }
    }

    #[test]
    fn numbers_that_go_round_fit_as_others_do() {
        for shift in [u32::MAX - 1_000, u32::MAX - 5_050, u32::MAX, 1 << 31] {
            let expected = Expected {
                wanted: EXPECTED.wanted.wrapping_add(shift),
                unacknowledged: EXPECTED.unacknowledged.wrapping_add(shift),
                next_sent: EXPECTED.next_sent.wrapping_add(shift),
            };
            let of = |sequence: u32, acknowledgment: u32| {
                fits_with(sequence.wrapping_add(shift), acknowledgment.wrapping_add(shift), expected)
            };
            assert!(of(1_000, 5_000) && of(1_000, 5_100) && of(1_500, 5_100), "{shift}");
            assert!(!of(999, 5_100) && !of(1_000, 4_999) && !of(1_000, 5_101), "{shift}");
        }
    }

    #[test]
    fn an_idle_connection_is_fit_by_one_pair_of_numbers_or_few_ahead() {
        let idle = Expected { unacknowledged: 5_100, ..EXPECTED };
        assert!(fits_with(1_000, 5_100, idle) && fits_with(1_200, 5_100, idle));
        assert!(!fits_with(1_000, 5_099, idle) && !fits_with(1_000, 5_101, idle));
    }

    #[test]
    fn so_much_on_its_way_that_it_can_be_guessed_asks_for_the_newest_acknowledgment() {
        let much = Expected { unacknowledged: 0, next_sent: 1 << 24, ..EXPECTED };
        assert!(!fits_with(1_000, 77, much) && fits_with(1_000, 1 << 24, much));
    }

    #[test]
    fn a_position_counts_from_the_beginning_of_the_stream() {
        let of =
            |sequence, wanted, received| position(Numbers { sequence, acknowledgment: 0 }, wanted, received);
        assert_eq!(
            (of(1_000, 1_000, 0), of(1_448, 1_000, 0), of(5, u32::MAX - 4, 1 << 40)),
            (0, 448, (1 << 40) + 10)
        );
    }

    #[test]
    fn before_the_handshake_is_completed_both_numbers_are_exact() {
        let of = |sequence, acknowledgment| fits_request(Numbers { sequence, acknowledgment }, u32::MAX, 7);
        assert!(of(0, 8) && !of(1, 8) && !of(0, 7) && !of(0, 9));
    }

    #[test]
    fn labels_of_fields_name_a_structure_and_a_member() {
        assert!(Field::ALL.iter().all(|field| field.label().split('.').count() >= 2));
    }
}
