//! A fleet of thousands that is played on this machine: members of the agent's own code, a real nats-server, and the real
//! role. `cargo xtask fleet`; a short one is the test `fleet`.
//!
//! A member begins where the agent tells it what was seen. Before that there is no packet and no kernel: the live tests
//! in `tests/netns/fleet.rs` have those. All of it is in a network namespace, without TLS.

pub mod members;
pub mod processes;
pub mod report;
pub mod world;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    net::{IpAddr, Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use scanguard::{
    config::Config,
    export::metrics::{Limits, Metrics},
    fleet::settings::{Identity, Settings, read_credentials},
};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use self::{
    members::{Arrival, Members},
    processes::Taken,
    report::{Figures, Scans},
    world::{Event, Kind, Who, World},
};
use crate::fixtures::{
    agent::{self, scanguard, scanguard_by_user},
    lab::{Namespace, PATIENCE, Process, run as run_command, wait_for},
};

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Members.
    pub hosts: u32,
    /// Innocent clients.
    pub clients: u32,
    /// How long clients come and the background goes on before anything is measured.
    pub warm_up: Duration,
    /// How long the quiet of the Internet is measured.
    pub quiet: Duration,
    /// How long scanners come then; in the middle half of it, a service is out.
    pub busy: Duration,
    /// Scanners of each kind.
    pub scanners: u32,
    /// Whether what the role can read at most, and how long it takes to read all again, are measured, too.
    pub limits: bool,
}

/// The failures after which a scanner that meets nothing is found.
const NTH: usize = 9;
/// How long the role may take to read all again, in a build for debugging on a busy machine.
const READ: Duration = Duration::from_secs(180);
/// The time between two looks at what is due.
const TICK: Duration = Duration::from_millis(20);
/// The parts in which clients come.
const PARTS: usize = 100;
/// After the last probe, all that follows must be there within this time.
const SETTLED: Duration = Duration::from_secs(5);
const PORT: u16 = 4_222;
const PAGE: &str = "127.0.0.1:9824";
/// How often the lag of the role is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Sightings a second while the limits are looked for.
const FLAT_OUT: u32 = 10_000;
/// How long.
const FLAT_OUT_FOR: Duration = Duration::from_secs(30);

/// The server, the role and their files.
struct Engine {
    namespace: Namespace,
    server: Process,
    role: Process,
}

fn own(number: u32) -> Ipv4Addr {
    // As the world has it.
    Ipv4Addr::from(0x6440_0000 + number)
}

fn name(number: u32) -> String {
    format!("edge-{number}")
}

fn log(namespace: &Namespace, name: &str) -> PathBuf {
    namespace.directory().join(format!("{name}.log"))
}

impl Engine {
    fn start(hosts: u32) -> Result<Self> {
        let namespace = Namespace::new("fleet")?;
        let directory = namespace.directory().to_owned();
        let names: Vec<_> = (0..hosts).map(name).collect();
        fs::write(directory.join("names"), names.join("\n"))?;
        let mut init = scanguard(&namespace, &["fleet", "init"])?;
        init.arg(directory.join("fleet")).arg("--members-file").arg(directory.join("names"));
        init.args(["--runner", "run-1", "--listen", &format!("127.0.0.1:{PORT}")]);
        run_command(init.arg("--store").arg(directory.join("store")))?;
        let file = fs::File::create(log(&namespace, "nats"))?;
        let mut command = namespace.command("nats-server");
        command.arg("--config").arg(directory.join("fleet/nats-server.conf"));
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let server = Process::new(command.spawn().context("nats-server")?);
        wait_for("the NATS server", PATIENCE, || {
            namespace.enter(|| TcpStream::connect(("127.0.0.1", PORT)).context("connect")).ok()
        })
        .with_context(|| fs::read_to_string(log(&namespace, "nats")).unwrap_or_default())?;
        let role = start_role(&namespace)?;
        Ok(Self { namespace, server, role })
    }

    fn said(&self) -> String {
        fs::read_to_string(log(&self.namespace, "run-1")).unwrap_or_default()
    }

    /// Metrics of the role, summed over partitions.
    fn sum(&self, series: &str) -> Result<f64> {
        Ok(self.values(series)?.into_iter().sum())
    }

    /// The greatest value of a metric over partitions.
    fn most(&self, series: &str) -> Result<f64> {
        Ok(self.values(series)?.into_iter().fold(0.0, f64::max))
    }

