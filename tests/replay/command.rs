//! The command as people use it.

use std::{
    io::Write as _,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Failed, Trial};
use scanguard_tests::{
    fixtures::{
        agent::binary,
        captures::{ETHERNET, Timed, pcap, pcapng},
        frames::{DESTINATION, SOURCE, v4},
        root,
        scratch::Scratch,
    },
    tables::answers::{from_port, turned},
};
use serde_json::Value;

use crate::{
    scenes::{jumping_times, port_scan, requests, scenes},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a scan in a capture is found, as json lines and in the summary", scan),
        trial("pcap and pcapng give the same lines", formats),
        trial("text lines are for people", text),
        trial("on a terminal the bar makes way for findings, and goes in the end", on_a_terminal),
        trial("only packets to local addresses are looked at", local),
        trial("requests and their answers are sampled within the budget", sampled),
        trial("a capture without answers says so, and one with them does not", directions),
        trial("standard input is read", standard_input),
        trial("a truncated capture gives its findings, says the packet and fails", truncated),
        trial("files that cannot be read are reported in one line each, and the rest is read", unreadable),
        trial("times that jump are reported in the summary", jumps),
        trial("the rules are those of the configuration", configuration),
        trial("a wrong configuration or command line has its exit code", wrong_arguments),
        root::trial("the command finds the same through the kernel", || {
            through_kernel().map_err(|error| Failed::from(format!("{error:#}")))
        }),
    ]
}

fn text_of(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("UTF-8")
}

/// The result of a command.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn lines(&self) -> Result<Vec<Value>> {
        self.stdout.lines().map(|line| serde_json::from_str(line).context("a line of JSON")).collect()
    }

    fn says(&self, what: &str) -> Result<()> {
        ensure!(self.stderr.contains(what), "{what:?} is not in: {}", self.stderr);
        Ok(())
    }
}

fn run(arguments: &[&str]) -> Result<Ran> {
    run_with(arguments, &[])
}

