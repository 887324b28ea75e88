//! Findings reach every sink: the real Alertmanager, the real rsyslog, files; and nobody who does not listen
//! holds up the sensor.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::{
        agent::{Agent, get},
        certificate::{Certificate, certificate},
        lab::{Lab, Namespace, PATIENCE, Process, SCANNER, VICTIM6, run, wait_for},
        scenario::Scenario,
        scratch::SmallDisk,
    },
    tables::scans::SCANS,
};
use serde_json::Value;

use crate::{counts::config_file, trial};

/// Where Alertmanager listens, within the namespace.
pub(crate) const ALERTMANAGER: &str = "127.0.0.1:9093";
/// The address to which Alertmanager sends its notifications.
const RECEIVER: &str = "127.0.0.1:9094";
/// Findings close soon.
const QUICK: &str = "[sensor]\npoll_interval = \"100ms\"\n[findings]\nquiet = \"2s\"\n";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a finding is an alert in a real alertmanager until it is closed", alerted),
        trial("an alertmanager that speaks https gets findings only if its certificate is trusted", secretly),
        trial("a real rsyslog gets findings by udp, by tcp and at its local socket", rsyslog),
        trial("findings in ocsf form are valid by its schema", ocsf),
        trial("a standard output that nobody reads stops neither the sensor nor its end", stalled),
        trial("a full disk leaves no half line, and the file goes on when there is room", full_disk),
        trial("a reload takes all sinks of a right configuration and none of a wrong one", reload),
    ]
}

/// A server in a namespace.
pub(crate) fn serve(namespace: &Namespace, program: &str, arguments: &[&str], log: &Path) -> Result<Process> {
    let log = fs::File::create(log)?;
    let mut command = namespace.command(program);
    let command = command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().with_context(|| format!("{program}: cargo xtask setup installs it"))?;
    Ok(Process::new(child))
}

/// Takes what Alertmanager posts, each as one JSON value, until the namespace goes.
fn receiver(namespace: &Namespace) -> Result<mpsc::Receiver<Value>> {
    let listener = namespace.enter(|| Ok(TcpListener::bind(RECEIVER)?))?;
    let (sender, notifications) = mpsc::channel();
    // Ends with the process at the latest: it waits for nothing but a connection.
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let Ok(body) = body(&stream) else { continue };
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if sender.send(body).is_err() {
                break;
            }
        }
    });
    Ok(notifications)
}

fn body(stream: &std::net::TcpStream) -> Result<Value> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().to_lowercase().split_once(": ") {
            Some(("content-length", value)) => length = value.parse()?,
            Some(_) => {}
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Alertmanager, and the notifications that it sends.
pub(crate) fn alertmanager(namespace: &Namespace) -> Result<(Process, mpsc::Receiver<Value>)> {
    alertmanager_with(namespace, &[], 200)
}

/// The same with more arguments, once it answers with this status when it is asked whether it is ready, by http.
fn alertmanager_with(
    namespace: &Namespace,
    more: &[&str],
    ready: u16,
) -> Result<(Process, mpsc::Receiver<Value>)> {
    let directory = namespace.directory();
    let notifications = receiver(namespace)?;
    let file = directory.join("alertmanager.yml");
    fs::write(
        &file,
        format!(
            "route: {{receiver: test, group_wait: 100ms, group_interval: 1s, repeat_interval: 1h, group_by: [source]}}\n\
             receivers:\n- name: test\n  webhook_configs: [{{url: 'http://{RECEIVER}/', send_resolved: true}}]\n"
        ),
    )?;
    let arguments = [
        format!("--config.file={}", file.display()),
        format!("--storage.path={}", directory.join("data").display()),
        format!("--web.listen-address={ALERTMANAGER}"),
        "--cluster.listen-address=".to_owned(),
    ];
    let log = directory.join("alertmanager.log");
    let arguments: Vec<_> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
    let server = serve(namespace, "prometheus-alertmanager", &arguments, &log)?;
    wait_for("Alertmanager is ready", PATIENCE, || {
        get(namespace, ALERTMANAGER, "/-/ready").is_ok_and(|(status, _)| status == ready).then_some(())
    })
    .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    Ok((server, notifications))
}

/// The first alert that Alertmanager has with this label.
pub(crate) fn alert(namespace: &Namespace, label: &str, value: &str) -> Option<Value> {
    let (_, page) = get(namespace, ALERTMANAGER, "/api/v2/alerts").ok()?;
    // Alertmanager's answers are chunked.
    let start = page.find('[')?;
    let alerts: Value = serde_json::Deserializer::from_str(&page[start..]).into_iter().next()?.ok()?;
    alerts.as_array()?.iter().find(|alert| alert["labels"][label] == value).cloned()
}

fn alerted() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let (_server, notifications) = alertmanager(&scenario.lab.victim)?;
    let sink =
        format!("[[sinks]]\nkind = \"alertmanager\"\nurl = \"http://{ALERTMANAGER}\"\nresend = \"1s\"\n");
    scenario.configure(&format!("{QUICK}{sink}"))?;
    scenario.run(|lab, agent| {
        SCANS[0].run(lab)?;
        let firing = wait_for("the alert fires", PATIENCE, || alert(&lab.victim, "rule", "vertical_scan"))?;
        ensure!(firing["labels"]["source"] == SCANNER && firing["status"]["state"] == "active", "{firing}");
        ensure!(
            firing["annotations"]["description"].as_str().is_some_and(|why| why.contains("syn probes")),
            "{firing}"
        );

        let deadline = Instant::now() + PATIENCE;
        let mut statuses = Vec::new();
        while statuses.last().map(String::as_str) != Some("resolved") {
            ensure!(Instant::now() < deadline, "notifications: {statuses:?}: {}", agent.said());
            let Ok(notification) = notifications.recv_timeout(Duration::from_secs(1)) else { continue };
            statuses.push(notification["status"].as_str().context("a status")?.to_owned());
        }
        ensure!(statuses[0] == "firing", "{statuses:?}");
        let page = agent.metrics()?;
        ensure!(page.sum("scanguard_sink_dropped_total{") == 0.0, "{page:?}");
        ensure!(page.get("scanguard_sink_queue_length{sink=\"alertmanager\"}") == 0.0, "{page:?}");
        ensure!(agent.lines().is_empty(), "no sink says standard output: {:?}", agent.lines());
        Ok(())
    })
}

