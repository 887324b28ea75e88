//! Bans: real scans are stopped, and nobody else is.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::{Agent, binary},
    behind,
    capture::Capture,
    clients::{self, at},
    lab::{Lab, Namespace, PATIENCE, SCANNER, VICTIM, VICTIM_INTERFACE, run, wait_for},
    scenario::Scenario,
    scratch, stream,
};

use crate::trial;

/// Long enough for an answer over a veth pair, and for a second SYN.
const TIMEOUT: Duration = Duration::from_millis(1_500);
const VICTIM_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Forged ones.
const SOURCES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 2), Ipv4Addr::new(203, 0, 113, 3)];

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("response: a scanner that names itself is banned, and its scan gets no answer", enforced),
        trial("response: a fast scan of 1,000 ports gets answers from a few of them", reflex),
        trial("response: a dry run drops nothing and counts what it would", dry_run),
        trial("response: activity before enforcing began, or before an unban, bans nobody", begun_anew),
        trial("response: a scan that may be forged bans nobody unless that is wanted", forged),
        trial("response: a banned address still answers this host", replies),
        trial("response: the allow list and ssh connections go before any ban", allowed),
        trial("response: enforcing that is not confirmed falls back", confirmed),
        trial("response: bans outlive the agent, and a corrupt state file does not stop it", restarted),
        trial("response: a change of the mode keeps what bans counted", recounted),
        trial("response: one agent at a time, and a killed one leaves no trouble", two_agents),
        trial("response: a peer without the right is refused and logged", forbidden),
        trial("response: orders that make no sense are refused with the reason", nonsense),
        trial("response: a reload takes the response settings whole or not at all", reloaded),
        trial("response: a storm stops new bans by rules, and every other ban holds", breaker),
        trial("response: where there is no room a ban by a rule makes room, and none by hand", full),
        trial("response: a source that is banned again is banned for longer", escalation),
        trial("response: drop = all drops the answers of a banned address, too", drop_all),
        trial("response: networks of feeds are dropped from the first packet on", feeds),
    ]
}

pub(crate) fn configured(response: &str) -> Result<Scenario> {
    Scenario::new(&with_response(response))
}

/// A configuration with these lines on the response.
fn with_response(response: &str) -> String {
    format!("[sensor]\npoll_interval = \"100ms\"\n[response]\n{response}\n")
}

/// States of ports, as nmap reports them for connections, as `port/state/...`.
pub(crate) fn scan(lab: &Lab, arguments: &str) -> Result<String> {
    let mut command = lab.scanner.command("nmap");
    command.args("-n -Pn --max-retries 1 -oG -".split(' ')).args(arguments.split(' ')).arg(VICTIM);
    Ok(String::from_utf8_lossy(&run(&mut command)?.stdout).into_owned())
}

pub(crate) fn connects(from: &Namespace, to: SocketAddr) -> Result<bool> {
    from.enter(|| Ok(TcpStream::connect_timeout(&to, TIMEOUT).is_ok()))
}

/// Says something, within a connection to the server at port 80, that nobody else can have said and that scanners say, until the
/// agent has made of it what it makes; gives the bans then.
fn scan_until_banned(lab: &Lab, agent: &Agent<'_>) -> Result<serde_json::Value> {
    lab.scanner.enter(|| {
        let mut stream = TcpStream::connect_timeout(&at(VICTIM, 80), TIMEOUT)?;
        stream.write_all(
            b"GET / HTTP/1.1\r\nHost: victim\r\nUser-Agent: sqlmap/1.7 (https://sqlmap.org)\r\n\r\n",
        )?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        // By the end of the answer the server has taken the request; whether it comes is not asked here.
        let _ = stream.read_to_end(&mut Vec::new());
        Ok(())
    })?;
    wait_for("the ban", PATIENCE, || {
        let bans = agent.json(&["bans"]).ok()?;
        (bans["bans"].as_array()?.len() == 1 && bans["bans"][0]["response"] == "ban").then_some(bans)
    })
}

/// A server at port 80 of the victim that hears what its clients say.
fn web_server(lab: &Lab) -> Result<clients::Services> {
    clients::serve(&lab.victim, [80])
}

