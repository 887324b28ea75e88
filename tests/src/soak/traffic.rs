//! Traffic of a round of a soak: scans by real tools, and honest clients beside them.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    fixtures::{
        agent::LISTEN,
        clients::{at, listen},
        lab::{Lab, SCANNER_INTERFACE, VICTIM, VICTIM_INTERFACE, run, run_within},
    },
    tables::scans::{SCANS, Scan},
};

/// Those who scan, by turns: by the time one comes again, its ban has ended.
pub const SCANNERS: [&str; 8] = [
    "10.77.0.100",
    "10.77.0.101",
    "10.77.0.102",
    "10.77.0.103",
    "10.77.0.104",
    "10.77.0.105",
    "10.77.0.106",
    "10.77.0.107",
];
/// A scanner that looks for files that web servers should not serve.
pub const PROWLER: &str = "10.77.0.120";
/// An honest client that reads pages.
pub const READER: &str = "10.77.0.20";
/// An honest client that pings.
pub const PINGER: &str = "10.77.0.21";
/// An honest client with a connection that lasts.
pub const CALLER: &str = "10.77.0.22";
/// All honest clients.
pub const HONEST: [&str; 3] = [READER, PINGER, CALLER];

/// Where nginx serves.
pub const WEB: u16 = 80;
/// The port of the server that echoes.
const ECHO: u16 = 7;
/// Longer than anybody honest has to wait.
const SERVED_WITHIN: Duration = Duration::from_secs(10);
/// The time that nmap has for a host: once it is banned it waits for every answer, and tries again.
const GIVE_UP: &str = "8s";
/// A scan ends long before.
const SCAN_LIMIT: Duration = Duration::from_secs(90);
/// Paths that scanners of web servers ask for.
const PATHS: [&str; 6] =
    ["/.env", "/wp-login.php", "/.git/config", "/phpmyadmin/", "/../../etc/passwd", "/cgi-bin/test.cgi"];

/// Gives the scanner's host all these addresses, known to the victim, so that nobody asks who has them.
///
/// # Errors
/// `ip` could not.
pub fn addresses(lab: &Lab) -> Result<()> {
    let mac = lab.scanner.mac(SCANNER_INTERFACE)?;
    let known = |address: &str| {
        lab.victim.ip(&format!("neigh replace {address} lladdr {mac} dev {VICTIM_INTERFACE} nud permanent"))
    };
    for address in SCANNERS.iter().chain(&HONEST).chain([&PROWLER]) {
        lab.scanner.ip(&format!("addr add {address}/32 dev {SCANNER_INTERFACE}"))?;
        known(address)?;
    }
    for address in SCANNERS.map(ipv6) {
        lab.scanner.ip(&format!("addr add {address}/128 dev {SCANNER_INTERFACE} nodad"))?;
        known(&address)?;
    }
    Ok(())
}

/// The IPv6 address of one of [`SCANNERS`].
fn ipv6(scanner: &str) -> String {
    scanner.replace("10.77.0.", "fd77::")
}

/// The scans of a round: by packets of their own, so that they can come from any address.
pub fn scans(round: u32) -> Vec<(&'static Scan, &'static str)> {
    let is_raw = |scan: &&Scan| {
        let tool = scan.command;
        let takes_minutes = tool.contains("-O ");
        let is_nmap = ["nmap -n", "nmap -6"].iter().any(|start| tool.starts_with(start));
        tool.starts_with("hping3") || (is_nmap && !tool.contains("-sT") && !takes_minutes)
    };
    let raw: Vec<_> = SCANS.iter().filter(is_raw).collect();
    let first = 2 * round as usize;
    [first, first + 1].map(|number| (raw[number % raw.len()], SCANNERS[number % SCANNERS.len()])).into()
}

/// Runs a scan from an address.
///
/// # Errors
/// The tool is not there, fails, or does not end.
pub fn scan(lab: &Lab, scan: &Scan, from: &str) -> Result<()> {
    let mut words = scan.words();
    let from6 = ipv6(from);
    let from = if words.iter().any(|word| word == "-6") { &from6 } else { from };
    let source: &[&str] = if words[0] == "hping3" {
        &["-a", from]
    } else {
        &["-S", from, "-e", SCANNER_INTERFACE, "--host-timeout", GIVE_UP]
    };
    words.splice(1..1, source.iter().map(|word| (*word).to_owned()));
    match run_within(lab.scanner.command(&words[0]).args(&words[1..]), SCAN_LIMIT) {
        Err(_) if scan.may_fail => Ok(()),
        result => result,
    }
}

/// SYNs of so many sources that each come once.
pub fn flood(lab: &Lab, packets: u32) {
    let flood = format!("--rand-source -S -q -i u400 -c {packets} -p 81 {VICTIM}");
    // It fails when nobody answers.
    let _ = run(lab.scanner.command("hping3").args(flood.split(' ')));
}

/// Pings until a time, all of which are to be answered; gives how many were.
///
/// # Errors
/// One was not.
pub fn ping(lab: &Lab, from: &str, count: u32) -> Result<u64> {
    let arguments = format!("-q -n -i 0.2 -c {count} -W 5 -I {from} {VICTIM}");
    let output = run(lab.scanner.command("ping").args(arguments.split(' ')))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(said.contains(&format!(" {count} received")), "{said}");
    Ok(count.into())
}

