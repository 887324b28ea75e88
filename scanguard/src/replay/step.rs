//! The step that a packet is in its flow, as far as replay needs it: does it begin, answer or end something?

use scanguard_common::{
    outcome::{EPHEMERAL_START, Flow, Service},
    packet::Packet,
    parse::{
        self, Fragment, Headers, Unread,
        deep::{self, Deep},
    },
    wire::{
        Icmp, Ipv4, Ipv6, Ports, Tcp, Udp, icmp, icmp6, protocol,
        tcp_flags::{ACK, FIN, RST, SYN},
    },
};

/// A packet of a flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step {
    /// The flow, in the direction of the packet. ICMP has no ports. For an error it is the flow of the packet that the
    /// error quotes, in the other direction.
    pub flow: Flow,
    /// What the packet does.
    pub kind: Kind,
}

/// What a packet does in its flow.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A SYN alone.
    Opening,
    /// SYN and ACK.
    SynAck,
    /// RST.
    Reset,
    /// A segment without data that only acknowledges or closes. Real connections have many of them, and they are what
    /// ACK, window and Maimon scans send. `stamped`: it has a timestamp (RFC 7323), as the connections of nearly all
    /// systems have.
    Bare {
        /// See above.
        stamped: bool,
    },
    /// Any other TCP segment.
    Segment,
    /// UDP, or a request of ICMP.
    Datagram,
    /// A reply of ICMP, or an error. It is the answer to something.
    Reply,
}

impl Step {
    /// Reads a frame. Gives nothing if it is neither TCP nor UDP nor ICMP that can be read.
    pub fn read(frame: &[u8]) -> Option<Self> {
        match parse::parse(&frame) {
            Ok(headers) => Self::of(&frame, &headers),
            Err(Unread::Deeper) => {
                let mut deep = Deep::EMPTY;
                deep::find(&frame, &mut deep, deep::link, deep::follow).ok()?;
                let headers = deep.headers()?;
                Self::of(&deep, &headers)
            }
            Err(Unread::Exit(_)) => None,
        }
    }

