//! What leaves: peers among peers, hosts behind this one, and what holds where a part is off or a pid is used again.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::fixtures::{
    agent::Agent,
    cgroup::Group,
    clients::serve,
    lab::{Lab, PATIENCE, Process, SCANNER, SCANNER6, VICTIM, VICTIM_INTERFACE, VICTIM6, run, wait_for},
    scenario::Scenario,
};

use crate::{
    outbound::{CONNECT, PYTHON},
    outbound_bounds::behind,
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "outbound: private addresses that lead nowhere are counted, however fast they are asked",
            nowhere,
        ),
        trial("outbound: a peer that strangers call is quiet, and a sweep of its port is found", peers),
        trial("outbound: a host behind this one that was answered is found when it scans", inner),
        trial("outbound: a process is told, not the next one with its pid", pid_reuse),
        trial("outbound: without a field of the kernel's, the part is off and that is said", without_a_field),
        trial("outbound: switched off, it has no program and no memory", switched_off),
    ]
}

const CONFIG: &str = "[sensor]\npoll_interval = \"200ms\"\n";

/// A finding of a rule about a control group.
fn await_finding(agent: &Agent<'_>, rule: &str, actor: &str) -> Result<serde_json::Value> {
    wait_for(&format!("{rule} of {actor}"), PATIENCE, || {
        let mut findings = agent.findings().into_iter();
        findings.find(|finding| finding["rule"] == rule && finding["actor"].to_string().contains(actor))
    })
}

/// No answer can come any more, and the agent has looked since.
fn until_settled(agent: &Agent<'_>) -> Result<()> {
    std::thread::sleep(Duration::from_secs(4));
    agent.settled().map(drop)
}

/// Asks for all at once, and waits for nothing.
const AT_ONCE: &str = "
import socket, sys, time
held = []
for target in sys.argv[1:]:
    ip, port = target.rsplit('.', 1)
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex((ip, int(port)))
    held.append(s)
time.sleep(3.5)
";

fn nowhere() -> Result<()> {
    let scenario = Scenario::new(CONFIG)?.with(&["--format", "json"]);
    for net in ["default", "172.20.0.0/16"] {
        scenario.lab.victim.ip(&format!("route add {net} via {SCANNER}"))?;
    }
    scenario.run(|lab, agent| {
        for (suffix, net, expected) in
            [("-bogon.service", "172.19.0", true), ("-routed.service", "172.20.0", false)]
        {
            let group = Group::new(suffix)?;
            let mut command = lab.victim.command(PYTHON);
            group.hold(&mut command);
            run(command.args(["-c", AT_ONCE]).args((1..=25).map(|last| format!("{net}.{last}.4001"))))?;
            until_settled(agent)?;
            let all = agent.findings();
            let mut its = all.iter().filter(|finding| finding["actor"].to_string().contains(&group.name()));
            let found = its.any(|finding| finding["rule"] == "outbound_bogon");
            ensure!(found == expected, "{net}: {all:#?}");
        }
        Ok(())
    })
}

