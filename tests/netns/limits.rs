//! Little memory, clocks that jump, and a short soak.

use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard::sensor::{footprint, settings::Settings};
use scanguard_tests::{
    fixtures::{
        agent::{Agent, LISTEN},
        capture::Capture,
        cgroup::MemoryGroup,
        lab::{Lab, PATIENCE, SCANNER_INTERFACE, VICTIM_INTERFACE, run, wait_for},
        scenario::Scenario,
        scratch,
    },
    soak::{self, Plan},
    tables::scans::SCANS,
};

use crate::{counts::config_file, trial};

const MIB: u64 = 1 << 20;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("fault: a table of more memory than there is is refused with both figures", too_large),
        trial(
            "fault: with little memory left in its control group it goes on counting and finding",
            little_memory,
        ),
        trial("fault: with too few file descriptors to start it says which limit to raise", few_descriptors),
        trial("fault: a hundred thousand routes take no memory of the agent", many_routes),
        trial("fault: a clock that is set forward and back neither prolongs nor ends a ban", clock),
        trial("fault: a short soak loses nothing", short_soak),
    ]
}

fn too_large() -> Result<()> {
    let lab = Lab::new()?;
    let group = MemoryGroup::new()?;
    group.limit(256 * MIB)?;
    let config = config_file("[sensor]\nmax_sources = 1000000\n")?;
    let path = config.path();
    for command in [
        &["run", "--iface", VICTIM_INTERFACE, "--listen", LISTEN, "--config", &path][..],
        &["doctor", "--iface", VICTIM_INTERFACE, "--config", &path],
    ] {
        let mut agent = Agent::spawn_as(&lab.victim, command, |command| group.hold(command))?;
        let code = agent.exit_code()?;
        let said = agent.said() + &agent.lines().join("\n");
        let needed =
            footprint::bytes(&Settings { max_sources: 1_000_000, ..Settings::default() }, true, cpus()?);
        let needed = needed.map_err(anyhow::Error::msg)?.div_ceil(MIB);
        for words in [format!("take {needed} MiB"), "left of the limit of 256 MiB".to_owned()] {
            ensure!(code == Some(1) && said.contains(&words), "{words}, exit code {code:?}: {said}");
        }
    }
    ensure!(lab.xdp_programs()?.is_empty(), "a program was left behind");
    Ok(())
}

fn few_descriptors() -> Result<()> {
    let lab = Lab::new()?;
    // Enough to begin with, and too few for one of the first maps, one in the midst, and the program.
    for limit in [20, 32, 44] {
        let arguments = ["run", "--iface", VICTIM_INTERFACE, "--listen", LISTEN];
        let mut agent =
            Agent::spawn_as(&lab.victim, &arguments, |command| limit_descriptors(command, limit))?;
        let code = agent.exit_code()?;
        let said = agent.said();
        for words in ["no file descriptors left", "LimitNOFILE"] {
            ensure!(code == Some(1) && said.contains(words), "{limit}: {words}, exit code {code:?}: {said}");
        }
    }
    ensure!(lab.xdp_programs()?.is_empty(), "a program was left behind");
    Ok(())
}

fn limit_descriptors(command: &mut Command, limit: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
    // SAFETY: one system call between fork and exec, of a structure that the closure owns.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

/// CPUs that this host may have.
fn cpus() -> Result<u64> {
    Ok(fs::read_dir("/sys/devices/system/cpu")?
        .filter_map(Result::ok)
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_prefix("cpu").is_some_and(|number| number.parse::<u32>().is_ok())
        })
        .count() as u64)
}

/// Memory of the maps that a process holds, as the kernel has it.
fn memory_of_maps(pid: u32) -> Result<u64> {
    let mut maps = std::collections::BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(info) = fs::read_to_string(entry?.path()) else { continue };
        let field = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name))?;
            value.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps.values().sum())
}

fn little_memory() -> Result<()> {
    let lab = Lab::new()?;
    let group = MemoryGroup::new()?;
    let arguments = ["--format", "json"];
    let mut agent = Agent::start_as(&lab.victim, &arguments, |command| group.hold(command))?;
    // The kernel takes as much memory as was computed before the start.
    let held = memory_of_maps(agent.process.child.id())?;
    let computed = footprint::bytes(&Settings::default(), true, cpus()?).map_err(anyhow::Error::msg)?;
    println!("maps: {held} bytes, computed before: {computed}");
    ensure!(held.abs_diff(computed) < held / 10, "the maps take {held} bytes, computed were {computed}");
    let before = group.usage()?;
    group.limit(before + 16 * MIB)?;
    let mut capture = Capture::outgoing(&lab.scanner, SCANNER_INTERFACE)?;
    let flood = "--rand-source -S -q -i u50 -c 20000 -p 81 10.77.0.1";
    // It fails when nobody answers.
    let _ = run(lab.scanner.command("hping3").args(flood.split(' ')));
    SCANS[0].run(&lab)?;
    let is_found = || agent.findings().iter().any(|finding| finding["rule"] == "vertical_scan").then_some(());
    wait_for("the scan", PATIENCE, is_found).with_context(|| agent.said())?;
    let metrics = agent.settled()?;
    // Random sources are groups, too, which are nobody's.
    let counted = metrics.probes("syn") + metrics.exit("bad_source");
    capture.stop()?;
    println!("{} of {} bytes in use", group.usage()?, before + 16 * MIB);
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let sent = capture.count("tcp[tcpflags] == tcp-syn and dst host 10.77.0.1")? as f64;
    ensure!(counted == sent && sent > 20_000.0, "{sent} were sent, {counted} counted");
    agent.end()?;
    Ok(())
}

