//! Connections that leave, and the processes that ask for them.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_common::{
    actor::{Kind, Seen},
    actor_field::OLD_GROUP,
};
use scanguard_tests::fixtures::{
    cgroup::Group,
    clients::{listen, serve},
    lab::{Lab, Namespace, SCANNER, VICTIM, VICTIM6, run},
    outbound::{Watch, text},
    root,
};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("outbound: connects are told by what came of them", outcomes),
        trial("outbound: a target counts once, until it is forgotten", known),
        trial("outbound: many short-lived processes are one actor", many_processes),
        trial("outbound: a copy of the program is another actor of the same group", copies),
        trial("outbound: nmap -sT is an actor by its targets", nmap),
        trial("outbound: connections to this host itself are left out", own),
        trial("outbound: a process in the root of version 2 is told by its group of version 1", old_groups),
    ]
}

/// The interpreter itself, not a script that starts it.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

/// Connects to `ip:port` for each argument, with a short time-out, and says nothing.
pub(crate) const CONNECT: &str = "
import socket, sys
for target in sys.argv[1:]:
    ip, port = target.rsplit('.', 1)
    s = socket.socket(socket.AF_INET6 if ':' in ip else socket.AF_INET)
    s.settimeout(0.5)
    try:
        s.connect((ip, int(port)))
    except OSError:
        pass
    s.close()
";

/// A python in a group and a namespace that connects to targets, written `ip.port`.
pub(crate) fn connect(host: &Namespace, group: &Group, targets: &[String]) -> Result<()> {
    let mut command = host.command(PYTHON);
    group.hold(&mut command);
    run(command.args(["-c", CONNECT]).args(targets)).map(drop)
}

fn bits(words: &[u64]) -> u32 {
    words.iter().map(|word| word.count_ones()).sum()
}

fn outcomes() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-outcomes.service")?;
    let _server = serve(&lab.victim, 7_001..=7_003)?;
    lab.victim.filter(
        "table ip f { chain in { type filter hook input priority 0; tcp dport 7201-7205 drop; tcp dport 7301 reject with icmp type host-unreachable; }; }",
    )?;
    let mut watch = Watch::new()?;
    let mut targets: Vec<_> = (7_001..=7_003).map(|port| format!("{VICTIM}.{port}")).collect();
    targets.extend((7_101..=7_110).map(|port| format!("{VICTIM}.{port}")));
    targets.extend((7_201..=7_202).map(|port| format!("{VICTIM}.{port}")));
    targets.push(format!("{VICTIM6}.7111"));
    connect(&lab.scanner, &group, &targets)?;
    for kind in [Kind::Program, Kind::Group] {
        let actor = watch.only(group.number()?, kind)?;
        ensure!(actor.came_of() == (16, 3, 11), "{}: {:?}", kind.label(), actor.came_of());
        ensure!(actor.state.answers == [3, 11, 0, 0], "{:?}", actor.state.answers);
        let distinct = actor.distinct;
        let (asked, unanswered) = (bits(&distinct.asked_services), bits(&distinct.unanswered_services()));
        ensure!((14..=16).contains(&asked), "{asked} services");
        ensure!((1..=2).contains(&unanswered), "{unanswered} without an answer");
        ensure!((3..=4).contains(&distinct.open_services.count_ones()), "{:x}", distinct.open_services);
        ensure!((9..=11).contains(&bits(&distinct.services)), "{} refused", bits(&distinct.services));
        ensure!(bits(&distinct.asked_hosts) == 2, "{} addresses", bits(&distinct.asked_hosts));
        let identity = watch.identity(&actor)?;
        ensure!(text(&identity.process.comm).starts_with("python3"), "{identity:?}");
    }
    // This one waits in connect(2) for the second answer: the first comes before the kernel has let go of the socket.
    let group = Group::new("-unreachable")?;
    let mut command = lab.scanner.command("/bin/bash");
    group.hold(&mut command);
    run(command.args(["-c", &format!("echo > /dev/tcp/{VICTIM}/7301; true")]))?;
    let actor = watch.only(group.number()?, Kind::Program)?;
    ensure!(actor.state.answers == [0, 0, 1, 0], "{:?}", actor.state.answers);
    Ok(())
}

