//! Connections that one side no longer knows, and services that are down for a while.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::fixtures::{
    clients::{at, forget, knock, listen},
    lab::{Namespace, SCANNER, VICTIM},
    stage::Stage,
};

/// Twice a second while nginx runs, is gone for a minute, and runs again.
pub(super) fn retries(stage: &mut Stage<'_>) -> Result<()> {
    let lab = stage.lab;
    let attempts = |times: u32| {
        lab.scanner.enter(|| {
            let mut reached = 0;
            for _ in 0..times {
                reached += u32::from(knock(at(VICTIM, 80)).is_ok());
                thread::sleep(Duration::from_millis(500));
            }
            Ok(reached)
        })
    };
    stage.nginx(&lab.victim, &[80])?;
    ensure!(attempts(6)? == 6, "nginx does not answer");
    stage.kill("nginx");
    ensure!(attempts(120)? == 0, "nginx is still there");
    stage.nginx(&lab.victim, &[80])?;
    ensure!(attempts(6)? == 6, "nginx does not answer again");
    Ok(())
}

/// A connection, both ends.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

fn pairs(client: &Namespace, listener: &TcpListener, server: SocketAddr, count: usize) -> Result<Vec<Pair>> {
    let connect = || TcpStream::connect_timeout(&server, Duration::from_secs(5)).context("connect");
    (0..count)
        .map(|_| {
            let client = client.enter(connect)?;
            let (mut server, _) = listener.accept()?;
            server.write_all(b"welcome")?;
            Ok(Pair { client, server })
        })
        .collect()
}

/// The connections are gone, the service is back: data, then closes, of the clients.
pub(super) fn restart(stage: &mut Stage<'_>) -> Result<()> {
    let lab = stage.lab;
    let listener = listen(&lab.victim, 80)?;
    let pairs = pairs(&lab.scanner, &listener, at(VICTIM, 80), 200)?;
    let clients = forget_servers(pairs)?;
    drop(listener);
    // Half of them while it is down, half when it is up.
    send_and_close(clients, |number| if number == 100 { listen(&lab.victim, 80).map(Some) } else { Ok(None) })
}

fn forget_servers(pairs: Vec<Pair>) -> Result<Vec<TcpStream>> {
    let forgotten = pairs.into_iter().map(|Pair { client, server }| forget(server).map(|()| client));
    forgotten.collect()
}

fn send_and_close(
    clients: Vec<TcpStream>,
    mut meanwhile: impl FnMut(usize) -> Result<Option<TcpListener>>,
) -> Result<()> {
    let mut restarted = None;
    for (number, mut client) in clients.into_iter().enumerate() {
        restarted = meanwhile(number)?.or(restarted);
        // It is reset in reply, which is no matter to us.
        let _ = client.write_all(b"are you still there?");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// No data before the FIN: what this host sees are lone FIN+ACK segments.
pub(super) fn late_closes(stage: &mut Stage<'_>) -> Result<()> {
    let lab = stage.lab;
    let listener = listen(&lab.victim, 80)?;
    let clients = forget_servers(pairs(&lab.scanner, &listener, at(VICTIM, 80), 200)?)?;
    // Clients read what there is: a close with unread data would be a reset.
    for client in clients {
        close_cleanly(client)?;
    }
    Ok(())
}

fn close_cleanly(stream: TcpStream) -> Result<()> {
    use std::io::Read as _;
    let mut stream = stream;
    let mut welcome = [0; 7];
    stream.read_exact(&mut welcome)?;
    drop(stream);
    thread::sleep(Duration::from_millis(5));
    Ok(())
}

/// This host was the client, from 200 ports; the server speaks and closes when they are forgotten.
pub(super) fn forgotten_clients(stage: &mut Stage<'_>) -> Result<()> {
    let lab = stage.lab;
    let listener = listen(&lab.scanner, 80)?;
    let pairs = pairs(&lab.victim, &listener, at(SCANNER, 80), 200)?;
    for (number, Pair { client, mut server }) in pairs.into_iter().enumerate() {
        forget(client)?;
        if number % 2 == 0 {
            // It is reset in reply.
            let _ = server.write_all(b"are you still there?");
        }
        drop(server);
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Clients behind the scanner, which masquerades them; it forgets all connections, then they go on.
pub(super) fn nat_timeout(stage: &mut Stage<'_>) -> Result<()> {
    let lab = stage.lab;
    let inside = Namespace::new("inside")?;
    lab.scanner.join([("nat0", "10.76.0.1/24"), ("in0", "10.76.0.2/24")], &inside)?;
    inside.ip("route add default via 10.76.0.1")?;
    lab.scanner.sysctl("ipv4/ip_forward", "1")?;
    let rules = stage.file(
        "nat.nft",
        "table ip nat {\n chain out {\n  type nat hook postrouting priority 100;\n  \
         ip saddr 10.76.0.0/24 masquerade fully-random\n }\n}\n",
    )?;
    stage.run(&lab.scanner, &format!("nft -f {rules}"), Duration::from_secs(10))?;
    let listener = listen(&lab.victim, 80)?;
    let pairs = pairs(&inside, &listener, at(VICTIM, 80), 100)?;
    stage.run(&lab.scanner, "conntrack -F", Duration::from_secs(10))?;
    let (clients, servers): (Vec<_>, Vec<_>) =
        pairs.into_iter().map(|pair| (pair.client, pair.server)).unzip();
    send_and_close(clients, |_| Ok(None))?;
    drop(servers);
    stage.hosts.push(inside);
    Ok(())
}
