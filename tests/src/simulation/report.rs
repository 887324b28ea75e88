//! The figures of a simulated fleet, and the page that has them beside the goals.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr, time::Duration};

use super::{
    processes::Taken,
    world::{Kind, NOISE_A_MINUTE},
};

/// A moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// What the role has taken.
    pub role: Taken,
    /// What the server has taken.
    pub server: Taken,
    /// Bytes of TCP that all members have sent.
    pub sent: u64,
    /// And received.
    pub received: u64,
    /// What members saw.
    pub seen: u64,
    /// Messages that the role has read.
    pub messages: f64,
    /// Sightings in them.
    pub sightings: f64,
    /// Sources that it remembers.
    pub sources: f64,
    /// Sources that were decided about.
    pub decided: usize,
}

impl Sample {
    /// In a line.
    pub fn line(&self, hosts: u32) -> String {
        let Self { role, server, sent, seen, messages, sources, decided, .. } = self;
        format!(
            "{seen} seen, {messages} messages, {sources} sources, {decided} decided about; role {} MiB and {:.1} s, server \
             {} MiB and {:.1} s; {} bytes sent by a host",
            role.memory / 1_024,
            role.cpu.as_secs_f64(),
            server.memory / 1_024,
            server.cpu.as_secs_f64(),
            sent / u64::from(hosts)
        )
    }
}

/// Scanners of a kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scans {
    /// How many there were.
    pub all: u32,
    /// How many were decided about.
    pub found: u32,
    /// With a ban.
    pub banned: u32,
}

/// As much as the role was given.
#[derive(Clone, Copy, Debug)]
pub struct FlatOut {
    /// From the first one to when all were read, or it was given up.
    pub took: Duration,
    /// Sightings that the role read.
    pub sightings: f64,
    /// Sightings that members were given.
    pub offered: f64,
    /// Before.
    pub before: Sample,
    /// After.
    pub after: Sample,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Figures {
    /// Members.
    pub hosts: u32,
    /// Innocent clients.
    pub clients: u32,
    /// How long it was quiet.
    pub quiet: Duration,
    /// How long there were scanners.
    pub busy: Duration,
    /// After the warm-up.
    pub start: Sample,
    /// After the quiet time.
    pub calm: Sample,
    /// At the end.
    pub end: Sample,
    /// The greatest lag of the role that was seen, in milliseconds.
    pub lag: f64,
    /// What the role complained of.
    pub warnings: Vec<String>,
    /// Scanners, by kind.
    pub scans: BTreeMap<Kind, Scans>,
    /// From the ninth probe to the decision, for each scanner that asks once and each member; sorted.
    pub latencies: Vec<Duration>,
    /// The same for each of these scanners: the first member and the last.
    pub by_scanner: Vec<(Ipv4Addr, Duration, Duration)>,
    /// Scanners of the whole Internet that came to sixteen members.
    pub worldwide: usize,
    /// Those that were decided about, however many members they came to.
    pub worldwide_found: usize,
    /// Decisions about others.
    pub false_decisions: u32,
    /// Limits, if they were looked for.
    pub flat_out: Option<FlatOut>,
    /// From the kill of the role to when the next had read all, and how many messages that were.
    pub take_over: Option<(Duration, f64)>,
    /// The role that took over.
    pub role_after_take_over: Taken,
    /// What should not be.
    pub failures: Vec<String>,
}

impl Figures {
    /// The latency that this share has at most.
    pub fn latency(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is a place in the list"
        )]
        let place = (self.latencies.len() as f64 * share).ceil() as usize;
        self.latencies.get(place.saturating_sub(1)).copied().unwrap_or(Duration::MAX)
    }

    /// Adds what is wrong with it as a whole.
    pub fn judge(&mut self, slowest: Duration) {
        for (kind, Scans { all, found, .. }) in &self.scans {
            if kind.is_found() && found < all {
                self.failures.push(format!("{}: {found} of {all} found", kind.label()));
            }
        }
        if let Some(Scans { all, banned, .. }) = self.scans.get(&Kind::Proven)
            && banned < all
        {
            self.failures.push(format!("{banned} of {all} with proof were banned"));
        }
        let p99 = self.latency(0.99);
        if p99 > slowest {
            self.failures
                .push(format!("{p99:?} from the ninth probe to the decision at 99 % of the members"));
        }
    }

    fn hour(&self, of: impl Fn(&Sample) -> u64) -> f64 {
        let bytes = of(&self.calm).saturating_sub(of(&self.start));
        bytes as f64 / f64::from(self.hosts) * 3_600.0 / self.quiet.as_secs_f64()
    }
}