fn secretly() -> Result<()> {
    let lab = Lab::new()?;
    let directory = lab.victim.directory();
    let Certificate { certificate, key } = certificate(directory)?;
    let file = directory.join("web.yml");
    let (certificate, key, file) = (certificate.display(), key.display(), file.display());
    fs::write(
        file.to_string(),
        format!("tls_server_config: {{cert_file: {certificate}, key_file: {key}}}\n"),
    )?;
    // 400: the client spoke HTTP to a server that speaks HTTPS.
    let (_server, notifications) =
        alertmanager_with(&lab.victim, &[&format!("--web.config.file={file}")], 400)?;
    let sink =
        format!("[[sinks]]\nkind = \"alertmanager\"\nurl = \"https://{ALERTMANAGER}\"\nresend = \"1s\"\n");
    let config = config_file(&format!("{QUICK}{sink}"))?;
    let arguments = ["--config", &config.path()];

    let mut distrusting = Agent::start(&lab.victim, &arguments)?;
    SCANS[0].run(&lab)?;
    wait_for("it says why not", PATIENCE, || {
        distrusting.said().contains("invalid peer certificate").then_some(())
    })
    .with_context(|| distrusting.said())?;
    distrusting.end()?;
    ensure!(notifications.try_recv().is_err(), "it was notified all the same");

    let mut agent = Agent::start_as(&lab.victim, &arguments, |command| {
        command.env("SSL_CERT_FILE", certificate.to_string());
    })?;
    SCANS[0].run(&lab)?;
    let alert = notifications.recv_timeout(PATIENCE).with_context(|| agent.said())?;
    ensure!(alert["status"] == "firing" && alert["alerts"][0]["labels"]["source"] == SCANNER, "{alert}");
    agent.end()?;
    Ok(())
}

