//! Shields: a scanner whose address may be forged gets no answers, and its true owner misses nothing.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::Agent,
    capture::Capture,
    clients::at,
    frames::{self, V4},
    lab::{Lab, Namespace, PATIENCE, SCANNER, SCANNER_INTERFACE, VICTIM, VICTIM_INTERFACE, wait_for},
    scenario::Scenario,
    stream, wire,
};

use crate::{
    response::{configured, connects, scan},
    trial,
};

const VICTIM_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const SCANNER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Resets of a closed port.
const RESETS: &str = "dst host 10.77.0.2 and tcp[tcpflags] & tcp-rst != 0";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("shield: once it stands, a scan of 1,000 ports is answered by open ones alone", silent),
        trial("shield: a client whose address somebody forges is still served, and never banned", forged),
        trial("shield: it outlives the agent, is lifted by hand, and a ban takes its place", kept),
        trial("shield: in dry-run nothing is dropped, and with response.shield off nothing done", dry),
        trial("shield: a source whose finding has no room is shielded from all the same", without_room),
        trial("shield: forged sources without number fill their own table and nothing else", many),
    ]
}

/// Echoes what clients say, at a port of all addresses of a host, until they close.
fn echo(host: &Namespace, port: u16) -> Result<()> {
    let listener = host.enter(|| TcpListener::bind(("0.0.0.0", port)).context("bind"))?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut sink = client.try_clone()?;
                std::io::copy(&mut &client, &mut sink)
            });
        }
    });
    Ok(())
}

/// A connection that stays.
fn open(from: &Namespace, to: SocketAddr) -> Result<TcpStream> {
    let stream = from.enter(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(5))?))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

fn is_served(mut stream: &TcpStream) -> Result<()> {
    stream.write_all(b"hello")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).context("no echo")?;
    ensure!(&answer == b"hello");
    Ok(())
}

/// Waits until there is nothing but a shield from the scanner.
fn shielded(agent: &Agent<'_>) -> Result<serde_json::Value> {
    wait_for("the shield", PATIENCE, || {
        let bans = agent.json(&["bans"]).ok()?;
        let is_it = bans["bans"].as_array()?.len() == 1
            && bans["bans"][0]["net"] == "10.77.0.2/32"
            && bans["bans"][0]["response"] == "shield";
        is_it.then_some(bans)
    })
}

fn silent() -> Result<()> {
    let scenario = Scenario::new("[response]\nmode = \"enforce\"\n")?;
    echo(&scenario.lab.victim, 80)?;
    scenario.run(|lab, agent| {
        let before = open(&lab.scanner, at(VICTIM, 80))?;
        is_served(&before)?;
        scan(lab, "-sS -T4 -p 1-300 --host-timeout 10s")?;
        let bans = shielded(agent)?;
        ensure!(bans["bans"][0]["by"] == "rule" && bans["bans"][0]["drops"] == true, "{bans}");

        let mut answers = Capture::outgoing(&lab.victim, VICTIM_INTERFACE)?;
        let found = scan(lab, "-sS -T5 --min-rate 2000 --host-timeout 30s -p 1-1000")?;
        ensure!(found.contains("80/open/") && !found.contains("/closed/"), "{found}");
        for technique in ["-sN", "-sF", "-sX", "-sA", "-sM"] {
            scan(lab, &format!("{technique} -T5 --min-rate 2000 --host-timeout 10s -p 1-50"))?;
        }
        scan(lab, "-sU -T5 --min-rate 2000 --host-timeout 10s -p 1-50")?;
        answers.stop()?;
        let resets = answers.count(RESETS)?;
        let unreachable = answers.count(&format!("dst host {SCANNER} and icmp[icmptype] = icmp-unreach"))?;
        // A stray at the open port (-sA, -sM) passes, as the end of a handshake would: the host itself resets it.
        ensure!(resets == 0 && unreachable == 0, "{resets} resets, {unreachable} unreachable");

        // All that its owner needs goes on.
        is_served(&before).context("a connection that was there before")?;
        let new = open(&lab.scanner, at(VICTIM, 80)).context("a new connection")?;
        is_served(&new)?;
        let pinged = lab.scanner.command("ping").args(["-c", "1", "-W", "2", VICTIM]).output()?;
        ensure!(pinged.status.success(), "{}", String::from_utf8_lossy(&pinged.stdout));
        echo(&lab.scanner, 8080)?;
        let own = open(&lab.victim, at(SCANNER, 8080)).context("this host's own connection to it")?;
        is_served(&own)?;

        let metrics = agent.settled()?;
        ensure!(metrics.exit("shielded") > 1_000.0 && metrics.exit("banned") == 0.0, "{metrics:?}");
        let [held, made] = ["scanguard_shields", "scanguard_shields_total"].map(|name| metrics.get(name));
        ensure!(held == 1.0 && made == 1.0, "{held} of {made}: {}", agent.order(&["bans"])?);
        ensure!(metrics.sum("scanguard_bans_total{") == 0.0, "{metrics:?}");
        let explained = agent.order(&["explain", SCANNER])?;
        for word in ["shielded from by rule", "meet no service here are dropped, all others pass"] {
            ensure!(explained.contains(word), "{word}: {explained}");
        }
        ensure!(agent.json(&["explain", SCANNER])?["response"] == "shield");
        let listed = agent.order(&["bans"])?;
        ensure!(listed.contains("0 bans, 1 shield") && listed.contains(" shield   rule "), "{listed}");
        ensure!(agent.order(&["status"])?.contains("shields     1; at most 10000"));
        let sources = agent.order(&["sources"])?;
        ensure!(sources.contains(" shield "), "{sources}");
        Ok(())
    })
}

