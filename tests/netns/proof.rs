//! What the kernel itself says of connections.

use std::{
    net::{TcpListener, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    agent::Agent,
    clients::{at, serve, visit},
    lab::{Lab, Namespace, SCANNER, SCANNER6, VICTIM, VICTIM6, wait_for},
};

use crate::{counts::config_file, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("proof: a connection counts once it is established, however silent it stays", established),
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