/// The most memory that a process had so far, in bytes.
fn peak(agent: &Agent<'_>) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.process.child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1_024)
}

fn many_routes() -> Result<()> {
    let scenario = Scenario::defaults()?;
    let before = scenario.run(|_, agent| peak(agent))?;
    let routes: String = (0..100_000_u32)
        .map(|number| {
            let [_, a, b, c] = number.to_be_bytes();
            format!("route add 11.{a}.{b}.{c}/32 via 10.77.0.2\n")
        })
        .collect();
    let victim = &scenario.lab.victim;
    let batch = scratch::file(".batch", routes)?;
    run(victim.command("ip").arg("-batch").arg(&batch))?;
    victim.ip("route add default via 10.77.0.9")?;
    scenario.run(|_, agent| {
        let after = peak(agent)?;
        println!("at most {before} bytes without routes, {after} with them");
        ensure!(after < before + 16 * MIB, "{before} bytes without routes, {after} with them");
        let (done, said) = agent.ask(&["ban", "10.77.0.9"])?;
        ensure!(!done && said.contains("default gateway"), "{said}");
        Ok(())
    })
}

/// Debian's faketime.
pub(crate) fn library() -> Result<&'static str> {
    let places = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
        "/usr/lib64/faketime/libfaketime.so.1",
        "/usr/lib/faketime/libfaketime.so.1",
    ];
    places
        .into_iter()
        .find(|path| Path::new(path).exists())
        .context("libfaketime: cargo xtask setup installs it")
}

fn clock() -> Result<()> {
    let lab = Lab::new()?;
    let directory = lab.victim.directory();
    let offset = directory.join("offset");
    let library = library()?;
    // The library reads its file, which a confined agent may not.
    let config = config_file(
        "[sensor]\npoll_interval = \"100ms\"\n[security]\nsandbox = false\n[response]\nmode = \"enforce\"\n",
    )?;
    let set = |to: &str| fs::write(&offset, to).context("the offset");
    let path = config.path();
    let fake = |command: &mut Command| {
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &offset);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    };
    let start = || Agent::start_as(&lab.victim, &["--format", "json", "--config", &path], fake);
    set("+0")?;
    let mut agent = start()?;
    let left = |agent: &Agent<'_>, net: &str| -> Result<Option<u64>> {
        let bans = agent.json(&["bans"])?;
        let bans = bans["bans"].as_array().context("bans")?;
        let ban = bans.iter().find(|ban| ban["net"] == net);
        Ok(ban.and_then(|ban| ban["seconds_left"].as_u64()))
    };
    agent.order(&["ban", "192.0.2.7", "--for", "1h"])?;
    let year = |agent: &Agent<'_>| -> Result<String> {
        let sources = agent.json(&["sources"])?;
        Ok(sources["polled"].as_str().with_context(|| sources.to_string())?[..4].to_owned())
    };
    let this_year = year(&agent)?;
    for (number, jump) in ["+365d", "-365d"].into_iter().enumerate() {
        set(jump)?;
        wait_for("the clock is another", PATIENCE, || {
            year(&agent).is_ok_and(|year| year != this_year).then_some(())
        })?;
        let hour = left(&agent, "192.0.2.7/32")?.context("the ban is gone")?;
        ensure!((3_500..=3_600).contains(&hour), "{hour} s are left of the hour, at {jump}");
        let short = format!("192.0.2.{}", 100 + number);
        agent.order(&["ban", &short, "--for", "2s"])?;
        thread::sleep(Duration::from_millis(500));
        let net = format!("{short}/32");
        ensure!(left(&agent, &net)?.is_some(), "a ban of two seconds is gone after half of one");
        wait_for("it ends", Duration::from_secs(10), || left(&agent, &net).ok()?.is_none().then_some(()))?;
        let before = agent.findings().len();
        SCANS[2 + number].run(&lab)?;
        wait_for("the scan", PATIENCE, || (agent.findings().len() > before).then_some(()))?;
    }
    // Written by a clock a year ahead, read by one that is right, and by one that is behind.
    set("+365d")?;
    thread::sleep(Duration::from_millis(300));
    agent.order(&["ban", "192.0.2.8", "--for", "1h"])?;
    agent.end()?;
    set("+0")?;
    let mut agent = start()?;
    for net in ["192.0.2.7/32", "192.0.2.8/32"] {
        let left = left(&agent, net)?.with_context(|| format!("{net} is not banned any more"))?;
        ensure!((3_400..=3_600).contains(&left), "{net}: {left} s are left of an hour");
    }
    agent.end()?;
    Ok(())
}

fn short_soak() -> Result<()> {
    let plan =
        Plan { length: Duration::from_secs(40), round: Duration::from_secs(10), reloads: 60, flood: 3_000 };
    let report = soak::run(&plan, &mut |sample| println!("{}", sample.line()))?;
    println!("{}", report.page("a short one"));
    ensure!(report.failures.is_empty(), "{}", report.failures.join("; "));
    Ok(())
}
