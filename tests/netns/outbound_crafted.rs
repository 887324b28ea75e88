//! Packets that leave and that no socket of TCP or UDP made, datagrams, hosts behind this one, and what is blocked.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Result, ensure};
use libtest_mimic::Trial;
use scanguard::sensor::{ActorSensor as _, gate::GateMode};
use scanguard_common::{
    actor::{Kind, Seen, marks},
    outcome::ProbeClass,
};
use scanguard_tests::fixtures::{
    cgroup::Group,
    clients::serve,
    lab::{Lab, Namespace, PATIENCE, Process, ROUTED, SCANNER, SCANNER_INTERFACE, VICTIM, VICTIM6, run},
    outbound::{Watch, path, text},
    root,
};

use crate::{
    outbound::{PYTHON, connect},
    outbound_facts::CALLS,
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("outbound: nmap -sS makes packets by a raw socket", nmap_syn),
        trial("outbound: nmap -sU makes datagrams by a raw socket", nmap_udp),
        trial("outbound: hping3 makes packets by a raw socket", hping),
        trial("outbound: packets of a packet socket are told by the process", packet_socket),
        trial("outbound: masscan and zmap make packets by a packet socket", fast_scanners),
        trial("outbound: pings of a raw socket are told by the process", ping),
        trial("outbound: datagrams count once they leave, resolvers' comparisons do not", datagrams),
        trial("outbound: answers from a service's port are no calls", service_port),
        trial("outbound: hosts behind this one are told by their addresses", inner),
        trial("outbound: a container behind NAT is told by its process", behind_nat),
        trial("outbound: a peer in a container is known by those who call it there", peer_in_a_container),
        trial("outbound: a blocked actor cannot connect, send or make packets", blocked),
        trial("outbound: a dry run refuses nothing and counts", dry_run),
    ]
}

/// A lab with all programs.
fn watch(lab: &Lab) -> Result<Watch> {
    Watch::new()?.with_calls()?.with_egress(&lab.scanner, SCANNER_INTERFACE)
}

/// Runs a command of the scanner in a group.
fn in_group(lab: &Lab, group: &Group, program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = lab.scanner.command(program);
    group.hold(&mut command);
    run(command.args(arguments)).map(drop)
}

fn python(lab: &Lab, group: &Group, script: &str) -> Result<()> {
    in_group(lab, group, PYTHON, &["-c", script])
}

fn seen(watch: &Watch, seen: Seen) -> Result<u64> {
    Ok(watch.actors.tally()?.seen[seen.index()])
}

fn nmap_syn() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-nmap")?;
    let mut watch = watch(&lab)?;
    in_group(&lab, &group, "nmap", &["-sS", "-Pn", "-n", "--max-retries", "0", "-p", "1-100", VICTIM])?;
    let actor = watch.only(group.number()?, Kind::Crafter)?;
    ensure!(actor.count(ProbeClass::Syn) == 100, "{}", actor.count(ProbeClass::Syn));
    let identity = watch.identity(&actor)?;
    ensure!(text(&identity.process.comm) == "nmap" && identity.marks & marks::RAW != 0, "{identity:?}");
    ensure!(path(&identity.path).ends_with("/nmap"), "{}", path(&identity.path));
    ensure!(watch.of(group.number()?, Kind::Program)?.is_empty(), "no socket asked for a connection");
    Ok(())
}

fn nmap_udp() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-nmap")?;
    let mut watch = watch(&lab)?;
    in_group(&lab, &group, "nmap", &["-sU", "-Pn", "-n", "--max-retries", "0", "-p", "1001-1040", VICTIM])?;
    let actor = watch.only(group.number()?, Kind::Crafter)?;
    ensure!(actor.count(ProbeClass::Udp) == 40, "{}", actor.count(ProbeClass::Udp));
    ensure!(text(&watch.identity(&actor)?.process.comm) == "nmap");
    Ok(())
}

fn hping() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-hping")?;
    let mut watch = watch(&lab)?;
    // It fails where a port is closed.
    let mut command = lab.scanner.command("hping3");
    group.hold(&mut command);
    command.args(["-S", "-c", "20", "-i", "u1000", "-p", "++8001", VICTIM]).output()?;
    let actor = watch.only(group.number()?, Kind::Crafter)?;
    ensure!(actor.count(ProbeClass::Syn) == 20, "{}", actor.count(ProbeClass::Syn));
    ensure!(text(&watch.identity(&actor)?.process.comm) == "hping3");
    Ok(())
}

