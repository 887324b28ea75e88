//! Members that lie, that are wrong, that come back late or speak another version; a full disk; certificates.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use async_nats::{ConnectOptions, HeaderMap};
use ipnet::IpNet;
use jiff::Timestamp;
use libtest_mimic::Trial;
use scanguard::{
    fleet::wire::{Asked, Batch, Fate, Sighting, VERSION, partition, sight},
    observe::seen::Met,
};
use scanguard_tests::fixtures::{
    agent::{self, Agent, give},
    certificate::client_certificate,
    fleet::{Fleet, PORT, SERVER},
    lab::{Namespace, PATIENCE, wait_for},
    scratch::SmallDisk,
};

use crate::{
    fleet::{CLOSED, asks, names},
    limits::library,
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("fleet: members that lie, repeat themselves, come late or speak v2 ban nobody", hostile),
        trial("fleet: with a full disk for the spool, an agent goes on and tells what waits in memory", full),
        trial("fleet: certificates of clients do for credentials", certificates),
    ]
}

/// The page of the role `run-1`.
pub(crate) const PAGE: &str = "127.0.0.1:9824";

/// A member as an enemy plays it who has its credentials: says these messages. Gives which were stored, and whether as
/// duplicates.
pub(crate) fn say(
    fleet: &Fleet,
    name: &str,
    messages: &[(String, String, Option<String>)],
) -> Result<Vec<Option<bool>>> {
    let credentials = fs::read_to_string(fleet.credentials(name))?;
    let authority = fleet.authority().to_owned();
    fleet.hub.enter(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let client = ConnectOptions::with_nkey(credentials.trim().to_owned())
                .add_root_certificates(authority)
                .custom_inbox_prefix(format!("_INBOX_{name}"))
                .request_timeout(Some(Duration::from_secs(2)))
                .connect(format!("tls://{SERVER}:{PORT}"))
                .await?;
            let context = async_nats::jetstream::new(client);
            let mut said = Vec::new();
            for (subject, payload, id) in messages {
                let mut headers = HeaderMap::new();
                if let Some(id) = id {
                    headers.insert("Nats-Msg-Id", id.as_str());
                }
                let sent =
                    context.publish_with_headers(subject.clone(), headers, payload.clone().into()).await;
                said.push(match sent {
                    Ok(ack) => ack.await.ok().map(|ack| ack.duplicate),
                    Err(_) => None,
                });
            }
            anyhow::Ok(said)
        })
    })
}

pub(crate) fn source(text: &str) -> IpNet {
    IpNet::from(text.parse::<std::net::IpAddr>().expect("an address"))
}

pub(crate) fn sighting(source: IpNet, ports: &[u16], age: Duration, proven: bool) -> Sighting {
    let place = "192.0.2.1".parse().expect("an address");
    let items = ports.iter().map(|port| Asked(place, 6, *port, Fate(Some(Met::Closed))));
    Sighting {
        source,
        age: age.as_millis() as u64,
        class: "syn".to_owned(),
        items: items.collect(),
        completed: false,
        proven,
        tool: String::new(),
    }
}

/// The message with its subject.
pub(crate) fn message(name: &str, number: u64, sighting: Sighting) -> (String, String) {
    let subject = sight(partition(sighting.source), name);
    let (own, open, sightings) = (Vec::new(), Vec::new(), vec![sighting]);
    let batch = Batch { v: VERSION, boot: 1, n: number, own, open, sightings };
    (subject, serde_json::to_string(&batch).expect("plain data"))
}

