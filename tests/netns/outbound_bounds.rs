//! What leaves, beyond all bounds: many processes that are gone at once, a flood of actors, and a flood of targets. What is
//! lost is counted, and the loudest is told all the same.

use std::{
    ffi::c_void,
    fs,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_common::actor::{MAX_ACTORS, Seen, TARGET_PLACES};
use scanguard_tests::fixtures::{
    agent::{Agent, Metrics},
    cgroup::Group,
    clients::serve,
    lab::{Lab, Namespace, PATIENCE, Process, SCANNER, VICTIM, run, run_within, wait_for},
    scenario::Scenario,
};

use crate::{
    outbound::{CONNECT, PYTHON},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("outbound: of many processes that connect once, none is lost and memory stays", many_processes),
        trial("outbound: a bomb of processes that connect is told by its process", bomb),
        trial("outbound: a flood of forged hosts behind this one hides nobody", full_of_actors),
        trial("outbound: a flood of targets is counted, and hides nobody", full_of_targets),
        trial(
            "outbound: a file of programs that is wrong is moved aside, and they are learned anew",
            wrong_file,
        ),
        trial("outbound: a process and a control group that are gone are told by their names", gone),
        trial("outbound: what hosts behind this one are answered is known", answered_inside),
    ]
}

/// Set, this binary is no test, but makes processes that connect once each: how many, and how many at once.
const PROCESSES: &str = "SCANGUARD_TEST_PROCESSES";
/// How many processes; set, it is another number: 100,000 take minutes on a busy machine.
const MANY: &str = "SCANGUARD_TEST_MANY";
/// How many if it is not set.
const SOME: u32 = 5_000;
/// A network of others, in which every port is closed.
const OTHERS: Ipv4Addr = Ipv4Addr::new(20, 8, 0, 0);
const MEMORY: &str = "process_resident_memory_bytes";
/// Bytes: an agent that kept something for each process would take more for 100,000 of them.
const MOST_GROWTH: f64 = 8e6;
/// Short, so that the bounds are met in many polls.
const CONFIG: &str = "[sensor]\npoll_interval = \"200ms\"\n";

/// The n-th target: a port below those of clients.
fn target(n: u32) -> SocketAddrV4 {
    const PORTS: u32 = 32_000;
    let port = u16::try_from(1 + n % PORTS).unwrap_or(1);
    SocketAddrV4::new(Ipv4Addr::from_bits(OTHERS.to_bits() + 1 + n / PORTS), port)
}

/// Makes processes instead of tests, if that is asked for.
pub(crate) fn instead_of_tests() -> Option<ExitCode> {
    let asked = std::env::var(PROCESSES).ok()?;
    let (many, at_once) = asked.split_once(' ')?;
    let (many, at_once): (u32, u32) = (many.parse().ok()?, at_once.parse().ok()?);
    thread::scope(|scope| {
        for part in 0..at_once {
            scope.spawn(move || (part..many).step_by(at_once as usize).for_each(connect_in_a_process));
        }
    });
    Some(ExitCode::SUCCESS)
}

/// A process that asks for one connection and ends. It shares the memory of this one, which waits, as with vfork(2).
fn connect_in_a_process(n: u32) {
    let mut stack = vec![0u8; 64 * 1024];
    let mut target = target(n);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: the stack and the target live until the child has ended: this thread waits for that. The end of a vector of
    // bytes is aligned down by the C library.
    unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast::<c_void>();
        let child = libc::clone(connect, top, flags, (&raw mut target).cast());
        assert!(child > 0, "clone: {}", std::io::Error::last_os_error());
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}

extern "C" fn connect(target: *mut c_void) -> libc::c_int {
    // SAFETY: the caller's target; the calls take no memory.
    unsafe {
        let target = &*target.cast::<SocketAddrV4>();
        let address = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: target.port().to_be(),
            sin_addr: libc::in_addr { s_addr: target.ip().to_bits().to_be() },
            sin_zero: [0; 8],
        };
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0);
        libc::connect(socket, (&raw const address).cast(), size_of_val(&address) as libc::socklen_t);
        libc::close(socket);
    }
    0
}

