//! Requests of real clients to real servers, and the answers, are sampled as often as the server logged them.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::{Agent, Metrics},
    lab::{PATIENCE, SCANNER, wait_for},
    scenario::Scenario,
    stage::Stage,
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "content: every request of ten connections that are kept alive is sampled, and every status",
            kept_alive,
        ),
        trial("content: gobuster's requests are sampled as often as nginx logged them", gobuster),
        trial("content: gobuster is found by its agent, and by its words with a browser's", words_are_found),
        trial("content: gobuster's names of DNS are found", names_are_found),
        trial(
            "content: a source that tries words is banned by nginx's log alone, and dropped",
            banned_by_a_log,
        ),
        trial("content: what lies in the body of an upload is no request", no_cors_post),
        trial("content: one path that nobody asks for is told, and bans nobody", one_path),
        trial("content: a hello at the port of TLS is sampled, also over IPv6", hello),
        trial("content: queries and answers of DNS are sampled over UDP and TCP", dns),
        trial("content: requests beyond the budget are counted, and a reload changes the budget", budget),
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
    wait_for("all samples are read", PATIENCE, || {
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
    let scenario = Scenario::new(PLENTY)?;
    let mut stage = Stage::new(&scenario.lab)?;
    nginx(&mut stage)?;
    scenario.run(|_, agent| {
        for host in ["{victim}", "[{victim6}]"] {
            for _ in 0..5 {
                // A process is a connection: curl keeps it.
                stage.client(&format!("curl -s -o /dev/null http://{host}/page[1-60]"))?;
            }
        }
        let metrics = read(agent)?;
        ensure!(logged(&stage)? == 600.0, "nginx logged {}", logged(&stage)?);
        for begins in ["http_request", "http_status"] {
            ensure!(samples(&metrics, begins) == 600.0, "{begins}: {}", samples(&metrics, begins));
        }
        ensure!(left_out(&metrics) == 0.0, "{} were left out", left_out(&metrics));
        Ok(())
    })
}

fn gobuster() -> Result<()> {
    let scenario = Scenario::new(PLENTY)?;
    let mut stage = Stage::new(&scenario.lab)?;
    nginx(&mut stage)?;
    let words: String = (0..2_000).map(|number| format!("word{number}\n")).collect();
    stage.file("words.txt", &words)?;
    scenario.run(|_, agent| {
        stage.client("gobuster dir -q -u http://{victim}/ -w {dir}/words.txt -o {dir}/found.txt")?;
        let metrics = read(agent)?;
        let logged = logged(&stage)?;
        ensure!(logged >= 2_000.0, "nginx logged {logged}");
        for begins in ["http_request", "http_status"] {
            let sampled = samples(&metrics, begins);
            ensure!(sampled == logged, "{begins}: {sampled} sampled, nginx logged {logged}");
        }
        Ok(())
    })
}

/// Waits until a finding by a rule, of a technique, is opened; the finding.
fn opened(agent: &Agent<'_>, rule: &str, technique: &str) -> Result<serde_json::Value> {
    let is_it = |finding: &serde_json::Value| {
        let techniques = finding["techniques"].as_array().into_iter().flatten();
        finding["event"] == "opened"
            && finding["rule"] == rule
            && techniques.into_iter().any(|one| *one == technique)
    };
    let found = wait_for(rule, PATIENCE, || agent.findings().into_iter().find(is_it));
    found.with_context(|| format!("{technique}: {}", agent.said()))
}

/// Whether it is of the scanner, and says so of its evidence.
fn is_of_scanner(finding: &serde_json::Value, spoofable: &str) -> bool {
    let says = finding["spoofable"].as_str().unwrap_or_default();
    finding["source"]["ip"] == SCANNER && says.starts_with(spoofable)
}

/// Words that are no pages.
fn words(stage: &Stage<'_>) -> Result<()> {
    let words: String = (0..400).map(|number| format!("word{number}\n")).collect();
    stage.file("words.txt", &words).map(drop)
}

fn words_are_found() -> Result<()> {
    for (agent_option, rules) in [
        ("", &[("scanner_agent", "T1595.002"), ("wordlist_scan", "T1595.003")][..]),
        ("-a {browser}", &[("wordlist_scan", "T1595.003")]),
    ] {
        let scenario = Scenario::new(PLENTY)?.with(&["--format", "json"]);
        let mut stage = Stage::new(&scenario.lab)?;
        nginx(&mut stage)?;
        words(&stage)?;
        scenario.run(|_, agent| {
            // An honest visit, long enough before that it is another slice of time.
            stage.client("curl -s -o /dev/null http://{victim}/page1")?;
            stage.client(&format!(
                "gobuster dir -q {agent_option} -u http://{{victim}}/ -w {{dir}}/words.txt"
            ))?;
            for (rule, technique) in rules {
                let finding = opened(agent, rule, technique)?;
                ensure!(is_of_scanner(&finding, "no: "), "{finding}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn names_are_found() -> Result<()> {
    let scenario = Scenario::new(PLENTY)?.with(&["--format", "json"]);
    let mut stage = Stage::new(&scenario.lab)?;
    dnsmasq(&mut stage)?;
    words(&stage)?;
    scenario.run(|_, agent| {
        stage.client("gobuster dns -q -d zone.test -r {victim}:53 -w {dir}/words.txt")?;
        let finding = opened(agent, "dns_enumeration", "T1595.003")?;
        ensure!(is_of_scanner(&finding, "yes: "), "{finding}");
        Ok(())
    })
}

fn banned_by_a_log() -> Result<()> {
    let scenario = Scenario::defaults()?.with(&["--format", "json"]);
    let mut stage = Stage::new(&scenario.lab)?;
    nginx(&mut stage)?;
    words(&stage)?;
    let directory = stage.directory().display();
    // Nothing is looked at on the wire, as with TLS.
    scenario.configure(&format!(
        "[sensor]\npoll_interval = \"100ms\"\n[samples]\nenabled = false\n[response]\nmode = \"enforce\"\n\
         [logs]\nfiles = [\"{directory}/access.log\"]\nstate = \"{directory}/logs.json\"\n",
    ))?;
    scenario.run(|_, agent| {
        wait_for("the log is followed", PATIENCE, || {
            agent.metrics().is_ok_and(|metrics| metrics.get("scanguard_log_files") == 1.0).then_some(())
        })?;
        let visit = "curl -s -o /dev/null --max-time 3 http://{victim}/page1";
        stage.client(visit)?;
        stage.client("gobuster dir -q -a {browser} -u http://{victim}/ -w {dir}/words.txt")?;
        let finding = opened(agent, "wordlist_scan", "T1595.003")?;
        ensure!(finding["confidence"] == "high" && is_of_scanner(&finding, "no: "), "{finding}");
        let bans = wait_for("the ban", PATIENCE, || {
            let bans = agent.json(&["bans"]).ok()?;
            (bans["bans"].as_array()?.len() == 1).then_some(bans)
        })?;
        let ban = &bans["bans"][0];
        ensure!(
            ban["net"] == format!("{SCANNER}/32") && ban["by"] == "rule" && ban["drops"] == true,
            "{ban}"
        );
        ensure!(stage.client(visit).is_err(), "it is still answered");
        let metrics = agent.settled()?;
        ensure!(metrics.exit("banned") > 0.0, "nothing was dropped");
        ensure!(metrics.sum("scanguard_samples_total{") == 0.0, "something was sampled");
        agent.order(&["unban", SCANNER])?;
        stage.client(visit)?;
        Ok(())
    })
}

/// A page may have `/.env` as a picture, or send its visitor there. Only several such paths are a ground for a ban.
fn one_path() -> Result<()> {
    let scenario =
        Scenario::new(&format!("{PLENTY}[response]\nmode = \"enforce\"\n"))?.with(&["--format", "json"]);
    let mut stage = Stage::new(&scenario.lab)?;
    nginx(&mut stage)?;
    scenario.run(|_, agent| {
        let ask = |options: &str, path: &str| {
            stage.client(&format!("curl -s -o /dev/null -m 5 {options} http://{{victim}}{path}"))
        };
        ask("-A {browser} -H Accept:image/avif,image/webp,*/*;q=0.8", "/.env")?;
        ask("-A {browser} -H Referer:https://evil.example/", "/.env")?;
        ask("-A {browser}", "/page1")?;
        read(agent)?;
        ensure!(agent.findings().is_empty(), "a picture: {:?}", agent.findings());
        for _ in 0..5 {
            ask("-A {browser}", "/.env")?;
        }
        let finding = opened(agent, "sensitive_paths", "T1595.002")?;
        ensure!(finding["confidence"] == "low" && is_of_scanner(&finding, "no: "), "{finding}");
        ask("-A {browser}", "/page1")?;
        let metrics = read(agent)?;
        ensure!(metrics.sum("scanguard_bans{") == 0.0, "a ban");
        for path in ["/.git/HEAD", "/.aws/credentials"] {
            let _ = ask("-A {browser}", path);
        }
        wait_for("the ban", PATIENCE, || (agent.metrics().ok()?.sum("scanguard_bans{") == 1.0).then_some(()))
    })
}

/// What a browser sends for `fetch(..., {method: "POST", mode: "no-cors", body})` of anybody's page. nginx answers 405
/// before the body has come.
fn no_cors_post() -> Result<()> {
    let scenario =
        Scenario::new(&format!("{PLENTY}[response]\nmode = \"enforce\"\n"))?.with(&["--format", "json"]);
    let mut stage = Stage::new(&scenario.lab)?;
    stage.file(
        "static.conf",
        "daemon off; master_process off; pid nginx.pid;\n\
         events { worker_connections 1024; }\n\
         http { access_log access.log; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;\n\
         uwsgi_temp_path u; scgi_temp_path s; client_max_body_size 0; server { listen 80; root html; } }\n",
    )?;
    fs::create_dir(stage.directory().join("html"))?;
    stage.file("html/index.html", "a page\n")?;
    let victim = &stage.lab.victim;
    stage.start("nginx", victim, "nginx -p {dir} -e {dir}/error.log -c {dir}/static.conf")?;
    stage.await_port("nginx", victim, 80)?;
    // Of an odd length, so that segments of any length begin with it now and then.
    let request = "GET /.env HTTP/1.1\r\nHost: a\r\nUser-Agent: sqlmap\r\n\r\nXXXXXXXXXX\r\n";
    ensure!(request.len() % 2 == 1, "{}", request.len());
    stage.file("body", &request.repeat(200_000))?;
    scenario.run(|_, agent| {
        let upload = "curl -s -o /dev/null -A {browser} -H Expect: -H Origin:https://evil.example \
                      -H Content-Type:text/plain --data-binary @{dir}/body http://{victim}/";
        // nginx may close the connection before all was sent.
        let bodies = wait_for("samples within a body", PATIENCE, || {
            let _ = stage.client(upload);
            let bodies = agent.metrics().ok()?.get("scanguard_content_bodies_total");
            (bodies >= 3.0).then_some(bodies)
        })?;
        stage.client("curl -s -o /dev/null http://{victim}/")?;
        let metrics = read(agent)?;
        ensure!(agent.findings().is_empty(), "{bodies} samples, and {:?}", agent.findings());
        ensure!(metrics.sum("scanguard_bans{") == 0.0, "a ban");
        // Outside of a body, it is what it says.
        stage.client("curl -s -o /dev/null -A sqlmap http://{victim}/")?;
        let finding = opened(agent, "scanner_agent", "T1595.002")?;
        ensure!(is_of_scanner(&finding, "no: "), "{finding}");
        Ok(())
    })
}

fn hello() -> Result<()> {
    let scenario = Scenario::new(PLENTY)?;
    let mut stage = Stage::new(&scenario.lab)?;
    nginx(&mut stage)?;
    scenario.run(|_, agent| {
        for host in ["{victim}", "[{victim6}]"] {
            // This nginx speaks no TLS and answers with a status: curl ends with an error.
            let refused = stage.client(&format!("curl -sk -o /dev/null https://{host}/"));
            ensure!(refused.is_err(), "a handshake");
        }
        let metrics = read(agent)?;
        ensure!(samples(&metrics, "tls_hello") == 2.0, "{}", samples(&metrics, "tls_hello"));
        ensure!(samples(&metrics, "http_request") == 0.0, "{}", samples(&metrics, "http_request"));
        Ok(())
    })
}

/// A name server of one name.
fn dnsmasq(stage: &mut Stage<'_>) -> Result<()> {
    let victim = &stage.lab.victim;
    stage.start(
        "dnsmasq",
        victim,
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file= \
         --port=53 --local=/test/ --address=/known.test/192.0.2.1",
    )?;
    stage.await_port("dnsmasq", victim, 53)
}

fn dns() -> Result<()> {
    let scenario = Scenario::new(PLENTY)?;
    let mut stage = Stage::new(&scenario.lab)?;
    dnsmasq(&mut stage)?;
    scenario.run(|_, agent| {
        for query in ["known.test", "unknown.test", "+tcp known.test", "+tcp unknown.test"] {
            stage.client(&format!("dig +tries=1 +timeout=5 @{{victim}} {query}"))?;
        }
        let metrics = read(agent)?;
        for begins in ["dns_query", "dns_answer"] {
            ensure!(samples(&metrics, begins) == 4.0, "{begins}: {}", samples(&metrics, begins));
        }
        Ok(())
    })
}

fn budget() -> Result<()> {
    // Ten samples at once and one more each epoch.
    let scenario = Scenario::new("[sensor]\npoll_interval = \"100ms\"\n[samples]\nsource_budget = 10\n")?;
    let mut stage = Stage::new(&scenario.lab)?;
    nginx(&mut stage)?;
    scenario.run(|_, agent| {
        stage.client("curl -s -o /dev/null http://{victim}/page[1-200]")?;
        let metrics = read(agent)?;
        let (sampled, beyond) = (metrics.sum("scanguard_samples_total{"), left_out(&metrics));
        ensure!(sampled + beyond == 400.0 && beyond > 200.0, "{sampled} sampled, {beyond} left out");
        scenario.configure(PLENTY)?;
        agent.process.signal(libc::SIGHUP);
        wait_for("the reload", PATIENCE, || {
            let metrics = agent.metrics().ok()?;
            (metrics.get("scanguard_config_reloads_total{outcome=\"success\"}") == 1.0).then_some(())
        })?;
        stage.client("curl -s -o /dev/null http://{victim}/page[1-200]")?;
        let metrics = read(agent)?;
        ensure!(left_out(&metrics) == beyond, "{} more were left out", left_out(&metrics) - beyond);
        Ok(())
    })
}
