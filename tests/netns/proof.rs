//! What the kernel itself says of connections.

use std::{
    io::Read as _,
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::agent::Agent,
    fixtures::clients::{at, serve, visit},
    fixtures::lab::{Lab, Namespace, SCANNER, SCANNER6, VICTIM, VICTIM6, wait_for},
};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::{counts::config_file, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("proof: a connection counts once it is established, however silent it stays", established),
        trial("proof: what is unusual in TCP counts as one connection, like all else", unusual),
        trial("proof: connections in another network namespace vouch for nobody", elsewhere),
    ]
}

const PATIENCE: Duration = Duration::from_secs(20);
const CONFIG: &str = "[sensor]\npoll_interval = \"100ms\"\n";
const PORT: u16 = 7_001;

/// Connections that the sources completed, IPv4's and IPv6's, as the agent tells.
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

fn established() -> Result<()> {
    let lab = Lab::new()?;
    let _server = serve(&lab.victim, [PORT])?;
    let config = config_file(CONFIG)?;
    let mut agent = Agent::start(&lab.victim, &["--config", &config.path()])?;
    ensure!(agent.settled()?.get("scanguard_connections_attached") == 1.0, "{}", agent.said());
    let open = lab.scanner.enter(|| {
        let connect = |ip| TcpStream::connect(at(ip, PORT)).context("connect");
        Ok([connect(VICTIM)?, connect(VICTIM)?, connect(VICTIM6)?])
    })?;
    wait_for("three connections are counted", PATIENCE, || {
        let counts: Vec<_> = completed(&agent).ok()?.into_iter().map(|(_, count)| count).collect();
        (counts == [2, 1]).then_some(())
    })
    .with_context(|| format!("{:?}", completed(&agent)))?;
    drop(open);
    agent.settled()?;
    let counts: Vec<_> = completed(&agent)?.into_iter().map(|(_, count)| count).collect();
    ensure!(counts == [2, 1], "their ends count for nothing: {counts:?}");
    ensure!(agent.stop()? == Some(0), "{}", agent.said());
    Ok(())
}

/// `IPPROTO_MPTCP` (include/uapi/linux/in.h).
const MPTCP: i32 = 262;
/// Asks for TCP Fast Open on both sides, without cookies (Documentation/networking/ip-sysctl.rst, `tcp_fastopen`).
const FAST_OPEN: &str = "0x207";

fn unusual() -> Result<()> {
    let lab = Lab::new()?;
    lab.victim.sysctl("ipv4/tcp_fastopen", FAST_OPEN)?;
    lab.scanner.sysctl("ipv4/tcp_fastopen", FAST_OPEN)?;
    let config = config_file(CONFIG)?;
    let mut agent = Agent::start(&lab.victim, &["--config", &config.path()])?;
    ensure!(agent.settled()?.get("scanguard_connections_attached") == 1.0, "{}", agent.said());
    let mut connections = 0;
    for (name, play) in UNUSUAL {
        connections += play(&lab).context(*name)?;
        wait_for(name, PATIENCE, || {
            let counted: Vec<_> = completed(&agent).ok()?.into_iter().map(|(_, count)| count).collect();
            (counted == [connections]).then_some(())
        })
        .with_context(|| format!("{connections} expected: {:?}", completed(&agent)))?;
        agent.settled()?;
        let counted: Vec<_> = completed(&agent)?.into_iter().map(|(_, count)| count).collect();
        ensure!(counted == [connections], "{name}: {counted:?}, not {connections}");
    }
    ensure!(agent.stop()? == Some(0), "{}", agent.said());
    Ok(())
}

/// Plays connections, and says how many.
type Play = fn(&Lab) -> Result<u64>;

/// What is unusual, and how it is played.
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
    let lab = Lab::new()?;
    let _server = serve(&lab.victim, [PORT])?;
    let config = config_file(CONFIG)?;
    let mut agent = Agent::start(&lab.victim, &["--config", &config.path()])?;
    for ip in [VICTIM, VICTIM6] {
        // The route of an IPv6 address may take a moment longer than the address.
        wait_for("the client is served", PATIENCE, || lab.scanner.enter(|| Ok(visit(at(ip, PORT))?)).ok())?;
    }
    let counted = wait_for("both addresses of the client are known", PATIENCE, || {
        let known = completed(&agent).ok()?;
        (known.iter().map(|(_, count)| *count).collect::<Vec<_>>() == [1, 1]).then_some(known)
    })?;
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
    ensure!(completed(&agent)? == counted, "{:?}", completed(&agent));
    ensure!(agent.stop()? == Some(0), "{}", agent.said());
    Ok(())
}