/// The other host has all addresses of [`OTHERS`], and refuses what they are asked for.
fn others(lab: &Lab) -> Result<()> {
    lab.victim.ip(&format!("route add {OTHERS}/16 via {SCANNER}"))?;
    lab.scanner.ip(&format!("route add local {OTHERS}/16 dev lo")).map(drop)
}

/// This binary, in a group.
fn processes(host: &Namespace, group: &Group, many: u32, at_once: u32) -> Result<Command> {
    let this = std::env::current_exe()?;
    let mut command = host.command(this.to_str().context("UTF-8")?);
    command.env(PROCESSES, format!("{many} {at_once}")).stdout(Stdio::null());
    group.hold(&mut command);
    Ok(command)
}

/// A scan by another program, which must be found whatever else goes on.
fn scan(host: &Namespace, group: &Group) -> Result<()> {
    let mut command = host.command(PYTHON);
    group.hold(&mut command);
    let targets = (1..=60).map(|last| format!("20.8.9.{last}.22"));
    run(command.args(["-c", CONNECT]).args(targets)).map(drop)
}

fn await_scan(agent: &Agent<'_>, group: &str) -> Result<serde_json::Value> {
    wait_for("the scan is found", PATIENCE, || {
        agent.findings().into_iter().find(|finding| {
            let actor = finding["actor"].to_string();
            finding["rule"] == "outbound_sweep" && actor.contains("python3") && actor.contains(group)
        })
    })
}

fn seen(metrics: &Metrics, what: &str) -> f64 {
    metrics.get(&format!("scanguard_outbound_total{{seen=\"{what}\"}}"))
}

/// Connections that were looked at, or that were not and are counted as such. Those to this host itself are left out, since
/// this test makes some to see the metrics, and those of other namespaces, in which anybody may do anything.
fn asked(metrics: &Metrics) -> f64 {
    let seen = ["new", "known", "unreadable"].map(|what| seen(metrics, what));
    seen.iter().sum::<f64>() + metrics.get("scanguard_connections_missed_total")
}

/// The metrics once so many connections were looked at more than before.
fn after(agent: &Agent<'_>, before: &Metrics, many: u32) -> Result<Metrics> {
    wait_for("all of them are counted", PATIENCE, || {
        let now = agent.metrics().ok()?;
        (asked(&now) - asked(before) >= f64::from(many)).then_some(now)
    })
}

fn many_processes() -> Result<()> {
    let many: u32 = std::env::var(MANY).ok().map_or(Ok(SOME), |many| many.parse())?;
    Scenario::new(CONFIG)?.with(&["--format", "json"]).run(|lab, agent| {
        others(lab)?;
        let group = Group::new("-many.service")?;
        // Whatever is kept for the actor is there by then.
        run(&mut processes(&lab.victim, &group, 1_000, 1)?)?;
        let before = agent.settled()?;
        let started = std::time::Instant::now();
        run_within(&mut processes(&lab.victim, &group, 1_000 + many, 1)?, 20 * PATIENCE)?;
        let took = started.elapsed();
        // The first thousand are known.
        let now = after(agent, &before, 1_000 + many)?;
        let (said, lost) = (said(&before, &now), lost(&before, &now));
        ensure!(asked(&now) - asked(&before) == f64::from(1_000 + many), "{said}");
        ensure!(seen(&now, "new") - seen(&before, "new") >= f64::from(many) - lost, "{said}");
        let failed = seen(&now, "failed") - seen(&before, "failed");
        ensure!(failed + lost >= f64::from(1_000 + many), "{said}");
        // The program, and its control group.
        ensure!(now.get("scanguard_actors") <= before.get("scanguard_actors"), "{said}");
        let growth = now.get(MEMORY) - before.get(MEMORY);
        ensure!(growth < MOST_GROWTH, "{growth} bytes more: {said}");
        eprintln!("{many} processes in {took:?}: {growth} bytes more, {said}");
        Ok(())
    })
}

