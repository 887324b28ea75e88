//! Which packets of a banned source are dropped: what the source begins, and what no socket wants.
//!
//! A ban must not cut this host off from those whom it talks to: the answers of a banned source to connections and queries
//! of this host pass, and so does what may be a connection of somebody behind this host.

use crate::{
    oracle::{Oracle, Reach, Socket},
    outcome::{EPHEMERAL_START, Flow, SegmentKind},
};

/// Whether a segment or datagram of a banned source is none that it began: it passes.
///
/// Connections that the source itself began before it was banned pass too: their sockets look the same.
#[inline(always)]
pub fn passes<O: Oracle>(oracle: &O, kind: SegmentKind, flow: &Flow) -> bool {
    match kind {
        SegmentKind::Acknowledgment | SegmentKind::Closing | SegmentKind::SynAck | SegmentKind::Reset => {
            match oracle.tcp(flow) {
                Socket::Connected | Socket::Pending | Socket::Calling => true,
                Socket::Listening => false,
                Socket::None => elsewhere(oracle, flow),
            }
        }
        SegmentKind::Datagram | SegmentKind::EmptyDatagram => {
            looks_like_answer(flow) && (oracle.udp(flow) || elsewhere(oracle, flow))
        }
    }
}

/// Whether somebody else may want it: the address or port is not surely this host's own.
#[inline(always)]
fn elsewhere<O: Oracle>(oracle: &O, flow: &Flow) -> bool {
    match oracle.unwanted(flow) {
        Reach::Open | Reach::Unknown => true,
        Reach::Closed | Reach::Dark => false,
    }
}

/// A datagram to a port from which clients ask: an ephemeral one, or, from a well-known port, any above those
/// (resolvers ask from all of them).
#[inline(always)]
fn looks_like_answer(flow: &Flow) -> bool {
    flow.service.port >= EPHEMERAL_START || (flow.source_port < 1024 && flow.service.port >= 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        oracle::{
            Blind,
            testing::{HOST, Host, flow},
        },
        wire::protocol,
    };

    #[test]
    fn segments_pass_only_where_a_connection_wants_them() {
        let segment = flow(protocol::TCP, 443, 40_000);
        for kind in
            [SegmentKind::Acknowledgment, SegmentKind::Closing, SegmentKind::SynAck, SegmentKind::Reset]
        {
            for (tcp, expected) in [
                (Socket::Connected, true),
                (Socket::Pending, true),
                (Socket::Calling, true),
                (Socket::Listening, false),
                (Socket::None, false),
            ] {
                assert_eq!(passes(&Host { tcp, ..HOST }, kind, &segment), expected, "{kind:?} {tcp:?}");
            }
            assert!(passes(&Blind, kind, &segment), "forwarded");
        }
    }

    #[test]
    fn datagrams_pass_only_as_answers_that_somebody_wants() {
        let owner = Host { udp: true, ..HOST };
        let nobody = HOST;
        for (source, port, owned, unowned) in [
            (53, 40_000, true, false),
            (53, 2_000, true, false),
            (5_000, 53, false, false),
            (53, 53, false, false),
        ] {
            let datagram = flow(protocol::UDP, source, port);
            for kind in [SegmentKind::Datagram, SegmentKind::EmptyDatagram] {
                assert_eq!(passes(&owner, kind, &datagram), owned, "{source} to {port}");
                assert_eq!(passes(&nobody, kind, &datagram), unowned, "{source} to {port}");
            }
        }
        assert!(passes(&Blind, SegmentKind::Datagram, &flow(protocol::UDP, 53, 40_000)), "forwarded");
        assert!(!passes(&Blind, SegmentKind::Datagram, &flow(protocol::UDP, 40_000, 161)), "forwarded probe");
    }
}
