//! What real clients say to real servers is sampled, and what they are answered: as often as the server logged it.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    agent::{Agent, Metrics},
    lab::{Lab, wait_for},
    stage::Stage,
};

use crate::{counts::config_file, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "content: every request of ten connections that are kept alive is sampled, and every status",
            kept_alive,
        ),
        trial("content: gobuster's requests are sampled as often as nginx logged them", gobuster),
        trial("content: a hello at the port of TLS is sampled, also over IPv6", hello),
        trial("content: queries and answers of DNS are sampled over UDP and TCP", dns),
        trial("content: what the budget leaves out is counted, and a reload changes the budget", budget),
    ]
}

/// Budgets that no test reaches.
const PLENTY: &str =
    "[sensor]\npoll_interval = \"100ms\"\n[samples]\nsource_budget = 100000\ncpu_budget = 500000\n";

fn samples(metrics: &Metrics, begins: &str) -> f64 {
    metrics.get(&format!("scanguard_samples_total{{begins=\"{begins}\"}}"))
}

fn left_out(metrics: &Metrics) -> f64 {
    metrics.sum("scanguard_samples_left_out_total{")
}

/// The metrics once the agent has read all that was sampled.
fn read(agent: &Agent<'_>) -> Result<Metrics> {
    agent.settled()?;
    wait_for("all samples are read", Duration::from_secs(10), || {
        let metrics = agent.metrics().ok()?;
        let sent = metrics.sum("scanguard_samples_total{");
        (sent > 0.0 && metrics.get("scanguard_samples_heard_total") == sent).then_some(metrics)
    })
}

/// nginx on the victim, with pages at `/page...` and a log.
fn nginx(stage: &mut Stage<'_>) -> Result<()> {
    stage.file(
        "logging.conf",
        "daemon off; master_process off; pid nginx.pid;\n\
         events { worker_connections 1024; }\n\
         http {\naccess_log access.log; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;\n\
         uwsgi_temp_path u; scgi_temp_path s;\n\
         server { listen 80; listen [::]:80; listen 443; listen [::]:443;\n\
         location /page { return 200 'a page'; } location / { return 404; } }\n}\n",
    )?;
    let victim = &stage.lab.victim;
    stage.start("nginx", victim, "nginx -p {dir} -e {dir}/error.log -c {dir}/logging.conf")?;
    stage.await_port("nginx", victim, 80)
}

/// Requests that nginx has logged.
fn logged(stage: &Stage<'_>) -> Result<f64> {
    Ok(fs::read_to_string(stage.directory().join("access.log"))?.lines().count() as f64)
}

fn kept_alive() -> Result<()> {
    let lab = Lab::new()?;
    let mut stage = Stage::new(&lab)?;
    nginx(&mut stage)?;
    let config = config_file(PLENTY)?;
    let agent = Agent::start(&lab.victim, &["--config", &config.path()])?;
    for host in ["{victim}", "[{victim6}]"] {
        for _ in 0..5 {
            // A process is a connection: curl keeps it.
            stage.client(&format!("curl -s -o /dev/null http://{host}/page[1-60]"))?;
        }
    }
    let metrics = read(&agent)?;
    ensure!(logged(&stage)? == 600.0, "nginx logged {}", logged(&stage)?);
    for begins in ["http_request", "http_status"] {
        ensure!(samples(&metrics, begins) == 600.0, "{begins}: {}", samples(&metrics, begins));
    }
    ensure!(left_out(&metrics) == 0.0, "{} were left out", left_out(&metrics));
    Ok(())
}

fn gobuster() -> Result<()> {
    let lab = Lab::new()?;
    let mut stage = Stage::new(&lab)?;
    nginx(&mut stage)?;
    let words: String = (0..2_000).map(|number| format!("word{number}\n")).collect();
    stage.file("words.txt", &words)?;
    let config = config_file(PLENTY)?;
    let agent = Agent::start(&lab.victim, &["--config", &config.path()])?;
    stage.client("gobuster dir -q -u http://{victim}/ -w {dir}/words.txt -o {dir}/found.txt")?;
    let metrics = read(&agent)?;
    let logged = logged(&stage)?;
    ensure!(logged >= 2_000.0, "nginx logged {logged}");
    for begins in ["http_request", "http_status"] {
        let sampled = samples(&metrics, begins);
        ensure!(sampled == logged, "{begins}: {sampled} sampled, nginx logged {logged}");
    }
    Ok(())
}

fn hello() -> Result<()> {
    let lab = Lab::new()?;
    let mut stage = Stage::new(&lab)?;
    nginx(&mut stage)?;
    let config = config_file(PLENTY)?;
    let agent = Agent::start(&lab.victim, &["--config", &config.path()])?;
    for host in ["{victim}", "[{victim6}]"] {
        // This nginx speaks no TLS and answers with a status: curl ends with an error.
        let refused = stage.client(&format!("curl -sk -o /dev/null https://{host}/"));
        ensure!(refused.is_err(), "a handshake");
    }
    let metrics = read(&agent)?;
    ensure!(samples(&metrics, "tls_hello") == 2.0, "{}", samples(&metrics, "tls_hello"));
    ensure!(samples(&metrics, "http_request") == 0.0, "{}", samples(&metrics, "http_request"));
    Ok(())
}

fn dns() -> Result<()> {
    let lab = Lab::new()?;
    let mut stage = Stage::new(&lab)?;
    stage.start(
        "dnsmasq",
        &lab.victim,
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file= \
         --port=53 --local=/test/ --address=/known.test/192.0.2.1",
    )?;
    stage.await_port("dnsmasq", &lab.victim, 53)?;
    let config = config_file(PLENTY)?;
    let agent = Agent::start(&lab.victim, &["--config", &config.path()])?;
    for query in ["known.test", "unknown.test", "+tcp known.test", "+tcp unknown.test"] {
        stage.client(&format!("dig +tries=1 +timeout=5 @{{victim}} {query}"))?;
    }
    let metrics = read(&agent)?;
    for begins in ["dns_query", "dns_answer"] {
        ensure!(samples(&metrics, begins) == 4.0, "{begins}: {}", samples(&metrics, begins));
    }
    Ok(())
}

fn budget() -> Result<()> {
    let lab = Lab::new()?;
    let mut stage = Stage::new(&lab)?;
    nginx(&mut stage)?;
    // Ten samples at once and one more each epoch.
    let little = "[sensor]\npoll_interval = \"100ms\"\n[samples]\nsource_budget = 10\n";
    let config = config_file(little)?;
    let mut agent = Agent::start(&lab.victim, &["--config", &config.path()])?;
    stage.client("curl -s -o /dev/null http://{victim}/page[1-200]")?;
    let metrics = read(&agent)?;
    let (sampled, beyond) = (metrics.sum("scanguard_samples_total{"), left_out(&metrics));
    ensure!(sampled + beyond == 400.0 && beyond > 200.0, "{sampled} sampled, {beyond} left out");
    fs::write(config.path(), PLENTY)?;
    agent.process.signal(libc::SIGHUP);
    wait_for("the reload", Duration::from_secs(10), || {
        let metrics = agent.metrics().ok()?;
        (metrics.get("scanguard_config_reloads_total{outcome=\"success\"}") == 1.0).then_some(())
    })?;
    stage.client("curl -s -o /dev/null http://{victim}/page[1-200]")?;
    let metrics = read(&agent)?;
    ensure!(left_out(&metrics) == beyond, "{} more were left out", left_out(&metrics) - beyond);
    ensure!(agent.stop()? == Some(0), "{}", agent.said());
    Ok(())
}
