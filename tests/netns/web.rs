//! TLS and passwords of the metrics listener: a real Prometheus and curl come by them, in a real sandbox.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::{Agent, LISTEN, get, give},
    lab::{Lab, Namespace, PATIENCE, VICTIM, VICTIM_INTERFACE, run, wait_for},
};

use crate::{sinks::serve, trial};

const PROMETHEUS: &str = "127.0.0.1:9090";
/// `htpasswd -nbBC 4 prometheus 'a true password'`
const USERS: &str =
    "basic_auth_users:\n  prometheus: $2y$04$MKBO3oFDZmEGSXgdbZMRvuuJ0Gs28gPw1by.GnO0KF7Hg7iqL/o5O\n";
const USER: &str = "prometheus:a true password";
/// The exit code of a misconfiguration.
const CONFIGURATION: i32 = 3;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "web: prometheus scrapes by TLS with a password, and a reload takes another certificate",
            scraped,
        ),
        trial("web: other hosts get the probes only, unless they log in or metrics are public", strangers),
        trial("web: a file that cannot be used is reported at the start, and nothing is opened", refused),
    ]
}

/// A certificate authority and what it has signed for this machine: `NAME-ca.pem`, `NAME.pem`, `NAME.key`.
fn certificate(directory: &Path, name: &str) -> Result<()> {
    fs::write(directory.join("openssl.cnf"), "[req]\ndistinguished_name = name\n[name]\n")?;
    let make = |arguments: String| {
        let common =
            "req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 ";
        let arguments = common.to_owned() + &arguments;
        run(Command::new("openssl").args(arguments.split_whitespace()).current_dir(directory))
    };
    make(format!(
        "-subj /CN=ca -keyout {name}-ca.key -out {name}-ca.pem -addext basicConstraints=critical,CA:TRUE"
    ))?;
    make(format!(
        "-subj /CN=edge -keyout {name}.key -out {name}.pem -CA {name}-ca.pem -CAkey {name}-ca.key \
         -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
    ))?;
    // Else only the start could read it, not a reload.
    give(&directory.join(format!("{name}.key")))
}

fn tls(name: &str) -> String {
    format!("tls_server_config: {{cert_file: {name}.pem, key_file: {name}.key}}\n")
}

/// An agent that reads its configuration in a directory with certificates.
fn start<'n>(namespace: &'n Namespace, web: &str) -> Result<(Agent<'n>, &'n Path)> {
    let directory = namespace.directory();
    for name in ["first", "second"] {
        certificate(directory, name)?;
    }
    let file = directory.join("scanguard.toml");
    fs::write(directory.join("web.yml"), web)?;
    let text = format!("sinks = []\n[metrics]\nweb_config = \"{}\"\n", directory.join("web.yml").display());
    fs::write(&file, text)?;
    let file = file.display().to_string();
    let arguments = ["run", "--iface", VICTIM_INTERFACE, "--listen", LISTEN, "--config", &file];
    Ok((Agent::spawn(namespace, &arguments)?, directory))
}

/// The status and the body that curl gets.
fn curl(namespace: &Namespace, directory: &Path, arguments: &[&str]) -> Result<(String, String)> {
    let mut command = namespace.command("curl");
    command.args(["-sS", "-i", "--max-time", "20"]).args(arguments).current_dir(directory);
    let output = run(&mut command)?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok((status, answer))
}

fn scraped() -> Result<()> {
    let lab = Lab::new()?;
    let (mut agent, directory) = start(&lab.victim, &(tls("first") + USERS))?;
    let url = format!("https://{LISTEN}/metrics");
    let by = |authority: &str, more: &[&str]| {
        curl(&lab.victim, directory, &[&["--cacert", authority, &url][..], more].concat())
    };
    let page = |authority: &str| by(authority, &["-u", USER]).ok().filter(|(status, _)| status == "200");
    wait_for("the agent answers", PATIENCE, || page("first-ca.pem")).with_context(|| agent.said())?;

    for more in [&[][..], &["-u", "prometheus:another"], &["-u", "root:a true password"]] {
        let (status, answer) = by("first-ca.pem", more)?;
        ensure!(status == "401" && answer.to_lowercase().contains("\nwww-authenticate: basic"), "{answer}");
        ensure!(!answer.contains("scanguard_"), "{answer}");
    }
    for path in ["/healthz", "/readyz", "/", "/page/events", "/none"] {
        let (status, _) =
            curl(&lab.victim, directory, &["--cacert", "first-ca.pem", &format!("https://{LISTEN}{path}")])?;
        ensure!(status == "401", "{path}: {status}");
    }
    ensure!(by("second-ca.pem", &["-u", USER]).is_err(), "a certificate of another authority");
    let (status, answer) = get(&lab.victim, LISTEN, "/metrics")?;
    ensure!(status == 400 && !answer.contains("scanguard_"), "plain HTTP: {answer}");
    let (_, metrics) = page("first-ca.pem").context("the metrics")?;
    for series in [
        "scanguard_listener_unauthorized_total{reason=\"no_credentials\"} 6",
        "scanguard_listener_unauthorized_total{reason=\"wrong_credentials\"} 2",
        "scanguard_sandbox_enforced{part=\"seccomp\"} 1",
    ] {
        ensure!(metrics.contains(series), "{series}\n{metrics}");
    }

    let log = directory.join("prometheus.log");
    let file = directory.join("prometheus.yml");
    fs::write(
        &file,
        format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: scanguard\n  scheme: https\n  \
             tls_config: {{ca_file: first-ca.pem}}\n  basic_auth: {{username: prometheus, password: a true password}}\n  \
             static_configs: [{{targets: ['{LISTEN}']}}]\n"
        ),
    )?;
    let arguments = [
        &format!("--config.file={}", file.display()),
        &format!("--storage.tsdb.path={}", directory.join("prometheus").display()),
        &format!("--web.listen-address={PROMETHEUS}"),
    ];
    let _prometheus = serve(&lab.victim, "prometheus", &arguments.map(String::as_str), &log)?;
    let up = |value: &str| {
        let found = get(&lab.victim, PROMETHEUS, "/api/v1/query?query=up").ok()?.1;
        found.contains(&format!(",\"{value}\"]")).then_some(())
    };
    wait_for("prometheus scrapes", PATIENCE, || up("1"))
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;

    // A file that cannot be used changes nothing.
    fs::write(directory.join("web.yml"), tls("none") + USERS)?;
    agent.process.signal(libc::SIGHUP);
    wait_for("the reload is refused", PATIENCE, || {
        agent.said().contains("the old configuration stays").then_some(())
    })?;
    ensure!(agent.said().contains("none.pem: No such file"), "{}", agent.said());
    page("first-ca.pem").context("as before")?;

    fs::write(directory.join("web.yml"), tls("second") + USERS)?;
    agent.process.signal(libc::SIGHUP);
    wait_for("the new certificate", PATIENCE, || page("second-ca.pem")).with_context(|| agent.said())?;
    ensure!(page("first-ca.pem").is_none(), "the old certificate is still shown");
    wait_for("prometheus does not trust it", PATIENCE, || up("0"))?;
    agent.end()?;
    Ok(())
}