fn mode(agent: &Agent<'_>) -> Option<String> {
    agent.json(&["status"]).ok()?["response"]["mode"].as_str().map(str::to_owned)
}

fn enforced() -> Result<()> {
    let scenario = configured("mode = \"enforce\"")?;
    let _server = web_server(&scenario.lab)?;
    scenario.run(|lab, agent| {
        let bans = scan_until_banned(lab, agent)?;
        let ban = &bans["bans"][0];
        ensure!(ban["net"] == "10.77.0.2/32" && ban["by"] == "rule" && ban["drops"] == true, "{ban}");
        ensure!(ban["response"] == "ban" && ban["rule"] == "scanner_agent", "{ban}");
        let left = ban["seconds_left"].as_u64().context("it ends")?;
        ensure!((590..=660).contains(&left), "{left} s");
        let second = scan(lab, "-sT -p 79-81")?;
        ensure!(second.matches("/filtered/").count() == 3, "{second}");
        let explained = agent.order(&["explain", SCANNER])?;
        for word in
            ["banned by rule", "its packets are dropped", "finding ", "within a connection", "history"]
        {
            ensure!(explained.contains(word), "{word}: {explained}");
        }
        let metrics = agent.settled()?;
        ensure!(metrics.get("scanguard_response_mode{mode=\"enforce\"}") == 1.0);
        ensure!(metrics.get("scanguard_bans{kind=\"rule\"}") == 1.0);
        ensure!(metrics.get("scanguard_bans_total{by=\"rule\"}") == 1.0);
        ensure!(metrics.exit("banned") > 0.0, "nothing was dropped");

        agent.order(&["unban", SCANNER])?;
        ensure!(scan(lab, "-sT -p 80")?.contains("80/open/"), "still banned");
        Ok(())
    })
}

fn begun_anew() -> Result<()> {
    let scenario = configured("mode = \"dry-run\"")?;
    let _server = web_server(&scenario.lab)?;
    scenario.run(|lab, agent| {
        scan_until_banned(lab, agent)?;
        agent.order(&["enforce"])?;
        let is_left_alone = || {
            for _ in 0..3 {
                ensure!(connects(&lab.scanner, at(VICTIM, 80))?, "dropped");
                agent.settled()?;
            }
            let bans = agent.json(&["bans"])?;
            ensure!(bans["bans"] == serde_json::json!([]), "{bans}");
            let explained = agent.order(&["explain", SCANNER])?;
            ensure!(explained.contains("no rule has matched since"), "{explained}");
            Ok(())
        };
        is_left_alone().context("after enforce")?;
        scan_until_banned(lab, agent)?;
        agent.order(&["unban", SCANNER])?;
        is_left_alone().context("after unban")?;
        let page = agent.metrics()?;
        ensure!(page.get("scanguard_bans_total{by=\"rule\"}") == 2.0, "{page:?}");
        Ok(())
    })
}

/// The kernel does at once what the agent does within milliseconds.
fn reflex() -> Result<()> {
    for (settings, total) in
        [("", "scanguard_shields_total"), ("allow_spoofable = true\n", "scanguard_bans_total{by=\"rule\"}")]
    {
        Scenario::new(&format!("[response]\nmode = \"enforce\"\n{settings}"))?.run(|lab, agent| {
            let status = agent.order(&["status"])?;
            ensure!(status.contains("a source is shielded from for 200 ms"), "{status}");
            let mut answers = Capture::outgoing(&lab.victim, VICTIM_INTERFACE)?;
            scan(lab, "-sS -T5 --host-timeout 10s -p 1-1000")?;
            answers.stop()?;
            let metrics = agent.settled()?;
            ensure!(metrics.exit("held") > 0.0 && metrics.get(total) == 1.0, "{total}: {metrics:?}");
            let answered = answers.count(&format!("dst host {SCANNER} and tcp"))?;
            ensure!((1..50).contains(&answered), "{answered} answers");
            Ok(())
        })?;
    }
    Ok(())
}