    fn values(&self, series: &str) -> Result<Vec<f64>> {
        let (_, page) = agent::get(&self.namespace, PAGE, "/metrics")?;
        let lines = page.lines().filter(|line| line.starts_with(series));
        Ok(lines.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect())
    }
}

fn settings_text(directory: &Path, name: &str) -> String {
    format!(
        "[fleet]\nurl = \"nats://127.0.0.1:{PORT}\"\nname = \"{name}\"\ncredentials_file = \"{}\"\nspool = \"{}\"\n\
         [fleet.run]\nlisten = \"{PAGE}\"\n",
        directory.join("fleet/creds").join(format!("{name}.creds")).display(),
        directory.join("spool").join(name).display()
    )
}

fn start_role(namespace: &Namespace) -> Result<Process> {
    let directory = namespace.directory();
    let path = directory.join("run-1.toml");
    fs::write(&path, settings_text(directory, "run-1"))?;
    let file = fs::File::create(log(namespace, "run-1"))?;
    for secret in ["fleet", "fleet/creds", "fleet/creds/run-1.creds"] {
        agent::give(&directory.join(secret))?;
    }
    // It is never root.
    let mut command = scanguard_by_user(namespace, &["fleet", "run", "--config"])?;
    command.arg(&path).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let role = Process::new(command.spawn()?);
    let said = || fs::read_to_string(log(namespace, "run-1")).unwrap_or_default();
    wait_for("the role", READ, || (0..16).all(|part| said().contains(&read(part))).then_some(()))
        .with_context(said)?;
    Ok(role)
}

fn read(partition: u8) -> String {
    format!("partition {partition}: the window is read")
}

/// Room for a socket of each member; the server, which inherits it, has one for each, too.
fn raise_descriptors(hosts: u32) -> Result<()> {
    let most = u64::from(hosts) + 4_096;
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    let mut is = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads into the given structure.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut is) };
    if is.rlim_cur >= most {
        return Ok(());
    }
    // SAFETY: reads the given structure.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    ensure!(result == 0, "{most} descriptors: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Plays it. `say` is told how far it is.
///
/// # Errors
/// It could not be played to its end. What should not be is in the figures' failures.
pub fn run(plan: &Plan, say: &mut (dyn FnMut(&str) + Send)) -> Result<Figures> {
    raise_descriptors(plan.hosts)?;
    let mut engine = Engine::start(plan.hosts)?;
    say(&format!("{} hosts: the server and the role run", plan.hosts));
    let namespace = engine.namespace.name().to_owned();
    let inside = fs::File::open(format!("/run/netns/{namespace}"))?;
    // Threads that the runtime starts are where their starter is.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            use std::os::fd::AsRawFd as _;
            // SAFETY: the descriptor is that of a namespace; only this thread and those that it starts move into it.
            let result = unsafe { libc::setns(inside.as_raw_fd(), libc::CLONE_NEWNET) };
            ensure!(result == 0, "setns: {}", std::io::Error::last_os_error());
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            let figures = runtime.block_on(Play::run(plan, &mut engine, say));
            runtime.shutdown_background();
            figures
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn member_settings(hosts: u32, directory: &Path) -> Result<Vec<(Settings, IpAddr)>> {
    fs::create_dir_all(directory.join("spool"))?;
    let parsed = Config::parse(&settings_text(directory, &name(0)));
    let first = parsed.map_err(|problems| anyhow::anyhow!("{}", problems[0].message))?.fleet;
    let one = |number: u32| {
        let name = name(number);
        let path = directory.join("fleet/creds").join(format!("{name}.creds"));
        let secret = read_credentials(&path).map_err(anyhow::Error::msg)?;
        let spool = directory.join("spool").join(&name);
        let settings =
            Settings { name, spool, identity: Some(Identity::Credentials(secret)), ..first.clone() };
        anyhow::Ok((settings, IpAddr::from(own(number))))
    };
    (0..hosts).map(one).collect()
}

/// What arrived about a source.
#[derive(Default)]
struct Told {
    is_ban: bool,
    members: HashMap<u32, Instant>,
}

/// What is being played.
struct Play<'p> {
    plan: &'p Plan,
    engine: &'p mut Engine,
    world: World,
    members: Members,
    arrived: mpsc::UnboundedReceiver<Arrival>,
    told: HashMap<Ipv4Addr, Told>,
    /// When each scanner of ours asked its ninth host.
    ninth: BTreeMap<usize, Instant>,
    seen: u64,
    /// When the lag was looked at, and the greatest of all.
    looked: Instant,
    lag: f64,
}

