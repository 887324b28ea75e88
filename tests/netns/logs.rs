//! A real nginx writes its access log, which is rotated while the agent follows it, and while it does not.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::{Agent, scanguard},
    lab::{Lab, PATIENCE, VICTIM, wait_for},
    scenario::Scenario,
    stage::Stage,
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "requests in nginx's log are read once each, over rotations and restarts",
            rotations_and_restarts,
        ),
        trial("logs are followed from a reload on", reload),
        trial("a log that cannot be read is named by the agent, status and check-config", unreadable),
    ]
}

/// Longer than it takes to look twice, so that what is read twice has been.
const LONG_ENOUGH: Duration = Duration::from_millis(2_500);

fn nginx(stage: &mut Stage<'_>) -> Result<()> {
    let config = "daemon off; master_process off; pid nginx.pid;\n\
        events {}\n\
        http { access_log access.log combined; client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; \
        uwsgi_temp_path tmp; scgi_temp_path tmp; server { listen 80; location / { return 404; } } }\n";
    stage.file("nginx.conf", config)?;
    let host = &stage.lab.victim;
    stage.start("nginx", host, "nginx -p {dir} -e {dir}/error.log -c {dir}/nginx.conf")?;
    stage.await_port("nginx", host, 80)
}

/// Asks for so many pages over one connection.
fn ask(lab: &Lab, requests: usize) -> Result<()> {
    lab.scanner.enter(|| {
        let mut stream = TcpStream::connect((VICTIM, 80))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let one = "GET /.env?token=secret HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        let last = "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
        stream.write_all(format!("{}{last}", one.repeat(requests - 1)).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.matches("HTTP/1.1 404").count() == requests, "{answer}");
        Ok(())
    })
}

fn rotate(stage: &Stage<'_>, from: &str, to: &str) -> Result<()> {
    fs::rename(stage.directory().join(from), stage.directory().join(to)).context("rename")
}

fn reopen(stage: &Stage<'_>) -> Result<()> {
    let command = "nginx -p {dir} -e {dir}/error.log -c {dir}/nginx.conf -s reopen";
    stage.run(&stage.lab.victim, command, PATIENCE)?;
    // It is a signal: the file is there once nginx has got it.
    let log = stage.directory().join("access.log");
    wait_for("nginx opens its log again", PATIENCE, || log.exists().then_some(()))
}

/// The agent has read so many requests since it started, and reads no more.
fn has_read(agent: &Agent<'_>, requests: usize) -> Result<()> {
    let read = || agent.metrics().map(|metrics| metrics.get("scanguard_log_requests_total"));
    let expected = requests as f64;
    let done = wait_for("requests", PATIENCE, || read().is_ok_and(|read| read >= expected).then_some(()));
    std::thread::sleep(LONG_ENOUGH);
    let read = read()?;
    ensure!(done.is_ok() && read == expected, "{read} requests, not {expected}: {}", agent.said());
    Ok(())
}

fn logs(stage: &Stage<'_>) -> String {
    let directory = stage.directory().display();
    format!("[logs]\nfiles = [\"{directory}/access.log\"]\nstate = \"{directory}/logs.json\"\n")
}

fn rotations_and_restarts() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let mut stage = Stage::new(&scenario.lab)?;
    nginx(&mut stage)?;
    ask(&scenario.lab, 9)?;
    scenario.configure(&logs(&stage))?;
    scenario.run(|lab, agent| {
        let following = || agent.metrics().is_ok_and(|metrics| metrics.get("scanguard_log_files") == 1.0);
        wait_for("the log is followed", PATIENCE, || following().then_some(()))?;
        ask(lab, 50)?;
        has_read(agent, 50)?;
        rotate(&stage, "access.log", "access.log.1")?;
        ask(lab, 5)?;
        reopen(&stage)?;
        ask(lab, 7)?;
        has_read(agent, 62)
    })?;

    ask(&scenario.lab, 3)?;
    rotate(&stage, "access.log.1", "access.log.2")?;
    rotate(&stage, "access.log", "access.log.1")?;
    reopen(&stage)?;
    ask(&scenario.lab, 4)?;
    scenario.run(|lab, agent| {
        has_read(agent, 7)?;
        ask(lab, 2)?;
        has_read(agent, 9)?;
        let (_, page) = agent.get("/metrics")?;
        ensure!(!page.contains("secret") && !page.contains("access.log"), "{page}");
        Ok(())
    })?;
    let state = fs::read_to_string(stage.directory().join("logs.json"))?;
    ensure!(!state.contains("secret") && !state.contains("shop.example"), "{state}");
    Ok(())
}

fn reload() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let mut stage = Stage::new(&scenario.lab)?;
    nginx(&mut stage)?;
    // Where the state is to be, the sandbox has to know from the start.
    let state = stage.directory().join("logs.json");
    scenario.configure(&format!("[logs]\nfiles = []\nstate = \"{}\"\n", state.display()))?;
    scenario.run(|lab, agent| {
        ask(lab, 3)?;
        scenario.configure(&logs(&stage))?;
        agent.process.signal(libc::SIGHUP);
        wait_for("the log is followed", PATIENCE, || {
            agent.metrics().is_ok_and(|metrics| metrics.get("scanguard_log_files") == 1.0).then_some(())
        })?;
        ask(lab, 4)?;
        has_read(agent, 4)
    })
}

/// A line in Nginx Proxy Manager's own format.
const UNREADABLE: &str =
    "[24/Nov/2026:10:22:50 +0000] - 404 404 - GET https a.example \"/.env\" [Client 192.0.2.7] [Length 3]\n";

fn unreadable() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let stage = Stage::new(&scenario.lab)?;
    fs::write(stage.directory().join("access.log"), UNREADABLE.repeat(80))?;
    scenario.configure(&(logs(&stage) + "from_start = true\n"))?;
    let says = |text: &str| {
        ensure!(
            text.contains("access.log: none of the last 80 lines") && text.contains("Proxy Manager"),
            "{text}"
        );
        Ok(())
    };
    scenario.run(|lab, agent| {
        let count = || agent.metrics().map(|metrics| metrics.get("scanguard_log_files_unreadable"));
        wait_for("the file is counted", PATIENCE, || count().is_ok_and(|count| count == 1.0).then_some(()))?;
        says(&agent.order(&["status"])?)?;
        says(&agent.said())?;
        let file = scenario.file().display().to_string();
        let checked = scanguard(&lab.victim, &["check-config", &file])?.output()?;
        ensure!(checked.status.success(), "{checked:?}");
        says(&String::from_utf8_lossy(&checked.stderr))?;
        let json = agent.json(&["status"])?;
        ensure!(json["unread_logs"][0]["lines"] == 80, "{json}");
        let time = jiff::Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
        let mut log = fs::File::options().append(true).open(stage.directory().join("access.log"))?;
        writeln!(log, "192.0.2.7 - - [{time}] \"GET / HTTP/1.1\" 200 3")?;
        wait_for("it can be read", PATIENCE, || count().is_ok_and(|count| count == 0.0).then_some(()))?;
        ensure!(agent.json(&["status"])?["unread_logs"] == serde_json::json!([]), "it is still named");
        Ok(())
    })
}