fn dry_run() -> Result<()> {
    let scenario = configured("mode = \"dry-run\"")?;
    let _server = web_server(&scenario.lab)?;
    scenario.run(|lab, agent| {
        let bans = scan_until_banned(lab, agent)?;
        ensure!(bans["bans"][0]["drops"] == false, "{bans}");
        let second = scan(lab, "-sT -p 79-81")?;
        ensure!(second.contains("80/open/") && second.matches("/closed/").count() == 2, "{second}");
        let metrics = agent.settled()?;
        let (would, banned) = (metrics.get("scanguard_would_drop_packets_total"), metrics.exit("banned"));
        ensure!(would >= 3.0 && banned == 0.0, "{would} would be dropped, {banned} were");

        agent.order(&["enforce"])?;
        ensure!(agent.json(&["bans"])?["bans"] == serde_json::json!([]), "a ban of the dry run is left");
        ensure!(scan(lab, "-sT -p 80")?.contains("80/open/"), "what was banned in dry run is dropped");
        Ok(())
    })
}

fn forged() -> Result<()> {
    let scenario = configured("mode = \"enforce\"\nshield = false")?;
    scenario.run(|lab, agent| {
        scan(lab, "-sS -p 1-300")?;
        wait_for("the finding", PATIENCE, || agent.opened().contains_key("vertical_scan").then_some(()))?;
        agent.settled()?;
        let explained = agent.order(&["explain", SCANNER])?;
        ensure!(
            explained.contains("not banned") && explained.contains("response.allow_spoofable"),
            "{explained}"
        );
        ensure!(agent.metrics()?.get("scanguard_bans_refused_total{reason=\"spoofable\"}") >= 1.0);

        scenario.configure(&with_response("mode = \"enforce\"\nallow_spoofable = true"))?;
        agent.process.signal(libc::SIGHUP);
        wait_for("the reload", PATIENCE, || agent.said().contains("read again and taken").then_some(()))?;
        scan(lab, "-sS -p 1-300 --host-timeout 10s")?;
        wait_for("the ban", PATIENCE, || {
            let bans = agent.json(&["bans"]).ok()?;
            (bans["bans"][0]["response"] == "ban").then_some(())
        })?;
        Ok(())
    })
}

fn replies() -> Result<()> {
    let scenario = configured("mode = \"enforce\"")?;
    behind::serve(&scenario.lab.victim, 80)?;
    behind::serve(&scenario.lab.scanner, 8080)?;
    scenario.run(|lab, agent| {
        agent.order(&["ban", SCANNER, "--for", "1h", "--reason", "test"])?;
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "the banned one gets in");
        ensure!(connects(&lab.victim, at(SCANNER, 8080))?, "the banned one does not answer");
        agent.order(&["unban", SCANNER])?;
        ensure!(connects(&lab.scanner, at(VICTIM, 80))?, "still banned");
        // A network around it, and an end by itself.
        agent.order(&["ban", "10.77.0.2/31", "--for", "2s"])?;
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "the banned network gets in");
        wait_for("the end of the ban", PATIENCE, || {
            connects(&lab.scanner, at(VICTIM, 80)).ok().filter(|got| *got)
        })?;
        Ok(())
    })
}

