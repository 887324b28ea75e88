//! Connections, as the kernel itself counts them.

use std::{
    io::Read as _,
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::Agent,
    clients::{at, serve, visit},
    lab::{Lab, Namespace, PATIENCE, SCANNER, SCANNER6, VICTIM, VICTIM6, wait_for},
    scenario::Scenario,
};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("proof: a connection counts once it is established, however silent it stays", established),
        trial("proof: an unusual TCP connection counts as one, like any other", unusual),
        trial("proof: connections in another network namespace vouch for nobody", elsewhere),
    ]
}

const CONFIG: &str = "[sensor]\npoll_interval = \"100ms\"\n";
const PORT: u16 = 7_001;

/// Each source's address, and the number of connections that it completed, as the agent reports them.
fn completed(agent: &Agent<'_>) -> Result<Vec<(String, u64)>> {
    let listed = agent.json(&["sources"])?;
    let sources = listed["sources"].as_array().context("sources")?;
    let of = |source: &serde_json::Value| {
        Some((source["net"].as_str()?.to_owned(), source["completed"].as_u64()?))
    };
    let mut all: Vec<_> = sources.iter().filter_map(of).collect();
    all.sort();
    Ok(all)
}

/// The numbers alone, in the order of the sources' addresses.
fn counts(agent: &Agent<'_>) -> Result<Vec<u64>> {
    Ok(completed(agent)?.into_iter().map(|(_, count)| count).collect())
}

/// The tracepoint that counts connections is attached, on which these tests stand.
fn is_attached(agent: &Agent<'_>) -> Result<()> {
    ensure!(agent.settled()?.get("scanguard_connections_attached") == 1.0);
    Ok(())
}

fn established() -> Result<()> {
    let scenario = Scenario::new(CONFIG)?;
    let _server = serve(&scenario.lab.victim, [PORT])?;
    scenario.run(|lab, agent| {
        is_attached(agent)?;
        let open = lab.scanner.enter(|| {
            let connect = |ip| TcpStream::connect(at(ip, PORT)).context("connect");
            Ok([connect(VICTIM)?, connect(VICTIM)?, connect(VICTIM6)?])
        })?;
        wait_for("three connections are counted", PATIENCE, || (counts(agent).ok()? == [2, 1]).then_some(()))
            .with_context(|| format!("{:?}", completed(agent)))?;
        drop(open);
        agent.settled()?;
        let counts = counts(agent)?;
        ensure!(counts == [2, 1], "their ends count for nothing: {counts:?}");
        Ok(())
    })
}

/// `IPPROTO_MPTCP` (include/uapi/linux/in.h).
const MPTCP: i32 = 262;
/// Asks for TCP Fast Open on both sides, without cookies (Documentation/networking/ip-sysctl.rst, `tcp_fastopen`).
const FAST_OPEN: &str = "0x207";

fn unusual() -> Result<()> {
    let scenario = Scenario::new(CONFIG)?;
    for host in [&scenario.lab.victim, &scenario.lab.scanner] {
        host.sysctl("ipv4/tcp_fastopen", FAST_OPEN)?;
    }
    scenario.run(|lab, agent| {
        is_attached(agent)?;
        let mut connections = 0;
        for (name, play) in UNUSUAL {
            connections += play(lab).context(*name)?;
            wait_for(name, PATIENCE, || (counts(agent).ok()? == [connections]).then_some(()))
                .with_context(|| format!("{connections} expected: {:?}", completed(agent)))?;
            agent.settled()?;
            let counted = counts(agent)?;
            ensure!(counted == [connections], "{name}: {counted:?}, not {connections}");
        }
        Ok(())
    })
}

/// Plays connections, and returns how many.
type Play = fn(&Lab) -> Result<u64>;

