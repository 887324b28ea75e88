//! The scene of a row: the bridge, a web server, and the real agent in `enforce` with its defaults.

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream},
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;

use super::{
    Play, Row,
    bridge::{Bridge, Family, SERVER},
    client::{self, Client, Numbers},
    forge::Forger,
    outcome::{Outcome, Verdict},
};
use crate::{
    fixtures::agent::Agent,
    fixtures::lab::{PATIENCE, Process, wait_for},
    fixtures::scratch::Scratch,
};

/// Long enough, also on a busy machine, for everything that follows by itself once all was polled.
const SOON: Duration = Duration::from_secs(4);
/// The port of the web server that connections are made to.
pub const WEB: u16 = 80;
/// All ports of the web server.
pub const OPEN: [u16; 12] = [WEB, 443, 8001, 8002, 8003, 8004, 8005, 8006, 8007, 8008, 8009, 8010];
/// The client that goes on asking for pages while others are attacked.
const BYSTANDER: u8 = 200;
/// The port of a client that never connected.
const UNUSED: u16 = 45_678;
/// Polls after the last forged packet until the clients are judged: everything has been read by then.
const POLLS: f64 = 5.0;

/// The scene of a row.
pub struct Scene<'b> {
    /// The three hosts.
    pub bridge: &'b Bridge,
    /// The agent on the server.
    pub agent: Agent<'b>,
    /// The attacker's way onto the wire.
    pub forger: Forger<'b>,
    _web: Process,
    directory: Scratch,
}

/// Plays a row to its end. A panic fails the row, not the suite.
pub fn play(row: &Row, poll_interval: &str) -> Outcome {
    let start = Instant::now();
    let verdict = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let bridge = Bridge::new()?;
            let mut scene = Scene::new(&bridge, row, poll_interval)?;
            match row.play {
                Play::InTheirNames(attack) => scene.in_their_names(attack),
                Play::Script(script) => script(&mut scene),
            }
        });
        thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")))
    });
    Outcome::new(row, verdict, start.elapsed())
}

impl<'b> Scene<'b> {
    fn new(bridge: &'b Bridge, row: &Row, poll_interval: &str) -> Result<Self> {
        let directory = Scratch::new()?;
        let web = serve(bridge, &directory)?;
        let config = format!(
            "[sensor]\npoll_interval = \"{poll_interval}\"\n[response]\nmode = \"enforce\"\n{}\n{}",
            row.config.response, row.config.tables
        );
        let path = directory.path().join("scanguard.toml");
        fs::write(&path, config)?;
        let agent = start(bridge, &path.display().to_string())?;
        Ok(Self { bridge, agent, forger: Forger::new(bridge), _web: web, directory })
    }