impl<'p> Play<'p> {
    async fn run(
        plan: &'p Plan,
        engine: &'p mut Engine,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Figures> {
        let limits = Limits { sources: 1, history: 1, findings: 1, visitors: 1 };
        let registry = Metrics::new(limits, std::iter::empty())?;
        let (arrive, arrived) = mpsc::unbounded_channel();
        let settings = member_settings(plan.hosts, engine.namespace.directory())?;
        let members = Members::start(settings, &registry.fleet, &arrive).await?;
        say(&format!("{} members are connected", plan.hosts));
        let world = World::new(plan.hosts, plan.clients);
        let (told, ninth) = (HashMap::new(), BTreeMap::new());
        let play = Self {
            plan,
            engine,
            world,
            members,
            arrived,
            told,
            ninth,
            seen: 0,
            looked: Instant::now(),
            lag: 0.0,
        };
        let figures = play.all(say).await;
        drop(registry);
        figures
    }

    async fn all(mut self, say: &mut (dyn FnMut(&str) + Send)) -> Result<Figures> {
        let Plan { hosts, clients, warm_up, quiet, busy, scanners, .. } = *self.plan;
        let noisy = warm_up + quiet;
        let takes = (busy / 2).min(Duration::from_secs(30));
        self.world.plan_scanners(scanners, noisy, busy.saturating_sub(takes), takes);
        self.go_on(Duration::ZERO, warm_up, Clients::Come).await;
        let mut figures = Figures { hosts, clients, quiet, busy, ..Figures::default() };
        figures.start = self.measure()?;
        say(&format!("warm-up of {warm_up:?}: {}", figures.start.line(hosts)));
        self.go_on(warm_up, noisy, Clients::Rest).await;
        figures.calm = self.measure()?;
        say(&format!("quiet for {quiet:?}: {}", figures.calm.line(hosts)));
        self.go_on(noisy, noisy + busy / 4, Clients::Rest).await;
        self.go_on(noisy + busy / 4, noisy + busy * 3 / 4, Clients::ComeInVain).await;
        self.go_on(noisy + busy * 3 / 4, noisy + busy, Clients::Rest).await;
        figures.end = self.measure()?;
        say(&format!("busy for {busy:?}: {}", figures.end.line(hosts)));
        self.go_on(noisy + busy, noisy + busy + SETTLED, Clients::Rest).await;
        self.judge(&mut figures)?;
        if self.plan.limits {
            self.limits(&mut figures, say).await?;
        }
        self.members.end();
        Ok(figures)
    }

