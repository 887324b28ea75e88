//! The agent under test: the real binary in a namespace.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read, Write as _},
    net::TcpStream,
    os::fd::AsRawFd as _,
    path::PathBuf,
    process::{ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::lab::{Namespace, Process, VICTIM_INTERFACE, wait_for};

/// Where the agent under test serves its metrics, within its namespace.
pub const LISTEN: &str = "127.0.0.1:9823";
/// Long enough for anything that is not broken, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The `scanguard` binary that was built beside the test.
///
/// # Errors
/// It was not built.
pub fn binary() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    // target/PROFILE/deps/TEST, or target/PROFILE/BINARY
    let found = this.ancestors().map(|directory| directory.join("scanguard")).find(|path| path.is_file());
    found.context("the scanguard binary is not built: cargo build --package scanguard")
}

/// The binary with its socket and its state in the namespace's own directory.
///
/// # Errors
/// It was not built.
pub fn scanguard(namespace: &Namespace, arguments: &[&str]) -> Result<Command> {
    let binary = binary()?;
    let directory = namespace.directory();
    let mut command = namespace.command(binary.to_str().context("UTF-8")?);
    command
        .args(arguments)
        .env("SCANGUARD_SOCKET", directory.join("control.sock"))
        .env("SCANGUARD_STATE", directory.join("state.json"))
        // Whoever runs the tests by SSH is not to be spared in them.
        .env_remove("SSH_CONNECTION");
    Ok(command)
}

type Lines = Arc<Mutex<Vec<String>>>;

/// A running agent.
pub struct Agent<'n> {
    namespace: &'n Namespace,
    /// Its process.
    pub process: Process,
    stdout: Lines,
    stderr: Lines,
    stalled: Option<ChildStdout>,
}

impl<'n> Agent<'n> {
    /// Starts one on the victim's interface and waits until it is ready.
    ///
    /// # Errors
    /// It did not become ready; what it said is part of the error.
    pub fn start(namespace: &'n Namespace, arguments: &[&str]) -> Result<Self> {
        Self::spawn(namespace, &on_the_victim(arguments))?.ready()
    }

    /// The same, with a standard output that nobody reads and that takes a page of text.
    ///
    /// # Errors
    /// As above.
    pub fn start_stalled(namespace: &'n Namespace, arguments: &[&str]) -> Result<Self> {
        let (mut agent, pipe) = Self::spawn_unread(namespace, &on_the_victim(arguments))?;
        // SAFETY: no memory; the descriptor is open.
        let size = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
        ensure!(size == 4096, "the pipe takes {size} bytes");
        agent.stalled = Some(pipe);
        agent.ready()
    }

    fn ready(mut self) -> Result<Self> {
        let agent = &mut self;
        let ready = wait_for("the agent is ready", PATIENCE, || {
            let ended = agent.process.child.try_wait().ok().flatten().is_some();
            (ended || agent.get("/readyz").is_ok_and(|(status, _)| status == 200)).then_some(ended)
        });
        match ready {
            Ok(false) => Ok(self),
            _ => anyhow::bail!("the agent did not become ready: {}", self.said()),
        }
    }

    /// Starts the binary with exactly these arguments.
    ///
    /// # Errors
    /// It could not be started.
    pub fn spawn(namespace: &'n Namespace, arguments: &[&str]) -> Result<Self> {
        let (mut agent, pipe) = Self::spawn_unread(namespace, arguments)?;
        agent.stdout = collect(pipe);
        Ok(agent)
    }

    fn spawn_unread(namespace: &'n Namespace, arguments: &[&str]) -> Result<(Self, ChildStdout)> {
        Self::spawn_command(namespace, scanguard(namespace, arguments)?)
    }

    /// Starts an agent on the victim's interface by a command that was made of [`scanguard()`] and changed, and waits until it
    /// is ready.
    ///
    /// # Errors
    /// It did not become ready; what it said is part of the error.
    pub fn start_as(
        namespace: &'n Namespace,
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        Self::spawn_as(namespace, &on_the_victim(arguments), change)?.ready()
    }

    /// As [`Self::spawn`], by such a command.
    ///
    /// # Errors
    /// It could not be started.
    pub fn spawn_as(
        namespace: &'n Namespace,
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let mut command = scanguard(namespace, arguments)?;
        change(&mut command);
        let (mut agent, pipe) = Self::spawn_command(namespace, command)?;
        agent.stdout = collect(pipe);
        Ok(agent)
    }

    fn spawn_command(namespace: &'n Namespace, mut command: Command) -> Result<(Self, ChildStdout)> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let pipe = child.stdout.take().context("stdout")?;
        let stderr = collect(child.stderr.take().context("stderr")?);
        let process = Process::new(child);
        Ok((Self { namespace, process, stdout: Lines::default(), stderr, stalled: None }, pipe))
    }