/// Sends SYNs to 8001 and up as whole frames, as masscan and zmap do.
const FRAMES: &str = "
import socket, struct, sys
interface, source, target, count = sys.argv[1:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((interface, 0x800))
def total(data):
    words = sum(struct.unpack('!%dH' % (len(data) // 2), data))
    words = (words >> 16) + (words & 0xffff)
    return ~(words + (words >> 16)) & 0xffff
for n in range(int(count)):
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    ip = struct.pack('!BBHHHBBH', 0x45, 0, 40, n, 0, 64, 6, 0) + ends
    ip = ip[:10] + struct.pack('!H', total(ip)) + ip[12:]
    tcp = struct.pack('!HHIIBBHHH', 40000, 8001 + n, 1, 0, 0x50, 2, 1024, 0, 0)
    tcp = tcp[:16] + struct.pack('!H', total(ends + struct.pack('!HH', 6, 20) + tcp)) + tcp[18:]
    s.send(bytes([255] * 12 + [8, 0]) + ip + tcp)
";

fn packet_socket() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-frames")?;
    let mut watch = watch(&lab)?;
    in_group(&lab, &group, PYTHON, &["-c", FRAMES, SCANNER_INTERFACE, SCANNER, VICTIM, "30"])?;
    let actor = watch.only(group.number()?, Kind::Crafter)?;
    ensure!(actor.count(ProbeClass::Syn) == 30, "{}", actor.count(ProbeClass::Syn));
    let identity = watch.identity(&actor)?;
    ensure!(identity.marks & marks::PACKET != 0 && text(&identity.process.comm) == "python3", "{identity:?}");
    Ok(())
}

fn fast_scanners() -> Result<()> {
    let lab = Lab::new()?;
    let mac = lab.victim_mac()?;
    let masscan = format!(
        "--interface {SCANNER_INTERFACE} --adapter-ip {SCANNER} --router-mac {mac} --rate 1000 --wait 1 -oG - -p 1-100 {VICTIM}/32"
    );
    let zmap = format!(
        "-q -i {SCANNER_INTERFACE} -S {SCANNER} -G {mac} -r 1000 -c 1 -b /dev/null -p 80 {ROUTED}.0/25"
    );
    let mut watch = watch(&lab)?;
    for (name, arguments, probes) in [("masscan", masscan, 100), ("zmap", zmap, 128)] {
        let group = Group::new(&format!("-{name}"))?;
        let mut command = lab.scanner.command(name);
        group.hold(&mut command);
        // A library of its own may wait for ever for packets that do not come.
        let child = command.args(arguments.split(' ')).stdin(Stdio::null()).stdout(Stdio::null());
        let ended = Process::new(child.stderr(Stdio::null()).spawn()?).wait_within(PATIENCE);
        if ended.is_ok_and(|status| status.code() == Some(127)) {
            root::skipped(name)?;
            continue;
        }
        let actor = watch.only(group.number()?, Kind::Crafter)?;
        // Each asks for a few more, to learn the neighbour's address and whether somebody listens.
        let count = actor.count(ProbeClass::Syn);
        ensure!((probes..probes + 4).contains(&count), "{name}: {count}");
        let identity = watch.identity(&actor)?;
        ensure!(identity.marks & marks::PACKET != 0 && text(&identity.process.comm) == name, "{identity:?}");
    }
    Ok(())
}

fn ping() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-ping")?;
    let mut watch = watch(&lab)?;
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)\n\
         for n in range(3): s.sendto(bytes([8, 0, 0xf7, 0xff, 0, 0, 0, 0]), ('{VICTIM}', 0))"
    );
    python(&lab, &group, &script)?;
    let actor = watch.only(group.number()?, Kind::Crafter)?;
    ensure!(actor.count(ProbeClass::IcmpEcho) == 1, "a known target: {}", actor.count(ProbeClass::IcmpEcho));
    Ok(())
}

fn datagrams() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-udp")?;
    let mut watch = watch(&lab)?;
    let script = format!(
        "
import socket
for port in range(7001, 7006):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(('{VICTIM}', port))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(7101, 7111):
    s.sendto(b'x', ('{VICTIM}', port))
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for port in range(7201, 7204):
    s.sendto(b'x', ('{VICTIM6}', port))
for port in range(7301, 7303):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(('{VICTIM}', port))
    for again in range(3):
        try: s.send(b'x')
        except OSError: pass
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.sendto(b'x', ('127.0.0.1', 7001))
"
    );
    python(&lab, &group, &script)?;
    for kind in [Kind::Program, Kind::Group] {
        let actor = watch.only(group.number()?, kind)?;
        ensure!(actor.count(ProbeClass::Udp) == 15, "{}", actor.count(ProbeClass::Udp));
    }
    ensure!(watch.of(group.number()?, Kind::Crafter)?.is_empty());
    Ok(())
}

