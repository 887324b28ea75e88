//! The answer to a SYN that a capture does not have, but shows: its client goes on. It is made here, so that sensors take it
//! as any other answer.

use scanguard_common::{
    outcome::Flow,
    wire::{ethertype, protocol, tcp_flags},
};

/// A frame with the SYN and ACK by which the service of this flow answered. Only what is read of answers is in it.
pub fn answer(flow: &Flow) -> Vec<u8> {
    let (source, destination) = (flow.destination, flow.source);
    let mut frame = vec![0; 12];
    match (source.v4(), destination.v4()) {
        (Some(source), Some(destination)) => {
            frame.extend(ethertype::IPV4.to_be_bytes());
            frame.extend([0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol::TCP, 0, 0]);
            frame.extend(source);
            frame.extend(destination);
        }
        _ => {
            frame.extend(ethertype::IPV6.to_be_bytes());
            frame.extend([0x60, 0, 0, 0, 0, 20, protocol::TCP, 64]);
            frame.extend(source.bytes());
            frame.extend(destination.bytes());
        }
    }
    frame.extend(flow.service.port.to_be_bytes());
    frame.extend(flow.source_port.to_be_bytes());
    frame.extend([0; 8]);
    frame.extend([0x50, tcp_flags::SYN | tcp_flags::ACK, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use scanguard_common::{address::Address, outcome::Service};

    use super::*;
    use crate::replay::step::{Kind, Step};

    #[test]
    fn it_is_the_syn_and_ack_of_the_service() {
        let v4: fn(u8) -> Address = |last| Ipv4Addr::new(192, 0, 2, last).into();
        let v6: fn(u8) -> Address =
            |last| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into())).into();
        for address in [v4, v6] {
            let flow = Flow {
                source: address(1),
                destination: address(2),
                service: Service { protocol: protocol::TCP, port: 443 },
                source_port: 40_000,
                reserved: 0,
            };
            assert_eq!(Step::read(&answer(&flow)), Some(Step { flow: flow.turned(), kind: Kind::SynAck }));
        }
    }
}