/// What was looked at between the two, and what became of it.
fn said(before: &Metrics, now: &Metrics) -> String {
    let grown = Seen::ALL.iter().map(|one| (one.label(), seen(now, one.label()) - seen(before, one.label())));
    let grown: Vec<_> =
        grown.filter(|(_, by)| *by != 0.0).map(|(label, by)| format!("{by} {label}")).collect();
    let missed = "scanguard_connections_missed_total";
    format!("{}; {} missed", grown.join(", "), now.get(missed) - before.get(missed))
}

/// What the kernel could not follow.
fn lost(before: &Metrics, now: &Metrics) -> f64 {
    let all = |metrics: &Metrics| {
        let seen = ["unreadable", "no_room", "displaced"].map(|what| seen(metrics, what));
        seen.iter().sum::<f64>() + metrics.get("scanguard_connections_missed_total")
    };
    all(now) - all(before)
}

fn bomb() -> Result<()> {
    const PROCESSES: u32 = 4_000;
    Scenario::new(CONFIG)?.with(&["--format", "json"]).run(|lab, agent| {
        others(lab)?;
        let group = Group::new("-bomb.service")?;
        let before = agent.settled()?;
        run_within(&mut processes(&lab.victim, &group, PROCESSES, 200)?, 4 * PATIENCE)?;
        after(agent, &before, PROCESSES)?;
        let found = wait_for("the bomb is found", PATIENCE, || {
            agent.findings().into_iter().find(|finding| finding["rule"] == "outbound_vertical")
        })?;
        let actor = found["actor"].to_string();
        ensure!(actor.contains("netns") && actor.contains("-bomb.service"), "{found:#}");
        let explained = agent.order(&["actors", "explain", "netns*"])?;
        for part in
            ["not blocked: the response is to observe", "outbound_vertical", "short of  outbound_sweep: "]
        {
            ensure!(explained.contains(part), "{part}: {explained}");
        }
        let (done, said) = agent.ask(&["actors", "explain", "/no/such*"])?;
        ensure!(!done && said.contains("no actor that is known now matches /no/such*"), "{said}");
        Ok(())
    })
}

