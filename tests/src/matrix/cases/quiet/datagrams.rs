//! UDP that nobody should take for a scan.

use std::{
    fmt::Write as _,
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::fixtures::{
    clients::at,
    lab::{SCANNER, SCANNER_INTERFACE, VICTIM, run},
    stage::Stage,
};

const NAMES: usize = 400;

/// dnsmasq with one answer to everything, and a list of names to ask for.
pub(super) fn resolver(stage: &mut Stage<'_>, on_victim: bool) -> Result<()> {
    let lab = stage.lab;
    let host = if on_victim { &lab.victim } else { &lab.scanner };
    let names = (0..NAMES).fold(String::new(), |mut names, number| {
        // Writing to a String does not fail.
        let _ = writeln!(names, "host{number}.example.net");
        names
    });
    stage.file("names", &names)?;
    stage.start(
        "dnsmasq",
        host,
        "dnsmasq -k -C /dev/null -u root -x {dir}/pid --no-resolv --no-hosts --address=/#/192.0.2.1",
    )?;
    stage.await_port("dnsmasq", host, 53)
}

pub(super) fn dns_server(stage: &mut Stage<'_>) -> Result<()> {
    resolver(stage, true)?;
    stage.client("dig @{victim} +short +tries=1 -f {dir}/names")
}

pub(super) fn dns_client(stage: &mut Stage<'_>) -> Result<()> {
    resolver(stage, false)?;
    stage.run(&stage.lab.victim, "dig @{scanner} +short +tries=1 -f {dir}/names", Duration::from_secs(60))
}

/// A slow resolver: the sockets that asked are closed when the answers come.
pub(super) fn late_answers(stage: &mut Stage<'_>) -> Result<()> {
    let server = stage.lab.scanner.enter(|| UdpSocket::bind((SCANNER, 53)).context("bind"))?;
    server.set_read_timeout(Some(Duration::from_secs(5)))?;
    for _ in 0..100 {
        let asker = stage.lab.victim.enter(|| UdpSocket::bind((VICTIM, 0)).context("bind"))?;
        asker.send_to(b"where is example.net?", (SCANNER, 53))?;
        let mut question = [0; 512];
        let (length, from) = server.recv_from(&mut question)?;
        drop(asker);
        server.send_to(&question[..length], from)?;
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Each peer has an address of its own and sends from several ports, as behind a NAT that changes them.
pub(super) fn peers(stage: &mut Stage<'_>) -> Result<()> {
    let lab = stage.lab;
    let socket = lab.victim.enter(|| UdpSocket::bind((VICTIM, 6881)).context("bind"))?;
    socket.set_nonblocking(true)?;
    let addresses: Vec<_> = (50..200).map(|number| format!("10.77.0.{number}")).collect();
    let script = addresses.iter().fold(String::new(), |script, address| {
        script + &format!("addr add {address}/24 dev {SCANNER_INTERFACE}\n")
    });
    let script = stage.file("addresses", &script)?;
    run(lab.scanner.command("ip").args(["-batch", &script]))?;
    let peers = lab.scanner.enter(|| {
        let sockets = addresses.iter().flat_map(|address| (0..4).map(move |_| address));
        sockets
            .map(|address| UdpSocket::bind((address.as_str(), 0)).context("bind"))
            .collect::<Result<Vec<_>>>()
    })?;
    let mut received = 0;
    for round in 0..3 {
        for peer in &peers {
            peer.send_to(b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", at(VICTIM, 6881))?;
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                received += 1;
                socket.send_to(&packet[..length], from)?;
            }
        }
        // This host speaks first, too.
        for peer in peers.iter().skip(round).step_by(3) {
            socket.send_to(b"hello", peer.local_addr()?)?;
        }
    }
    ensure!(received > peers.len(), "{received} datagrams of {} peers", peers.len());
    Ok(())
}

/// The usual broadcasts and multicasts of a local network, for half a minute.
pub(super) fn chatter(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| {
        let socket = UdpSocket::bind((SCANNER, 0))?;
        socket.set_broadcast(true)?;
        let broadcast = ["10.77.0.255:137", "10.77.0.255:138", "255.255.255.255:67", "10.77.0.255:17500"];
        let multicast =
            ["224.0.0.251:5353", "239.255.255.250:1900", "239.255.255.250:3702", "224.0.0.252:5355"];
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) {
            for group in broadcast.iter().chain(&multicast) {
                socket.send_to(b"is anybody there?", group).with_context(|| (*group).to_owned())?;
            }
            thread::sleep(Duration::from_secs(2));
        }
        Ok(())
    })
}