    /// A file of this row.
    ///
    /// # Errors
    /// It could not be written.
    pub fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.directory.path().join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path.display().to_string())
    }

    /// Waits until all that was sent has been polled and judged.
    ///
    /// # Errors
    /// The agent does not poll.
    pub fn judged(&self) -> Result<()> {
        let polls = || Some(self.agent.metrics().ok()?.get("scanguard_poll_duration_seconds_count"));
        let before = polls().context("metrics")?;
        wait_for("more polls", PATIENCE, || (polls()? >= before + POLLS).then_some(()))
    }

    /// The ban of an address, if there is one: its reason. A shield is none; an entry that does not say which of the two it is
    /// is a ban.
    ///
    /// # Errors
    /// The agent does not say.
    pub fn banned(&self, ip: IpAddr) -> Result<Option<String>> {
        let answer = self.agent.json(&["bans"])?;
        for ban in answer["bans"].as_array().context("bans")? {
            let net: IpNet = ban["net"].as_str().context("net")?.parse()?;
            if net.contains(&ip) && ban["response"] != "shield" {
                return Ok(Some(ban["reason"].as_str().unwrap_or_default().to_owned()));
            }
        }
        Ok(None)
    }

    /// Waits for the ban of an address.
    ///
    /// # Errors
    /// The agent does not say.
    pub fn is_banned_soon(&self, ip: IpAddr) -> Result<bool> {
        self.judged()?;
        self.banned(ip)?;
        let banned = || self.banned(ip).ok().flatten();
        Ok(wait_for("the ban", SOON, banned).is_ok())
    }

    /// The rules of the findings about an address so far.
    pub fn rules(&self, ip: IpAddr) -> Vec<String> {
        let is_about = |finding: &serde_json::Value| {
            let source: Option<IpAddr> = finding["source"]["ip"].as_str().and_then(|text| text.parse().ok());
            source.is_some_and(|source| match (source, ip) {
                (IpAddr::V6(source), IpAddr::V6(ip)) => source.segments()[..4] == ip.segments()[..4],
                (source, ip) => source == ip,
            })
        };
        let findings = self.agent.findings();
        let rules = findings.iter().filter(|finding| is_about(finding));
        let mut rules: Vec<_> =
            rules.filter_map(|finding| Some(finding["rule"].as_str()?.to_owned())).collect();
        rules.sort();
        rules.dedup();
        rules
    }

    /// Waits for a finding about an address.
    ///
    /// # Errors
    /// The agent does not poll.
    pub fn is_found_soon(&self, ip: IpAddr) -> Result<bool> {
        self.judged()?;
        Ok(wait_for("a finding", SOON, || (!self.rules(ip).is_empty()).then_some(())).is_ok())
    }

    /// The server's end of connections over a family.
    pub fn web(family: Family) -> SocketAddr {
        SocketAddr::new(family.server(), WEB)
    }

    /// Whether a client is served; if not, why.
    pub fn served(&self, client: IpAddr, family: Family) -> Result<()> {
        let status = client::get(&self.bridge.clients, client, Self::web(family), "/", None)?;
        ensure!(status == 200, "status {status}");
        Ok(())
    }

    /// The fault with an honest client, if there is one: it is banned, or not served.
    ///
    /// # Errors
    /// The agent does not say.
    pub fn fault_with(&self, client: IpAddr, family: Family) -> Result<Option<String>> {
        if let Some(reason) = self.banned(client)? {
            let rules = self.rules(client).join(", ");
            return Ok(Some(format!("{client} is banned ({rules}): {}", shortened(&reason))));
        }
        Ok(self.served(client, family).err().map(|error| format!("{client} is not served: {error:#}")))
    }

    /// Does something while an honest client that has nothing to do with it asks for pages over both families, and tells whether it
    /// was served throughout, beside what came of the thing.
    ///
    /// # Errors
    /// Those of what is done.
    pub fn beside_a_bystander<T>(&self, act: impl FnOnce(&Self) -> Result<T>) -> Result<(T, Option<String>)> {
        let end = AtomicBool::new(false);
        let served = AtomicU32::new(0);
        // Not the scene itself, which is this thread's own.
        let clients = &self.bridge.clients;
        thread::scope(|scope| {
            let bystander = scope.spawn(|| {
                while !end.load(Ordering::Relaxed) || served.load(Ordering::Relaxed) == 0 {
                    for family in Family::BOTH {
                        let from = family.client(BYSTANDER);
                        let got = client::get(clients, from, Self::web(family), "/", None);
                        match got {
                            Ok(200) => served.fetch_add(1, Ordering::Relaxed),
                            Ok(status) => return Some(format!("a bystander got status {status}")),
                            Err(error) => return Some(format!("a bystander was not served: {error:#}")),
                        };
                    }
                    thread::sleep(Duration::from_millis(50));
                }
                None
            });
            let result = act(self);
            end.store(true, Ordering::Relaxed);
            let wrong = bystander.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((result?, wrong))
        })
    }

    /// Plays [`Play::InTheirNames`].
    ///
    /// # Errors
    /// The attack could not be played.
    fn in_their_names(&self, attack: fn(&Forger<'_>, &Target) -> Result<()>) -> Result<Verdict> {
        let before = self.agent.metrics()?;
        let ((targets, mut held), bystander) = self.beside_a_bystander(|scene| {
            let mut targets = Vec::new();
            let mut held = Vec::new();
            for family in Family::BOTH {
                for moment in Moment::ALL {
                    let client = family.client(moment.client());
                    let server = Self::web(family);
                    let target = match moment {
                        Moment::Before => Target::new(family, SocketAddr::new(client, UNUSED), server, None),
                        Moment::During => {
                            let mut connection = Client::connect(&scene.bridge.clients, client, server)?;
                            let numbers = connection.numbers()?;
                            // The first half of a request.
                            let begin = b"GET / HTTP/1.1\r\nHost: shop.test\r\n";
                            connection.send(begin)?;
                            let next = numbers.next.wrapping_add(u32::try_from(begin.len())?);
                            let numbers = Numbers { next, ..numbers };
                            let end = connection.end()?;
                            held.push((client, connection));
                            Target::new(family, end, server, Some(numbers))
                        }
                        Moment::After => {
                            scene.served(client, family)?;
                            scene.served(client, family)?;
                            // The server closes first: it is the one that waits.
                            let mut connection = Client::connect(&scene.bridge.clients, client, server)?;
                            let end = connection.end()?;
                            let numbers = connection.numbers()?;
                            let request = client::request("/", None, false);
                            connection.send(&request)?;
                            ensure!(connection.status()? == 200, "the client was not served before");
                            let next =
                                numbers.next.wrapping_add(u32::try_from(request.len())?).wrapping_add(1);
                            Target::new(family, end, server, Some(Numbers { next, ..numbers }))
                        }
                    };
                    attack(&scene.forger, &target)?;
                    targets.push((moment, target));
                }
            }
            scene.judged()?;
            Ok((targets, held))
        })?;
        let packets = self.agent.metrics()?.packets() - before.packets();
        let sent = self.forger.sent();
        ensure!(sent > 0 && packets >= f64::from(sent), "{packets} packets came, {sent} were forged");

        let mut wrong: Vec<String> = bystander.into_iter().collect();
        for (moment, target) in &targets {
            let fault = self.fault_with(target.client.ip(), target.family)?;
            wrong.extend(fault.map(|what| format!("{}: {what}", moment.label())));
        }
        // One reason is enough, and a banned client waits long for an answer.
        if wrong.is_empty() {
            for (client, connection) in &mut held {
                let ended = connection.send(b"Connection: close\r\n\r\n").and_then(|()| connection.status());
                if !matches!(ended, Ok(200)) {
                    wrong.push(format!("the open connection of {client} was lost: {ended:?}"));
                }
            }
            // Once more: a client that is served again may have been banned for what it did to be judged.
            self.judged()?;
            for (moment, target) in &targets {
                let fault = self.fault_with(target.client.ip(), target.family)?;
                wrong.extend(fault.map(|what| format!("{}, later: {what}", moment.label())));
            }
        }
        Ok(Verdict::of(&wrong))
    }
}

