//! First words in protocols other than HTTP, TLS and DNS: scanners of services, and the honest clients that come near
//! them.

use std::{
    io::{Read as _, Write as _},
    net::{TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{Act, Case, Expect, Expected, scans::scan};
use crate::fixtures::{
    clients::{at, serve_riddles},
    lab::{SCANNER, VICTIM},
    sshd,
    stage::Stage,
};

const WORDS: &[Expected] = &[Expected { rule: "service_enumeration", technique: "T1595.002" }];

/// Ports of UDP that are open.
const DATAGRAMS: [u16; 5] = [123, 137, 161, 500, 1900];
/// Ports of TCP where a server waits for its client to begin.
const SILENT: [u16; 3] = [445, 3389, 6379];

const fn tool(name: &'static str, prepare: fn(&mut Stage<'_>) -> Result<()>) -> Case {
    scan("services: first words", name).after(prepare).with_findings(WORDS)
}

/// The tool's exit status means nothing.
const fn may_fail(case: Case) -> Case {
    Case { act: Act::CommandThatMayFail, ..case }
}

const fn quiet(name: &'static str, packets: u32, act: fn(&mut Stage<'_>) -> Result<()>) -> Case {
    let case = scan("clients of other protocols", name);
    Case { expect: Expect::Quiet, packets, act: Act::Script(act), ..case }.after(services)
}

/// Services that say nothing by themselves, and a list of communities. That of SIP wants a password of everybody.
fn services(stage: &mut Stage<'_>) -> Result<()> {
    for port in DATAGRAMS {
        answer(stage, port, |_| None)?;
    }
    answer(stage, 5_060, |request| Some(refusal(request)))?;
    let servers = serve_riddles(&stage.lab.victim, &SILENT)?;
    stage.keep(servers);
    let words = (0..40).fold(String::new(), |words, number| words + &format!("word{number}\n"));
    stage.file("communities", &words)?;
    Ok(())
}

/// A real server of SSH.
fn shell(stage: &mut Stage<'_>) -> Result<()> {
    let host = &stage.lab.victim;
    let server = sshd::start(host, stage.directory())?;
    stage.keep_server("sshd", server);
    stage.await_port("sshd", host, 22)
}

/// A monitor of the banner, programs that log in (and are refused), somebody who looks the keys up.
fn clients_of_ssh(stage: &mut Stage<'_>) -> Result<()> {
    for _ in 0..20 {
        says(stage, 22, b"SSH-2.0-check_ssh_2.3\r\n")?;
    }
    for program in
        ["paramiko_2.12.0", "Go", "libssh2_1.11.0", "JSCH-0.1.54", "AsyncSSH_2.14.2", "russh_0.40.2"]
    {
        says(stage, 22, format!("SSH-2.0-{program}\r\n").as_bytes())?;
    }
    for algorithms in ["", "-oHostKeyAlgorithms=ssh-ed25519", "-oHostKeyAlgorithms=ssh-ed25519,rsa-sha2-512"]
    {
        for _ in 0..5 {
            let quiet = "-F none -oBatchMode=yes -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null";
            // It is refused, which is no failure of the case.
            let _ = stage.client(&format!("ssh {quiet} {algorithms} nobody@{{victim}} true"));
        }
    }
    stage.client("ssh-keyscan -T 2 {victim}")
}

