//! Beside other XDP programs, those of libxdp (xdp-tools) above all, and beside AF_XDP.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use scanguard_tests::{
    fixtures::{
        agent::{Agent, LISTEN, Metrics, scanguard},
        capture::Capture,
        clients::serve,
        frames::{V4, tcp, to, udp, v4_packet},
        lab::{
            Lab, Namespace, PATIENCE, SCANNER, SCANNER_INTERFACE, VICTIM, VICTIM_INTERFACE, run, wait_for,
        },
        pinned::Bpffs,
        scenario::Scenario,
        xsk::Xsk,
    },
    tables::scans::SCANS,
};

use crate::{egress::FAST, lifecycle::refused_in, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (mode, name) in [("native", "native"), ("skb", "generic")] {
        trials.push(trial(
            format!("coexistence: behind xdp-filter in {name} mode it does not start and says the way out"),
            move || behind_libxdp(mode),
        ));
    }
    trials.extend([
        trial("coexistence: libxdp and iproute2 cannot take its place, and it counts on", before_libxdp),
        trial("coexistence: xdp-filter filters another interface beside it", another_interface),
        trial("coexistence: on a bridge it sees what xdp-filter on the port passes", on_a_bridge),
        trial("coexistence: taken off by force it says so and attaches again", taken_off),
        trial("coexistence: af_xdp sockets that only send work on either end", af_xdp),
    ]);
    trials
}

/// The tools of xdp-tools on a host, with a file system of their own for what they pin.
struct Libxdp<'n> {
    host: &'n Namespace,
    pins: Bpffs,
}

impl<'n> Libxdp<'n> {
    fn new(host: &'n Namespace) -> Result<Self> {
        Ok(Self { host, pins: Bpffs::mount()? })
    }

    fn command(&self, words: &[&str]) -> Command {
        // They look for it in one place only, and lock a file below /run: in a mount namespace of their own.
        let mut command = self.host.command("unshare");
        let script = "mount --bind \"$0\" /sys/fs/bpf && mount -t tmpfs tmpfs /run && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script]).arg(self.pins.path()).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        Ok(String::from_utf8(run(&mut self.command(words))?.stdout)?)
    }

    /// Words of its message where it must fail.
    fn fail(&self, words: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = self.command(words).output()?;
        ensure!(!status.success(), "{words:?} worked: {}", String::from_utf8_lossy(&stdout));
        Ok(String::from_utf8_lossy(&stderr).into_owned())
    }
}

/// Doctor's lines about the victim's interface.
fn doctor(lab: &Lab) -> Result<String> {
    let output = scanguard(&lab.victim, &["doctor", "--iface", VICTIM_INTERFACE])?.output()?;
    let said = String::from_utf8(output.stdout)?;
    let line = said.lines().find(|line| line.contains("index "));
    line.map(str::to_owned).with_context(|| said.clone())
}

/// The last of the commands that are quoted in a text.
fn quoted(text: &str) -> Result<Vec<&str>> {
    Ok(text.rsplit('`').nth(1).with_context(|| text.to_owned())?.split(' ').collect())
}

fn behind_libxdp(mode: &str) -> Result<()> {
    let scenario = Scenario::new(FAST)?;
    let libxdp = Libxdp::new(&scenario.lab.victim)?;
    libxdp.run(&["xdp-filter", "load", "--mode", mode, VICTIM_INTERFACE])?;
    let before = scenario.lab.xdp_programs()?;
    let id = format!("(id {})", before.first().context("a program")?);
    let status = libxdp.run(&["xdp-loader", "status", VICTIM_INTERFACE])?;
    // Which of the two it was is worth knowing of a guest of `cargo xtask vm`.
    println!("{}", status.trim());
    // Where the kernel does not let it have a dispatcher, libxdp does with a single program.
    let words: &[&str] = match (status.contains("xdp_dispatcher"), mode) {
        (true, _) => &["a libxdp dispatcher that runs xdpfilt_", "`xdp-loader unload edge0 --all`"],
        (false, "native") => &["XDP program xdpfilt_", "`ip link set dev edge0 xdpdrv off`"],
        (false, _) => &["XDP program xdpfilt_", "`ip link set dev edge0 xdpgeneric off`"],
    };
    for wanted in ["native", "auto"] {
        let arguments = ["run", "--iface", VICTIM_INTERFACE, "--mode", wanted, "--listen", LISTEN];
        refused_in(&scenario.lab, &arguments, 6, &[words, &[id.as_str(), "does not replace"]].concat())?;
    }
    ensure!(libxdp.run(&["xdp-loader", "status", VICTIM_INTERFACE])? == status, "not as it was: {status}");
    // By tc there is room, behind the filter.
    let mut by_tc = Agent::start(&scenario.lab.victim, &["--mode", "tc", "--format", "json"])?;
    counts(&scenario.lab, &by_tc)?;
    by_tc.end()?;
    // The way out is one.
    let line = doctor(&scenario.lab)?;
    ensure!(words.iter().all(|word| line.contains(word.trim_start_matches("XDP "))), "{line}");
    libxdp.run(&quoted(&line)?)?;
    ensure!(scenario.lab.xdp_programs()?.is_empty(), "{line}");
    scenario.start()?.end()
}