fn service_port() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-dns")?;
    let mut watch = watch(&lab)?;
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', 5353))\n\
         for port in range(40001, 40020): s.sendto(b'x', ('{VICTIM}', port))"
    );
    python(&lab, &group, &script)?;
    ensure!(watch.of(group.number()?, Kind::Program)?.is_empty());
    Ok(())
}

/// A host behind the scanner, which forwards for it.
fn behind(lab: &Lab, masquerades: bool) -> Result<Namespace> {
    let tenant = Namespace::new("tenant")?;
    lab.scanner.join([("inner0", "10.79.0.1/24"), ("eth0", "10.79.0.2/24")], &tenant)?;
    tenant.ip("route add default via 10.79.0.1")?;
    lab.scanner.sysctl("ipv4/ip_forward", "1")?;
    lab.victim.ip(&format!("route add 10.79.0.0/24 via {SCANNER}"))?;
    if masquerades {
        lab.scanner
            .filter("table ip n { chain post { type nat hook postrouting priority 100; masquerade; }; }")?;
    }
    Ok(tenant)
}

fn inner() -> Result<()> {
    let lab = Lab::new()?;
    let tenant = behind(&lab, false)?;
    let mut watch = watch(&lab)?;
    let number =
        lab.scanner.enter(|| Ok(fs::read_to_string("/sys/class/net/inner0/ifindex").unwrap_or_default()))?;
    let number = match number.trim().parse() {
        Ok(number) => number,
        // /sys is that of another namespace.
        Err(_) => index(&lab.scanner, "inner0")?,
    };
    watch.actors.set_inner(&BTreeSet::from([number]))?;
    let script =
        format!("for port in $(seq 8001 8020); do echo > /dev/tcp/{VICTIM}/$port; done 2> /dev/null; true");
    run(tenant.command("/bin/bash").args(["-c", &script]))?;
    let actor = watch.only(0, Kind::Inner)?;
    // The first one may have been forged.
    ensure!(actor.count(ProbeClass::Syn) == 19, "{}", actor.count(ProbeClass::Syn));
    ensure!(seen(&watch, Seen::AtTheDoor)? == 1);
    let identity = watch.identity(&actor)?;
    ensure!(identity.address.to_ip().to_string() == "10.79.0.2" && identity.process.pid == 0, "{identity:?}");
    watch.actors.set_inner(&BTreeSet::new())?;
    let before = seen(&watch, Seen::Forwarded)?;
    run(tenant.command("/bin/bash").args(["-c", &script.replace("80", "90")]))?;
    ensure!(seen(&watch, Seen::Forwarded)? == before);
    Ok(())
}

fn index(host: &Namespace, interface: &str) -> Result<u32> {
    let output = host.ip(&format!("-j link show dev {interface}"))?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(u32::try_from(links[0]["ifindex"].as_u64().unwrap_or(0))?)
}

fn behind_nat() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-container.scope")?;
    let _server = serve(&lab.victim, [7_001])?;
    let tenant = behind(&lab, true)?;
    let mut watch = watch(&lab)?;
    let targets: Vec<_> = (7_001..=7_010).map(|port| format!("{VICTIM}.{port}")).collect();
    connect(&tenant, &group, &targets)?;
    let actor = watch.only(group.number()?, Kind::Program)?;
    ensure!(actor.came_of() == (10, 1, 9), "{:?}", actor.came_of());
    Ok(())
}

/// Serves two ports until so many have called at the first, and asks for one target.
const PEER: &str = "
import socket, sys
servers = [socket.create_server(('', port), backlog=64) for port in (4001, 4002)]
for _ in range(int(sys.argv[1])):
    servers[0].accept()[0].close()
s = socket.socket()
s.settimeout(0.5)
s.connect_ex((sys.argv[2], 7001))
";

fn peer_in_a_container() -> Result<()> {
    const NETWORKS: u64 = 12;
    let lab = Lab::new()?;
    let group = Group::new("-peer.scope")?;
    let tenant = behind(&lab, false)?;
    lab.scanner.ip(&format!("route add 30.0.0.0/8 via {VICTIM}"))?;
    lab.victim.ip("route add local 30.0.0.0/8 dev lo")?;
    let mut watch = watch(&lab)?;
    let mut peer = tenant.command(PYTHON);
    group.hold(&mut peer);
    let mut peer = Process::new(peer.args(["-c", PEER, &NETWORKS.to_string(), VICTIM]).spawn()?);
    run(lab.victim.command(PYTHON).args([
        "-c",
        CALLS,
        "10.79.0.2",
        "4001",
        &NETWORKS.to_string(),
        "30.{}.0.1",
    ]))?;
    peer.wait_within(PATIENCE)?;
    let actor = watch.only(group.number()?, Kind::Program)?;
    let number = |host: &Namespace| host.enter(|| Ok(fs::metadata("/proc/thread-self/ns/net")?.ino()));
    let inside = u32::try_from(number(&tenant)?)?;
    let outside = u32::try_from(number(&lab.scanner)?)?;
    let mut callers = |namespace, port| watch.actors.callers(&actor.key.address(), namespace, port);
    ensure!((NETWORKS - 2..=NETWORKS + 2).contains(&callers(inside, 4_001)?), "{}", callers(inside, 4_001)?);
    ensure!(callers(inside, 4_002)? == 0, "nobody called there");
    ensure!(callers(outside, 4_001)? == 0, "nobody listens there");
    Ok(())
}