fn strangers() -> Result<()> {
    let lab = Lab::new()?;
    let directory = lab.victim.directory();
    let status = |namespace, address: &str, path: &str| {
        curl(namespace, directory, &[&format!("http://{address}:9823{path}")]).map(|(status, _)| status)
    };
    let start = |text: &str| -> Result<Agent<'_>> {
        let file = directory.join("scanguard.toml");
        fs::write(&file, format!("sinks = []\n{text}"))?;
        let file = file.display().to_string();
        let agent = Agent::spawn(&lab.victim, &["run", "--iface", VICTIM_INTERFACE, "--config", &file])?;
        wait_for("the agent answers", PATIENCE, || {
            status(&lab.victim, "127.0.0.1", "/readyz").ok().filter(|status| status == "200")
        })
        .with_context(|| agent.said())?;
        Ok(agent)
    };

    let mut agent = start("")?;
    ensure!(status(&lab.scanner, VICTIM, "/healthz").is_err(), "the default is loopback");
    ensure!(agent.said().contains("until 0.1 the default was all addresses"), "{}", agent.said());
    agent.end()?;

    let listen = "[metrics]\nlisten = \"[::]:9823\"\n";
    let mut agent = start(listen)?;
    ensure!(agent.said().contains("nobody can log in at http://[::]:9823/"), "{}", agent.said());
    for (path, here, elsewhere) in [
        ("/healthz", "200", "200"),
        ("/readyz", "200", "200"),
        ("/metrics", "200", "403"),
        ("/", "200", "403"),
        ("/page/history", "200", "403"),
        ("/page/events/", "404", "403"),
    ] {
        for (namespace, address, expected) in [
            (&lab.victim, "127.0.0.1", here),
            (&lab.victim, "localhost", here),
            (&lab.victim, VICTIM, elsewhere),
            (&lab.scanner, VICTIM, elsewhere),
        ] {
            let status = status(namespace, address, path)?;
            ensure!(status == expected, "{address}{path}: {status}, not {expected}");
        }
    }
    // A forged name or header does not make a stranger the operator.
    for header in ["Host: 127.0.0.1:9823", "X-Forwarded-For: 127.0.0.1"] {
        let (status, _) = curl(&lab.scanner, directory, &["-H", header, &format!("http://{VICTIM}:9823/")])?;
        ensure!(status == "403", "{header}: {status}");
    }
    fs::write(directory.join("scanguard.toml"), format!("sinks = []\n{listen}public_metrics = true\n"))?;
    agent.process.signal(libc::SIGHUP);
    wait_for("public metrics", PATIENCE, || {
        status(&lab.scanner, VICTIM, "/metrics").ok().filter(|status| status == "200")
    })?;
    ensure!(status(&lab.scanner, VICTIM, "/")? == "403", "the page is not public");
    fs::write(directory.join("web.yml"), USERS)?;
    let web = format!("web_config = \"{}\"\n", directory.join("web.yml").display());
    fs::write(directory.join("scanguard.toml"), format!("sinks = []\n{listen}{web}"))?;
    agent.process.signal(libc::SIGHUP);
    wait_for("users", PATIENCE, || {
        let (status, _) =
            curl(&lab.scanner, directory, &["-u", USER, &format!("http://{VICTIM}:9823/")]).ok()?;
        (status == "200").then_some(())
    })
    .with_context(|| agent.said())?;
    agent.end()?;
    Ok(())
}

fn refused() -> Result<()> {
    let lab = Lab::new()?;
    for (web, word) in [
        (tls("none"), "none.pem: No such file"),
        ("basic_auth_users: {prometheus: clear}\n".to_owned(), "this is no bcrypt hash"),
    ] {
        let (mut agent, _) = start(&lab.victim, &web)?;
        let code = agent.exit_code()?;
        let said = agent.said();
        ensure!(code == Some(CONFIGURATION), "{code:?}: {said}");
        ensure!(said.contains("scanguard.toml:3: metrics.web_config: ") && said.contains(word), "{said}");
        ensure!(get(&lab.victim, LISTEN, "/healthz").is_err(), "somebody listens");
    }
    Ok(())
}
