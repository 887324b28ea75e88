//! Messages of clients are sampled: every request, by kind, within budgets, and owned only where its numbers fit a
//! connection of this host.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context as _, Result, bail, ensure};
use etherparse::EtherType;
use libtest_mimic::Trial;
use scanguard::{
    content::{
        Service,
        sample::{Place, Sample},
        sampling::Settings as Sampling,
    },
    sensor::{
        Feed as _, Sensor, gate::GateMode, settings::Settings, software::SoftwareSensor,
        test_run::TestRunSensor,
    },
};
use scanguard_common::{content::Begins, outcome::Exit, sample::LeftOut, tally::Tally};
use scanguard_tests::{
    fixtures::{
        frames::{
            DESTINATION, SOURCE, V4, extension, fragment6, long_extension, options, tagged, tcp, udp, v4,
            v4_packet, v4_with, v6, v6_packet,
        },
        numbers,
        program::{self, EPOCH, SALT},
    },
    tables::answers::{from_port, turned},
};

use crate::trial;

const TCP: u8 = 6;
const UDP: u8 = 17;
const DATA: u8 = 0x18;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("content: every request of a connection is sampled, not only the first", every_request),
        trial("content: program and software sample the same packets", alike),
        trial("content: samples are as long as their kind may be", lengths),
        trial("content: a source beyond its budget is left out until the next epoch", source_budget),
        trial("content: a CPU beyond its budget is left out until the next epoch", cpu_budget),
        trial("content: forged queries leave a CPU's budget for requests", udp_budget),
        trial("content: samples that find no room are counted", ring_full),
        trial("content: forged first words leave a CPU's budget for queries", greeting_budget),
        trial("content: first words of a proven connection are those at its beginning", first_words),
        trial("content: off, nothing is sampled", off),
        trial("content: other ports are as they were configured", ports),
        trial("content: a banned source is not sampled", banned),
        trial("content: a message is its client's own only if the numbers of its connection fit", owned),
        trial("content: IPv6 clients stand for their prefix", prefix),
    ]
}

const REQUEST: &[u8] = b"GET /.env HTTP/1.1\r\nHost: victim\r\nUser-Agent: gobuster/3.6\r\n\r\n";

/// A segment with data.
fn data(port: u16, payload: &[u8]) -> Vec<u8> {
    [tcp(DATA, port).as_slice(), payload].concat()
}

fn tally(loaded: &mut TestRunSensor) -> Result<Tally> {
    Ok(loaded.poll(&mut |_, _, _| {})?.tally)
}

fn sampled(loaded: &mut TestRunSensor, frame: &[u8]) -> Result<Vec<Sample<Vec<u8>>>> {
    loaded.run(frame, 1)?;
    Ok(loaded.samples())
}

fn every_request() -> Result<()> {
    let mut loaded = program::load(&Settings::default())?;
    for number in 0..100 {
        let request = format!("GET /{number} HTTP/1.1\r\nHost: victim\r\n\r\n");
        let samples = sampled(&mut loaded, &v4(TCP, &data(80, request.as_bytes())))?;
        let expected = Sample {
            source: SOURCE.into(),
            service: Service::Endpoint { ip: DESTINATION.into(), port: 80, protocol: TCP },
            client_port: 40_000,
            begins: Begins::Request,
            owned: false,
            place: Place {
                position: u32::from_be_bytes(tcp(DATA, 80)[4..8].try_into()?).into(),
                len: u32::try_from(request.len())?,
                ends_head: true,
            },
            bytes: request.into_bytes(),
        };
        ensure!(samples == [expected], "{number}: {samples:?}");
    }
    let tally = tally(&mut loaded)?;
    ensure!(tally.sampled(Begins::Request) == 100 && tally.exit(Exit::TcpEstablished) == 100, "{tally:?}");
    Ok(())
}

/// A TLS record with a ClientHello of this length, the record's header included.
fn hello(len: usize) -> Vec<u8> {
    let record = u16::try_from(len - 5).expect("short").to_be_bytes();
    let mut bytes = vec![0x16, 3, 1, record[0], record[1], 1, 0];
    bytes.resize(len, 7);
    bytes
}

/// A DNS message about the root.
fn dns(flags: u8) -> Vec<u8> {
    vec![7, 7, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 0, 1]
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).expect("short").to_be_bytes(), message].concat()
}