/// Serves a port, waits until it was called so many times, and then calls others at that port, to whom it speaks. Whoever
/// is not there has half a second.
const PEER: &str = "
import select, socket, sys, time
port, calls = int(sys.argv[1]), int(sys.argv[2])
server = socket.create_server(('', port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
print('ready', flush=True)
for _ in range(calls):
    client, _ = server.accept()
    client.close()
for target in sys.argv[3:]:
    ip, remote = target.rsplit('/', 1)
    s = socket.socket(socket.AF_INET6 if ':' in ip else socket.AF_INET)
    s.settimeout(0.1)
    try:
        s.connect((ip, int(remote)))
        s.sendall(b'hello')
    except OSError:
        pass
    s.close()
";

/// Calls an address at a port, once from an address of each of so many networks; the last argument has `{}` for the
/// number of the network.
pub(crate) const CALLS: &str = "
import socket, sys, time
for network in range(int(sys.argv[3])):
    source = sys.argv[4].format(network)
    for _ in range(100):
        try:
            socket.create_connection((sys.argv[1], int(sys.argv[2])), 5, (source, 0)).close()
            break
        except ConnectionRefusedError:
            time.sleep(0.1)
";

/// A peer that is tried, with its hosts and the agent that watches it.
struct Play<'l> {
    lab: &'l Lab,
    agent: &'l Agent<'l>,
    /// Its address.
    address: &'l str,
}

impl Play<'_> {
    /// The peer serves port 4001 and is called from so many networks. Then it calls 80 others at a port; one in four of
    /// them answers. Gives the name of its control group.
    fn play(&self, suffix: &str, port: u16, networks: u32) -> Result<String> {
        let group = Group::new(suffix)?;
        let mut command = self.lab.victim.command(PYTHON);
        group.hold(&mut command);
        command.args(["-c", PEER, "4001", &networks.to_string()]);
        let is_v6 = self.address.contains(':');
        let targets = (1..=80).map(|last| {
            let is_there = last % 4 == 0;
            if is_v6 {
                format!("2a02:{}:{networks}::{last}/{port}", if is_there { "8" } else { "7" })
            } else {
                format!("20.{}.{networks}.{last}/{port}", if is_there { "8" } else { "7" })
            }
        });
        let mut peer = Process::new(command.args(targets).spawn()?);
        let source = if is_v6 { "2a03:{}::1" } else { "30.{}.0.1" };
        let mut calls = self.lab.scanner.command(PYTHON);
        run(calls.args(["-c", CALLS, self.address, "4001", &networks.to_string(), source]))?;
        peer.wait_within(PATIENCE)?;
        until_settled(self.agent)?;
        Ok(group.name())
    }

    fn is_quiet(&self, suffix: &str, networks: u32) -> Result<()> {
        let quiet = self.play(suffix, 4_001, networks)?;
        let findings = self.agent.findings();
        ensure!(!findings.iter().any(|f| f["actor"].to_string().contains(&quiet)), "{findings:#?}");
        Ok(())
    }

    fn is_found(&self, suffix: &str, port: u16, networks: u32) -> Result<()> {
        let found = self.play(suffix, port, networks)?;
        await_finding(self.agent, "outbound_sweep", &found).map(drop)
    }
}

fn peers() -> Result<()> {
    Scenario::new(CONFIG)?.with(&["--format", "json"]).run(|lab, agent| {
        for net in ["20.7.0.0/16", "20.8.0.0/16", "30.0.0.0/8"] {
            lab.victim.ip(&format!("route add {net} via {SCANNER}"))?;
        }
        for net in ["2a02::/16", "2a03::/16"] {
            lab.victim.ip(&format!("-6 route add {net} via {SCANNER6}"))?;
        }
        for net in ["20.8.0.0/16", "30.0.0.0/8"] {
            lab.scanner.ip(&format!("route add local {net} dev lo"))?;
        }
        for net in ["2a02:8::/32", "2a03::/16"] {
            lab.scanner.ip(&format!("-6 route add local {net} dev lo"))?;
        }
        lab.scanner.sysctl("ipv6/ip_nonlocal_bind", "1")?;
        let _alive = serve(&lab.scanner, [4_001, 4_002])?;
        let here = Play { lab, agent, address: VICTIM };
        // Twelve networks call it, and it calls others at its own port.
        here.is_quiet("-peer.service", 12)?;
        // Two networks call it.
        here.is_found("-lonely.service", 4_001, 2)?;
        // It serves another port than it scans.
        here.is_found("-other.service", 4_002, 13)?;
        let by_v6 = Play { address: VICTIM6, ..here };
        by_v6.is_quiet("-peer6.service", 12)?;
        by_v6.is_found("-lonely6.service", 4_001, 2)
    })
}