fn rsyslog() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let directory = scenario.lab.victim.directory();
    let path = |name: &str| directory.join(name).display().to_string();
    let (file, out, socket) = (path("rsyslog.conf"), path("out"), path("log"));
    fs::write(
        &file,
        format!(
            "module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"5514\")\n\
             module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"5515\")\n\
             module(load=\"imuxsock\" SysSock.Use=\"off\")\ninput(type=\"imuxsock\" Socket=\"{socket}\")\n\
             global(workDirectory=\"{}\" maxMessageSize=\"16k\")\n\
             template(name=\"t\" type=\"string\" string=\"%inputname%|%pri-text%|%app-name%|%msgid%|%structured-data%|%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{out}\" template=\"t\")\n",
            directory.display()
        ),
    )?;
    let log = directory.join("rsyslog.log");
    let _server = serve(&scenario.lab.victim, "rsyslogd", &["-n", "-f", &file, "-i", &path("pid")], &log)?;
    let mut text = QUICK.to_owned();
    for (name, address) in [
        ("udp", "udp://127.0.0.1:5514"),
        ("tcp", "tcp://127.0.0.1:5515"),
        ("local", &format!("unix:{socket}")),
    ] {
        text += &format!("[[sinks]]\nkind = \"syslog\"\nname = \"{name}\"\naddress = \"{address}\"\n");
    }
    wait_for("rsyslog listens", PATIENCE, || fs::exists(&socket).unwrap_or(false).then_some(()))
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    scenario.configure(&text)?;
    scenario.run(|lab, agent| {
        SCANS[0].run(lab)?;
        let lines = wait_for("all three have the end", PATIENCE, || {
            let text = fs::read_to_string(&out).ok()?;
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            let closed = |input: &&str| {
                lines.iter().any(|line| line.starts_with(*input) && line.contains("\"event\":\"closed\""))
            };
            ["imudp", "imtcp", "imuxsock"].iter().all(closed).then_some(lines)
        })
        .with_context(|| format!("{:?}: {}", fs::read_to_string(&out), agent.said()))?;
        for line in &lines {
            let parts: Vec<_> = line.splitn(6, '|').collect();
            let finding: Value = serde_json::from_str(parts[5].trim()).with_context(|| line.clone())?;
            ensure!(parts[2] == "scanguard" && finding["source"]["ip"] == SCANNER, "{line}");
            ensure!(parts[1].starts_with("daemon."), "{line}");
            if parts[0] != "imuxsock" {
                ensure!(finding["event"] == parts[3], "{line}");
                ensure!(parts[4].starts_with("[origin software=\"scanguard\""), "{line}");
            }
        }
        ensure!(agent.metrics()?.sum("scanguard_sink_dropped_total{") == 0.0);
        Ok(())
    })
}

fn ocsf() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let directory = scenario.lab.victim.directory();
    let out = directory.join("ocsf.json");
    let sink = format!("[[sinks]]\nkind = \"file\"\nformat = \"ocsf\"\npath = \"{}\"\n", out.display());
    scenario.configure(&format!("{QUICK}{sink}"))?;
    scenario.run(|lab, _| {
        for scan in [&SCANS[0], &SCANS[7]] {
            scan.run(lab)?;
        }
        Ok(lab.scanner.command("ping").args(["-6", "-c", "1", VICTIM6]).output()?)
    })?;
    let schema = directory.join("schema.json");
    fs::write(&schema, include_str!("ocsf-detection-finding.json"))?;
    let outbound = directory.join("outbound.json");
    fs::write(&outbound, include_str!("../../scanguard/src/export/forms/golden/ocsf-outbound.json"))?;
    run(Command::new("jsonschema").arg("-i").arg(&outbound).arg(&schema))?;
    let lines = fs::read_to_string(&out)?;
    let mut activities = Vec::new();
    for (number, line) in lines.lines().enumerate() {
        let instance = directory.join(format!("instance-{number}.json"));
        fs::write(&instance, line)?;
        run(Command::new("jsonschema").arg("-i").arg(&instance).arg(&schema))
            .with_context(|| line.to_owned())?;
        let event: Value = serde_json::from_str(line)?;
        activities.push(event["activity_name"].as_str().unwrap_or_default().to_owned());
    }
    for wanted in ["Create", "Update", "Close"] {
        ensure!(activities.iter().any(|activity| activity == wanted), "{activities:?}");
    }
    Ok(())
}

fn stalled() -> Result<()> {
    let lab = Lab::new()?;
    let config = config_file(&format!("{QUICK}[[sinks]]\nkind = \"stdout\"\nqueue = 2\n"))?;
    let mut agent = Agent::start_stalled(&lab.victim, &["--config", &config.path()])?;
    // Each of these is a finding that is opened, and some are reported more than once: far more than a page.
    for scan in [0, 2, 3, 4, 6, 7].map(|place| &SCANS[place]) {
        scan.run(&lab)?;
    }
    let lost = "scanguard_sink_dropped_total{reason=\"full\",sink=\"stdout\"}";
    wait_for("something is lost", PATIENCE, || (agent.metrics().ok()?.get(lost) > 0.0).then_some(()))?;
    let before = agent.settled()?;
    let polls = before.get("scanguard_poll_duration_seconds_count");
    SCANS[0].run(&lab)?;
    let after = agent.settled()?;
    ensure!(after.get("scanguard_poll_duration_seconds_count") > polls, "it polls on");
    ensure!(after.probes("syn") >= before.probes("syn") + 1000.0, "it counts on");
    let started = Instant::now();
    agent.end()?;
    ensure!(started.elapsed() < Duration::from_secs(8), "ended within {:?}", started.elapsed());
    ensure!(agent.said().contains("sink stdout: ended with"), "{}", agent.said());
    Ok(())
}

