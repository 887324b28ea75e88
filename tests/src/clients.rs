//! Small servers and clients of our own, for traffic that no tool makes on demand.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::lab::{Namespace, VICTIM};

/// How long anything in the same machine may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Everyone in the victim's network.
const BROADCAST: &str = "10.77.0.255";
/// The discard service (RFC 863).
const DISCARD: u16 = 9;
/// How often a server looks for a client.
const NAP: Duration = Duration::from_millis(2);

/// A service of [`serve_banners`].
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its TCP port.
    pub port: u16,
    /// What it says at once.
    pub banner: &'static str,
}

/// Running services; they end when this is dropped, which also closes their connections.
pub struct Services {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Services {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

/// Listens on a port of all addresses of a host, both families.
///
/// # Errors
/// The port is taken.
pub fn listen(host: &Namespace, port: u16) -> Result<TcpListener> {
    host.enter(|| {
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        TcpListener::bind(everywhere).with_context(|| format!("port {port}"))
    })
}

/// Serves TCP ports of a host: whoever connects is greeted, may say something, is told the same and let go.
///
/// # Errors
/// A port is taken.
pub fn serve_banners(host: &Namespace, services: &[Service]) -> Result<Services> {
    let mut running = Services { stop: Arc::default(), threads: Vec::new() };
    for &Service { port, banner } in services {
        let listener = listen(host, port)?;
        listener.set_nonblocking(true)?;
        let stop = Arc::clone(&running.stop);
        running.threads.push(thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client that goes away early is no matter.
                    Ok((client, _)) => drop(greet(client, banner)),
                    Err(_) => thread::sleep(NAP),
                }
            }
        }));
    }
    Ok(running)
}

/// Services without a greeting.
///
/// # Errors
/// As [`serve_banners`].
pub fn serve(host: &Namespace, ports: impl IntoIterator<Item = u16>) -> Result<Services> {
    let services: Vec<_> = ports.into_iter().map(|port| Service { port, banner: "" }).collect();
    serve_banners(host, &services)
}

/// Says something to the host's whole network a few times a second, which nobody answers.
///
/// # Errors
/// The host has no such network.
pub fn speak(host: &Namespace) -> Result<Services> {
    let socket = host.enter(|| UdpSocket::bind((VICTIM, 0)).context("bind"))?;
    socket.set_broadcast(true)?;
    socket.connect((BROADCAST, DISCARD))?;
    let stop = Arc::<AtomicBool>::default();
    let stopped = Arc::clone(&stop);
    let speaker = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            // Whether it gets anywhere is no matter.
            let _ = socket.send(b"hello");
            thread::sleep(Duration::from_millis(200));
        }
    });
    Ok(Services { stop, threads: vec![speaker] })
}

fn greet(mut client: TcpStream, banner: &str) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(Duration::from_millis(200)))?;
    client.write_all(banner.as_bytes())?;
    let mut said = [0; 512];
    let length = client.read(&mut said)?;
    client.write_all(&said[..length])
}

/// One connection as clients make them: ask, hear the whole answer, close.
///
/// # Errors
/// The server is not there, or does not answer.
pub fn visit(server: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
        _ => Ok(()),
    }
}

/// Only connects, as monitoring does.
///
/// # Errors
/// The server is not there.
pub fn knock(server: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&server, PATIENCE).map(drop)
}

/// Asks for a connection without a socket for it, so that this host aborts the handshake when the server answers: what
/// a half-open check does, and what is left of a connect that a client cancelled.
///
/// # Errors
/// There is no raw socket to be had.
pub fn ask_and_forget(client: &str, source_port: u16, server: SocketAddr) -> Result<()> {
    let (client, IpAddr::V4(ip)) = (client.parse::<Ipv4Addr>()?, server.ip()) else {
        bail!("{server}: IPv4 is wanted");
    };
    let mut header = etherparse::TcpHeader::new(source_port, server.port(), 0x5ca9, 1024);
    header.syn = true;
    header.checksum = header.calc_checksum_ipv4_raw(client.octets(), ip.octets(), &[])?;
    let segment = header.to_bytes();
    let to = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET)?,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
        sin_zero: [0; 8],
    };
    // SAFETY: no memory; the descriptor that comes is owned below.
    let descriptor = unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP) };
    ensure!(descriptor >= 0, "a raw socket: {}", io::Error::last_os_error());
    // SAFETY: it is open and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    // SAFETY: both buffers live through the call and are as long as said.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            segment.as_ptr().cast(),
            segment.len(),
            0,
            (&raw const to).cast(),
            libc::socklen_t::try_from(size_of_val(&to))?,
        )
    };
    ensure!(
        usize::try_from(sent).is_ok_and(|sent| sent == segment.len()),
        "sendto: {}",
        io::Error::last_os_error()
    );
    Ok(())
}

/// An address with a port.
///
/// # Panics
/// It is no address.
pub fn at(ip: &str, port: u16) -> SocketAddr {
    let ip: IpAddr = ip.parse().unwrap_or_else(|_| panic!("{ip} is an address"));
    SocketAddr::new(ip, port)
}

/// Forgets a connection without a word to the other side, as a reboot or the time-out of a NAT does.
///
/// # Errors
/// The kernel does not let us.
pub fn forget(stream: TcpStream) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is an int that lives through the call; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of_val(&on))?,
        )
    };
    // A socket under repair is closed silently.
    ensure!(result == 0, "TCP_REPAIR: {}", io::Error::last_os_error());
    drop(stream);
    Ok(())
}