fn inner() -> Result<()> {
    // What was answered before is out of the window soon.
    let window = "[rules.outbound_sweep]\nwindow = \"10s\"\n";
    let config = format!("{CONFIG}[outbound]\ninner = [\"inner0\"]\n{window}");
    let scenario = Scenario::new(&config)?.with(&["--format", "json"]);
    let tenant = behind(&scenario.lab)?;
    scenario.run(|lab, agent| {
        lab.victim.ip(&format!("route add 20.8.0.0/16 via {SCANNER}"))?;
        lab.scanner.ip("route add local 20.8.0.0/16 dev lo")?;
        lab.scanner.ip(&format!("route add 10.79.0.0/24 via {VICTIM}"))?;
        let _server = serve(&lab.scanner, [443])?;
        // It talks to them for a while, and to others.
        for _ in 0..2 {
            let targets = (1..=250).map(|host| format!("20.8.7.{host}.443"));
            run(tenant.command(PYTHON).args(["-c", CONNECT]).args(targets))?;
        }
        std::thread::sleep(Duration::from_secs(11));
        ensure!(agent.findings().is_empty(), "{:?}", agent.findings());
        // The same addresses, where something else is not there.
        let targets = (1..=40).map(|host| format!("20.8.7.{host}.22"));
        run(tenant.command(PYTHON).args(["-c", CONNECT]).args(targets))?;
        let found = wait_for("the tenant's sweep", PATIENCE, || {
            agent.findings().into_iter().find(|finding| finding["rule"] == "outbound_sweep")
        })?;
        ensure!(found["source"]["ip"] == "10.79.0.2", "{found:#}");
        let reason = found["reason"].as_str().unwrap_or_default();
        ensure!(
            reason.starts_with("40 SYNs to 40 addresses, port 22, ") && reason.contains("40 failed"),
            "{reason}"
        );
        Ok(())
    })
}

/// Becomes a process with a chosen pid (clone3), which asks for nothing.
const WITH_PID: &str = "
import ctypes, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
wanted = (ctypes.c_int * 1)(int(sys.argv[1]))
SIGCHLD, CLONE3 = 17, 435
for _ in range(100):
    # flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup
    arguments = ctypes.create_string_buffer(struct.pack('11Q', 0, 0, 0, 0, SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1, 0))
    child = libc.syscall(CLONE3, arguments, ctypes.c_size_t(88))
    if child == 0:
        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60)', 'the-next-one'])
    if child > 0:
        print(child, flush=True)
        os.waitpid(child, 0)
        sys.exit()
    time.sleep(0.05)
sys.exit(f'clone3: {os.strerror(ctypes.get_errno())}')
";

fn pid_reuse() -> Result<()> {
    // The agent does not look before the pid is another's.
    let config = "[sensor]\npoll_interval = \"5s\"\n";
    Scenario::new(config)?.with(&["--format", "json"]).run(|lab, agent| {
        lab.victim.ip(&format!("route add 20.8.0.0/16 via {SCANNER}"))?;
        lab.scanner.ip("route add local 20.8.0.0/16 dev lo")?;
        let group = Group::new("-reused.service")?;
        let mut command = lab.victim.command(PYTHON);
        group.hold(&mut command);
        command.args(["-c", CONNECT]).args((1..=60).map(|last| format!("20.8.9.{last}.22")));
        let mut scan = Process::new(command.spawn()?);
        let pid = scan.child.id();
        scan.wait_within(PATIENCE)?;
        drop(scan);
        // The same executable, in the same control group.
        let mut command = lab.victim.command(PYTHON);
        group.hold(&mut command);
        command.args(["-c", WITH_PID, &pid.to_string()]);
        let _next = Process::new(command.spawn()?);
        wait_for("the pid is used again", PATIENCE, || {
            let said = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            String::from_utf8_lossy(&said).contains("the-next-one").then_some(())
        })?;
        let before = agent.findings();
        ensure!(before.is_empty(), "the agent has looked too early: {before:#?}");
        let found = await_finding(agent, "outbound_sweep", &group.name())?;
        let actor = found["actor"].to_string();
        ensure!(actor.contains(&format!("\"pid\":{pid}")), "{found:#}");
        ensure!(actor.contains("import socket") && !actor.contains("the-next-one"), "{found:#}");
        let line = agent.order(&["findings"])?;
        ensure!(!line.contains("the-next-one"), "{line}");
        Ok(())
    })
}

/// The command of an agent for whom the kernel's own description lacks the name of a field.
fn hide(lab: &Lab, command: &mut Command, field: &str) -> Result<()> {
    const BTF: &str = "/sys/kernel/btf/vmlinux";
    let mut bytes = fs::read(BTF)?;
    let word = [b"\0", field.as_bytes(), b"\0"].concat();
    let at = bytes.windows(word.len()).position(|part| part == word).context("the field")?;
    bytes[at + 1] = b'_';
    let file = lab.victim.directory().join("btf");
    fs::write(&file, bytes)?;
    let mut hidden = Command::new("unshare");
    let script = format!("mount --bind \"$0\" {BTF} && exec \"$@\"");
    hidden.args(["--mount", "sh", "-c", &script]).arg(&file);
    hidden.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => hidden.env(name, value),
            None => hidden.env_remove(name),
        };
    }
    *command = hidden;
    Ok(())
}