/// Every SYN of a scan is counted, and its finding reported.
fn counts(lab: &Lab, agent: &Agent<'_>) -> Result<()> {
    let before = agent.settled()?.probes("syn");
    let mut capture = Capture::outgoing(&lab.scanner, SCANNER_INTERFACE)?;
    SCANS[0].run(lab)?;
    let counted = agent.settled()?.probes("syn") - before;
    capture.stop()?;
    let sent = capture.count("tcp[tcpflags] == tcp-syn and dst host 10.77.0.1")?;
    ensure!(sent >= 1000 && counted == sent as f64, "{sent} were sent, {counted} counted");
    found(agent)
}

fn found(agent: &Agent<'_>) -> Result<()> {
    let is_found = || agent.findings().iter().any(|finding| finding["rule"] == "vertical_scan").then_some(());
    wait_for("the finding", PATIENCE, is_found).with_context(|| agent.said())
}

fn before_libxdp() -> Result<()> {
    let scenario = Scenario::new(FAST)?.with(&["--format", "json"]);
    let libxdp = Libxdp::new(&scenario.lab.victim)?;
    scenario.run(|lab, agent| {
        let program = lab.xdp_programs()?;
        for mode in ["native", "skb"] {
            let said = libxdp.fail(&["xdp-filter", "load", "--mode", mode, VICTIM_INTERFACE])?;
            ensure!(said.contains("not using a dispatcher") && said.contains("busy"), "{said}");
        }
        for words in [
            &["xdp-loader", "unload", VICTIM_INTERFACE, "--all"][..],
            &["ip", "link", "set", "dev", VICTIM_INTERFACE, "xdpdrv", "off"],
        ] {
            let said = libxdp.fail(words)?;
            ensure!(said.contains("Can't replace active BPF XDP link"), "{said}");
        }
        ensure!(lab.xdp_programs()? == program, "another program");
        counts(lab, agent)
    })
}

/// The ends of a second wire.
const OTHER: [(&str, &str); 2] = [("edge1", "10.79.0.1/24"), ("scan1", "10.79.0.2/24")];
const OTHER_VICTIM: &str = "10.79.0.1";
const SHUT: u16 = 7001;
const OPEN: u16 = 7002;

fn another_interface() -> Result<()> {
    let scenario = Scenario::new(FAST)?.with(&["--format", "json"]);
    scenario.lab.victim.join(OTHER, &scenario.lab.scanner)?;
    let _servers = serve(&scenario.lab.victim, [SHUT, OPEN])?;
    let libxdp = Libxdp::new(&scenario.lab.victim)?;
    scenario.run(|lab, agent| {
        libxdp.run(&["xdp-filter", "load", OTHER[0].0])?;
        libxdp.run(&["xdp-filter", "port", "--mode", "dst", "--proto", "tcp", &SHUT.to_string()])?;
        let connect = |host: &str, port: u16| {
            let to = SocketAddr::from((host.parse::<Ipv4Addr>()?, port));
            lab.scanner.enter(move || Ok(TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok()))
        };
        ensure!(connect(OTHER_VICTIM, OPEN)? && !connect(OTHER_VICTIM, SHUT)?, "xdp-filter does not filter");
        ensure!(connect(VICTIM, OPEN)? && connect(VICTIM, SHUT)?, "it filters where it is not");
        counts(lab, agent)
    })?;
    libxdp.run(&["xdp-filter", "unload", OTHER[0].0])?;
    Ok(())
}

