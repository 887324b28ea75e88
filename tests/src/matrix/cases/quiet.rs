//! Honest traffic: none of it may be found.

mod addresses;
mod backscatter;
mod broken;
mod datagrams;
mod forwarded;
mod guesses;
mod pages;
mod services;

use super::{Act, Case, Expect, nothing, servers};
use crate::fixtures::stage::Stage;

const fn quiet(
    group: &'static str,
    name: &'static str,
    packets: u32,
    act: fn(&mut Stage<'_>) -> anyhow::Result<()>,
) -> Case {
    Case {
        name,
        group,
        expect: Expect::Quiet,
        report: "",
        limit: "",
        beside: "",
        findings: &[],
        config: "",
        slow: false,
        tested: false,
        prepare: nothing,
        act: Act::Script(act),
        packets,
    }
}

const fn client(
    name: &'static str,
    packets: u32,
    prepare: fn(&mut Stage<'_>) -> anyhow::Result<()>,
    act: fn(&mut Stage<'_>) -> anyhow::Result<()>,
) -> Case {
    quiet("clients of services", name, packets, act).after(prepare)
}

const fn datagrams(name: &'static str, packets: u32, act: fn(&mut Stage<'_>) -> anyhow::Result<()>) -> Case {
    quiet("datagrams", name, packets, act)
}

const fn broken(name: &'static str, packets: u32, act: fn(&mut Stage<'_>) -> anyhow::Result<()>) -> Case {
    quiet("broken connections", name, packets, act)
}

const fn measured(name: &'static str, packets: u32, act: fn(&mut Stage<'_>) -> anyhow::Result<()>) -> Case {
    quiet("measuring the way", name, packets, act)
}