/// Sums of a metric of the role.
pub(crate) fn sum(fleet: &Fleet, series: &str) -> f64 {
    let page = agent::get(&fleet.hub, PAGE, "/metrics").map_or(String::new(), |(_, page)| page);
    let lines = page.lines().filter(|line| line.starts_with(series));
    lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

/// Waits until the role has read so many sightings.
pub(crate) fn wait_for_sightings(fleet: &Fleet, count: f64) -> Result<()> {
    wait_for("the role has read it", PATIENCE, || {
        (sum(fleet, "scanguard_fleet_run_sightings_total") >= count).then_some(())
    })
}

/// Joins a host that is a member by this name, with these credentials and some lines in its spool.
fn member(
    fleet: &Fleet,
    name: &str,
    credentials: &str,
    more: &str,
    spool: &str,
) -> Result<(Namespace, String, String)> {
    let (host, address) = fleet.join("edge")?;
    let directory = host.directory().to_owned();
    fs::create_dir_all(directory.join("spool"))?;
    if !spool.is_empty() {
        fs::write(directory.join("spool/fleet"), spool)?;
        give(&directory.join("spool/fleet"))?;
    }
    give(&directory.join("spool"))?;
    let settings = fleet.settings(name, &directory);
    let (own, other) = (fleet.credentials(name), fleet.credentials(credentials));
    let settings = settings.replace(&own.display().to_string(), &other.display().to_string());
    let path = directory.join("scanguard.toml");
    fs::write(&path, format!("[response]\nmode = \"enforce\"\n{more}{settings}"))?;
    Ok((host, address, path.display().to_string()))
}

fn wait_for_connection(agent: &Agent<'_>) -> Result<()> {
    wait_for("it is a member", PATIENCE, || {
        (agent.metrics().ok()?.get("scanguard_fleet_connected") == 1.0).then_some(())
    })
    .with_context(|| agent.said())
}

fn hostile() -> Result<()> {
    let fleet = Fleet::start(&names(20), &["run-1"])?;
    let _role = fleet.run_role("run-1", 9_824)?;
    let (host, _, config) = member(&fleet, "edge-1", "edge-1", "", "")?;
    let mut agent = Agent::start(&host, &["--config", &config])?;
    wait_for_connection(&agent)?;
    let calm = |what: &str| -> Result<()> {
        ensure!(sum(&fleet, "scanguard_fleet_run_decisions_total") == 0.0, "{what}: decided");
        let page = agent.metrics()?;
        let acted = page.sum("scanguard_bans{") + page.get("scanguard_shields");
        ensure!(acted == 0.0, "{what}: {acted} bans and shields");
        Ok(())
    };

    // Two poisoned members accuse a client of all, with proof.
    let client = source("198.51.100.7");
    let mut read = 0;
    for name in ["edge-2", "edge-3"] {
        let lies: Vec<_> = (0..40u16)
            .map(|number| {
                let ports: Vec<u16> = (0..4).map(|step| 1_000 + number * 4 + step).collect();
                let lie = sighting(client, &ports, Duration::ZERO, true);
                let (subject, payload) = message(name, u64::from(number), lie);
                (subject, payload, None)
            })
            .collect();
        ensure!(say(&fleet, name, &lies)?.iter().all(Option::is_some), "the server takes them");
        read += lies.len();
        wait_for_sightings(&fleet, read as f64)?;
        calm(name)?;
    }

    // Eight members name a scanner. One says it three times, one in another version, one that it was an hour ago, and one
    // what is too old.
    let scanner = source("203.0.113.9");
    let once = |age| sighting(scanner, &[CLOSED], age, false);
    let hour = Duration::from_secs(3_600);
    for number in 4..=9 {
        let name = format!("edge-{number}");
        let (subject, payload) = message(&name, 1, once(if number == 6 { hour } else { Duration::ZERO }));
        let payload = match number {
            5 => payload.replacen("\"v\":1", "\"v\":2,\"mood\":{\"a\":[1]}", 1),
            _ => payload,
        };
        let mut messages = vec![(subject.clone(), payload.clone(), Some(format!("{name}.1")))];
        if number == 4 {
            messages.push((subject.clone(), payload.clone(), Some(format!("{name}.1"))));
            messages.push((subject.clone(), payload, None));
        }
        let said = say(&fleet, &name, &messages)?;
        ensure!(said[0] == Some(false), "{name}: {said:?}");
        ensure!(number != 4 || said[1..] == [Some(true), Some(false)], "{said:?}");
        read += 1 + usize::from(number == 4);
    }
    let (subject, payload) = message("edge-10", 1, once(25 * hour));
    say(&fleet, "edge-10", &[(subject, payload, None)])?;
    wait_for_sightings(&fleet, (read + 1) as f64)?;
    wait_for("what is left out is counted", PATIENCE, || {
        let count = |what: &str| {
            let page = agent::get(&fleet.hub, PAGE, "/metrics").ok()?.1;
            let wanted = format!("what=\"{what}\"");
            let lines = page.lines().filter(|line| line.contains(&wanted));
            Some(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>())
        };
        (count("duplicate")? == 1.0 && count("old")? == 1.0).then_some(())
    })?;
    calm("six members")?;

    // A member that was away for an hour tells what it saw then; the seventh.
    let at = Timestamp::now().as_millisecond() - hour.as_millis() as i64;
    let line = format!("{{\"at\":{at},\"sighting\":{}}}\n", serde_json::to_string(&once(Duration::ZERO))?);
    let (late_host, _, config) = member(&fleet, "edge-14", "edge-14", "", &line)?;
    let mut late = Agent::start(&late_host, &["--config", &config])?;
    // One whose clock is an hour ahead sees a scan and tells that it was just now.
    let offset = host.directory().join("offset");
    fs::write(&offset, "+3600")?;
    let (ahead_host, ahead_address, config) =
        member(&fleet, "edge-15", "edge-15", "[security]\nsandbox = false\n", "")?;
    let mut ahead = Agent::start_as(&ahead_host, &["--config", &config], |command| {
        command.env("LD_PRELOAD", library().unwrap_or_default()).env("FAKETIME_TIMESTAMP_FILE", &offset);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    })?;
    wait_for_connection(&ahead)?;
    let (asker, asker_address) = fleet.join("scan")?;
    asks(&asker, &ahead_address, CLOSED, true)?;
    // And one that has the credentials of another is no member at all.
    let (forger_host, forger_address, config) = member(&fleet, "edge-16", "edge-17", "", "")?;
    let mut forger = Agent::start(&forger_host, &["--config", &config])?;
    wait_for_connection(&forger)?;
    asks(&asker, &forger_address, CLOSED, true)?;

    let explained = wait_for("both are heard", PATIENCE, || {
        let late = fleet.ask(&["explain", &scanner.addr().to_string()], "run-1").ok()?;
        let ahead = fleet.ask(&["explain", &asker_address], "run-1").ok()?;
        (late.contains("edge-14") && ahead.contains("edge-15")).then_some((late, ahead))
    })?;
    let ago = |explained: &str, name: &str| -> Result<u64> {
        let line = explained.lines().find(|line| line.contains(name)).context("it is there")?;
        let words: Vec<_> = line.split_whitespace().collect();
        let place = words.iter().position(|word| *word == "s").context("seconds")?;
        Ok(words[place - 1].parse()?)
    };
    ensure!((3_600..3_700).contains(&ago(&explained.0, "edge-14")?), "{}", explained.0);
    ensure!((3_600..3_700).contains(&ago(&explained.0, "edge-6")?), "{}", explained.0);
    ensure!(explained.0.contains("edge-5: 192.0.2.1"), "version 2: {}", explained.0);
    ensure!(!explained.0.contains("edge-10:"), "too old: {}", explained.0);
    ensure!(ago(&explained.1, "edge-15")? < 60, "{}", explained.1);
    ensure!(!explained.1.contains("edge-16") && !explained.1.contains("edge-17"), "{}", explained.1);
    wait_for("it is said that the server refuses", PATIENCE, || {
        forger
            .order(&["status"])
            .is_ok_and(|said| said.contains("edge-16 at") && said.contains("cannot"))
            .then_some(())
    })?;
    calm("seven members")?;

    // The eighth and the ninth.
    for number in [11, 12] {
        let name = format!("edge-{number}");
        let (subject, payload) = message(&name, 1, once(Duration::ZERO));
        say(&fleet, &name, &[(subject, payload, None)])?;
        if number == 11 {
            wait_for("the eighth", PATIENCE, || {
                let said = fleet.ask(&["explain", &scanner.addr().to_string()], "run-1").ok()?;
                said.contains("8 members bear it out").then_some(())
            })?;
            calm("eight members")?;
        }
    }
    for member in [&agent, &late, &ahead] {
        wait_for("the shield", PATIENCE, || {
            (member.metrics().ok()?.get("scanguard_shields") == 1.0).then_some(())
        })
        .with_context(|| member.said())?;
        ensure!(member.metrics()?.sum("scanguard_bans{") == 0.0, "somebody is banned");
    }
    let bans = ahead.order(&["bans"])?;
    ensure!(bans.contains("59m") || bans.contains("1h"), "the clock counts: {bans}");
    for member in [&mut agent, &mut late, &mut ahead, &mut forger] {
        member.end()?;
    }
    Ok(())
}

fn full() -> Result<()> {
    let mut fleet = Fleet::start(&names(1), &["run-1"])?;
    let role = fleet.run_role("run-1", 9_824)?;
    let (host, address, config) = member(&fleet, "edge-1", "edge-1", "", "")?;
    let spool = host.directory().join("spool");
    let disk = SmallDisk::mount(spool)?;
    give(disk.path())?;
    let mut agent = Agent::start(&host, &["--config", &config])?;
    wait_for_connection(&agent)?;
    fill(disk.path())?;
    fleet.kill_server();
    wait_for("it is missed", PATIENCE, || {
        (agent.metrics().ok()?.get("scanguard_fleet_connected") == 0.0).then_some(())
    })?;
    let (scanner, source) = fleet.join("scan")?;
    asks(&scanner, &address, CLOSED, true)?;
    let page = wait_for("the spool fails", PATIENCE, || {
        let page = agent.metrics().ok()?;
        (page.get("scanguard_fleet_spool_errors_total") >= 1.0).then_some(page)
    })?;
    ensure!(page.get("scanguard_fleet_waiting_sightings") >= 1.0, "{page:?}");
    ensure!(agent.said().contains("fleet.spool"), "{}", agent.said());
    fleet.resume()?;
    wait_for("it is told all the same", Duration::from_secs(60), || {
        let said = fleet.ask(&["explain", &source], "run-1").ok()?;
        said.contains("edge-1").then_some(())
    })
    .with_context(|| agent.said())?;
    agent.end()?;
    drop(role);
    Ok(())
}

/// Writes until there is no room.
fn fill(directory: &Path) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::File::create(directory.join("filler"))?;
    while file.write_all(&[0; 1_024]).is_ok() {}
    Ok(())
}