/// Answers datagrams to a port, until none has come for a while.
fn answer(stage: &Stage<'_>, port: u16, with: fn(&[u8]) -> Option<Vec<u8>>) -> Result<()> {
    let socket = stage.lab.victim.enter(|| UdpSocket::bind((VICTIM, port)).context("bind"))?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    thread::spawn(move || {
        let mut packet = [0; 2_048];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            if let Some(answer) = with(&packet[..length]) {
                // A client that is gone is no matter.
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    Ok(())
}

/// The answer to a request of SIP: those of its headers by which the client knows it again.
fn refusal(request: &[u8]) -> Vec<u8> {
    let request = String::from_utf8_lossy(request);
    let same = ["via:", "from:", "to:", "call-id:", "cseq:"];
    let headers = request.lines().filter(|line| {
        let line = line.to_ascii_lowercase();
        same.iter().any(|name| line.starts_with(name))
    });
    let headers: String = headers.map(|line| format!("{line}\r\n")).collect();
    let wants = "WWW-Authenticate: Digest realm=\"shop.test\", nonce=\"1\"\r\n";
    format!("SIP/2.0 401 Unauthorized\r\n{headers}{wants}Content-Length: 0\r\n\r\n").into_bytes()
}

/// Sends datagrams from one port of the client, and takes answers.
fn datagrams(stage: &Stage<'_>, from: u16, to: u16, payloads: &[Vec<u8>]) -> Result<()> {
    let socket = stage.lab.scanner.enter(|| UdpSocket::bind((SCANNER, from)).context("bind"))?;
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    for payload in payloads {
        // A refusal of the one before may be told here.
        let _ = socket.send_to(payload, at(VICTIM, to));
        let _ = socket.recv(&mut [0; 2_048]);
    }
    Ok(())
}

/// Connects, says something, and waits for an answer.
fn says(stage: &Stage<'_>, port: u16, words: &[u8]) -> Result<()> {
    stage.lab.scanner.enter(|| {
        let mut connection = TcpStream::connect(at(VICTIM, port))?;
        connection.write_all(words)?;
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        // It may be closed instead.
        let _ = connection.read(&mut [0; 64]);
        Ok(())
    })
}

/// A request of SNMP for the description of the system.
fn community(name: &str) -> Vec<u8> {
    let rest = b"\xa0\x19\x02\x01\x07\x02\x01\0\x02\x01\0\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x01\0\x05\0";
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let inner = [&[2, 1, 1, 4, length], name.as_bytes(), rest].concat();
    [&[0x30, u8::try_from(inner.len()).unwrap_or(u8::MAX)], inner.as_slice()].concat()
}

/// A registration of a user of SIP.
fn register(user: u32, credentials: &str) -> Vec<u8> {
    format!(
        "REGISTER sip:{VICTIM} SIP/2.0\r\nVia: SIP/2.0/UDP {SCANNER}:5060;branch=z9hG4bK1\r\n\
         From: <sip:{user}@{VICTIM}>;tag=1\r\nTo: <sip:{user}@{VICTIM}>\r\nCall-ID: {user}\r\nCSeq: 1 REGISTER\r\n\
         {credentials}User-Agent: Yealink SIP-T46S 66.85.0.5\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

const CREDENTIALS: &str = "Authorization: Digest username=\"101\", response=\"0\"\r\n";

fn poller(stage: &mut Stage<'_>) -> Result<()> {
    let polls: Vec<_> = ["public", "ops"].into_iter().cycle().take(200).map(community).collect();
    datagrams(stage, 40_161, 161, &polls)?;
    // A port where nobody is.
    datagrams(stage, 40_162, 5_683, &polls[..2])
}

fn phone(stage: &mut Stage<'_>) -> Result<()> {
    let attempts: Vec<_> = (0..60).map(|attempt| register(101, ["", CREDENTIALS][attempt % 2])).collect();
    datagrams(stage, 5_060, 5_060, &attempts)
}

fn office(stage: &mut Stage<'_>) -> Result<()> {
    for phone in 0..60_u16 {
        datagrams(stage, 20_000 + phone, 5_060, &[register(100 + u32::from(phone), "")])?;
    }
    Ok(())
}

/// What clients of several services behind one address say, each a few times.
fn several(stage: &mut Stage<'_>) -> Result<()> {
    let quic = |version: [u8; 4]| {
        let mut bytes = [&[0xc0], version.as_slice(), &[8]].concat();
        bytes.resize(1_200, 7);
        bytes
    };
    let status = b"\x07\x07\0\0\0\x01\0\0\0\0\0\0\x20CKAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\0\0\x21\0\x01".to_vec();
    for _ in 0..5 {
        // The time, the status of a neighbour, versions 1 and 2 of QUIC and one that is sent to be refused.
        datagrams(stage, 40_123, 123, &[[&[0x23], [0; 47].as_slice()].concat()])?;
        datagrams(stage, 137, 137, std::slice::from_ref(&status))?;
        datagrams(
            stage,
            40_443,
            443,
            &[quic([0, 0, 0, 1]), quic([0x6b, 0x33, 0x43, 0xcf]), quic([0x1a; 4])],
        )?;
        says(stage, 6_379, b"*1\r\n$4\r\nINFO\r\n")?;
        says(stage, 445, b"\0\0\0\x06\xfeSMB\x40\0")?;
        says(stage, 3_389, b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0")?;
    }
    Ok(())
}

/// All of them.
pub(super) const CASES: &[Case] = &[
    tool("onesixtyone -c {dir}/communities {victim}", services),
    tool(
        "nmap -n -Pn -sU -p 161 --script snmp-brute --script-args snmp-brute.communitiesdb={dir}/communities {victim}",
        services,
    ),
    may_fail(tool("svmap {victim}", services)),
    may_fail(tool("svwar -m REGISTER -e 100-160 {victim}", services)),
    may_fail(tool("ike-scan --retry=1 {victim}", services)),
    tool("nmap -n -Pn -sV -p 445,3389,6379 {victim}", services),
    tool("nmap -n -Pn -p 22 --script ssh-hostkey {victim}", shell),
    may_fail(tool("ssh-audit {victim}", shell)),
    tool("nmap -n -Pn -sU -p 123 --script ntp-monlist {victim}", services),
    quiet("a poller of SNMP with two communities, and a port without a server", 200, poller),
    quiet("a phone whose password is wrong registers again and again", 60, phone),
    quiet("sixty phones behind one address register", 60, office),
    quiet("monitors, programs and developers at a server of SSH", 200, clients_of_ssh).after(shell),
    quiet("clients of time, names, QUIC, Redis, SMB and RDP behind one address", 60, several),
];
