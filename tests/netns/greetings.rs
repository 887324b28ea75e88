//! First words in protocols other than HTTP, TLS and DNS, from real sockets: guesses are told and never proven over UDP,
//! and what lies behind the beginning of a connection is no first word.

use std::{
    io::{self, Write as _},
    net::{TcpStream, UdpSocket},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::Agent,
    clients::{at, listen},
    lab::{Lab, PATIENCE, SCANNER, VICTIM, wait_for},
    scenario::Scenario,
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("greetings: guesses over UDP are told, and ban nobody", guesses),
        trial("greetings: a scanner's name at the beginning of a connection is proven", named),
        trial("greetings: the same name in an upload is not heard", upload),
    ]
}

const ENFORCE: &str = "[sensor]\npoll_interval = \"100ms\"\n[response]\nmode = \"enforce\"\n";
const SSH: u16 = 22;
const NAME: &[u8] = b"SSH-2.0-Nmap-SSH2-Hostkey\r\n";

/// Waits until the rule's finding is opened; the finding.
fn opened(agent: &Agent<'_>) -> Result<serde_json::Value> {
    let is_it = |finding: &serde_json::Value| {
        finding["event"] == "opened" && finding["rule"] == "service_enumeration"
    };
    let found = wait_for("the finding", PATIENCE, || agent.findings().into_iter().find(is_it));
    found.with_context(|| agent.said())
}

/// Whether it is of the scanner, and says so of its evidence.
fn is_of_scanner(finding: &serde_json::Value, spoofable: &str) -> bool {
    let says = finding["spoofable"].as_str().unwrap_or_default();
    finding["source"]["ip"] == SCANNER && says.starts_with(spoofable)
}

/// How many first words the agent has read, once it has read all samples.
fn read(agent: &Agent<'_>) -> Result<f64> {
    agent.settled()?;
    wait_for("all samples are read", PATIENCE, || {
        let metrics = agent.metrics().ok()?;
        let sent = metrics.sum("scanguard_samples_total{");
        let greetings = metrics.get("scanguard_samples_total{begins=\"greeting\"}");
        (metrics.get("scanguard_samples_heard_total") == sent).then_some(greetings)
    })
}

/// A request of SNMP with this community.
fn community(number: u8) -> Vec<u8> {
    let rest = b"\xa0\x19\x02\x01\x07\x02\x01\0\x02\x01\0\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x01\0\x05\0";
    let inner = [&[2, 1, 1, 4, 4, b'w', b'o', b'r', b'a' + number], rest.as_slice()].concat();
    [&[0x30, u8::try_from(inner.len()).unwrap_or(u8::MAX)], inner.as_slice()].concat()
}

fn guesses() -> Result<()> {
    let scenario = Scenario::new(ENFORCE)?.with(&["--format", "json"]);
    let server = scenario.lab.victim.enter(|| UdpSocket::bind((VICTIM, 161)).context("bind"))?;
    scenario.run(|lab, agent| {
        let poller = lab.scanner.enter(|| UdpSocket::bind((SCANNER, 0)).context("bind"))?;
        let guess = |number: u8| poller.send_to(&community(number), at(VICTIM, 161));
        for number in 0..60 {
            guess(number % 2)?;
        }
        ensure!(read(agent)? == 60.0 && agent.findings().is_empty(), "a poller: {:?}", agent.findings());
        (0..10).try_for_each(|number| guess(number).map(drop))?;
        let finding = opened(agent)?;
        ensure!(is_of_scanner(&finding, "yes: ") && finding["confidence"] == "medium", "{finding}");
        ensure!(finding["content"]["services"]["protocols"] == serde_json::json!(["snmp"]), "{finding}");
        ensure!(!finding.to_string().contains("wor"), "a community is named: {finding}");
        // A shield drops what nobody wants; the service is served on.
        agent.settled()?;
        server.set_read_timeout(Some(PATIENCE))?;
        let mut served = 0;
        while served < 71 {
            if served == 70 {
                guess(0)?;
            }
            server.recv(&mut [0; 128]).with_context(|| format!("after {served} datagrams"))?;
            served += 1;
        }
        Ok(())
    })
}

/// A server that takes everything, and how many clients it serves.
fn swallow(lab: &Lab, clients: usize) -> Result<()> {
    let listener = listen(&lab.victim, SSH)?;
    thread::spawn(move || {
        for client in listener.incoming().take(clients).map_while(Result::ok) {
            // A client that goes away early is no matter.
            let _ = io::copy(&mut &client, &mut io::sink());
        }
    });
    Ok(())
}

fn says(lab: &Lab, words: &[&[u8]]) -> Result<()> {
    lab.scanner.enter(|| {
        let mut connection = TcpStream::connect(at(VICTIM, SSH))?;
        words.iter().try_for_each(|words| connection.write_all(words))?;
        Ok(())
    })
}

fn named() -> Result<()> {
    let scenario = Scenario::new(ENFORCE)?.with(&["--format", "json"]);
    swallow(&scenario.lab, 21)?;
    scenario.run(|lab, agent| {
        for _ in 0..20 {
            says(lab, &[b"SSH-2.0-check_ssh_2.3\r\n"])?;
        }
        ensure!(read(agent)? == 20.0 && agent.findings().is_empty(), "a monitor: {:?}", agent.findings());
        says(lab, &[NAME])?;
        let finding = opened(agent)?;
        ensure!(is_of_scanner(&finding, "no: ") && finding["confidence"] == "high", "{finding}");
        ensure!(finding["content"]["tools"] == serde_json::json!(["Nmap-SSH2-Hostkey"]), "{finding}");
        wait_for("the ban", PATIENCE, || (agent.metrics().ok()?.sum("scanguard_bans{") == 1.0).then_some(()))
    })
}

/// A page can make the browser of its visitor send any bytes, but only behind the head of a request.
fn upload() -> Result<()> {
    let scenario = Scenario::new(ENFORCE)?.with(&["--format", "json"]);
    swallow(&scenario.lab, 1)?;
    scenario.run(|lab, agent| {
        let head = format!("POST / HTTP/1.1\r\nHost: {VICTIM}:22\r\nUser-Agent: {}\r\n\r\n", "x".repeat(250));
        // Each write is a segment, or segments of any length begin with it now and then.
        let mut words = vec![head.as_bytes()];
        let body = NAME.repeat(20_000);
        words.extend([NAME; 20]);
        words.push(&body);
        says(lab, &words)?;
        ensure!(read(agent)? == 1.0, "{} first words", read(agent)?);
        ensure!(agent.findings().is_empty(), "{:?}", agent.findings());
        Ok(())
    })
}