fn full_disk() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let disk = SmallDisk::mount(scenario.lab.victim.directory().join("small"))?;
    let (filler, out) = (disk.path().join("filler"), disk.path().join("findings.json"));
    // A page is left, and a line is shorter than that: it fills up within one.
    fs::write(&filler, vec![0; 60 << 10])?;
    let sink = format!("[[sinks]]\nkind = \"file\"\npath = \"{}\"\n", out.display());
    scenario.configure(&format!("{QUICK}{sink}"))?;
    let whole = |text: &str| {
        text.ends_with('\n') && text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok())
    };
    scenario.run(|lab, agent| {
        for scan in [0, 2, 3, 4, 6].map(|place| &SCANS[place]) {
            scan.run(lab)?;
        }
        let series = |name: &str| format!("scanguard_sink_{name}_total{{sink=\"file\"}}");
        let sent = wait_for("the disk is full", PATIENCE, || {
            let page = agent.metrics().ok()?;
            (page.get(&series("failed")) >= 2.0).then_some(page.get(&series("sent")))
        })?;
        ensure!(agent.said().contains("sink file: "), "it is not said");
        let text = fs::read_to_string(&out)?;
        ensure!(whole(&text) && text.lines().count() >= 1, "{sent} sent: {text}");
        fs::remove_file(&filler)?;
        wait_for("the file goes on", PATIENCE, || {
            let page = agent.metrics().ok()?;
            let waiting = page.get("scanguard_sink_queue_length{sink=\"file\"}");
            (page.get(&series("sent")) > sent && waiting == 0.0).then_some(())
        })
    })?;
    let text = fs::read_to_string(&out)?;
    let findings: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    // Nothing was lost, and the order is kept.
    let events = |kind: &str| findings.iter().filter(|finding| finding["event"] == kind).count();
    ensure!(whole(&text) && events("opened") == events("closed") && events("opened") >= 4, "{text}");
    Ok(())
}

fn reload() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let directory = scenario.lab.victim.directory();
    let path = |name: &str| directory.join(name).display().to_string();
    let sink =
        |name: &str| format!("[[sinks]]\nkind = \"file\"\nname = \"{name}\"\npath = \"{}\"\n", path(name));
    scenario.configure(&format!("{QUICK}{}", sink("one")))?;
    scenario.run(|lab, agent| {
        // On a busy machine one scan may be several findings: it is over when none of them is open.
        let over = |name: &str| {
            wait_for(&format!("{name} has the end"), PATIENCE, || {
                let text = fs::read_to_string(path(name)).ok()?;
                let is_over = agent.metrics().ok()?.sum("scanguard_findings_open{") == 0.0;
                (is_over && text.contains("\"event\":\"closed\"")).then_some(text)
            })
        };
        SCANS[0].run(lab)?;
        over("one")?;

        let reloads = |outcome: &str| {
            let series = format!("scanguard_config_reloads_total{{outcome=\"{outcome}\"}}");
            wait_for(&format!("the reload: {outcome}"), PATIENCE, || {
                (agent.metrics().ok()?.get(&series) == 1.0).then_some(())
            })
        };
        scenario.configure(&format!("{QUICK}{}[[sinks]]\nkind = \"file\"\n", sink("two")))?;
        // As logrotate does it: another name, then a signal.
        fs::rename(path("one"), path("one.1"))?;
        agent.process.signal(libc::SIGHUP);
        reloads("failure")?;
        // The agent counts it before it says it.
        wait_for("the reason", PATIENCE, || agent.said().contains("path is missing").then_some(()))
            .with_context(|| agent.said())?;
        SCANS[0].run(lab)?;
        let one = over("one")?;
        ensure!(!fs::exists(path("two"))?, "nothing of a wrong configuration is taken");

        scenario.configure(&format!("{QUICK}{}", sink("two")))?;
        agent.process.signal(libc::SIGHUP);
        reloads("success")?;
        SCANS[0].run(lab)?;
        over("two")?;
        ensure!(fs::read_to_string(path("one"))? == one, "it has ended");
        let page = agent.metrics()?;
        ensure!(page.get("scanguard_sink_queue_limit{sink=\"two\"}") == 1024.0, "{page:?}");
        Ok(())
    })
}