    /// Plays from one time to another.
    async fn go_on(&mut self, from: Duration, to: Duration, clients: Clients) {
        let start = Instant::now();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut part) = (from, 0);
        loop {
            ticks.tick().await;
            let now = (from + start.elapsed()).min(to);
            let mut events = self.world.radiation(now - last);
            last = now;
            // All clients come in the first nine tenths.
            let done = (now - from).as_secs_f64() / (to - from).as_secs_f64() / 0.9;
            while part < PARTS && done * PARTS as f64 >= part as f64 {
                events.extend(match clients {
                    Clients::Come => self.world.visits(part, PARTS),
                    Clients::ComeInVain => self.world.visits_in_vain(part, PARTS),
                    Clients::Rest => Vec::new(),
                });
                part += 1;
            }
            self.see(events);
            for (scanner, nth, event) in self.world.scans(now) {
                if nth == NTH {
                    self.ninth.insert(scanner, Instant::now());
                }
                self.see(vec![event]);
            }
            self.hear();
            if now == to {
                return;
            }
        }
    }

    fn see(&mut self, events: Vec<Event>) {
        self.seen += events.len() as u64;
        for Event { host, seen, proven } in events {
            self.members.see(host, seen, proven);
        }
    }

    fn hear(&mut self) {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            // One that does not answer in time is seen by its lag later.
            self.lag = self.lag.max(self.engine.most("scanguard_fleet_run_lag_milliseconds{").unwrap_or(0.0));
        }
        while let Ok(Arrival { member, told, at }) = self.arrived.try_recv() {
            let IpAddr::V4(source) = told.decision.source.addr() else { continue };
            let known = self.told.entry(source).or_default();
            known.is_ban |= told.decision.verdict == scanguard::fleet::wire::Verdict::Ban;
            known.members.entry(member).or_insert(at);
        }
    }

    fn measure(&self) -> Result<report::Sample> {
        let (sent, received) = processes::bytes(&self.engine.namespace, PORT)?;
        Ok(report::Sample {
            role: Taken::by(&self.engine.role)?,
            server: Taken::by(&self.engine.server)?,
            sent,
            received,
            seen: self.seen,
            messages: self.engine.sum("scanguard_fleet_run_messages_total")?,
            sightings: self.engine.sum("scanguard_fleet_run_sightings_total")?,
            sources: self.engine.sum("scanguard_fleet_run_sources")?,
            decided: self.told.len(),
        })
    }

    /// What was found, and what should not have been.
    fn judge(&mut self, figures: &mut Figures) -> Result<()> {
        self.hear();
        for kind in Kind::ALL {
            figures.scans.insert(kind, Scans::default());
        }
        for (number, scanner) in self.world.scanners.iter().enumerate() {
            let scans = figures.scans.entry(scanner.kind).or_default();
            scans.all += 1;
            if !self.world.is_done(number) {
                figures.failures.push(format!("{} has not asked all hosts", scanner.address));
            }
            let Some(told) = self.told.get(&scanner.address) else { continue };
            scans.found += 1;
            scans.banned += u32::from(told.is_ban);
            let missing = self.world.hosts.len() - told.members.len();
            if missing > 0 {
                figures.failures.push(format!("{} was not told to {missing} members", scanner.address));
            }
            // For the others it is not always the ninth.
            if scanner.kind == Kind::Once {
                let ninth = self.ninth.get(&number).context("the ninth probe")?;
                let latencies = told.members.values().map(|at| at.saturating_duration_since(*ninth));
                let (first, last) = (latencies.clone().min(), latencies.clone().max());
                figures.by_scanner.push((
                    scanner.address,
                    first.unwrap_or_default(),
                    last.unwrap_or_default(),
                ));
                figures.latencies.extend(latencies);
            }
        }
        figures.latencies.sort_unstable();
        for (source, told) in &self.told {
            match self.world.who(*source) {
                Who::Scanner(_) => {}
                Who::Worldwide(_) => figures.worldwide_found += 1,
                who @ (Who::Noise(_) | Who::Client) => {
                    figures.false_decisions += 1;
                    figures.failures.push(format!(
                        "{source}, {who:?}, was decided about at {} members",
                        told.members.len()
                    ));
                }
            }
        }
        figures.worldwide = self.world.worldwide(16);
        figures.lag = self.lag;
        let said = self.engine.said();
        figures.warnings = said.lines().filter(|line| line.contains("WARN")).map(str::to_owned).collect();
        Ok(())
    }

    /// What the role can read in a second, and how long it takes to read everything again.
    async fn limits(&mut self, figures: &mut Figures, say: &mut (dyn FnMut(&str) + Send)) -> Result<()> {
        let (start, before) = (Instant::now(), self.measure()?);
        let mut ticks = interval(TICK);
        let (mut sent, mut behind) = (0u32, 0f64);
        while start.elapsed() < FLAT_OUT_FOR {
            ticks.tick().await;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some sightings")]
            let due = (start.elapsed().as_secs_f64() * f64::from(FLAT_OUT)) as u32;
            let events: Vec<_> = (sent..due).map(|_| self.world.stranger()).collect();
            sent = due;
            self.see(events);
            self.hear();
        }
        // Until it has read all.
        let deadline = Instant::now() + 2 * FLAT_OUT_FOR;
        let all = before.sightings + f64::from(sent);
        loop {
            let read = self.engine.sum("scanguard_fleet_run_sightings_total")?;
            behind = behind.max(all - read);
            if read >= all || Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let after = self.measure()?;
        figures.flat_out = Some(report::FlatOut {
            took: start.elapsed(),
            sightings: after.sightings - before.sightings,
            offered: f64::from(sent),
            before,
            after,
        });
        say(&format!("flat out: {}", after.line(figures.hosts)));
        // The role is killed, and another one begins.
        self.engine.role.signal(libc::SIGKILL);
        self.engine.role.wait_within(PATIENCE)?;
        let start = Instant::now();
        self.engine.role = start_role(&self.engine.namespace).context(self.engine.said())?;
        figures.take_over = Some((start.elapsed(), self.engine.sum("scanguard_fleet_run_messages_total")?));
        figures.role_after_take_over = Taken::by(&self.engine.role)?;
        say(&format!("taken over after {:?}", start.elapsed()));
        Ok(())
    }
}

/// What clients do.
#[derive(Clone, Copy)]
enum Clients {
    Rest,
    Come,
    ComeInVain,
}