    fn of<P: Packet>(packet: &P, headers: &Headers) -> Option<Self> {
        if matches!(headers.fragment, Fragment::Later(_)) {
            return None;
        }
        let (source, destination) = headers.addresses(packet)?;
        let flow = |source_port, port| Flow {
            source,
            destination,
            service: Service { protocol: headers.protocol, port },
            source_port,
            reserved: 0,
        };
        match headers.protocol {
            protocol::TCP => {
                let tcp = packet.view::<Tcp>(headers.transport)?;
                let kind = segment(packet, headers, tcp);
                Some(Self { flow: flow(tcp.source.get(), tcp.destination.get()), kind })
            }
            protocol::UDP => {
                let udp = packet.view::<Udp>(headers.transport)?;
                Some(Self { flow: flow(udp.source.get(), udp.destination.get()), kind: Kind::Datagram })
            }
            protocol::ICMP | protocol::ICMPV6 => {
                let kind = packet.view::<Icmp>(headers.transport)?.kind;
                match (headers.is_v6, kind) {
                    (false, icmp::UNREACHABLE) | (true, icmp6::UNREACHABLE) => {
                        let flow = quoted(packet, headers)?;
                        (flow.source == destination).then(|| Self { flow: flow.turned(), kind: Kind::Reply })
                    }
                    (
                        false,
                        icmp::ECHO_REPLY
                        | icmp::TIMESTAMP_REPLY
                        | icmp::INFORMATION_REPLY
                        | icmp::ADDRESS_MASK_REPLY,
                    )
                    | (true, icmp6::ECHO_REPLY | icmp6::NODE_INFORMATION_REPLY) => {
                        Some(Self { flow: flow(0, 0), kind: Kind::Reply })
                    }
                    (false, icmp::ECHO | icmp::TIMESTAMP | icmp::INFORMATION | icmp::ADDRESS_MASK)
                    | (true, icmp6::ECHO | icmp6::NODE_INFORMATION) => {
                        Some(Self { flow: flow(0, 0), kind: Kind::Datagram })
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Whether this segment, if it is the first of its flow and is reset in answer, belongs to no connection.
    ///
    /// Not so are segments with a timestamp, which the connections of nearly all systems have and no scanner sends; and
    /// those that a server may have sent to its client: from a port below the ephemeral ones to one from which
    /// programs call. When a host starts anew, the servers that it called go on for a while, from one port to many.
    pub fn may_be_stray(&self) -> bool {
        match self.kind {
            Kind::SynAck => true,
            Kind::Bare { stamped } => {
                let is_servers = self.flow.source_port < EPHEMERAL_START && self.flow.service.port >= CALLING;
                !stamped && !is_servers
            }
            Kind::Opening | Kind::Reset | Kind::Segment | Kind::Datagram | Kind::Reply => false,
        }
    }
}

/// From this port on, programs call others: first those of the superuser (bindresvport of the C library).
const CALLING: u16 = 512;

fn segment<P: Packet>(packet: &P, headers: &Headers, tcp: &Tcp) -> Kind {
    let is_bare = matches!(headers.fragment, Fragment::Whole) && tcp.header_len() == headers.transport_len;
    match tcp.flags & (SYN | ACK | FIN | RST) {
        SYN => Kind::Opening,
        flags if flags == SYN | ACK => Kind::SynAck,
        flags if flags & SYN == 0 && flags & RST != 0 => Kind::Reset,
        flags if flags & (SYN | RST) == 0 && flags & ACK != 0 && is_bare => {
            Kind::Bare { stamped: is_stamped(packet, headers.transport, tcp.header_len()) }
        }
        _ => Kind::Segment,
    }
}

/// Whether a TCP header of this length has a timestamp among its options.
fn is_stamped<P: Packet>(packet: &P, start: usize, length: usize) -> bool {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const TIMESTAMP: u8 = 8;
    let mut at = size_of::<Tcp>();
    let byte = |at: usize| packet.view::<[u8; 1]>(start + at).map(|byte| byte[0]);
    while at < length {
        match byte(at) {
            Some(TIMESTAMP) => return true,
            Some(NOTHING) => at += 1,
            None | Some(END) => return false,
            Some(_) => match byte(at + 1) {
                Some(len @ 2..) => at += usize::from(len),
                _ => return false,
            },
        }
    }
    false
}

/// Where an ICMP error has the packet that it quotes.
const ICMP_HEADER: usize = 8;

/// The flow of the packet that an ICMP error quotes.
fn quoted<P: Packet>(packet: &P, headers: &Headers) -> Option<Flow> {
    let at = headers.transport + ICMP_HEADER;
    let (source, destination, protocol, behind) = if headers.is_v6 {
        let ip = packet.view::<Ipv6>(at)?;
        let (source, destination) = ip.addresses();
        (source, destination, ip.next_header, at + size_of::<Ipv6>())
    } else {
        let ip = packet.view::<Ipv4>(at)?;
        let (source, destination) = ip.addresses();
        (source, destination, ip.protocol, at + usize::from(ip.version_ihl & 0xf) * 4)
    };
    let (source_port, port) = match protocol {
        protocol::TCP | protocol::UDP => {
            let ports = packet.view::<Ports>(behind)?;
            (ports.source.get(), ports.destination.get())
        }
        _ => (0, 0),
    };
    Some(Flow { source, destination, service: Service { protocol, port }, source_port, reserved: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet in a frame, from 192.0.2.1 to 198.51.100.1.
    fn frame(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 34];
        frame[12] = 8;
        frame[14] = 0x45;
        frame[17] = u8::try_from(20 + payload.len()).expect("short");
        frame[23] = protocol;
        frame[26..34].copy_from_slice(&[192, 0, 2, 1, 198, 51, 100, 1]);
        frame.extend_from_slice(payload);
        frame
    }

    fn segment(flags: u8, from: u16, to: u16, behind: &[u8]) -> Vec<u8> {
        let mut header = [from.to_be_bytes(), to.to_be_bytes()].concat();
        header.resize(20, 0);
        (header[12], header[13]) = (0x50, flags);
        frame(6, &[&header, behind].concat())
    }

    fn with_options(options: &[u8]) -> Vec<u8> {
        let mut frame = segment(ACK, 40_000, 80, options);
        frame[46] = u8::try_from(5 + options.len() / 4).expect("short") << 4;
        frame
    }

    fn kind(frame: &[u8]) -> Option<Kind> {
        Step::read(frame).map(|step| step.kind)
    }

    #[test]
    fn segments_are_what_their_flags_and_data_say() {
        const PLAIN: Kind = Kind::Bare { stamped: false };
        for (flags, data, expected) in [
            (SYN, &b""[..], Kind::Opening),
            (SYN | ACK, b"", Kind::SynAck),
            (RST, b"", Kind::Reset),
            (RST | ACK, b"", Kind::Reset),
            (ACK, b"", PLAIN),
            (FIN | ACK, b"", PLAIN),
            (ACK, b"x", Kind::Segment),
            (FIN | ACK, b"x", Kind::Segment),
            (FIN, b"", Kind::Segment),
            (SYN | RST, b"", Kind::Segment),
            (0, b"", Kind::Segment),
        ] {
            assert_eq!(kind(&segment(flags, 40_000, 80, data)), Some(expected), "{flags:#x} {data:?}");
        }
        assert_eq!(kind(&frame(6, &[0; 8])), None, "half a header");
        assert_eq!(kind(&frame(47, &[0; 40])), None);
        assert_eq!(kind(&[]), None);
    }

    #[test]
    fn a_timestamp_is_found_among_the_options_whatever_they_are() {
        let stamp = [8, 10, 0, 0, 0, 1, 0, 0, 0, 1];
        for (name, options, stamped) in [
            ("as Linux has it", [&[1, 1][..], &stamp].concat(), true),
            ("behind others", [&[3, 3, 7, 1, 2, 4, 5, 0xb4, 1, 1][..], &stamp].concat(), true),
            ("behind the end", [&[0, 0][..], &stamp].concat(), false),
            ("none", vec![2, 4, 5, 0xb4], false),
            ("an option of no length", vec![2, 0, 8, 10], false),
            ("an option longer than the header", vec![2, 200, 8, 10], false),
        ] {
            assert_eq!(kind(&with_options(&options)), Some(Kind::Bare { stamped }), "{name}");
        }
    }

    #[test]
    fn what_a_server_may_have_sent_to_its_client_is_no_stray() {
        for (flags, from, to, is_stray) in [
            (ACK, 54_321, 80, true),
            (ACK, 54_321, 20_000, true),
            (FIN | ACK, 443, 80, true),
            (ACK, 443, 512, false),
            (ACK, 8_080, 20_000, false),
            (SYN | ACK, 443, 20_000, true),
            (SYN, 40_000, 80, false),
            (RST, 40_000, 80, false),
        ] {
            let step = Step::read(&segment(flags, from, to, b"")).unwrap();
            assert_eq!(step.may_be_stray(), is_stray, "{flags:#x} from {from} to {to}");
        }
        let stamped = Step::read(&with_options(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1])).unwrap();
        assert!(!stamped.may_be_stray());
    }

    #[test]
    fn an_icmp_error_belongs_to_the_flow_that_it_quotes() {
        let mut quoted = frame(17, &[0x9c, 0x40, 0, 161, 0, 8, 0, 0])[14..].to_vec();
        // The packet that is quoted went the other way.
        quoted[12..20].rotate_left(4);
        let error = [&[icmp::UNREACHABLE, 3, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        let step = Step::read(&frame(1, &error)).unwrap();
        assert_eq!((step.kind, step.flow.service), (Kind::Reply, Service { protocol: 17, port: 40_000 }));
        assert_eq!(step.flow.source_port, 161);
        // One that quotes what its receiver did not send is nobody's.
        quoted[12] = 10;
        let error = [&[icmp::UNREACHABLE, 3, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        assert_eq!(Step::read(&frame(1, &error)), None);
        assert_eq!(kind(&frame(1, &error[..20])), None);
    }
}