    /// Runs a command that asks this agent, to its end; whether it worked, and what it said on either output.
    ///
    /// # Errors
    /// It could not be started.
    pub fn ask(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let output = scanguard(self.namespace, arguments)?.stdin(Stdio::null()).output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Has the agent do something.
    ///
    /// # Errors
    /// It did not.
    pub fn order(&self, arguments: &[&str]) -> Result<String> {
        let (done, said) = self.ask(arguments)?;
        ensure!(done, "{arguments:?}: {said}");
        Ok(said)
    }

    /// Asks the agent for something as JSON.
    ///
    /// # Errors
    /// It does not say it.
    pub fn json(&self, arguments: &[&str]) -> Result<serde_json::Value> {
        let said = self.order(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&said).with_context(|| said)
    }

    /// Status and body of a page.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        get(self.namespace, LISTEN, path)
    }

    /// The metrics as they are now.
    ///
    /// # Errors
    /// They could not be scraped.
    pub fn metrics(&self) -> Result<Metrics> {
        let (status, page) = self.get("/metrics")?;
        ensure!(status == 200, "status {status}");
        Ok(Metrics::parse(&page))
    }

    /// The metrics once the counts of packets stand still over three polls.
    ///
    /// # Errors
    /// They do not, or cannot be scraped.
    pub fn settled(&self) -> Result<Metrics> {
        let polls = |metrics: &Metrics| metrics.get("scanguard_poll_duration_seconds_count");
        let mut last = self.metrics()?;
        wait_for("the counts stand still", PATIENCE, || {
            let now = self.metrics().ok()?;
            if now.packets() != last.packets() {
                last = now;
                return None;
            }
            (polls(&now) >= polls(&last) + 3.0).then_some(now)
        })
    }

    /// The lines on its standard output so far.
    pub fn lines(&self) -> Vec<String> {
        lines(&self.stdout)
    }

    /// The findings so far.
    pub fn findings(&self) -> Vec<serde_json::Value> {
        lines(&self.stdout).iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The names of the rules that opened findings, with how many.
    pub fn opened(&self) -> BTreeMap<String, usize> {
        let findings = self.findings();
        // A rule that says more of a scan takes its finding over.
        let last: BTreeMap<_, _> =
            findings.iter().map(|finding| (finding["id"].as_str(), finding["rule"].as_str())).collect();
        let mut rules = BTreeMap::new();
        for rule in last.into_values() {
            *rules.entry(rule.unwrap_or_default().to_owned()).or_default() += 1;
        }
        rules
    }

    /// What it wrote to standard error.
    pub fn said(&self) -> String {
        lines(&self.stderr).join("\n")
    }

    /// Sends SIGTERM and gives the exit code.
    ///
    /// # Errors
    /// It did not end.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        self.process.signal(libc::SIGTERM);
        self.exit_code()
    }

    /// Waits for the end and gives the exit code.
    ///
    /// # Errors
    /// It did not end.
    pub fn exit_code(&mut self) -> Result<Option<i32>> {
        let status = self.process.wait_within(PATIENCE)?;
        // The threads that collect hold what they collect into until they have read all of it.
        let is_read =
            || (Arc::strong_count(&self.stdout) == 1 && Arc::strong_count(&self.stderr) == 1).then_some(());
        wait_for("the end of what it says", PATIENCE, is_read)?;
        Ok(status.code())
    }
}

fn on_the_victim<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--iface", VICTIM_INTERFACE, "--listen", LISTEN], arguments].concat()
}

/// Status and body of what is served at an address within a namespace.
///
/// # Errors
/// Nobody answers.
pub fn get(namespace: &Namespace, address: &str, path: &str) -> Result<(u16, String)> {
    namespace.enter(|| {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: sensor\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("a whole answer")?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok((status, body.to_owned()))
    })
}

fn collect(pipe: impl Read + Send + 'static) -> Lines {
    let collected = Lines::default();
    let into = Arc::clone(&collected);
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            into.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
    collected
}

fn lines(of: &Lines) -> Vec<String> {
    of.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A scraped page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    values: BTreeMap<String, f64>,
}

impl Metrics {
    fn parse(page: &str) -> Self {
        let values = page
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect();
        Self { values }
    }

    /// The value of a series, with its labels as the page has them; 0 if there is none.
    pub fn get(&self, series: &str) -> f64 {
        self.values.get(series).copied().unwrap_or(0.0)
    }

    /// Probes of a class.
    pub fn probes(&self, class: &str) -> f64 {
        self.get(&format!("scanguard_probes_total{{class=\"{class}\"}}"))
    }

    /// Packets by exit.
    pub fn exit(&self, exit: &str) -> f64 {
        self.get(&format!("scanguard_packets_total{{exit=\"{exit}\"}}"))
    }

    /// All packets.
    pub fn packets(&self) -> f64 {
        self.sum("scanguard_packets_total{")
    }

    /// Bounds and counts of a histogram.
    pub fn buckets(&self, histogram: &str) -> Vec<(f64, f64)> {
        let prefix = format!("{histogram}_bucket{{le=\"");
        self.values
            .iter()
            .filter_map(|(name, count)| {
                let bound = name.strip_prefix(&prefix)?.strip_suffix("\"}")?;
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
                Some((bound, *count))
            })
            .collect()
    }

    /// The sum of all series that begin so.
    pub fn sum(&self, prefix: &str) -> f64 {
        self.values.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, value)| value).sum()
    }
}