/// Packets that an off-path sender can forge in the scanner's name: odd flags, SYNs, strays and datagrams to ports
/// without a service.
fn forge(lab: &Lab) -> Result<()> {
    let mac = lab.victim_mac_bytes()?;
    let with = |protocol| V4 {
        protocol,
        source: Some(SCANNER_ADDRESS),
        destination: Some(VICTIM_ADDRESS),
        ..V4::default()
    };
    let tcp = |flags, port| frames::to(mac, &frames::v4_packet(&with(TCP), &frames::tcp(flags, port)));
    let udp = |port| frames::to(mac, &frames::v4_packet(&with(UDP), &frames::udp(40_000, port, b"x")));
    let odd = [0, 1, 41, 3].into_iter().flat_map(|flags| [80, 81, 82].map(|port| tcp(flags, port)));
    let syns = (1..=60).map(|port| tcp(2, port));
    let strays = (100..130).map(|port| tcp(16, port));
    let datagrams = (200..260).map(udp);
    let all: Vec<_> = odd.chain(syns).chain(strays).chain(datagrams).collect();
    wire::send(&lab.scanner, SCANNER_INTERFACE, &all)
}

fn forged() -> Result<()> {
    let scenario = configured("mode = \"enforce\"")?;
    echo(&scenario.lab.victim, 80)?;
    scenario.run(|lab, agent| {
        let before = open(&lab.scanner, at(VICTIM, 80))?;
        is_served(&before)?;
        forge(lab)?;
        shielded(agent)?;
        let mut opened = vec![before];
        for round in 0..5 {
            forge(lab)?;
            agent.settled()?;
            opened.push(open(&lab.scanner, at(VICTIM, 80)).with_context(|| format!("round {round}"))?);
            opened.iter().try_for_each(is_served).with_context(|| format!("round {round}"))?;
        }
        shielded(agent)?;
        let metrics = agent.settled()?;
        ensure!(metrics.exit("shielded") > 0.0 && metrics.exit("banned") == 0.0, "{metrics:?}");
        ensure!(metrics.sum("scanguard_bans_total{") == 0.0, "{metrics:?}");
        Ok(())
    })
}