fn allowed() -> Result<()> {
    let scenario = Scenario::defaults()?;
    behind::serve(&scenario.lab.victim, 80)?;
    let is_found = |lab: &Lab, agent: &Agent<'_>| {
        scan(lab, "-sT -p 1-1000")?;
        wait_for("the finding", PATIENCE, || agent.opened().contains_key("vertical_scan").then_some(()))?;
        agent.settled().map(drop)
    };
    for (settings, why) in [
        ("allow = [\"10.77.0.0/28\"]", "response.allow"),
        ("allow_interfaces = [\"edge0\"]", "directly at edge0"),
    ] {
        scenario.configure(&with_response(&format!("mode = \"enforce\"\n{settings}")))?;
        scenario.run(|lab, agent| {
            is_found(lab, agent)?;
            let (done, said) = agent.ask(&["ban", SCANNER])?;
            ensure!(!done && said.contains(why), "{said}");
            let explained = agent.order(&["explain", SCANNER])?;
            ensure!(explained.contains("never will be") && explained.contains(why), "{explained}");
            ensure!(agent.json(&["bans"])?["bans"] == serde_json::json!([]));
            ensure!(agent.metrics()?.get("scanguard_bans_refused_total{reason=\"allowed\"}") >= 1.0);
            Ok(())
        })?;
    }

    // Somebody is logged in when the agent starts.
    let listener = scenario.lab.victim.enter(|| Ok(std::net::TcpListener::bind(("0.0.0.0", 22))?))?;
    let connect = || Ok(TcpStream::connect_timeout(&at(VICTIM, 22), TIMEOUT)?);
    let _session = scenario.lab.scanner.enter(connect)?;
    let _server = listener.accept()?;
    scenario.configure(&with_response("mode = \"enforce\""))?;
    scenario.run(|lab, agent| {
        is_found(lab, agent)?;
        let explained = agent.order(&["explain", SCANNER])?;
        ensure!(explained.contains("never will be") && explained.contains("SSH"), "{explained}");
        // Nor does a ban of a network lock the operator out.
        let said = agent.order(&["ban", "10.77.0.0/30"])?;
        ensure!(said.contains("never dropped, though part of it") && said.contains(SCANNER), "{said}");
        let explained = agent.order(&["explain", SCANNER])?;
        ensure!(explained.contains("banned, but spared") && explained.contains("SSH"), "{explained}");
        ensure!(connects(&lab.scanner, at(VICTIM, 80))?, "locked out");
        Ok(())
    })
}

fn confirmed() -> Result<()> {
    let scenario = configured("mode = \"dry-run\"")?;
    behind::serve(&scenario.lab.victim, 80)?;
    scenario.run(|lab, agent| {
        agent.order(&["ban", SCANNER])?;
        ensure!(connects(&lab.scanner, at(VICTIM, 80))?, "dropped in dry run");
        agent.order(&["enforce", "--confirm", "3s"])?;
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "not dropped");
        wait_for("the fallback", PATIENCE, || (mode(agent)? == "dry-run").then_some(()))?;
        ensure!(connects(&lab.scanner, at(VICTIM, 80))?, "still dropped");
        let status = agent.order(&["status"])?;
        ensure!(status.contains("not confirmed in time"), "{status}");
        let (done, said) = agent.ask(&["confirm"])?;
        ensure!(!done && said.contains("nothing to confirm"), "{said}");

        agent.order(&["enforce", "--confirm", "3s"])?;
        agent.order(&["confirm"])?;
        std::thread::sleep(Duration::from_secs(4));
        ensure!(mode(agent).as_deref() == Some("enforce"), "it fell back though it was confirmed");
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "not dropped");
        agent.order(&["observe"])?;
        ensure!(connects(&lab.scanner, at(VICTIM, 80))?, "dropped while observing");
        Ok(())
    })
}

fn restarted() -> Result<()> {
    let scenario = configured("mode = \"dry-run\"")?;
    let _server = web_server(&scenario.lab)?;
    scenario.run(|lab, agent| {
        agent.order(&["enforce"])?;
        agent.order(&["allow", "192.0.2.7"])?;
        scan_until_banned(lab, agent).map(drop)
    })?;
    ensure!(connects(&scenario.lab.scanner, at(VICTIM, 80))?, "dropped without an agent");

    scenario.run(|lab, agent| {
        ensure!(mode(agent).as_deref() == Some("enforce"), "{:?}", mode(agent));
        let bans = agent.json(&["bans"])?;
        ensure!(bans["bans"][0]["net"] == "10.77.0.2/32" && bans["bans"][0]["by"] == "rule", "{bans}");
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "the ban was not restored");
        ensure!(agent.order(&["explain", "192.0.2.7"])?.contains("allowed by hand"));
        Ok(())
    })?;

    let directory = scenario.lab.victim.directory();
    let state = directory.join("state.json");
    let whole = fs::read_to_string(&state)?;
    fs::write(&state, &whole[..whole.len() / 2])?;
    scenario.run(|_, agent| {
        ensure!(agent.said().contains("moved aside"), "it is not said");
        ensure!(agent.json(&["bans"])?["bans"] == serde_json::json!([]));
        ensure!(agent.metrics()?.get("scanguard_state_file_errors_total{operation=\"corrupt\"}") == 1.0);
        let names: Vec<_> =
            fs::read_dir(directory)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        ensure!(names.iter().any(|name| name.starts_with("state.json.corrupt-")), "{names:?}");

        // A state file that cannot be written is said, and nothing else.
        fs::remove_file(&state).ok();
        fs::create_dir(&state)?;
        agent.order(&["ban", SCANNER])?;
        let failed = "scanguard_state_file_errors_total{operation=\"write\"}";
        wait_for("the error", PATIENCE, || (agent.metrics().ok()?.get(failed) >= 1.0).then_some(()))?;
        ensure!(agent.order(&["status"])?.contains("NOT WRITTEN"));
        Ok(())
    })
}