/// A connection from an address of the scanner's host.
fn connect(lab: &Lab, from: &str, port: u16, limit: Duration) -> Result<TcpStream> {
    lab.scanner.enter(|| {
        // The standard library cannot bind before it connects.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(at(from, 0))?;
            let connect = socket.connect(at(VICTIM, port));
            tokio::time::timeout(limit, connect).await.map_err(io::Error::other)?
        });
        let stream = stream.context("connect")?.into_std()?;
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Ok(stream)
    })
}

fn request(lab: &Lab, from: &str, path: &str, agent: &str, limit: Duration) -> Result<String> {
    let mut stream = connect(lab, from, WEB, limit)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: www\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Reads pages until a time, a few a second; gives how many.
///
/// # Errors
/// One was not served.
pub fn read_pages(lab: &Lab, until: Instant) -> Result<u64> {
    let mut pages = 0;
    while Instant::now() < until {
        let path = format!("/articles/{}", pages % 5);
        let answer = request(lab, READER, &path, "Mozilla/5.0 (X11; Linux x86_64; rv:128.0)", SERVED_WITHIN)?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        pages += 1;
        thread::sleep(Duration::from_millis(150));
    }
    Ok(pages)
}

/// Asks for what web servers should not serve. Once it is banned, nobody answers.
pub fn ask_for_secrets(lab: &Lab) {
    for path in PATHS {
        if request(lab, PROWLER, path, "Nikto/2.5.0", Duration::from_secs(1)).is_err() {
            return;
        }
    }
}

/// Has the page keep it up to date until a time, whatever becomes of the agent; gives how many events came.
///
/// # Errors
/// The victim's host cannot be entered.
pub fn watch(lab: &Lab, until: Instant) -> Result<u64> {
    let mut events = 0;
    while Instant::now() < until {
        // The agent may be gone for a moment.
        if let Ok(stream) = lab.victim.enter(|| Ok(TcpStream::connect(LISTEN)?)) {
            events += take_events(stream, until).unwrap_or_default();
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(events)
}

fn take_events(mut stream: TcpStream, until: Instant) -> Result<u64> {
    stream.set_read_timeout(Some(SERVED_WITHIN))?;
    write!(stream, "GET /page/events HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut events = 0;
    for line in io::BufRead::lines(io::BufReader::new(stream)) {
        // The agent was killed.
        let Ok(line) = line else { break };
        events += u64::from(line.starts_with("data:"));
        if Instant::now() >= until {
            break;
        }
    }
    Ok(events)
}

/// The access log that the agent follows.
pub fn access_log(lab: &Lab) -> PathBuf {
    lab.victim.directory().join("access.log")
}

/// Writes a web server's access log until a time, and moves it aside in the middle as logrotate does; gives how many lines.
///
/// # Errors
/// It cannot be written.
pub fn write_log(lab: &Lab, until: Instant) -> Result<u64> {
    let path = access_log(lab);
    let middle = Instant::now() + until.saturating_duration_since(Instant::now()) / 2;
    let (mut lines, mut moved) = (0, false);
    let open = || File::options().create(true).append(true).open(&path);
    let mut log = open()?;
    while Instant::now() < until {
        let time = jiff::Zoned::now().strftime("%d/%b/%Y:%H:%M:%S %z");
        let page = lines % 5;
        writeln!(
            log,
            "{READER} - - [{time}] \"GET /articles/{page} HTTP/1.1\" 200 33 \"-\" \"Mozilla/5.0 (X11; Linux x86_64)\""
        )?;
        lines += 1;
        if !moved && Instant::now() >= middle {
            moved = true;
            fs::rename(&path, path.with_extension("log.1"))?;
            log = open()?;
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(lines)
}

/// A connection that lasts as long as the soak.
pub struct Call {
    stream: TcpStream,
    echo: Option<JoinHandle<()>>,
}

impl Call {
    /// Connects.
    ///
    /// # Errors
    /// The port is taken, or the victim does not answer.
    pub fn new(lab: &Lab) -> Result<Self> {
        let listener: TcpListener = listen(&lab.victim, ECHO)?;
        let stream = connect(lab, CALLER, ECHO, SERVED_WITHIN)?;
        let (server, _): (TcpStream, SocketAddr) = listener.accept()?;
        let echo = thread::spawn(move || {
            // Until the client hangs up.
            let _ = io::copy(&mut &server, &mut &server);
        });
        Ok(Self { stream, echo: Some(echo) })
    }

    /// Sends bytes until a time, and returns how many came back.
    ///
    /// # Errors
    /// The echo differs from the message.
    pub fn exchange(&self, until: Instant) -> Result<u64> {
        let mut bytes = 0;
        while Instant::now() < until {
            let sent = [u8::try_from(bytes % 251).unwrap_or(0); 1024];
            (&self.stream).write_all(&sent)?;
            let mut received = [0; 1024];
            (&self.stream).read_exact(&mut received)?;
            ensure!(sent == received, "another thing came back");
            bytes += 1024;
            thread::sleep(Duration::from_millis(20));
        }
        Ok(bytes)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Some(echo) = self.echo.take() {
            let _ = echo.join();
        }
    }
}