/// The line by which SSH begins.
const BANNER: &[u8] = b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n";
/// A request of SNMP.
const COMMUNITY: &[u8] = b"\x30\x26\x02\x01\x01\x04\x06public\xa0\x19\x02\x01\x07\x02\x01\0\x02\x01\0\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x05\0\x05\0";

/// The first datagram of a client of QUIC with this version.
fn quic(version: [u8; 4]) -> Vec<u8> {
    let mut bytes = [&[0xc0], version.as_slice(), &[8]].concat();
    bytes.resize(1_200, 7);
    bytes
}

/// (name, frame, what it begins like) of what arrives.
fn arriving() -> Vec<(&'static str, Vec<u8>, Option<Begins>)> {
    use Begins::{Greeting, Hello, Query, Request};
    let request = data(80, REQUEST);
    let with_options = {
        // A header of eight words: three of options.
        let mut segment = tcp(DATA, 80);
        segment[12] = 0x80;
        [segment.as_slice(), &[1; 12], REQUEST].concat()
    };
    let v4_options = V4 { protocol: TCP, options: 8, ..V4::default() };
    let first = V4 { protocol: TCP, more: true, ..V4::default() };
    let later = V4 { protocol: TCP, offset: 3, ..V4::default() };
    let tags = |count: usize| vec![EtherType::VLAN_TAGGED_FRAME; count];
    vec![
        ("a request", v4(TCP, &request), Some(Request)),
        ("over IPv6", v6(TCP, &request), Some(Request)),
        ("behind TCP options", v4(TCP, &with_options), Some(Request)),
        ("behind TCP options over IPv6", v6(TCP, &with_options), Some(Request)),
        ("behind IP options", v4_with(&v4_options, &request), Some(Request)),
        ("behind an extension header", v6(0, &extension(TCP, &request)), Some(Request)),
        (
            "tagged",
            tagged(&tags(1), EtherType::IPV4, &v4_packet(&V4 { protocol: TCP, ..V4::default() }, &request)),
            Some(Request),
        ),
        ("tagged twice", tagged(&tags(2), EtherType::IPV6, &v6_packet(TCP, &request)), Some(Request)),
        ("tagged thrice", tagged(&tags(3), EtherType::IPV6, &v6_packet(TCP, &request)), Some(Request)),
        (
            "just beyond what is looked at in place",
            v6(60, &[options(TCP, 1_000), request.clone()].concat()),
            Some(Request),
        ),
        ("behind 2,048 bytes of options", v6(60, &long_extension(TCP, &request)), Some(Request)),
        (
            "a query behind 2,048 bytes of options",
            v6(60, &long_extension(UDP, &udp(40_000, 53, &dns(1)))),
            Some(Query),
        ),
        (
            "with the end of its connection, behind 2,048 bytes of options",
            v6(60, &long_extension(TCP, &[tcp(0x19, 80).as_slice(), REQUEST].concat())),
            Some(Request),
        ),
        (
            "binary junk behind 2,048 bytes of options",
            v6(60, &long_extension(TCP, &data(80, b"\x03\0\0"))),
            None,
        ),
        (
            "with the end of its connection",
            v4(TCP, &[tcp(0x19, 80).as_slice(), REQUEST].concat()),
            Some(Request),
        ),
        ("with a SYN", v4(TCP, &[tcp(2, 80).as_slice(), REQUEST].concat()), None),
        ("without an ACK", v4(TCP, &[tcp(8, 80).as_slice(), REQUEST].concat()), None),
        ("with a reset", v4(TCP, &[tcp(0x14, 80).as_slice(), REQUEST].concat()), None),
        ("in a first fragment", v4_with(&first, &request), None),
        ("in a later fragment", v4_with(&later, &request), None),
        ("in a first fragment of IPv6", v6(44, &fragment6(TCP, 0, true, &request)), None),
        ("pipelined", v4(TCP, &data(80, &REQUEST.repeat(3))), Some(Request)),
        ("its first half", v4(TCP, &data(80, &REQUEST[..10])), Some(Request)),
        ("its second half", v4(TCP, &data(80, &REQUEST[10..])), None),
        ("split within the method", v4(TCP, &data(80, &REQUEST[..2])), None),
        ("the shortest of HTTP/0.9", v4(TCP, &data(8080, b"GET /")), Some(Request)),
        ("plain HTTP at a port of TLS", v4(TCP, &data(443, REQUEST)), Some(Request)),
        ("an odd method", v4(TCP, &data(80, b"QUALYS / HTTP/1.1\r\n\r\n")), Some(Request)),
        ("behind the end of a line", v4(TCP, &data(80, b"\r\nGET /.env HTTP/1.1\r\n\r\n")), Some(Request)),
        ("behind the ends of two", v4(TCP, &data(80, b"\n\nGET /.env")), Some(Request)),
        (
            "with two blanks",
            v4(TCP, &data(80, b"GET  /.env HTTP/1.1\r\nHost: victim\r\n\r\n")),
            Some(Request),
        ),
        ("a long method", v4(TCP, &data(80, b"AMETHODTHATFILLSALMOSTALLOFIT /")), Some(Request)),
        ("an empty line of an upload", v4(TCP, &data(80, b"\r\nand this is the rest of the upload")), None),
        ("binary junk", v4(TCP, &data(80, b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0")), None),
        ("one byte", v4(TCP, &data(80, b"G")), None),
        ("no data", v4(TCP, &tcp(0x10, 80)), None),
        ("another port", v4(TCP, &data(81, REQUEST)), None),
        ("a hello", v4(TCP, &data(443, &hello(517))), Some(Hello)),
        ("a hello over IPv6", v6(TCP, &data(8443, &hello(517))), Some(Hello)),
        ("a hello at a port of HTTP", v4(TCP, &data(80, &hello(517))), Some(Hello)),
        ("a hello in a large segment", v4(TCP, &data(443, &hello(9_000))), Some(Hello)),
        ("what TLS encrypts", v4(TCP, &data(443, &[0x17, 3, 3, 0, 40, 1, 2, 3])), None),
        ("a query", v4(UDP, &udp(40_000, 53, &dns(1))), Some(Query)),
        ("a query over IPv6", v6(UDP, &udp(40_000, 53, &dns(1))), Some(Query)),
        ("a query over TCP", v4(TCP, &data(53, &framed(&dns(1)))), Some(Query)),
        ("a response that arrives", v4(UDP, &udp(53, 40_000, &dns(0x81))), None),
        ("a response to the port of DNS", v4(UDP, &udp(53, 53, &dns(0x81))), None),
        ("a query to another port", v4(UDP, &udp(40_000, 54, &dns(1))), None),
        ("a query to a port of HTTP", v4(UDP, &udp(40_000, 443, &dns(1))), None),
        ("a request to the port of DNS", v4(TCP, &data(53, REQUEST)), None),
        ("the line of SSH", v4(TCP, &data(22, BANNER)), Some(Greeting)),
        ("the line of SSH over IPv6", v6(TCP, &data(22, BANNER)), Some(Greeting)),
        ("the line of SSH at a port of HTTP", v4(TCP, &data(80, BANNER)), None),
        ("a request to the port of SSH", v4(TCP, &data(22, REQUEST)), Some(Greeting)),
        ("a hello to the port of Redis", v4(TCP, &data(6379, &hello(517))), Some(Greeting)),
        ("what SSH encrypts", v4(TCP, &data(22, &[0x51, 0xe0, 3, 0, 40, 1, 2, 3])), None),
        ("a community", v4(UDP, &udp(40_000, 161, COMMUNITY)), Some(Greeting)),
        ("a community over IPv6", v6(UDP, &udp(40_000, 161, COMMUNITY)), Some(Greeting)),
        (
            "a community behind 2,048 bytes of options",
            v6(60, &long_extension(UDP, &udp(40_000, 161, COMMUNITY))),
            Some(Greeting),
        ),
        ("a community at the port of DNS", v4(UDP, &udp(40_000, 53, COMMUNITY)), None),
        ("a community at another port", v4(UDP, &udp(40_000, 162, COMMUNITY)), None),
        ("a phone", v4(UDP, &udp(5060, 5060, b"REGISTER sip:a.example SIP/2.0\r\n\r\n")), Some(Greeting)),
        ("somebody who asks the time", v4(UDP, &udp(123, 123, &[0x23; 48])), None),
        ("somebody who asks for a list", v4(UDP, &udp(123, 123, b"\x17\0\x03\x2a\0\0\0\0")), Some(Greeting)),
        ("a client of QUIC", v4(UDP, &udp(40_000, 443, &quic([0, 0, 0, 1]))), None),
        ("a version of QUIC that nobody has", v4(UDP, &udp(40_000, 443, &quic([0x1a; 4]))), Some(Greeting)),
        ("IPsec", v4(UDP, &udp(4500, 4500, &[0x77; 120])), None),
        ("one byte that keeps a way open", v4(UDP, &udp(4500, 4500, &[0xff])), None),
    ]
}

/// The same of what leaves.
fn leaving() -> Vec<(&'static str, Vec<u8>, Option<Begins>)> {
    use Begins::{Answer, Status};
    let status = |port| {
        [from_port(DATA, port).as_slice(), b"HTTP/1.1 404 Not Found\r\nServer: nginx\r\n\r\n"].concat()
    };
    let tagged_status = |port| {
        let way = V4 { protocol: TCP, source: Some(DESTINATION), destination: Some(SOURCE), ..V4::default() };
        let packet = v4_packet(&way, &status(port));
        tagged(&[EtherType::VLAN_TAGGED_FRAME], EtherType::IPV4, &packet)
    };
    vec![
        ("a status", turned(v4(TCP, &status(80))), Some(Status)),
        ("a status over IPv6", turned(v6(TCP, &status(8080))), Some(Status)),
        ("a tagged status", tagged_status(80), Some(Status)),
        (
            "a status with the end",
            turned(v4(TCP, &[from_port(0x19, 80).as_slice(), b"HTTP/1.0 200 OK\r\n"].concat())),
            Some(Status),
        ),
        ("a status from another port", turned(v4(TCP, &status(81))), None),
        (
            "a body",
            turned(v4(TCP, &[from_port(DATA, 80).as_slice(), b"<html>HTTP/1.1 200 OK"].concat())),
            None,
        ),
        ("a request of this host's own", turned(v4(TCP, &data(80, REQUEST))), None),
        ("a response", turned(v4(UDP, &udp(53, 40_000, &dns(0x81)))), Some(Answer)),
        ("a response over IPv6", turned(v6(UDP, &udp(53, 40_000, &dns(0x81)))), Some(Answer)),
        (
            "a response over TCP",
            turned(v4(TCP, &[from_port(DATA, 53).as_slice(), &framed(&dns(0x81))].concat())),
            Some(Answer),
        ),
        (
            "the line of this host's SSH",
            turned(v4(TCP, &[from_port(DATA, 22).as_slice(), BANNER].concat())),
            None,
        ),
        ("an answer of SNMP", turned(v4(UDP, &udp(161, 40_000, COMMUNITY))), None),
        ("a query of this host's own", turned(v4(UDP, &udp(40_000, 53, &dns(1)))), None),
        ("a query from the port of DNS", turned(v4(UDP, &udp(53, 53, &dns(1)))), None),
    ]
}

fn alike() -> Result<()> {
    let mut kernel = program::load(&Settings::default())?;
    let mut software = SoftwareSensor::new(&Settings::default(), SALT).sampling(&Sampling::default(), EPOCH);
    let mut before = Tally::ZERO;
    let rows = [(arriving(), false), (leaving(), true)];
    for ((name, frame, expected), leaves) in
        rows.into_iter().flat_map(|(rows, leaves)| rows.into_iter().map(move |row| (row, leaves)))
    {
        if !program::takes(&frame) {
            continue;
        }
        if leaves {
            kernel.feed_leaving(&frame)?;
            software.leaving(&frame);
        } else {
            kernel.feed(&frame)?;
            software.packet(&frame);
        }
        let counted = tally(&mut kernel)?;
        let news = counted.since(&before);
        before = counted;
        for begins in Begins::ALL {
            let count = u64::from(expected == Some(begins));
            ensure!(news.sampled(begins) == count, "{name}: {begins:?} is not {count}: {:?}", news.sampled);
        }
        ensure!(news.left_out == [0; LeftOut::ALL.len()], "{name}: {:?}", news.left_out);
        let mut samples = kernel.samples();
        // Software has no sockets, and knows nothing of who sent what leaves.
        for sample in &mut samples {
            ensure!(
                sample.source.to_ip() == IpAddr::from(SOURCE) || !sample.source.is_v4(),
                "{name}: {sample:?}"
            );
            ensure!(!sample.owned || sample.begins.is_answer(), "{name}: owned");
            sample.owned = false;
        }
        ensure!(samples.len() == usize::from(expected.is_some()), "{name}: {samples:?}");
        ensure!(samples == software.samples(), "{name}: not what the software took: {samples:?}");
    }
    let software = software.poll(&mut |_, _, _| {})?.tally;
    ensure!((software.sampled, software.left_out) == (before.sampled, before.left_out), "{software:?}");
    Ok(())
}

fn lengths() -> Result<()> {
    let mut loaded = program::load(&Settings::default())?;
    let long = [REQUEST, &[b'x'; 3_000]].concat();
    for (len, port, payload, expected) in [
        (3_000, 80, &long, 512),
        (512, 80, &long, 512),
        (511, 80, &long, 511),
        (33, 80, &long, 33),
        (32, 80, &long, 32),
        (31, 80, &long, 31),
        (6, 80, &long, 6),
        (3_000, 443, &hello(3_000), 2_048),
        (1_460, 443, &hello(3_000), 1_460),
    ] {
        let samples = sampled(&mut loaded, &v4(TCP, &data(port, &payload[..len])))?;
        let [sample] = samples.as_slice() else { bail!("{len} bytes to {port}: {samples:?}") };
        ensure!(sample.bytes == payload[..expected], "{len} bytes to {port}: {} bytes", sample.bytes.len());
    }
    // Padding of a short frame is none of the payload.
    let mut frame = v4(TCP, &data(80, b"GET /"));
    frame.resize(64, b'x');
    let samples = sampled(&mut loaded, &frame)?;
    ensure!(samples.len() == 1 && samples[0].bytes == b"GET /", "{samples:?}");
    Ok(())
}

fn request_from(source: Ipv4Addr) -> Vec<u8> {
    v4_with(&V4 { protocol: TCP, source: Some(source), ..V4::default() }, &data(80, REQUEST))
}

fn source_budget() -> Result<()> {
    let content = Sampling { source_budget: 10, ..Sampling::default() };
    let mut loaded = program::load_sampling(&Settings::default(), &content)?;
    for epoch in 1..=3 {
        for source in [SOURCE, Ipv4Addr::new(192, 0, 2, 8)] {
            loaded.run(&request_from(source), 100)?;
        }
        loaded.run_egress(
            &turned(v4(TCP, &[from_port(DATA, 80).as_slice(), b"HTTP/1.1 404 No"].concat())),
            false,
            20,
        )?;
        let tally = tally(&mut loaded)?;
        ensure!(tally.sampled(Begins::Request) == 20 * epoch, "{:?}", tally.sampled);
        ensure!(tally.sampled(Begins::Status) == 10 * epoch, "{:?}", tally.sampled);
        ensure!(tally.left_out(LeftOut::SourceBudget) == 190 * epoch, "{:?}", tally.left_out);
    }
    ensure!(loaded.samples().len() == 90);
    Ok(())
}

fn cpu_budget() -> Result<()> {
    crate::pin_to_one_cpu()?;
    let content = Sampling { cpu_budget: 50, ..Sampling::default() };
    let mut loaded = program::load_sampling(&Settings::default(), &content)?;
    for epoch in 1..=3 {
        for source in 0..200 {
            loaded.run(&request_from(Ipv4Addr::from(0x0a00_0000 + source)), 1)?;
        }
        let tally = tally(&mut loaded)?;
        ensure!(tally.sampled(Begins::Request) == 50 * epoch, "{:?}", tally.sampled);
        ensure!(tally.left_out(LeftOut::CpuBudget) == 150 * epoch, "{:?}", tally.left_out);
    }
    Ok(())
}

fn udp_budget() -> Result<()> {
    crate::pin_to_one_cpu()?;
    let content = Sampling { cpu_budget: 50, ..Sampling::default() };
    let mut loaded = program::load_sampling(&Settings::default(), &content)?;
    for source in 0..200 {
        let source = Some(Ipv4Addr::from(0x0a00_0000 + source));
        let with = V4 { protocol: UDP, source, ..V4::default() };
        loaded.run(&v4_with(&with, &udp(40_000, 53, &dns(1))), 1)?;
    }
    for source in 0..200 {
        loaded.run(&request_from(Ipv4Addr::from(0x0a01_0000 + source)), 1)?;
    }
    let tally = tally(&mut loaded)?;
    for begins in [Begins::Query, Begins::Request] {
        ensure!(tally.sampled(begins) == 50, "{begins:?}: {:?}", tally.sampled);
    }
    ensure!(tally.left_out(LeftOut::CpuBudget) == 300, "{:?}", tally.left_out);
    Ok(())
}

fn greeting_budget() -> Result<()> {
    crate::pin_to_one_cpu()?;
    let content = Sampling { cpu_budget: 50, ..Sampling::default() };
    let mut loaded = program::load_sampling(&Settings::default(), &content)?;
    for (network, port, payload) in [(0x0a00_0000, 161, COMMUNITY), (0x0a01_0000, 53, &*dns(1))] {
        for source in 0..200 {
            let source = Some(Ipv4Addr::from(network + source));
            let with = V4 { protocol: UDP, source, ..V4::default() };
            loaded.run(&v4_with(&with, &udp(40_000, port, payload)), 1)?;
        }
    }
    let tally = tally(&mut loaded)?;
    for begins in [Begins::Greeting, Begins::Query] {
        ensure!(tally.sampled(begins) == 50, "{begins:?}: {:?}", tally.sampled);
    }
    Ok(())
}

fn first_words() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    let content = Sampling { service_ports: vec![server.port()], ..Sampling::default() };
    let mut loaded = program::load_sampling(&Settings::default(), &content)?;
    let mut client = TcpStream::connect(server)?;
    let (mut accepted, _) = listener.accept()?;
    let address = client.local_addr()?;
    let mut read = 0;
    for (position, expected) in [(0, true), (21, true), (255, true), (256, false), (5_000, false)] {
        let more = vec![b'x'; position - read];
        client.write_all(&more)?;
        accepted.read_exact(&mut more.clone())?;
        read = position;
        let numbers = numbers::of(&accepted)?;
        let samples = sampled(&mut loaded, &segment(address, server, numbers, BANNER)?)?;
        let owned: Vec<_> = samples.iter().map(|sample| (sample.owned, sample.place.position)).collect();
        let wanted = if expected { vec![(true, position as u64)] } else { Vec::new() };
        ensure!(owned == wanted, "{position}: {owned:?}");
    }
    // Nobody knows where a segment lies that no connection proves.
    let samples = sampled(&mut loaded, &segment(address, server, (1, 1), BANNER)?)?;
    ensure!(samples.len() == 1 && !samples[0].owned, "{samples:?}");
    Ok(())
}

fn ring_full() -> Result<()> {
    let content = Sampling { source_budget: 50_000, cpu_budget: 50_000, ..Sampling::default() };
    let mut loaded = program::load_sampling(&Settings::default(), &content)?;
    let frame = v4(TCP, &data(443, &hello(1_400)));
    loaded.run(&frame, 10_000)?;
    let tally = tally(&mut loaded)?;
    let (sent, lost) = (tally.sampled(Begins::Hello), tally.left_out(LeftOut::RingFull));
    ensure!(sent > 1_000 && lost > 1_000 && sent + lost == 10_000, "{sent} sent, {lost} lost");
    ensure!(loaded.samples().len() as u64 == sent);
    ensure!(sampled(&mut loaded, &frame)?.len() == 1, "there is room again");
    Ok(())
}

fn off() -> Result<()> {
    let content = Sampling { enabled: false, ..Sampling::default() };
    let mut loaded = program::load_sampling(&Settings::default(), &content)?;
    for (_, frame, _) in arriving() {
        loaded.feed(&frame)?;
    }
    for (_, frame, _) in leaving() {
        loaded.feed_leaving(&frame)?;
    }
    let tally = tally(&mut loaded)?;
    ensure!((tally.sampled, tally.left_out) == (Tally::ZERO.sampled, Tally::ZERO.left_out), "{tally:?}");
    ensure!(loaded.samples().is_empty());
    Ok(())
}

fn ports() -> Result<()> {
    let content = Sampling { web_ports: vec![8000, 65_535], dns_ports: vec![5353], ..Sampling::default() };
    let mut loaded = program::load_sampling(&Settings::default(), &content)?;
    for (frame, expected) in [
        (v4(TCP, &data(8000, REQUEST)), 1),
        (v6(TCP, &data(65_535, REQUEST)), 1),
        (v4(TCP, &data(80, REQUEST)), 0),
        (v4(TCP, &data(7999, REQUEST)), 0),
        (v4(TCP, &data(8001, REQUEST)), 0),
        (v4(UDP, &udp(40_000, 5353, &dns(1))), 1),
        (v4(UDP, &udp(40_000, 53, &dns(1))), 0),
        (v4(TCP, &data(5353, &framed(&dns(1)))), 1),
    ] {
        let samples = sampled(&mut loaded, &frame)?;
        ensure!(samples.len() == expected, "{samples:?}");
    }
    Ok(())
}

fn banned() -> Result<()> {
    let mut loaded = program::load(&Settings::default())?;
    loaded.kernel.set_gate(GateMode::Enforce, true)?;
    loaded.kernel.ban(IpAddr::from(SOURCE).into(), None, true)?;
    for frame in [v4(TCP, &data(80, REQUEST)), v4(UDP, &udp(40_000, 53, &dns(1)))] {
        ensure!(sampled(&mut loaded, &frame)?.is_empty());
    }
    ensure!(tally(&mut loaded)?.exit(Exit::Banned) == 2);
    loaded.kernel.unban(IpAddr::from(SOURCE).into())?;
    ensure!(sampled(&mut loaded, &v4(TCP, &data(80, REQUEST)))?.len() == 1);
    Ok(())
}

/// A request from a client to a server in a segment with these numbers.
fn request(client: SocketAddr, server: SocketAddr, numbers: (u32, u32)) -> Result<Vec<u8>> {
    segment(client, server, numbers, REQUEST)
}

/// A segment from a client to a server with these numbers.
fn segment(
    client: SocketAddr,
    server: SocketAddr,
    (sequence, acknowledgment): (u32, u32),
    payload: &[u8],
) -> Result<Vec<u8>> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (client.ip(), server.ip()) else { bail!("IPv4") };
    let mut segment = data(server.port(), payload);
    segment[..2].copy_from_slice(&client.port().to_be_bytes());
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    segment[8..12].copy_from_slice(&acknowledgment.to_be_bytes());
    let with = V4 { protocol: TCP, source: Some(source), destination: Some(destination), ..V4::default() };
    Ok(v4_with(&with, &segment))
}

fn owned() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    let content = Sampling { web_ports: vec![server.port()], ..Sampling::default() };
    let mut loaded = program::load_sampling(&Settings::default(), &content)?;
    let mut client = TcpStream::connect(server)?;
    let (accepted, _) = listener.accept()?;
    client.write_all(REQUEST)?;
    let address = client.local_addr()?;
    let nobody = SocketAddr::new(address.ip(), address.port() ^ 1);
    let (wanted, next) = numbers::of(&accepted)?;
    for (name, from, sequence, acknowledgment, expected) in [
        ("the next segment", address, wanted, next, true),
        ("one behind others that are under way", address, wanted.wrapping_add(1_460), next, true),
        ("one of before", address, wanted.wrapping_sub(1), next, false),
        ("a false acknowledgment", address, wanted, next.wrapping_add(1), false),
        ("an old acknowledgment", address, wanted, next.wrapping_sub(1), false),
        ("a guessed sequence number", address, wanted ^ 0x1111_1111, next, false),
        ("a guessed acknowledgment", address, wanted, next ^ 0x1111_1111, false),
        ("no numbers", address, 0, 0, false),
        ("another port, where only the listener is", nobody, wanted, next, false),
        ("the same without numbers, as a listener has none", nobody, 0, 0, false),
    ] {
        let samples = sampled(&mut loaded, &request(from, server, (sequence, acknowledgment))?)?;
        let sample = samples.first().context("a sample")?;
        ensure!(sample.owned == expected && sample.bytes == REQUEST, "{name}: {sample:?}");
    }
    // Messages of this host are its own; messages that it forwards are not known to be their source's.
    for is_forwarded in [false, true] {
        let status = [from_port(DATA, server.port()).as_slice(), b"HTTP/1.1 200 OK\r\n"].concat();
        loaded.run_egress(&turned(v4(TCP, &status)), is_forwarded, 1)?;
        let samples = loaded.samples();
        ensure!(samples.len() == 1 && samples[0].owned != is_forwarded, "{samples:?}");
    }
    Ok(())
}

fn prefix() -> Result<()> {
    let mut loaded = program::load(&Settings { ipv6_prefix: 48, ..Settings::default() })?;
    let samples = sampled(&mut loaded, &v6(TCP, &data(80, REQUEST)))?;
    ensure!(samples.len() == 1, "{samples:?}");
    let source = samples[0].source.to_ip();
    ensure!(source == "2001:db8:7::".parse::<IpAddr>()?, "{source}");
    Ok(())
}