/// The server knows members by their certificates.
fn certificates() -> Result<()> {
    let mut fleet = Fleet::start(&names(1), &["run-1"])?;
    let directory = fleet.hub.directory().to_owned();
    let mut trusted = String::new();
    let mut users = String::new();
    for name in ["edge-1", "run-1", "stranger"] {
        let made = client_certificate(&directory, name)?;
        give(&made.key)?;
        if name != "stranger" {
            trusted += &fs::read_to_string(&made.certificate)?;
            users += &format!("{{ user: \"CN={name}\" }},");
        }
    }
    fs::write(directory.join("clients.pem"), trusted)?;
    fleet.configure(&format!(
        "listen: \"{SERVER}:{PORT}\"\njetstream {{ store_dir: \"{0}/store\" }}\n\
         tls {{ cert_file: \"{0}/cert.pem\", key_file: \"{0}/key.pem\", ca_file: \"{0}/clients.pem\", verify_and_map: true }}\n\
         accounts {{ SCANGUARD {{ jetstream: enabled, users: [ {users} ] }} }}\n",
        directory.display()
    ))?;
    let by_certificate = |settings: &str, name: &str, with: &str, place: &Path| {
        let old = format!("credentials_file = \"{}\"", fleet.credentials(name).display());
        let [certificate, key] = ["crt", "key"].map(|end| place.join(format!("{with}.{end}")));
        settings.replace(
            &old,
            &format!("cert_file = \"{}\"\nkey_file = \"{}\"", certificate.display(), key.display()),
        )
    };
    let _role =
        fleet.run_role_with("run-1", 9_824, |text| by_certificate(text, "run-1", "run-1", &directory))?;
    let (host, address, config) = member(&fleet, "edge-1", "edge-1", "", "")?;
    for end in ["crt", "key"] {
        for name in ["edge-1", "stranger"] {
            let file = host.directory().join(format!("{name}.{end}"));
            fs::copy(directory.join(format!("{name}.{end}")), &file)?;
            give(&file)?;
        }
    }
    let text = fs::read_to_string(&config)?;
    // Nobody that the server knows.
    fs::write(&config, by_certificate(&text, "edge-1", "stranger", host.directory()))?;
    let mut agent = Agent::start(&host, &["--config", &config])?;
    wait_for("it is refused", PATIENCE, || {
        let said = agent.order(&["status"]).ok()?;
        said.contains("edge-1 at").then_some(said)
    })?;
    std::thread::sleep(Duration::from_secs(1));
    ensure!(agent.metrics()?.get("scanguard_fleet_connected") == 0.0, "a stranger is connected");
    agent.end()?;
    fs::write(&config, by_certificate(&text, "edge-1", "edge-1", host.directory()))?;
    let mut agent = Agent::start(&host, &["--config", &config])?;
    wait_for_connection(&agent)?;
    let (scanner, source) = fleet.join("scan")?;
    asks(&scanner, &address, CLOSED, true)?;
    wait_for("it is heard", PATIENCE, || {
        let page = agent::get(&fleet.hub, PAGE, "/metrics").ok()?.1;
        let read = page
            .lines()
            .find(|line| line.starts_with("scanguard_fleet_run_sightings_total") && !line.ends_with(" 0"));
        read.map(drop)
    })
    .with_context(|| format!("{source}: {}", agent.said()))?;
    agent.end()?;
    Ok(())
}