fn kept() -> Result<()> {
    let scenario = configured("mode = \"enforce\"")?;
    echo(&scenario.lab.victim, 80)?;
    scenario.run(|lab, agent| {
        forge(lab)?;
        shielded(agent).map(drop)
    })?;
    scenario.run(|lab, agent| {
        let bans = shielded(agent)?;
        ensure!(bans["bans"][0]["by"] == "rule", "{bans}");
        let mut answers = Capture::outgoing(&lab.victim, VICTIM_INTERFACE)?;
        let found = scan(lab, "-sS -p 80-82")?;
        answers.stop()?;
        ensure!(found.contains("80/open/") && found.matches("/filtered/").count() == 2, "{found}");
        ensure!(answers.count(RESETS)? == 0);

        let done = agent.order(&["ban", SCANNER, "--for", "1h"])?;
        ensure!(done.contains("is banned for 1h"), "{done}");
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "the ban is hidden by the shield");
        ensure!(agent.metrics()?.get("scanguard_shields") == 0.0, "the shield stays beside the ban");
        agent.order(&["unban", SCANNER])?;
        ensure!(scan(lab, "-sS -p 81")?.contains("81/closed/"), "something is left of it");
        Ok(())
    })
}

fn dry() -> Result<()> {
    configured("mode = \"dry-run\"")?.run(|lab, agent| {
        forge(lab)?;
        let bans = shielded(agent)?;
        ensure!(bans["bans"][0]["drops"] == false, "{bans}");
        let before = agent.settled()?.get("scanguard_would_drop_packets_total");
        ensure!(scan(lab, "-sS -p 81-83")?.matches("/closed/").count() == 3, "dropped in dry-run");
        let metrics = agent.settled()?;
        ensure!(
            metrics.get("scanguard_would_drop_packets_total") >= before + 3.0
                && metrics.exit("shielded") == 0.0
        );
        Ok(())
    })?;
    configured("mode = \"enforce\"\nshield = false")?.run(|lab, agent| {
        forge(lab)?;
        let refused = "scanguard_bans_refused_total{reason=\"spoofable\"}";
        wait_for("the refusal", PATIENCE, || (agent.metrics().ok()?.get(refused) >= 1.0).then_some(()))?;
        ensure!(agent.json(&["bans"])?["bans"] == serde_json::json!([]));
        ensure!(scan(lab, "-sS -p 81-83")?.matches("/closed/").count() == 3, "dropped");
        ensure!(agent.order(&["status"])?.contains("response.shield"));
        Ok(())
    })
}

fn without_room() -> Result<()> {
    let scenario = Scenario::new(
        "[sensor]\npoll_interval = \"100ms\"\n[findings]\nmax_open = 1\n[response]\nmode = \"enforce\"\n",
    )?;
    scenario.run(|lab, agent| {
        let sources: Vec<_> = (1..=8).map(|host| Ipv4Addr::new(192, 0, 2, host)).collect();
        let shielded = || {
            wait_for("a shield from each", PATIENCE, || {
                (agent.metrics().ok()?.get("scanguard_shields") == 8.0).then_some(())
            })
        };
        stream::during(lab, VICTIM_ADDRESS, &sources, shielded)?;
        let metrics = agent.settled()?;
        ensure!(metrics.get("scanguard_findings_refused_total") > 0.0, "{metrics:?}");
        ensure!(metrics.sum("scanguard_findings_open{") == 1.0, "{metrics:?}");
        Ok(())
    })
}

fn many() -> Result<()> {
    let scenario = configured("mode = \"enforce\"\nmax_shields = 2\nmax_per_minute = 2")?;
    echo(&scenario.lab.victim, 80)?;
    scenario.run(|lab, agent| {
        agent.order(&["ban", "198.51.100.1"])?;
        let sources: Vec<_> = (1..=8).map(|host| Ipv4Addr::new(192, 0, 2, host)).collect();
        let evicted = || {
            wait_for("evictions", PATIENCE, || {
                (agent.metrics().ok()?.get("scanguard_shields_evicted_total") >= 6.0).then_some(())
            })
        };
        stream::during(lab, VICTIM_ADDRESS, &sources, evicted)?;
        let metrics = agent.settled()?;
        ensure!(metrics.get("scanguard_shields") == 2.0 && metrics.get("scanguard_shields_limit") == 2.0);
        ensure!(
            metrics.get("scanguard_bans{kind=\"hand\"}") == 1.0
                && metrics.get("scanguard_circuit_breaker_open") == 0.0
        );
        ensure!(metrics.get("scanguard_response_mode{mode=\"enforce\"}") == 1.0, "{metrics:?}");
        Ok(())
    })
}