fn recounted() -> Result<()> {
    let scenario = configured("mode = \"dry-run\"")?;
    behind::serve(&scenario.lab.victim, 80)?;
    scenario.run(|lab, agent| {
        agent.order(&["ban", SCANNER])?;
        ensure!(connects(&lab.scanner, at(VICTIM, 80))?, "dropped in dry run");
        let counted =
            || anyhow::Ok(agent.json(&["bans"])?["bans"][0]["packets"].as_u64().context("a count")?);
        let mut before = counted()?;
        ensure!(before > 0, "nothing was counted");
        for (mode, passes) in [("enforce", false), ("dry-run", true), ("observe", true), ("enforce", false)] {
            agent.order(&[mode])?;
            let kept = counted()?;
            ensure!(kept >= before, "{mode}: {before} were counted, {kept} are left");
            ensure!(connects(&lab.scanner, at(VICTIM, 80))? == passes, "{mode}");
            before = counted()?;
            ensure!(mode == "observe" || before > kept, "{mode}: {kept} were counted, and no more");
        }
        Ok(())
    })
}

fn two_agents() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let mut first = scenario.start()?;
    let pid = first.process.child.id();
    let mut second = Agent::spawn(
        &scenario.lab.victim,
        &["run", "--iface", VICTIM_INTERFACE, "--listen", "127.0.0.1:9824"],
    )?;
    ensure!(second.exit_code()? == Some(8), "{}", second.said());
    ensure!(second.said().contains(&format!("process {pid}")), "{}", second.said());
    first.process.signal(libc::SIGKILL);
    first.exit_code()?;
    let (done, said) = first.ask(&["status"])?;
    ensure!(!done && said.contains("Is `scanguard run` running?"), "{said}");
    let mut third = scenario.start()?;
    ensure!(third.order(&["status"])?.contains("mode        observe"));
    third.end()?;
    let (done, said) = third.ask(&["bans"])?;
    ensure!(!done && said.contains("no agent answers"), "{said}");
    Ok(())
}

fn forbidden() -> Result<()> {
    Scenario::defaults()?.run(|lab, agent| {
        let socket = lab.victim.directory().join("control.sock");
        let as_nobody = || -> Result<String> {
            let mut command = std::process::Command::new("setpriv");
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
            // A Unix socket is found from any network namespace.
            command.arg(binary()?).args(["status", "--socket"]).arg(&socket);
            let output = command.output()?;
            ensure!(!output.status.success(), "it was answered");
            Ok(String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let said = as_nobody()?;
        ensure!(said.contains("permission denied"), "{said}");
        // Even where somebody has opened the socket to all.
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o666))?;
        let said = as_nobody()?;
        ensure!(said.contains("you have no right"), "{said}");
        ensure!(agent.said().contains("uid 65534"), "{}", agent.said());
        ensure!(agent.metrics()?.get("scanguard_control_requests_total{outcome=\"forbidden\"}") == 1.0);

        // Bytes that are no request do not get far either.
        let mut stream = std::os::unix::net::UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"POST /v1/ban HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\n")?;
        stream.write_all(&[b' '; 20_000])?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        ensure!(&answer == b"HTTP/1.1 413", "{}", String::from_utf8_lossy(&answer));
        Ok(())
    })
}