/// When something is forged in a client's name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// It has never connected.
    Before,
    /// It has a connection, and is about to send the second half of a request.
    During,
    /// It was served three times, and has just been closed to.
    After,
}

impl Moment {
    const ALL: [Self; 3] = [Self::Before, Self::During, Self::After];

    fn client(self) -> u8 {
        match self {
            Self::Before => 11,
            Self::During => 12,
            Self::After => 13,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Before => "before its first connection",
            Self::During => "while it has a connection",
            Self::After => "after its connections",
        }
    }
}

/// In whose name something is forged.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Over which family.
    pub family: Family,
    /// The client's end of its connection that is open, or was just closed; without one, an end that it never had.
    pub client: SocketAddr,
    /// The server's end.
    pub server: SocketAddr,
    /// The numbers of the connection.
    pub numbers: Option<Numbers>,
}

impl Target {
    fn new(family: Family, client: SocketAddr, server: SocketAddr, numbers: Option<Numbers>) -> Self {
        Self { family, client, server, numbers }
    }

    /// Another port of the client.
    pub fn from(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.client.ip(), port)
    }

    /// Another port of the server.
    pub fn to(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.server.ip(), port)
    }
}

/// Starts an agent on the server with this configuration file.
///
/// # Errors
/// It did not become ready.
pub fn start<'b>(bridge: &'b Bridge, config: &str) -> Result<Agent<'b>> {
    Agent::start(&bridge.server, &["--format", "json", "--config", config])
}

/// nginx on the server: a page at `/`, and nothing elsewhere.
fn serve(bridge: &Bridge, directory: &Scratch) -> Result<Process> {
    let listen: String = OPEN.iter().map(|port| format!("listen {port}; listen [::]:{port}; ")).collect();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|name| format!("{name}_temp_path tmp_{name}; ")).collect();
    let config = format!(
        "daemon off; master_process off; pid nginx.pid;\nevents {{ worker_connections 4096; }}\n\
         http {{ access_log off; {temporary}\n\
         server {{ {listen}location = / {{ return 200 'a page'; }} location / {{ return 404; }} }} }}\n"
    );
    let path = directory.path();
    fs::write(path.join("nginx.conf"), config)?;
    let mut nginx = bridge.server.command("nginx");
    nginx.arg("-p").arg(path).arg("-e").arg(path.join("error.log")).arg("-c").arg(path.join("nginx.conf"));
    nginx.current_dir(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut nginx = Process::new(nginx.spawn().context("nginx")?);
    let serves = wait_for("nginx serves", PATIENCE, || {
        let ended = nginx.child.try_wait().ok().flatten().is_some();
        let connects = || bridge.server.enter(|| Ok(TcpStream::connect((SERVER, WEB))?)).is_ok();
        (ended || connects()).then_some(!ended)
    })?;
    ensure!(serves, "nginx is not installed, or does not start");
    Ok(nginx)
}

/// The beginning of a long reason.
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    let start: String = text.chars().take(MOST).collect();
    if start.len() < text.len() { start + " ..." } else { start }
}