/// Unusual connections, and how they are played.
const UNUSUAL: &[(&str, Play)] = &[
    ("SYN cookies", |lab| {
        lab.victim.sysctl("ipv4/tcp_syncookies", "2")?;
        let _open = open(lab, Protocol::TCP, |_| Ok(()))?;
        lab.victim.sysctl("ipv4/tcp_syncookies", "1")?;
        Ok(1)
    }),
    ("Multipath TCP", |lab| {
        let _open = open(lab, Protocol::from(MPTCP), |_| Ok(()))?;
        Ok(1)
    }),
    ("Fast Open", |lab| {
        let listener = listen(lab, Protocol::TCP)?;
        let one = 1_i32;
        // SAFETY: a socket that is open, and an option of an int.
        let set = unsafe {
            libc::setsockopt(
                listener.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_FASTOPEN,
                (&raw const one).cast(),
                size_of::<i32>() as u32,
            )
        };
        ensure!(set == 0, "{}", std::io::Error::last_os_error());
        lab.scanner.enter(|| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
            let sent = client.send_to_with_flags(b"hello", &at(VICTIM, PORT).into(), libc::MSG_FASTOPEN)?;
            ensure!(sent == 5, "{sent} bytes");
            let mut accepted = listener.accept()?.0;
            let mut said = [0; 5];
            accepted.read_exact(&mut said)?;
            ensure!(said == *b"hello", "{said:?}");
            Ok(())
        })?;
        Ok(1)
    }),
    ("the same ports again, while the server waits (TIME_WAIT)", |lab| {
        for _ in 0..2 {
            let (client, server) = open(lab, Protocol::TCP, |client| {
                client.set_reuse_address(true)?;
                Ok(client.bind(&at(SCANNER, 45_000).into())?)
            })?;
            // The side that ends first waits.
            drop(server);
            std::thread::sleep(Duration::from_millis(100));
            drop(client);
        }
        Ok(2)
    }),
    ("keep-alive probes", |lab| {
        let second = Duration::from_secs(1);
        let _open = open(lab, Protocol::TCP, |client| {
            Ok(client.set_tcp_keepalive(&TcpKeepalive::new().with_time(second).with_interval(second))?)
        })?;
        std::thread::sleep(3 * second);
        Ok(1)
    }),
];

fn listen(lab: &Lab, protocol: Protocol) -> Result<Socket> {
    lab.victim.enter(|| {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol))?;
        listener.set_reuse_address(true)?;
        listener.bind(&at(VICTIM, PORT).into())?;
        listener.listen(8)?;
        Ok(listener)
    })
}

/// A connection, both ends of it.
fn open(
    lab: &Lab,
    protocol: Protocol,
    prepare: impl FnOnce(&Socket) -> Result<()> + Send,
) -> Result<(Socket, Socket)> {
    let listener = listen(lab, protocol)?;
    let client = lab.scanner.enter(|| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, Some(protocol))?;
        prepare(&client)?;
        client.connect(&at(VICTIM, PORT).into())?;
        Ok(client)
    })?;
    Ok((client, listener.accept()?.0))
}

fn elsewhere() -> Result<()> {
    let scenario = Scenario::new(CONFIG)?;
    let _server = serve(&scenario.lab.victim, [PORT])?;
    scenario.run(|lab, agent| {
        for ip in [VICTIM, VICTIM6] {
            // The route of an IPv6 address may take a moment longer than the address.
            let visit = || lab.scanner.enter(|| Ok(visit(at(ip, PORT))?)).ok();
            wait_for("the client is served", PATIENCE, visit)?;
        }
        wait_for("both addresses of the client are known", PATIENCE, || {
            (counts(agent).ok()? == [1, 1]).then_some(())
        })?;
        let before = completed(agent)?;
        // Any user can have this: a namespace of his own, and there any address.
        let other = Namespace::new("other")?;
        for (ip, bits, flag) in [(SCANNER, 32, ""), (SCANNER6, 128, " nodad")] {
            other.ip(&format!("addr add {ip}/{bits} dev lo{flag}"))?;
            other.enter(|| {
                let listener = TcpListener::bind((ip, PORT))?;
                for _ in 0..5 {
                    let _client = TcpStream::connect((ip, PORT))?;
                    listener.accept()?;
                }
                Ok(())
            })?;
        }
        agent.settled()?;
        let after = completed(agent)?;
        ensure!(after == before, "{before:?} before, {after:?} after");
        Ok(())
    })
}