fn without_a_field() -> Result<()> {
    const FIELD: &str = "self_exec_id";
    const WORDS: &str =
        "this kernel has no task_struct.self_exec_id; connections that this host asks for are not looked at";
    let lab = Lab::new()?;
    let doctor = ["doctor", "--iface", VICTIM_INTERFACE];
    let mut doctor = Agent::spawn_as(&lab.victim, &doctor, |command| {
        hide(&lab, command, FIELD).expect("the kernel's description");
    })?;
    doctor.exit_code()?;
    let said = doctor.lines().join("\n");
    let line = said.lines().find(|line| line.contains("outbound connections"));
    ensure!(line.is_some_and(|line| line.starts_with("loss") && line.contains(WORDS)), "{said}");
    let mut agent = Agent::start_as(&lab.victim, &["--format", "json"], |command| {
        hide(&lab, command, FIELD).expect("the kernel's description");
    })?;
    ensure!(agent.said().contains(WORDS), "{}", agent.said());
    let metrics = agent.metrics()?;
    ensure!(metrics.get("scanguard_outbound_enabled") == 0.0);
    // The other direction goes on.
    run(lab.scanner.command("nmap").args(["-n", "-Pn", "-sS", "-p", "1-200", VICTIM]))?;
    wait_for("the scan is found", PATIENCE, || (!agent.opened().is_empty()).then_some(()))?;
    agent.end()
}

/// Names of maps, and how many bytes each takes.
type Sizes = Vec<(String, u64)>;

/// The maps of a process, by name, with the memory that each takes; and the kinds of its links.
fn maps(pid: u32) -> Result<(Sizes, Vec<String>)> {
    let (mut numbers, mut links) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let value = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned()))
        };
        numbers.extend(value("map_id:").and_then(|number| number.parse::<u64>().ok()));
        links.extend(value("link_type:"));
    }
    let output = run(Command::new("bpftool").args(["-j", "map", "show"]))?;
    let all: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout)?;
    let its = all.iter().filter(|map| map["id"].as_u64().is_some_and(|id| numbers.contains(&id)));
    let mut maps: Vec<_> = its
        .map(|map| {
            (map["name"].as_str().unwrap_or_default().to_owned(), map["bytes_memlock"].as_u64().unwrap_or(0))
        })
        .collect();
    maps.sort();
    maps.dedup();
    Ok((maps, links))
}

fn switched_off() -> Result<()> {
    // Some are there in any case: they hold one entry, of less than a page for each processor.
    const LEAST: u64 = 16 * 1024;
    let of_outbound = [
        "ACTORS",
        "IDENTITIES",
        "TARGETS",
        "BLOCKED",
        "INNER",
        "OPEN",
        "OWNERS",
        "ACTIVE",
        "SCRATCH",
        "SERVED",
        "NOWHERE",
        "FRESH_ACTOR",
        "OUTBOUND_TALLY",
        "OUTBOUND_ORDER",
    ];
    for enabled in [true, false] {
        let config = format!("[outbound]\nenabled = {enabled}\n");
        Scenario::new(&config)?.run(|_, agent| {
            let (maps, links) = maps(agent.process.child.id())?;
            let its: Vec<_> =
                maps.iter().filter(|(name, _)| of_outbound.iter().any(|of| name.starts_with(of))).collect();
            let bytes: u64 = its.iter().map(|(_, bytes)| bytes).sum();
            let calls = links.iter().filter(|kind| *kind == "cgroup").count();
            if enabled {
                ensure!(bytes > 10 << 20 && calls == 5, "{bytes} bytes, {calls} calls: {its:?}");
            } else {
                ensure!(calls == 0, "{links:?}");
                ensure!(its.iter().all(|(_, bytes)| *bytes <= LEAST), "{its:?}");
            }
            eprintln!("enabled = {enabled}: {bytes} bytes in maps of its own, {calls} programs for calls");
            Ok(())
        })?;
    }
    Ok(())
}
