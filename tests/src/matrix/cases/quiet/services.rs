//! Clients of services that are there, and those who measure the way to them.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::fixtures::{
    clients::{ask_and_forget, at, knock, serve, visit},
    lab::{ROUTED, SCANNER, VICTIM, VICTIM6},
    stage::Stage,
};

const FIVE: [u16; 5] = [80, 443, 8080, 8081, 8443];

pub(super) fn web(stage: &mut Stage<'_>) -> Result<()> {
    stage.nginx(&stage.lab.victim, &[80, 443])
}

/// Half of them at once, as browsers do; each a connection of its own.
pub(super) fn browser(stage: &mut Stage<'_>) -> Result<()> {
    for port in [80, 443] {
        stage.client(&format!(
            "curl -sS -Z --parallel-max 6 -H Connection:close -o /dev/null http://{{victim}}:{port}/part[1-100].js"
        ))?;
    }
    Ok(())
}

pub(super) fn load(stage: &mut Stage<'_>) -> Result<()> {
    stage.client("wrk -t 1 -c 50 -d 5s http://{victim}/")
}

pub(super) fn load_short(stage: &mut Stage<'_>) -> Result<()> {
    stage.client("wrk -t 1 -c 50 -d 5s -H Connection:close http://{victim}/")
}

pub(super) fn many(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| (0..2_000).try_for_each(|_| Ok(visit(at(VICTIM, 80))?)))
}

pub(super) fn five_ports(stage: &mut Stage<'_>) -> Result<()> {
    stage.nginx(&stage.lab.victim, &FIVE)
}

pub(super) fn monitoring(stage: &mut Stage<'_>) -> Result<()> {
    stage
        .lab
        .scanner
        .enter(|| each_second(35, || FIVE.iter().try_for_each(|port| Ok(knock(at(VICTIM, *port))?))))
}

/// Does something once a second, not drifting.
pub(super) fn each_second(times: u32, mut what: impl FnMut() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    for second in 0..times {
        what()?;
        let next = start + Duration::from_secs(u64::from(second) + 1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Layer 4 checks of two servers, HTTP checks of three; the last is of a port where nobody listens.
pub(super) fn balancer(stage: &mut Stage<'_>) -> Result<()> {
    let servers: Vec<_> = FIVE
        .iter()
        .chain(&[9_999])
        .enumerate()
        .map(|(number, port)| {
            format!(" server s{number} {VICTIM}:{port} check inter 500 fastinter 500 downinter 500\n")
        })
        .collect();
    let (tcp, http) = servers.split_at(2);
    let config = format!(
        "global\n maxconn 100\ndefaults\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n\
         listen tcp\n mode tcp\n bind 127.0.0.1:1080\n{}\
         listen http\n mode http\n bind 127.0.0.1:1081\n option httpchk GET /\n{}",
        tcp.concat(),
        http.concat()
    );
    stage.file("haproxy.cfg", &config)?;
    stage.start("haproxy", &stage.lab.scanner, "haproxy -db -f {dir}/haproxy.cfg")?;
    stage.await_port("haproxy", &stage.lab.scanner, 1080)?;
    thread::sleep(Duration::from_secs(35));
    Ok(())
}

pub(super) fn rsync_daemon(stage: &mut Stage<'_>) -> Result<()> {
    let data = stage.directory().join("data");
    fs::create_dir(&data)?;
    let some = |length: usize| {
        (0..length).map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect::<Vec<_>>()
    };
    fs::write(data.join("bulk"), some(60 << 20)).context("60 MB of room")?;
    fs::write(data.join("small"), some(100_000))?;
    let config = format!(
        "use chroot = no\nuid = root\ngid = root\nreverse lookup = no\n[data]\npath = {}\nread only = no\n",
        data.display()
    );
    stage.file("rsyncd.conf", &config)?;
    stage.start(
        "rsync",
        &stage.lab.victim,
        "rsync --daemon --no-detach --config={dir}/rsyncd.conf --port=873",
    )?;
    stage.await_port("rsync", &stage.lab.victim, 873)
}

pub(super) fn bulk(stage: &mut Stage<'_>) -> Result<()> {
    stage.client("rsync -W rsync://{victim}/data/bulk {dir}/fetched")?;
    stage.client("rsync -W {dir}/fetched rsync://{victim}/data/pushed")
}

pub(super) fn backup(stage: &mut Stage<'_>) -> Result<()> {
    for host in 1..=12 {
        stage.client(&format!("rsync -W rsync://{ROUTED}.{host}/data/small {{dir}}/backup.{host}"))?;
    }
    Ok(())
}

const TWELVE: std::ops::RangeInclusive<u16> = 7001..=7012;

pub(super) fn twelve_ports(stage: &mut Stage<'_>) -> Result<()> {
    let services = serve(&stage.lab.victim, TWELVE)?;
    stage.keep(services);
    Ok(())
}

pub(super) fn visits_twelve(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| TWELVE.chain(TWELVE).try_for_each(|port| Ok(visit(at(VICTIM, port))?)))
}

/// Servers of our own, for where there is no nginx.
pub(super) fn small_ports(stage: &mut Stage<'_>) -> Result<()> {
    let services = serve(&stage.lab.victim, FIVE)?;
    stage.keep(services);
    Ok(())
}

pub(super) fn some(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| (0..300).try_for_each(|_| Ok(visit(at(VICTIM, 80))?)))
}

pub(super) fn some_v6(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| (0..300).try_for_each(|_| Ok(visit(at(VICTIM6, 443))?)))
}