const fn forwarded(
    name: &'static str,
    packets: u32,
    prepare: fn(&mut Stage<'_>) -> anyhow::Result<()>,
    act: fn(&mut Stage<'_>) -> anyhow::Result<()>,
) -> Case {
    quiet("forwarding to another namespace", name, packets, act).after(prepare)
}

const fn pages(name: &'static str, packets: u32, act: fn(&mut Stage<'_>) -> anyhow::Result<()>) -> Case {
    quiet("visitors of a web site", name, packets, act).after(servers::site)
}

const fn names(
    name: &'static str,
    packets: u32,
    prepare: fn(&mut Stage<'_>) -> anyhow::Result<()>,
    act: fn(&mut Stage<'_>) -> anyhow::Result<()>,
) -> Case {
    quiet("who asks a name server", name, packets, act).after(prepare)
}

const fn answers(name: &'static str, act: fn(&mut Stage<'_>) -> anyhow::Result<()>) -> Case {
    quiet("answers to forged SYNs", name, 2_900, act)
}

/// The order of the headings.
const GROUPS: [&str; 10] = [
    "clients of services",
    "clients of many addresses of this host",
    "clients of a host that drops",
    "visitors of a web site",
    "who asks a name server",
    "datagrams",
    "broken connections",
    "answers to forged SYNs",
    "measuring the way",
    "forwarding to another namespace",
];

/// All of them, by group.
pub(super) fn all() -> impl Iterator<Item = Case> {
    let all =
        [CASES, guesses::CLOSED, guesses::DATAGRAMS, guesses::MEASURED, guesses::DROPPED, addresses::CASES];
    let mut cases: Vec<_> = all.into_iter().flatten().copied().collect();
    cases.sort_by_key(|case| GROUPS.iter().position(|group| *group == case.group).unwrap_or(GROUPS.len()));
    cases.into_iter()
}

const CASES: &[Case] = &[
    client(
        "a browser: curl, 200 short connections to two ports of nginx",
        800,
        services::web,
        services::browser,
    ),
    client("a load test: wrk, 50 connections, kept alive", 10_000, services::web, services::load),
    client("a load test: wrk, a connection a request", 5_000, services::web, services::load_short),
    client("2,000 connections from one address to one port", 8_000, services::web, services::many),
    client(
        "monitoring: five open ports each second for 35 s",
        500,
        services::five_ports,
        services::monitoring,
    ),
    client(
        "a load balancer: haproxy checks five servers twice a second",
        500,
        services::five_ports,
        services::balancer,
    ),
    client("rsync: 60 MB there and back", 2_000, services::rsync_daemon, services::bulk),
    client("a backup server: rsync from 12 addresses", 100, services::rsync_daemon, services::backup),
    client("one user of 12 services of this host", 100, services::twelve_ports, services::visits_twelve)
        .tested(),
    client("300 connections from one address", 1_000, services::small_ports, services::some).tested(),
    client("300 connections over IPv6", 1_000, services::small_ports, services::some_v6),
    client(
        "monitoring: five open ports each second for 6 s",
        80,
        services::small_ports,
        services::short_monitoring,
    )
    .tested(),
    client(
        "a half-open check of four services each second for 8 s",
        60,
        services::small_ports,
        services::half_open_check,
    )
    .tested(),
    client(
        "a browser that cancels 90 connects to three ports at six addresses",
        300,
        services::small_ports,
        services::cancelled,
    )
    .tested(),
    pages("wget --mirror of 60 pages, one link in 25 dead", 100, pages::mirror),
    pages("wget --mirror over TLS, with nginx's access log", 100, pages::mirror_tls).with(servers::LOG),
    pages("a load test of one page: wrk, 20 connections", 10_000, pages::load),
    pages(
        "a browser: 60 pages, icons and robots.txt that are not there, a guess at /wp-login.php",
        140,
        pages::browser,
    ),
    pages("a monitor: curl asks for one page every 200 ms for 10 s", 200, pages::monitor),
    pages("a monitor of a page that is gone, every 200 ms for 10 s", 200, pages::monitor_gone),
    pages("an editor of a WordPress site: two wrong passwords, then 80 calls", 100, pages::editor),
    pages("clients of many kinds behind one address, over TLS", 100, pages::many_kinds),
    names(
        "a resolver: dig asks for 600 names of 20 zones, one in ten is not there",
        600,
        servers::zones,
        pages::resolver,
    ),
    names(
        "a secondary: zone transfers that are allowed, and their SOA",
        30,
        servers::zones,
        pages::secondary,
    ),
    datagrams("a DNS client: dig asks dnsmasq 400 names", 400, datagrams::dns_server),
    datagrams("a resolver's answers: dig on this host asks 400 names elsewhere", 400, datagrams::dns_client),
    datagrams("answers that come after the asker gave up, 100 of them", 100, datagrams::late_answers),
    datagrams("a peer-to-peer socket: 150 peers, each of many ports", 1_000, datagrams::peers).tested(),
    datagrams("chatter of a local network: mDNS, SSDP, NetBIOS, DHCP and the like", 40, datagrams::chatter),
    broken("a client retries a service that is down for a minute", 100, broken::retries),
    broken("segments of 200 connections after a restart of the service", 200, broken::restart).tested(),
    broken("200 clients close connections that this host forgot", 200, broken::late_closes).tested(),
    broken(
        "a server closes 200 connections of clients on this host that were forgotten",
        200,
        broken::forgotten_clients,
    ),
    broken("100 connections through a NAT that forgets them", 300, broken::nat_timeout),
    answers("a web server is flooded with SYNs from any port of this host", backscatter::web).tested(),
    answers("a game server is flooded with SYNs from ports of clients", backscatter::game),
    answers("a server on port 50051 is flooded with SYNs from any port", backscatter::client_port).tested(),
    answers("a web server is flooded with SYNs from all addresses of a network", backscatter::network)
        .tested(),
    answers("twelve web servers are flooded with SYNs from all addresses of a network", backscatter::servers),
    measured("one ping a second for 30 s", 30, services::pings),
    measured("traceroute by UDP", 3, services::traceroute_udp),
    measured("traceroute by ICMP", 3, services::traceroute_icmp),
    measured("traceroute by TCP to an open port", 3, services::traceroute_tcp),
    measured("mtr by ICMP", 20, services::mtr_icmp),
    measured("mtr by UDP", 20, services::mtr_udp),
    measured("mtr by TCP to an open port", 20, services::mtr_tcp),
    forwarded("300 clients of a service behind DNAT", 1_200, forwarded::one_service, forwarded::clients),
    forwarded("monitoring of 25 services behind DNAT", 500, forwarded::many_services, forwarded::monitoring),
    forwarded("300 connections routed to another host", 1_200, forwarded::routed, forwarded::routed_clients),
];