fn nonsense() -> Result<()> {
    let scenario = Scenario::defaults()?;
    scenario.lab.victim.ip("route add default via 10.77.0.9")?;
    scenario.run(|_, agent| {
        for (arguments, word) in [
            (["ban", "0.0.0.0/0"].as_slice(), "contains all addresses"),
            (&["ban", "::/0"], "contains all addresses"),
            (&["ban", "16.0.0.0/7"], "too wide"),
            (&["ban", VICTIM], "own address"),
            (&["ban", "::ffff:10.77.0.1"], "own address"),
            (&["ban", "10.77.0.9"], "default gateway"),
            (&["ban", "192.0.2.1/24"], "is 192.0.2.0/24 meant"),
            (&["ban", "192.0.2.1", "--for", "0s"], "a ban lasts from 1s"),
            (&["ban", "192.0.2.1", "--for", "200000000h"], "a ban lasts from 1s"),
            (&["ban", "192.0.2.1", "--for", "99999999999999999999h"], "is no time"),
            (&["ban", "192.0.2.1", "--for=-5s"], "less than nothing"),
            (&["ban", "192.0.2.1", "--reason", "a\nb"], "one line"),
            (&["ban", "me"], "no address or network"),
            (&["unban", "192.0.2.1"], "is not banned"),
            (&["allow", "0.0.0.0/0"], "contains all addresses"),
            (&["disallow", "192.0.2.1"], "not allowed by hand"),
            (&["enforce", "--confirm", "0s"], "from 1s to 24h"),
            (&["confirm"], "nothing to confirm"),
        ] {
            let (done, said) = agent.ask(arguments)?;
            ensure!(!done && said.contains(word), "{arguments:?}: {said}");
        }
        ensure!(agent.json(&["bans"])?["bans"] == serde_json::json!([]));
        Ok(())
    })
}

fn reloaded() -> Result<()> {
    let scenario = configured("mode = \"enforce\"")?;
    behind::serve(&scenario.lab.victim, 80)?;
    scenario.run(|lab, agent| {
        agent.order(&["ban", SCANNER])?;
        let reload = |text: &str, said: &str| -> Result<()> {
            let before = agent.said().matches(said).count();
            scenario.configure(&with_response(text))?;
            agent.process.signal(libc::SIGHUP);
            wait_for(said, PATIENCE, || (agent.said().matches(said).count() > before).then_some(()))
        };
        reload("mode = \"observe\"\ntimes = [\"never\"]", "the old configuration stays")?;
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "a part of a wrong file was taken");
        reload("mode = \"observe\"", "read again and taken")?;
        ensure!(connects(&lab.scanner, at(VICTIM, 80))?, "still enforcing");
        reload("mode = \"enforce\"", "read again and taken")?;
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "the ban is gone");
        Ok(())
    })
}

/// Each of the sources scans, by turns, until that is so.
fn scan_until(
    lab: &Lab,
    sources: &[Ipv4Addr],
    what: &str,
    mut is_so: impl FnMut() -> Option<bool>,
) -> Result<()> {
    let until = || wait_for(what, PATIENCE, || is_so().filter(|is_so| *is_so));
    stream::during(lab, VICTIM_ADDRESS, sources, until).map(drop)
}

fn breaker() -> Result<()> {
    let scenario = configured("mode = \"enforce\"\nallow_spoofable = true\nmax_per_minute = 2")?;
    behind::serve(&scenario.lab.victim, 80)?;
    scenario.run(|lab, agent| {
        agent.order(&["ban", SCANNER])?;
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "not dropped");
        let open = || Some(agent.metrics().ok()?.get("scanguard_circuit_breaker_open") == 1.0);
        scan_until(lab, &SOURCES, "the circuit breaker", open)?;
        let page = agent.metrics()?;
        ensure!(page.get("scanguard_bans_total{by=\"rule\"}") == 2.0, "{page:?}");
        ensure!(page.get("scanguard_circuit_breaker_trips_total") == 1.0, "{page:?}");
        ensure!(page.get("scanguard_bans_refused_total{reason=\"circuit_breaker\"}") >= 1.0, "{page:?}");
        ensure!(page.get("scanguard_shields") == 1.0, "in place of the ban: {page:?}");
        ensure!(mode(agent).as_deref() == Some("enforce"), "{:?}", mode(agent));
        let status = agent.order(&["status"])?;
        ensure!(status.contains("OPEN"), "{status}");
        ensure!(agent.said().contains("response.max_per_minute"), "{}", agent.said());
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "the ban by hand does not hold");
        agent.order(&["enforce"])?;
        ensure!(agent.metrics()?.get("scanguard_circuit_breaker_open") == 0.0);
        Ok(())
    })
}

