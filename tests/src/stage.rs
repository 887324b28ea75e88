//! What a case of the matrix plays on: the two hosts, servers that end with it, a directory that goes with it.

use std::{
    env, fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    clients::Services,
    lab::{
        Lab, Namespace, Process, ROUTED, SCANNER, SCANNER_INTERFACE, SCANNER6, VICTIM, VICTIM_INTERFACE,
        VICTIM6, run_within, wait_for,
    },
};

/// An IPv6 network that is routed to the victim, every address of which it answers for.
pub const ROUTED6: &str = "fd78::";
/// The User-Agent of Firefox 128.
const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
/// Long enough for any server to start, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The stage.
pub struct Stage<'l> {
    /// The two hosts.
    pub lab: &'l Lab,
    /// More hosts, gone with the stage.
    pub hosts: Vec<Namespace>,
    servers: Vec<(String, Process)>,
    services: Vec<Services>,
    directory: Scratch,
    router_mac: String,
}

impl<'l> Stage<'l> {
    /// Sets it up around the two hosts.
    ///
    /// # Errors
    /// `ip` could not, or there is no room for files.
    pub fn new(lab: &'l Lab) -> Result<Self> {
        lab.victim.ip(&format!("-6 route add local {ROUTED6}/64 dev lo"))?;
        lab.scanner.ip(&format!("-6 route add {ROUTED6}/64 via {VICTIM6}"))?;
        let router_mac = lab.victim.mac(VICTIM_INTERFACE)?;
        Ok(Self {
            lab,
            hosts: Vec::new(),
            servers: Vec::new(),
            services: Vec::new(),
            directory: Scratch::new()?,
            router_mac,
        })
    }

    /// A directory for the files of this case.
    pub fn directory(&self) -> &Path {
        &self.directory.0
    }

    /// Writes a file of this case.
    ///
    /// # Errors
    /// It could not be written.
    pub fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.directory().join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path.display().to_string())
    }

    /// Splits a command at its spaces and fills in, see [`Self::fill`].
    pub fn words(&self, command: &str) -> Vec<String> {
        command.split_whitespace().map(|word| self.fill(word)).collect()
    }

    /// Fills in `{victim}`, `{victim6}`, `{routed}`, `{routed6}`, `{scanner}`, `{scanner6}`, `{interface}` (the
    /// scanner's), `{mac}` (the victim's), `{dir}`, and `{browser}`, what a browser says that it is.
    pub fn fill(&self, text: &str) -> String {
        let directory = self.directory().display().to_string();
        let values = [
            ("{victim}", VICTIM),
            ("{victim6}", VICTIM6),
            ("{routed}", ROUTED),
            ("{routed6}", ROUTED6),
            ("{scanner}", SCANNER),
            ("{scanner6}", SCANNER6),
            ("{interface}", SCANNER_INTERFACE),
            ("{mac}", &self.router_mac),
            ("{dir}", &directory),
            ("{browser}", BROWSER),
        ];
        values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    fn command(&self, host: &Namespace, command: &str) -> Result<Command> {
        let words = self.words(command);
        let (program, arguments) = words.split_first().context("a command")?;
        let mut command = host.command(program);
        command.args(arguments).current_dir(self.directory()).env("HOME", self.directory());
        // What a distribution packages in Python is for the distribution's own.
        let path = env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("/usr/sbin:/usr/bin:/sbin:/bin:{path}"));
        Ok(command)
    }

    /// Runs a command on a host to its end.
    ///
    /// # Errors
    /// It could not be started, failed, or took too long.
    pub fn run(&self, host: &Namespace, command: &str, limit: Duration) -> Result<()> {
        run_within(&mut self.command(host, command)?, limit)
    }

    /// Runs a command on the scanner, whose limit is a minute.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn client(&self, command: &str) -> Result<()> {
        self.run(&self.lab.scanner, command, Duration::from_secs(60))
    }

    /// Starts a server under a name; it ends with the stage.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(&mut self, name: &str, host: &Namespace, command: &str) -> Result<()> {
        let log = fs::File::create(self.directory().join(format!("{name}.log")))?;
        let mut command = self.command(host, command)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        self.servers.push((name.to_owned(), Process::new(child)));
        Ok(())
    }

    /// Waits until a server accepts connections at its own host's loopback address.
    ///
    /// # Errors
    /// It does not, or it has ended; what it said is part of the error.
    pub fn await_port(&mut self, name: &str, host: &Namespace, port: u16) -> Result<()> {
        let (_, server) = self.servers.iter_mut().rfind(|(server, _)| server == name).context("a server")?;
        let up = wait_for(name, PATIENCE, || {
            if server.child.try_wait().ok().flatten().is_some() {
                return Some(false);
            }
            let connect = || TcpStream::connect(("127.0.0.1", port)).context("connect");
            host.enter(connect).is_ok().then_some(true)
        });
        match up {
            Ok(true) => Ok(()),
            _ => bail!(
                "{name} does not serve port {port}: {}",
                fs::read_to_string(self.directory().join(format!("{name}.log"))).unwrap_or_default().trim()
            ),
        }
    }

    /// Ends a server at once, as a crash would.
    pub fn kill(&mut self, name: &str) {
        self.servers.retain(|(server, _)| server != name);
    }

    /// Keeps services of our own until the stage goes.
    pub fn keep(&mut self, services: Services) {
        self.services.push(services);
    }

    /// nginx on a host: a small page at every path of these ports.
    ///
    /// # Errors
    /// It does not start.
    pub fn nginx(&mut self, host: &Namespace, ports: &[u16]) -> Result<()> {
        let listen: Vec<_> = ports.iter().map(|port| format!("listen {port}; listen [::]:{port};")).collect();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: Vec<_> =
            temporary.iter().map(|name| format!("{name}_temp_path tmp_{name};")).collect();
        let config = format!(
            "daemon off; master_process off; pid nginx.pid;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\naccess_log off; {}\n\
             server {{ {} location / {{ return 200 'a page that a browser may like\\n'; }} }}\n}}\n",
            temporary.join(" "),
            listen.join(" "),
        );
        self.file("nginx.conf", &config)?;
        self.start("nginx", host, "nginx -p {dir} -e {dir}/error.log -c {dir}/nginx.conf")?;
        self.await_port("nginx", host, ports[0])
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // Servers first: they live in the hosts and write into the directory.
        self.servers.clear();
        self.services.clear();
    }
}

/// A directory that goes away.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it, empty.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new() -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = scratch_root().join(number.to_string());
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on it; the last one takes the directory of all.
        let _ = fs::remove_dir_all(&self.0);
        let _ = fs::remove_dir(scratch_root());
    }
}

/// Where the directories of this process's stages are.
pub fn scratch_root() -> PathBuf {
    env::temp_dir().join(format!("scanguard-stage-{}", std::process::id()))
}