/// A host behind the victim, whose traffic the victim forwards.
pub(crate) fn behind(lab: &Lab) -> Result<Namespace> {
    let tenant = Namespace::new("tenant")?;
    lab.victim.join([("inner0", "10.79.0.1/24"), ("eth0", "10.79.0.2/24")], &tenant)?;
    tenant.ip("route add default via 10.79.0.1")?;
    lab.victim.sysctl("ipv4/ip_forward", "1")?;
    // Otherwise it would not forward what is forged.
    for interface in ["all", "inner0"] {
        lab.victim.sysctl(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
    }
    Ok(tenant)
}

fn full_of_actors() -> Result<()> {
    let config = format!("{CONFIG}[outbound]\ninner = [\"inner0\"]\n");
    let scenario = Scenario::new(&config)?.with(&["--format", "json"]);
    let tenant = behind(&scenario.lab)?;
    scenario.run(|lab, agent| {
        others(lab)?;
        let group = Group::new("-loud.service")?;
        let before = agent.settled()?;
        let mut command = tenant.command("hping3");
        command.args(["--rand-source", "--flood", "-q", "-S", "-p", "80", "20.8.0.1"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let flood = Process::new(command.spawn().context("hping3")?);
        wait_for("the flood is under way", PATIENCE, || {
            let now = agent.metrics().ok()?;
            (seen(&now, "at_the_door") > f64::from(4 * MAX_ACTORS)).then_some(())
        })?;
        scan(&lab.victim, &group)?;
        await_scan(agent, &group.name())?;
        drop(flood);
        let now = agent.settled()?;
        ensure!(now.get("scanguard_actors") <= f64::from(MAX_ACTORS));
        ensure!(now.get("scanguard_outbound_actors") <= f64::from(2 * MAX_ACTORS));
        let growth = now.get(MEMORY) - before.get(MEMORY);
        ensure!(growth < 32e6, "{growth} bytes more");
        let accused: Vec<_> = agent.opened().into_keys().collect();
        ensure!(accused == ["outbound_sweep"], "{accused:?}");
        Ok(())
    })
}

fn full_of_targets() -> Result<()> {
    Scenario::new(CONFIG)?.with(&["--format", "json"]).run(|lab, agent| {
        others(lab)?;
        let group = Group::new("-loud.service")?;
        let before = agent.settled()?;
        // The test itself asks: a place for the program, and one for its group.
        lab.victim.enter(|| {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            for n in 0..TARGET_PLACES {
                // Nobody is there, which the socket may be told.
                _ = socket.send_to(b"x", target(n));
            }
            Ok(())
        })?;
        scan(&lab.victim, &group)?;
        await_scan(agent, &group.name())?;
        let now = agent.settled()?;
        let overwritten = seen(&now, "overwritten") - seen(&before, "overwritten");
        // Places are chosen by a hash: with as many marks again as places, each new one meets another most of the time.
        ensure!(overwritten > f64::from(TARGET_PLACES) / 2.0, "{}", said(&before, &now));
        let growth = now.get(MEMORY) - before.get(MEMORY);
        ensure!(growth < MOST_GROWTH, "{growth} bytes more");
        Ok(())
    })
}

fn answered_inside() -> Result<()> {
    let config = format!("{CONFIG}[outbound]\ninner = [\"inner0\"]\n");
    let scenario = Scenario::new(&config)?.with(&["--format", "json"]);
    let tenant = behind(&scenario.lab)?;
    scenario.run(|lab, agent| {
        others(lab)?;
        lab.scanner.ip(&format!("route add 10.79.0.0/24 via {VICTIM}"))?;
        let _server = serve(&lab.scanner, [443])?;
        let targets = (1..=80).map(|host| format!("20.8.7.{host}.443"));
        run(tenant.command(PYTHON).args(["-c", CONNECT]).args(targets))?;
        let now = wait_for("they are answered", PATIENCE, || {
            agent.metrics().ok().filter(|now| seen(now, "answered") >= 79.0)
        })?;
        // Nobody else can come after three seconds, the time of a handshake.
        thread::sleep(Duration::from_secs(4));
        ensure!(seen(&now, "forwarded") == 79.0 && seen(&now, "at_the_door") == 1.0, "{}", said(&now, &now));
        ensure!(agent.findings().is_empty(), "{:?}", agent.findings());
        Ok(())
    })
}

fn wrong_file() -> Result<()> {
    let scenario = Scenario::new(CONFIG)?.with(&["--format", "json"]);
    let directory = scenario.lab.victim.directory().to_owned();
    for wrong in [&b"{"[..], b"", b"\xff\xfe\0", &[b'['; 1 << 20], b"{\"version\": 99}"] {
        fs::write(directory.join("actors.json"), wrong)?;
        scenario.run(|lab, agent| {
            others(lab)?;
            let said = agent.said();
            ensure!(said.contains("actors.json is wrong") && said.contains("learned anew"), "{said}");
            let group = Group::new("-scan.service")?;
            scan(&lab.victim, &group)?;
            await_scan(agent, &group.name())?;
            lab.victim.ip(&format!("route del {OTHERS}/16"))?;
            lab.scanner.ip(&format!("route del local {OTHERS}/16 dev lo")).map(drop)
        })?;
        let moved = fs::read_dir(&directory)?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().starts_with("actors.json.corrupt"));
        let moved = moved.context("it was moved aside")?.path();
        ensure!(fs::read(&moved)? == wrong, "{}", moved.display());
        fs::remove_file(moved)?;
    }
    Ok(())
}

fn gone() -> Result<()> {
    // The agent does not look before it has all been over for long.
    let config = "[sensor]\npoll_interval = \"3s\"\n";
    Scenario::new(config)?.with(&["--format", "json"]).run(|lab, agent| {
        others(lab)?;
        let group = Group::new("-gone.service")?;
        let name = group.name();
        scan(&lab.victim, &group)?;
        let path = group.path().to_owned();
        drop(group);
        ensure!(!path.exists(), "{}", path.display());
        let found = await_scan(agent, &name)?;
        ensure!(found["actor"].to_string().contains("import socket"), "its arguments are there: {found:#}");
        Ok(())
    })
}