pub(super) fn short_monitoring(stage: &mut Stage<'_>) -> Result<()> {
    stage
        .lab
        .scanner
        .enter(|| each_second(6, || FIVE.iter().try_for_each(|port| Ok(knock(at(VICTIM, *port))?))))
}

/// As load balancers check: SYN, SYN and ACK, RST.
pub(super) fn half_open_check(stage: &mut Stage<'_>) -> Result<()> {
    let mut source_port = 20_000;
    stage.lab.scanner.enter(|| {
        each_second(8, || {
            FIVE.iter().take(4).try_for_each(|port| {
                source_port += 1;
                ask_and_forget(SCANNER, source_port, at(VICTIM, *port))
            })
        })
    })
}

/// Happy eyeballs that lose, and pages that are left before they came: some visits, more connects that came to nothing.
pub(super) fn cancelled(stage: &mut Stage<'_>) -> Result<()> {
    stage.lab.scanner.enter(|| {
        for round in 0..5 {
            for host in 1..=6 {
                let server = format!("{ROUTED}.{host}");
                for (number, port) in (0..).zip([80, 443, 8080]) {
                    ask_and_forget(SCANNER, 20_000 + round * 100 + host * 10 + number, at(&server, port))?;
                }
                visit(at(&server, 443))?;
            }
        }
        Ok(())
    })
}

pub(super) fn pings(stage: &mut Stage<'_>) -> Result<()> {
    stage.client("ping -q -n -c 30 {victim}")
}

pub(super) fn traceroute_udp(stage: &mut Stage<'_>) -> Result<()> {
    stage.client("traceroute -n {routed}.9")
}

pub(super) fn traceroute_icmp(stage: &mut Stage<'_>) -> Result<()> {
    stage.client("traceroute -n -I {routed}.9")
}

pub(super) fn traceroute_tcp(stage: &mut Stage<'_>) -> Result<()> {
    web(stage)?;
    stage.client("traceroute -n -T -p 80 {routed}.9")
}

pub(super) fn mtr_icmp(stage: &mut Stage<'_>) -> Result<()> {
    stage.client("mtr -n -r -c 20 {routed}.9")
}

pub(super) fn mtr_udp(stage: &mut Stage<'_>) -> Result<()> {
    stage.client("mtr -n -r -u -c 20 {routed}.9")
}

pub(super) fn mtr_tcp(stage: &mut Stage<'_>) -> Result<()> {
    web(stage)?;
    stage.client("mtr -n -r -T -P 80 -c 20 {routed}.9")
}