fn full() -> Result<()> {
    configured("mode = \"enforce\"\nallow_spoofable = true\nmax_bans = 2")?.run(|lab, agent| {
        agent.order(&["ban", SCANNER])?;
        let evicted = || Some(agent.metrics().ok()?.get("scanguard_bans_evicted_total") >= 1.0);
        scan_until(lab, &SOURCES[..2], "an eviction", evicted)?;
        let bans = agent.json(&["bans"])?;
        let bans = bans["bans"].as_array().context("bans")?;
        let by = |who| bans.iter().filter(|ban| ban["by"] == who).count();
        ensure!(bans.len() == 2 && by("hand") == 1 && by("rule") == 1, "{bans:?}");
        ensure!(agent.said().contains("response.max_bans"), "{}", agent.said());
        Ok(())
    })
}

fn escalation() -> Result<()> {
    configured("mode = \"enforce\"\nallow_spoofable = true\ntimes = [\"1s\", \"1h\"]\njitter = 0")?.run(
        |lab, agent| {
            let again = || Some(agent.json(&["bans"]).ok()?["bans"][0]["level"] == 1);
            scan_until(lab, &SOURCES[..1], "the second ban", again)?;
            let bans = agent.json(&["bans"])?;
            let ban = &bans["bans"][0];
            ensure!(
                ban["seconds_left"].as_u64().is_some_and(|left| (3_500..=3_600).contains(&left)),
                "{ban}"
            );
            ensure!(
                ban["reason"]
                    .as_str()
                    .is_some_and(|reason| reason.starts_with("banned for the 2nd time for 1h")),
                "{ban}"
            );
            ensure!(agent.metrics()?.get("scanguard_bans_total{by=\"rule\"}") == 2.0);
            Ok(())
        },
    )
}

fn drop_all() -> Result<()> {
    let scenario = configured("mode = \"enforce\"\ndrop = \"all\"")?;
    behind::serve(&scenario.lab.scanner, 8080)?;
    scenario.run(|lab, agent| {
        ensure!(connects(&lab.victim, at(SCANNER, 8080))?, "dropped without a ban");
        agent.order(&["ban", SCANNER])?;
        ensure!(!connects(&lab.victim, at(SCANNER, 8080))?, "the banned one answers");
        ensure!(agent.order(&["status"])?.contains("drop = \"all\""));
        agent.order(&["unban", SCANNER])?;
        ensure!(connects(&lab.victim, at(SCANNER, 8080))?, "still banned");
        Ok(())
    })
}

fn feeds() -> Result<()> {
    let feed = scratch::file(".txt", "10.77.0.2\n10.77.0.0/24\n")?;
    let scenario = Scenario::new(&format!(
        "[feeds]\nfiles = [\"{}\"]\n[response]\nmode = \"enforce\"\nknown_bad = \"drop\"\n",
        feed.display()
    ))?;
    behind::serve(&scenario.lab.victim, 80)?;
    // The whole network would be one with this host in it: it is left out, and with it the address that was joined.
    scenario.run(|lab, agent| {
        ensure!(agent.json(&["status"])?["response"]["feed_networks_left_out"] == 1);
        ensure!(connects(&lab.scanner, at(VICTIM, 80))?, "a network with this host in it was banned");
        fs::write(&feed, "10.77.0.2\n")?;
        agent.process.signal(libc::SIGHUP);
        wait_for("the reload", PATIENCE, || agent.said().contains("read again and taken").then_some(()))?;
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "a listed address gets in");
        ensure!(agent.metrics()?.get("scanguard_bans{kind=\"feed\"}") == 1.0);
        Ok(())
    })?;
    // An agent that starts with it, too.
    scenario.run(|lab, agent| {
        ensure!(!connects(&lab.scanner, at(VICTIM, 80))?, "a listed address gets in after a start");
        agent.order(&["allow", SCANNER])?;
        ensure!(connects(&lab.scanner, at(VICTIM, 80))?, "an allowed address does not get in");
        Ok(())
    })
}