fn on_a_bridge() -> Result<()> {
    let lab = Lab::new()?;
    let mac = lab.victim_mac()?;
    for command in [
        format!("link add br0 address {mac} type bridge"),
        format!("addr flush dev {VICTIM_INTERFACE}"),
        format!("link set {VICTIM_INTERFACE} master br0"),
        "link set br0 up".to_owned(),
        format!("addr add {VICTIM}/24 dev br0"),
    ] {
        lab.victim.ip(&command)?;
    }
    let _servers = serve(&lab.victim, [SHUT, OPEN])?;
    let libxdp = Libxdp::new(&lab.victim)?;
    // In this order: with a program on the bridge the kernel takes none on its ports.
    libxdp.run(&["xdp-filter", "load", VICTIM_INTERFACE])?;
    libxdp.run(&["xdp-filter", "port", "--mode", "dst", "--proto", "tcp", "80"])?;
    let arguments = ["run", "--iface", "br0", "--mode", "generic", "--listen", LISTEN, "--format", "json"];
    let mut agent = Agent::spawn(&lab.victim, &arguments)?;
    wait_for("ready", PATIENCE, || {
        agent.get("/readyz").is_ok_and(|(status, _)| status == 200).then_some(())
    })?;
    let mut capture = Capture::outgoing(&lab.scanner, SCANNER_INTERFACE)?;
    SCANS[0].run(&lab)?;
    let counted = agent.settled()?.probes("syn");
    capture.stop()?;
    let sent = |filter| capture.count(&format!("tcp[tcpflags] == tcp-syn and dst host 10.77.0.1{filter}"));
    let (passed, dropped) = (sent(" and not dst port 80")?, sent(" and dst port 80")?);
    ensure!(dropped > 0 && counted == passed as f64, "{passed} passed, {dropped} dropped, {counted} counted");
    found(&agent)?;
    let said = libxdp.fail(&["xdp-filter", "unload", VICTIM_INTERFACE])?;
    ensure!(said.contains("upper device already has a program"), "{said}");
    agent.end()?;
    libxdp.run(&["xdp-filter", "unload", VICTIM_INTERFACE])?;
    Ok(())
}

fn taken_off() -> Result<()> {
    Scenario::new(FAST)?.with(&["--format", "json"]).run(|lab, agent| {
        let line = doctor(lab)?;
        let way_out = quoted(&line)?;
        run(Command::new(way_out[0]).args(&way_out[1..]))?;
        let series = format!("scanguard_interface_losses_total{{interface=\"{VICTIM_INTERFACE}\"}}");
        let is_attached = |page: &Metrics| {
            page.get(&series) == 1.0
                && page.get(&format!(
                    "scanguard_xdp_attached{{interface=\"{VICTIM_INTERFACE}\",mode=\"native\"}}"
                )) == 1.0
        };
        wait_for("attached again", PATIENCE, || agent.metrics().ok().filter(is_attached))?;
        ensure!(agent.said().contains("detached the program"), "{}", agent.said());
        ensure!(lab.xdp_programs()?.len() == 1, "not attached");
        counts(lab, agent)
    })
}

/// Datagrams or SYNs, each to a port of its own.
const FRAMES: u16 = 60;

fn af_xdp() -> Result<()> {
    let scenario = Scenario::new(FAST)?.with(&["--format", "json"]);
    let scanner_mac = scenario.lab.scanner.mac(SCANNER_INTERFACE)?;
    let bytes: Result<Vec<u8>, _> = scanner_mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    let scanner_mac: [u8; 6] = bytes?.try_into().ok().context("six bytes")?;
    let with = |protocol, source: &str, destination: &str| -> Result<V4> {
        let (source, destination) = (Some(source.parse()?), Some(destination.parse()?));
        Ok(V4 { protocol, source, destination, ..V4::default() })
    };
    let datagram = with(17, VICTIM, SCANNER)?;
    let syn = with(6, SCANNER, VICTIM)?;
    let ports = 1..=FRAMES;
    let datagrams: Vec<_> = ports
        .clone()
        .map(|port| to(scanner_mac, &v4_packet(&datagram, &udp(4_000, port, b"beside the sensor"))))
        .collect();
    let victim_mac = scenario.lab.victim_mac_bytes()?;
    let syns: Vec<_> = ports.map(|port| to(victim_mac, &v4_packet(&syn, &tcp(2, port)))).collect();
    let sends = || {
        let mut arrives = Capture::start_filtered(&scenario.lab.scanner, SCANNER_INTERFACE, "udp")?;
        Xsk::open(&scenario.lab.victim, VICTIM_INTERFACE)?.send(&datagrams)?;
        arrives.stop()?;
        let arrived = arrives.count("udp src port 4000")?;
        ensure!(arrived == u64::from(FRAMES), "{arrived} of {FRAMES} arrived");
        anyhow::Ok(())
    };
    // Either first.
    let before = Xsk::open(&scenario.lab.victim, VICTIM_INTERFACE)?;
    scenario.run(|lab, agent| {
        drop(before);
        let answers = |page: Metrics| page.sum("scanguard_egress_packets_total{");
        let before = answers(agent.settled()?);
        sends()?;
        ensure!(answers(agent.settled()?) == before, "what it sends was seen to leave");
        // Frames of such a socket are counted as any other.
        let counted = agent.settled()?.probes("syn");
        Xsk::open(&lab.scanner, SCANNER_INTERFACE)?.send(&syns)?;
        let counted = agent.settled()?.probes("syn") - counted;
        ensure!(counted == f64::from(FRAMES), "{counted} of {FRAMES} counted");
        found(agent)?;
        counts(lab, agent)
    })
}