fn run_with(arguments: &[&str], input: &[u8]) -> Result<Ran> {
    let mut child = Command::new(binary()?)
        .args(["--log", "warn", "replay", "--salt", "5"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    std::thread::scope(|scope| {
        // It may end without reading it all.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output()?;
        Ok(Ran {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    })
}

fn scan() -> Result<()> {
    let scratch = Scratch::new()?;
    let ran = run(&[&scratch.file("scan.pcap", pcap(ETHERNET, &port_scan()))?])?;
    ensure!(ran.code == Some(0), "{:?}: {}", ran.code, ran.stderr);
    let lines = ran.lines()?;
    let [opened, closed] = lines.as_slice() else {
        anyhow::bail!("{lines:#?}");
    };
    ensure!(opened["id"] == closed["id"], "{lines:#?}");
    ensure!(opened["event"] == "opened" && closed["event"] == "closed", "{lines:#?}");
    ensure!(closed["rule"] == "vertical_scan" && closed["source"]["ip"] == SOURCE.to_string(), "{closed}");
    ensure!(closed["targets"][0]["ip"] == DESTINATION.to_string(), "{closed}");
    ensure!(closed["counts"]["by_class"]["syn"] == 100, "{closed}");
    // The first packet came at 12:00:00.010, and polls are a second apart from there.
    ensure!(opened["time"] == "2024-05-14T12:00:01.002Z", "{opened}");
    ensure!(closed["last_seen"] == "2024-05-14T12:00:01.002Z", "{closed}");
    ran.says("packets: 300, 2024-05-14T12:00:00.01Z to 2024-05-14T12:00:01.002Z\n")?;
    ran.says("probes: 200 (100 syn, 100 udp)\n")?;
    ran.says("other packets: 100 (100 tcp_established)\n")?;
    ran.says("sources: 2\n")?;
    ran.says(&format!("  {SOURCE}: 100 (100 syn), 2024-05-14T12:00:00.010Z to "))?;
    ran.says("; found by vertical_scan\n")?;
    ran.says("  2001:db8:7:7::/64: 100 (100 udp)")?;
    ran.says("findings: 1 (1 vertical_scan)\n")
}

fn formats() -> Result<()> {
    let scratch = Scratch::new()?;
    let one = run(&[&scratch.file("scan.pcap", pcap(ETHERNET, &port_scan()))?])?;
    let other = run(&[&scratch.file("scan.pcapng", pcapng(ETHERNET, &port_scan()))?])?;
    ensure!(one.stdout == other.stdout && one.stderr == other.stderr, "{} {}", one.stdout, other.stdout);
    Ok(())
}

fn text() -> Result<()> {
    let scratch = Scratch::new()?;
    let ran = run(&["--format", "text", &scratch.file("scan.pcap", pcap(ETHERNET, &port_scan()))?])?;
    let expected = format!("2024-05-14T12:00:01.002Z opened  medium vertical_scan T1595.002 {SOURCE}: ");
    ensure!(ran.stdout.starts_with(&expected) && ran.stdout.lines().count() == 2, "{}", ran.stdout);
    Ok(())
}

fn sampled() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.file("requests.pcap", pcap(ETHERNET, &requests()))?;
    let ran = run(&["--local", &DESTINATION.to_string(), &file])?;
    ran.says(
        "samples: 401 (200 http_request, 200 http_status, 1 dns_query)\n  200 more were beyond the budgets",
    )?;
    let off = scratch.file("off.toml", b"[samples]\nenabled = false\n")?;
    run(&["--config", &off, &file])?.says("samples: 0\n")
}

/// script(1) gives it a terminal, and what is written there as it is.
fn on_a_terminal() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.file("scan.pcap", pcap(ETHERNET, &port_scan()))?;
    let typescript = scratch.file("typescript", b"")?;
    let terminal = |options: &str| {
        let line = format!("(cat {file}; sleep 1) | {} {options} replay --salt 5 -", binary()?.display());
        let mut script = Command::new("script");
        script.args(["--quiet", "--command", &line, &typescript]).env("TERM", "xterm").stdin(Stdio::null());
        let output = script.output().context("script(1)")?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let shown = terminal("--log=warn")?;
    ensure!(shown.contains("B/s"), "no bar: {shown:?}");
    // The rest of a line when it is written over.
    let rest = |line: &str| line.rsplit(['\r', '\n']).next().unwrap_or_default().replace("\u{1b}[2K", "");
    for word in ["opened", "closed"] {
        let (before, _) = shown.split_once(word).with_context(|| format!("nothing {word}: {shown:?}"))?;
        ensure!(rest(before).starts_with("2024-05-14T"), "torn: {:?} in {shown:?}", rest(before));
    }
    let (_, summary) = shown.split_once("packets: 300").with_context(|| shown.clone())?;
    ensure!(!summary.contains("B/s"), "the bar is left: {summary:?}");
    ensure!(!terminal("--quiet")?.contains("B/s"), "quiet, and a bar");
    Ok(())
}

fn local() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.file("scan.pcap", pcap(ETHERNET, &port_scan()))?;
    let ours = run(&["--local", "198.51.100.0/24", "--local", "2001:db8:9::/48", &file])?;
    ensure!(ours.lines()?.len() == 2 && !ours.stderr.contains("--local"), "{}", ours.stderr);
    let one_address = run(&["--local", &DESTINATION.to_string(), &file])?;
    ensure!(one_address.lines()?.len() == 2, "{}", one_address.stdout);
    one_address.says("  100 went to no address of ours (--local)\n")?;
    one_address.says("probes: 100 (100 syn)\n")?;
    let none = run(&["--local", "10.0.0.0/8", &file])?;
    ensure!(none.stdout.is_empty() && none.code == Some(0), "{}", none.stdout);
    none.says("  300 went to no address of ours (--local)\n")?;
    none.says("sources: 0\n")
}

/// In a file the first answer counts from the beginning, in a stream from then on.
fn directions() -> Result<()> {
    const SAYS: &str = "  only one direction is seen: unanswered probes count as unknown\n";
    let scratch = Scratch::new()?;
    let silent = run(&[&scratch.file("silent.pcap", pcap(ETHERNET, &port_scan()))?])?;
    silent.says(SAYS)?;
    ensure!(silent.lines()?.iter().all(|line| line["one_direction"] == true), "{}", silent.stdout);
    // The only answer is the last packet, when the finding is open.
    let mut packets = port_scan();
    packets.push(Timed::new(2_500, turned(v4(6, &from_port(0x14, 1)))));
    let file = pcap(ETHERNET, &packets);
    for ours in [&[][..], &["--local", "198.51.100.0/24"]] {
        let path = scratch.file("answered.pcap", &file)?;
        let answered = run(&[ours, &[&path]].concat())?;
        ensure!(!answered.stderr.contains(SAYS), "{}", answered.stderr);
        let lines = answered.lines()?;
        ensure!(lines.iter().all(|line| line.get("one_direction").is_none()), "{lines:#?}");
        let streamed = run_with(&[ours, &["-"]].concat(), &file)?;
        ensure!(!streamed.stderr.contains(SAYS), "{}", streamed.stderr);
        let told: Vec<_> = streamed.lines()?.iter().map(|line| line["one_direction"] == true).collect();
        ensure!(told == [true, false], "{}", streamed.stdout);
    }
    Ok(())
}

fn standard_input() -> Result<()> {
    let ran = run_with(&["-"], &pcapng(ETHERNET, &port_scan()))?;
    ensure!(ran.code == Some(0) && ran.lines()?.len() == 2, "{}", ran.stderr);
    Ok(())
}

fn truncated() -> Result<()> {
    let scratch = Scratch::new()?;
    for (name, mut file) in
        [("cut.pcap", pcap(ETHERNET, &port_scan())), ("cut.pcapng", pcapng(ETHERNET, &port_scan()))]
    {
        file.truncate(file.len() - 5);
        let path = scratch.file(name, &file)?;
        let ran = run(&[&path])?;
        ensure!(ran.code == Some(1) && ran.lines()?.len() == 2, "{:?}: {}", ran.code, ran.stdout);
        ran.says(&format!("scanguard: {path}: after packet 299: the capture ends within "))?;
        ran.says("packets: 299, ")?;
    }
    Ok(())
}

fn unreadable() -> Result<()> {
    let scratch = Scratch::new()?;
    let good = scratch.file("scan.pcap", pcap(ETHERNET, &port_scan()))?;
    let mut huge = pcap(ETHERNET, &port_scan());
    // The length of the second packet.
    let place = 24 + 16 + 54 + 8;
    huge[place..place + 4].copy_from_slice(&0xfff0_0000u32.to_le_bytes());
    for (file, expected) in [
        (text_of(&scratch.path().join("missing"))?, "No such file"),
        (text_of(scratch.path())?, "Is a directory"),
        (scratch.file("empty", b"")?, "empty"),
        (scratch.file("words", b"these are words, and many of them")?, "neither pcap nor pcapng"),
        (scratch.file("wireless", pcap(105, &port_scan()))?, "link type 105 is not supported"),
        (scratch.file("huge", &huge)?, "after packet 1: the capture is corrupt: a packet or block of 42"),
    ] {
        let ran = run(&[&file, &good])?;
        ensure!(ran.code == Some(1) && ran.lines()?.len() == 2, "{file}: {:?}: {}", ran.code, ran.stderr);
        ran.says(&format!("scanguard: {file}: "))?;
        ran.says(expected)?;
        let complaints = ran.stderr.lines().filter(|line| line.starts_with("scanguard: ")).count();
        ensure!(complaints == 1, "{}", ran.stderr);
    }
    Ok(())
}

fn jumps() -> Result<()> {
    let scratch = Scratch::new()?;
    let ran = run(&[&scratch.file("jumps.pcap", pcap(ETHERNET, &jumping_times()))?])?;
    ensure!(ran.code == Some(0), "{}", ran.stderr);
    ran.says("  50 had an earlier time than one before them, by up to 59m 59s")?;
    ran.says("to 2074-")
}

fn configuration() -> Result<()> {
    let scratch = Scratch::new()?;
    let file = scratch.file("scan.pcap", pcap(ETHERNET, &port_scan()))?;
    let config = scratch.file("off.toml", b"[rules.vertical_scan]\nenabled = false\n")?;
    let ran = run(&["--config", &config, &file])?;
    ensure!(ran.code == Some(0) && ran.stdout.is_empty(), "{}", ran.stdout);
    ran.says("findings: 0\n")
}

fn wrong_arguments() -> Result<()> {
    let scratch = Scratch::new()?;
    let config = scratch.file("wrong.toml", b"[rulez]\n")?;
    for (arguments, code) in [
        (&["--config", &config, "-"][..], 3),
        (&["--local", "10.0.0.0/33", "-"], 2),
        (&["--local", "ours", "-"], 2),
        (&[], 2),
    ] {
        let ran = run(arguments)?;
        ensure!(ran.code == Some(code), "{arguments:?}: {:?}: {}", ran.code, ran.stderr);
    }
    Ok(())
}

fn through_kernel() -> Result<()> {
    // A socket here that would want one of the packets, if it were asked.
    let _listener = TcpListener::bind("0.0.0.0:78").ok();
    let scratch = Scratch::new()?;
    for scene in scenes() {
        let file = scratch.file("scene", &scene.file)?;
        let (here, there) = (run(&[&file])?, run(&["--through-kernel", &file])?);
        ensure!(there.code == Some(0), "{}: {}", scene.name, there.stderr);
        ensure!(here.stdout == there.stdout, "{}: {}\n{}", scene.name, here.stdout, there.stdout);
        ensure!(here.stderr == there.stderr, "{}: {}\n{}", scene.name, here.stderr, there.stderr);
    }
    Ok(())
}