fn known() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-known")?;
    let _server = serve(&lab.victim, [7_001])?;
    let mut watch = Watch::new()?;
    let targets: Vec<_> = [7_001, 7_101].map(|port| format!("{VICTIM}.{port}")).into();
    for _ in 0..3 {
        connect(&lab.scanner, &group, &targets)?;
    }
    let actor = watch.only(group.number()?, Kind::Program)?;
    ensure!(actor.came_of() == (2, 1, 1), "{:?}", actor.came_of());
    // The closed port is served now: it answers, and is known by that.
    let _late = listen(&lab.victim, 7_101)?;
    connect(&lab.scanner, &group, &targets)?;
    let actor = watch.only(group.number()?, Kind::Program)?;
    ensure!(actor.came_of() == (2, 2, 1), "{:?}", actor.came_of());
    ensure!(watch.actors.tally()?.seen[Seen::Known.index()] >= 6);
    Ok(())
}

fn many_processes() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-loop")?;
    let mut watch = Watch::new()?;
    let mut command = lab.scanner.command("/bin/bash");
    group.hold(&mut command);
    let script = format!(
        "for port in $(seq 8001 8040); do /bin/bash -c \"echo > /dev/tcp/{VICTIM}/$port\" 2> /dev/null; done; true"
    );
    run(command.args(["-c", &script]))?;
    let actor = watch.only(group.number()?, Kind::Program)?;
    ensure!(actor.came_of() == (40, 0, 40), "{:?}", actor.came_of());
    let identity = watch.identity(&actor)?;
    let parent = identity.parents[0];
    ensure!(text(&parent.comm) == "bash" && parent.pid != identity.process.pid, "{identity:?}");
    Ok(())
}

fn copies() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-copies")?;
    let mut watch = Watch::new()?;
    let copies: Vec<_> = (0..6).map(|copy| lab.scanner.directory().join(format!("copy{copy}"))).collect();
    for (place, copy) in copies.iter().enumerate() {
        fs::copy("/bin/bash", copy)?;
        let mut command = lab.scanner.command(copy.to_str().context("UTF-8")?);
        group.hold(&mut command);
        let script = format!("echo > /dev/tcp/{VICTIM}/{}; true", 8_001 + place);
        run(command.args(["-c", &script]))?;
    }
    let programs = watch.of(group.number()?, Kind::Program)?;
    ensure!(programs.len() == 6, "{} programs", programs.len());
    ensure!(programs.iter().all(|program| program.came_of() == (1, 0, 1)));
    let whole = watch.only(group.number()?, Kind::Group)?;
    ensure!(whole.came_of() == (6, 0, 6), "{:?}", whole.came_of());
    Ok(())
}

fn nmap() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-nmap")?;
    let _server = serve(&lab.victim, [22])?;
    let mut watch = Watch::new()?;
    let mut command = lab.scanner.command("nmap");
    group.hold(&mut command);
    run(command.args(["-sT", "-Pn", "-n", "-T4", "--max-retries", "0", "-p", "1-100", VICTIM]))?;
    let actor = watch.only(group.number()?, Kind::Program)?;
    ensure!(actor.came_of() == (100, 1, 99), "{:?}", actor.came_of());
    let asked = bits(&actor.distinct.asked_services);
    ensure!(asked > 70, "{asked} services");
    Ok(())
}

fn own() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-own")?;
    let mut watch = Watch::new()?;
    let targets: Vec<_> = ["127.0.0.1.8001", "127.9.9.9.8001", "::1.8001", &format!("{SCANNER}.8001")]
        .map(str::to_owned)
        .into();
    connect(&lab.scanner, &group, &targets)?;
    ensure!(watch.of(group.number()?, Kind::Program)?.is_empty());
    ensure!(watch.actors.tally()?.seen[Seen::Own.index()] >= 4);
    Ok(())
}

fn old_groups() -> Result<()> {
    let Some(group) = Group::old("pids", "-old.service")? else {
        return root::skipped("hierarchy of version 1 with the controller pids");
    };
    let lab = Lab::new()?;
    let mut watch = Watch::new()?;
    connect(&lab.scanner, &group, &[format!("{VICTIM}.8001")])?;
    let actor = watch.only(group.number()? | OLD_GROUP, Kind::Program)?;
    let identity = watch.identity(&actor)?;
    ensure!(text(&identity.group_path) == group.name(), "{identity:?}");
    Ok(())
}