/// Tries to connect, to send, and to make packets, and says which failed with EPERM.
fn attempts() -> String {
    format!(
        "
import socket, errno
def refused(*kind, call=None):
    try:
        s = socket.socket(*kind)
        s.settimeout(1)
        call(s)
    except OSError as e:
        return e.errno == errno.EPERM
    return False
to = ('{VICTIM}', 7001)
print(refused(socket.AF_INET, socket.SOCK_STREAM, call=lambda s: s.connect(to)))
print(refused(socket.AF_INET, socket.SOCK_DGRAM, call=lambda s: s.connect(to)))
print(refused(socket.AF_INET, socket.SOCK_DGRAM, call=lambda s: s.sendto(b'x', to)))
print(refused(socket.AF_INET6, socket.SOCK_STREAM, call=lambda s: s.connect(('{VICTIM6}', 7001))))
print(refused(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP, call=lambda s: None))
print(refused(socket.AF_INET, socket.SOCK_STREAM, call=lambda s: s.connect(('127.0.0.1', 7001))))
"
    )
}

fn said(lab: &Lab, group: &Group) -> Result<String> {
    let mut command: Command = lab.scanner.command(PYTHON);
    group.hold(&mut command);
    let output = run(command.args(["-c", &attempts()]))?;
    Ok(String::from_utf8(output.stdout)?.split_whitespace().map(|word| &word[..1]).collect())
}

fn blocked() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-blocked")?;
    let other = Group::new("-other")?;
    let _server = serve(&lab.victim, [7_001])?;
    let mut watch = watch(&lab)?;
    ensure!(said(&lab, &group)? == "FFFFFF", "{}", said(&lab, &group)?);
    in_group(&lab, &group, PYTHON, &["-c", FRAMES, SCANNER_INTERFACE, SCANNER, VICTIM, "1"])?;
    let program = watch.only(group.number()?, Kind::Program)?.key.address();
    let crafter = watch.only(group.number()?, Kind::Crafter)?.key.address();
    watch.actors.set_mode(GateMode::Enforce)?;
    for key in [program, crafter] {
        watch.actors.block(&key, Duration::from_secs(60))?;
    }
    ensure!(watch.actors.blocked()?.len() == 2);
    let before = seen(&watch, Seen::Blocked)?;
    ensure!(said(&lab, &group)? == "TTTTTF", "{}", said(&lab, &group)?);
    ensure!(said(&lab, &other)? == "FFFFFF", "{}", said(&lab, &other)?);
    // A packet socket may be opened, but what it sends is dropped, and send(2) fails.
    let mut command = lab.scanner.command(PYTHON);
    group.hold(&mut command);
    command.args(["-c", FRAMES, SCANNER_INTERFACE, SCANNER, VICTIM, "30"]).output()?;
    ensure!(seen(&watch, Seen::Blocked)? >= before + 6, "{}", seen(&watch, Seen::Blocked)?);
    ensure!(watch.actors.unblock(&program)? && !watch.actors.unblock(&program)?);
    ensure!(said(&lab, &group)? == "FFFFTF", "{}", said(&lab, &group)?);
    watch.actors.block(&program, Duration::from_millis(200))?;
    std::thread::sleep(Duration::from_millis(400));
    ensure!(said(&lab, &group)? == "FFFFTF", "its time is over");
    ensure!(watch.actors.blocked()?.len() == 1);
    Ok(())
}

fn dry_run() -> Result<()> {
    let lab = Lab::new()?;
    let group = Group::new("-dry")?;
    let _server = serve(&lab.victim, [7_001])?;
    let mut watch = watch(&lab)?;
    said(&lab, &group)?;
    let whole = watch.only(group.number()?, Kind::Group)?.key.address();
    watch.actors.set_mode(GateMode::DryRun)?;
    watch.actors.block(&whole, Duration::from_secs(60))?;
    ensure!(said(&lab, &group)? == "FFFFFF", "{}", said(&lab, &group)?);
    ensure!(seen(&watch, Seen::WouldBlock)? >= 4 && seen(&watch, Seen::Blocked)? == 0);
    Ok(())
}