fn cores(from: Taken, to: Taken, length: Duration) -> String {
    format!("{:.2}", to.cpu.saturating_sub(from.cpu).as_secs_f64() / length.as_secs_f64())
}

/// Rows of a table with a column for each number of hosts.
struct Table<'f> {
    all: &'f [Figures],
    text: String,
}

impl<'f> Table<'f> {
    /// Its heading, with a column for each of these.
    fn new(all: &'f [Figures]) -> Self {
        let hosts: Vec<_> = all.iter().map(|one| one.hosts.to_string()).collect();
        let heading =
            format!("| hosts | {} | goal |\n|---|{}---|\n", hosts.join(" | "), "---|".repeat(all.len()));
        Self { all, text: heading }
    }

    fn row(&mut self, what: &str, goal: &str, value: impl Fn(&Figures) -> String) {
        let values: Vec<_> = self.all.iter().map(value).collect();
        // A String takes everything.
        let _ = writeln!(self.text, "| {what} | {} | {goal} |", values.join(" | "));
    }
}

fn kib(bytes: f64) -> String {
    format!("{:.0} KiB", bytes / 1_024.0)
}

fn mib(taken: Taken) -> String {
    format!("{} MiB", taken.memory / 1_024)
}

fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// docs/fleet-performance.md.
pub fn page(all: &[Figures], about: &str) -> String {
    let (clients, quiet, busy) =
        all.first().map_or((0, 0, 0), |one| (one.clients, one.quiet.as_secs(), one.busy.as_secs()));
    let hosts_given: Vec<_> = all.iter().map(|one| format!("--hosts {}", one.hosts)).collect();
    let mut text = format!(
        "\
# What a fleet costs, and what it finds

This page is written by `cargo xtask fleet {} --write`;
the last run: {about}.
A short one, with 200 hosts, runs in CI (`cargo xtask test fleet`).

One machine plays all. Each member runs the agent's own code, from the point at which the sensor reports what it saw.
It has its own name, credentials and connection (without TLS, which adds 22 bytes to each record, and its handshakes).
The nats-server and the role are the real ones, one of each. They share the CPUs with all members, so that times are
longer than with machines of their own. All goes on at its true speed:

* Background radiation: each host sees {NOISE_A_MINUTE} sources a minute. Three of ten are scanners of the whole
  Internet, of which there are 200. The others are bots of which the fleet sees one or two probes.
* {clients} innocent clients use services; 50 of them ask 100 hosts each. One in fifty mistypes a port.
* After {quiet} s of quiet, scanners come for {busy} s, of the kinds below.
* For half of that time, HTTPS is out at all hosts. All clients come again and meet nothing. 500 come for the first
  time, and ask 12 hosts each.

",
        hosts_given.join(" ")
    );
    let mut table = Table::new(all);
    for kind in Kind::ALL {
        let goal = if kind.is_found() { "all" } else { "see below" };
        table.row(&format!("found: {}", kind.label()), goal, |one| {
            let Scans { all, found, banned } = one.scans.get(&kind).copied().unwrap_or_default();
            let bans = if banned > 0 { format!(", {banned} banned") } else { String::new() };
            format!("{found} of {all}{bans}")
        });
    }
    table.row("decisions about anybody else", "0", |one| one.false_decisions.to_string());
    table.row("scanners of the whole Internet that were decided about, too", "", |one| {
        format!("{} ({} came to 16 hosts)", one.worldwide_found, one.worldwide)
    });
    table.row("from the ninth probe to the decision at a member: median", "", |one| ms(one.latency(0.5)));
    table.row("the same, 99 % of the members", "< 1000 ms", |one| ms(one.latency(0.99)));
    table.row("the same, the last one", "", |one| ms(one.latency(1.0)));
    table.row("in the quiet: sent by a host in an hour (TCP)", "256 KiB", |one| {
        kib(one.hour(|sample| sample.sent))
    });
    table.row("received by a host in an hour (TCP)", "", |one| kib(one.hour(|sample| sample.received)));
    table.row("sent by a host in the first minute, with the visits of all clients", "", |one| {
        kib(one.start.sent as f64 / f64::from(one.hosts))
    });
    table.row("in the quiet: messages that the role read in a second", "", |one| {
        format!("{:.0}", (one.calm.messages - one.start.messages) / one.quiet.as_secs_f64())
    });
    table.row("role: CPUs in the quiet", "1", |one| cores(one.start.role, one.calm.role, one.quiet));
    table.row("role: CPUs with scanners and the outage", "", |one| {
        cores(one.calm.role, one.end.role, one.busy)
    });
    table.row("role: memory, and the sources that it remembers", "", |one| {
        format!("{}, {}", mib(one.end.role), one.end.sources)
    });
    table.row("role: greatest lag", "", |one| format!("{} ms", one.lag));
    table.row("server: CPUs in the quiet", "", |one| cores(one.start.server, one.calm.server, one.quiet));
    table.row("server: CPUs with scanners and the outage", "", |one| {
        cores(one.calm.server, one.end.server, one.busy)
    });
    table.row("server: memory", "", |one| mib(one.end.server));
    text += &table.text;
    if all.iter().all(|one| one.flat_out.is_some()) {
        text += "\nThen members see 10,000 new sources a second, for 30 seconds, and the role is killed and started again:\n\n";
        let mut table = Table::new(all);
        let flat = |one: &Figures| one.flat_out;
        table.row("sightings that the role read in a second", "", |one| {
            flat(one).map_or(String::new(), |flat| format!("{:.0}", flat.sightings / flat.took.as_secs_f64()))
        });
        table.row("of those that members saw", "", |one| {
            flat(one).map_or(String::new(), |flat| format!("{:.1} %", 100.0 * flat.sightings / flat.offered))
        });
        table.row("role: CPUs", "", |one| {
            flat(one).map_or(String::new(), |flat| cores(flat.before.role, flat.after.role, flat.took))
        });
        table.row("role: memory, and sources", "", |one| {
            flat(one)
                .map_or(String::new(), |flat| format!("{}, {}", mib(flat.after.role), flat.after.sources))
        });
        table.row("server: memory", "", |one| flat(one).map_or(String::new(), |flat| mib(flat.after.server)));
        table.row("from the kill to when another had read the window", "< 10 s", |one| {
            one.take_over.map_or(String::new(), |(took, messages)| {
                format!("{:.1} s, {messages:.0} messages", took.as_secs_f64())
            })
        });
        text += &table.text;
    }
    text += "
## What is not met, and why

* A source that asks only for services that two members have, at no dark address, is not found. While a service is
  out, its clients miss it everywhere, so that a miss of it is no evidence where somebody could have been a client.
* An instance that takes a partition over goes on from a snapshot, and reads the messages after it, however long the
  window is. Five seconds are the lease that has to end. Without a snapshot that can be used, it reads the whole window.
  A day of 10,000 hosts has 144 million messages, which take many minutes, and more disk than `fleet.run.store_gib` has
  by default: with less, the window is as long as there is room.
* All is on one machine, and other work may go on beside it. The memory of the server is that of connections, most of
  all; TLS adds to it.
";
    text
}
