//! A client of the server: real connections from any of its host's addresses.

use std::{
    io::{Read as _, Write as _},
    mem::MaybeUninit,
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::fixtures::{frames, lab::Namespace};

/// Long enough for an answer within one machine, and for two more SYNs after a lost one.
const ANSWERED_WITHIN: Duration = Duration::from_secs(4);
/// The same where no answer should come: for a SYN and one more.
const SILENT_FOR: Duration = Duration::from_millis(1_300);
/// Choose a queue whose number is asked for (linux/tcp.h).
const RECEIVED: libc::c_int = 1;
const SENT: libc::c_int = 2;
/// Ends repair without a probe of the window (linux/tcp.h, `TCP_REPAIR_OFF_NO_WP`).
const REPAIR_OFF: libc::c_int = -1;

/// The numbers of a connection, as the client has them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Numbers {
    /// The sequence number of the next byte that it sends.
    pub next: u32,
    /// The one that it expects from the server.
    pub awaited: u32,
}

/// A connection.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects from an address of a host.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn connect(host: &Namespace, from: IpAddr, to: SocketAddr) -> Result<Self> {
        Self::connect_from(host, SocketAddr::new(from, 0), to, |_| Ok(()))
    }

    /// Connects from an end of a host by a socket that is changed before.
    ///
    /// # Errors
    /// Nobody answers, or the socket does not take the change.
    pub fn connect_from(
        host: &Namespace,
        from: SocketAddr,
        to: SocketAddr,
        change: impl FnOnce(&Socket) -> Result<()> + Send,
    ) -> Result<Self> {
        Self::connect_within(ANSWERED_WITHIN, host, from, to, change)
    }

    fn connect_within(
        patience: Duration,
        host: &Namespace,
        from: SocketAddr,
        to: SocketAddr,
        change: impl FnOnce(&Socket) -> Result<()> + Send,
    ) -> Result<Self> {
        host.enter(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
            change(&socket)?;
            socket.bind(&from.into()).with_context(|| format!("bind to {from}"))?;
            socket.connect_timeout(&to.into(), patience).with_context(|| format!("{from} to {to}"))?;
            socket.set_read_timeout(Some(patience))?;
            socket.set_tcp_nodelay(true)?;
            Ok(Self { stream: socket.into() })
        })
    }

    /// Its own end.
    ///
    /// # Errors
    /// The socket has none.
    pub fn end(&self) -> Result<SocketAddr> {
        Ok(self.stream.local_addr()?)
    }

    /// Sends a text.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, text: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(text)?)
    }

    /// The status of the next answer, which is read whole.
    ///
    /// # Errors
    /// None comes.
    pub fn status(&mut self) -> Result<u16> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).context("no answer")?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length = length.map_or(Ok(0), |length| length.trim().parse())?;
        self.stream.read_exact(&mut vec![0; length]).context("half an answer")?;
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).with_context(|| head.clone())
    }

    /// The numbers of the connection, which goes on.
    ///
    /// # Errors
    /// The kernel does not tell them.
    pub fn numbers(&self) -> Result<Numbers> {
        self.set(libc::TCP_REPAIR, 1)?;
        let next = self.queue(SENT);
        let awaited = self.queue(RECEIVED);
        self.set(libc::TCP_REPAIR, REPAIR_OFF)?;
        Ok(Numbers { next: next?, awaited: awaited? })
    }

    fn queue(&self, which: libc::c_int) -> Result<u32> {
        self.set(libc::TCP_REPAIR_QUEUE, which)?;
        let mut value = MaybeUninit::<u32>::uninit();
        let mut length = libc::socklen_t::try_from(size_of::<u32>())?;
        // SAFETY: room for a number, and its length; the descriptor is open.
        let result = unsafe {
            libc::getsockopt(
                self.stream.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_QUEUE_SEQ,
                value.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        ensure!(result == 0, "TCP_QUEUE_SEQ: {}", std::io::Error::last_os_error());
        // SAFETY: the kernel has written it.
        Ok(unsafe { value.assume_init() })
    }

    fn set(&self, option: libc::c_int, value: libc::c_int) -> Result<()> {
        set_option(self.stream.as_raw_fd(), libc::IPPROTO_TCP, option, &value.to_ne_bytes())
    }
}

/// Gives the packets of a socket, from its SYN on, a header of IPv6 destination options of about so many bytes: options that every
/// stack skips.
///
/// # Errors
/// The kernel does not take it.
pub fn destination_options(socket: &Socket, bytes: usize) -> Result<()> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, &frames::options(0, bytes))
}

/// Gives the packets of a socket, from its SYN on, all the options that an IPv4 header has room for: 40 that mean nothing.
///
/// # Errors
/// The kernel does not take it.
pub fn ip_options(socket: &Socket) -> Result<()> {
    const NO_OPERATION: u8 = 1;
    set_option(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_OPTIONS, &[NO_OPERATION; 40])
}

fn set_option(descriptor: libc::c_int, level: libc::c_int, option: libc::c_int, value: &[u8]) -> Result<()> {
    // SAFETY: the value lives through the call and is as long as is said; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            descriptor,
            level,
            option,
            value.as_ptr().cast(),
            libc::socklen_t::try_from(value.len())?,
        )
    };
    ensure!(result == 0, "socket option {option}: {}", std::io::Error::last_os_error());
    Ok(())
}

/// A request with this User-Agent, or with a browser's.
pub fn request(path: &str, agent: Option<&str>, goes_on: bool) -> Vec<u8> {
    const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0";
    let connection = if goes_on { "keep-alive" } else { "close" };
    let agent = agent.unwrap_or(BROWSER);
    format!(
        "GET {path} HTTP/1.1\r\nHost: shop.test\r\nUser-Agent: {agent}\r\nConnection: {connection}\r\n\r\n"
    )
    .into_bytes()
}

/// A hello of SSL 3.0 to TLS 1.2, by turns, with as many ciphers as its kind says.
pub fn hello(kind: u8) -> Vec<u8> {
    let ciphers: Vec<u8> = (0..=kind).flat_map(|n| [0xc0, 0x10 + n]).collect();
    let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
    let body = [&[3, kind % 4], [kind; 32].as_slice(), &[0], &length(&ciphers), &ciphers, &[1, 0]].concat();
    let message = [&[1, 0], length(&body).as_slice(), &body].concat();
    [&[22, 3, 1], length(&message).as_slice(), &message].concat()
}

/// One request by a connection of its own; the status of the answer.
///
/// # Errors
/// None comes.
pub fn get(host: &Namespace, from: IpAddr, to: SocketAddr, path: &str, agent: Option<&str>) -> Result<u16> {
    let mut client = Client::connect(host, from, to)?;
    client.send(&request(path, agent, false))?;
    client.status()
}

/// Whether one who should get no answer gets one.
pub fn is_answered(host: &Namespace, from: IpAddr, to: SocketAddr) -> bool {
    is_answered_with(host, from, to, |_| Ok(()))
}

/// The same by a socket that is changed before.
pub fn is_answered_with(
    host: &Namespace,
    from: IpAddr,
    to: SocketAddr,
    change: impl FnOnce(&Socket) -> Result<()> + Send,
) -> bool {
    let from = SocketAddr::new(from, 0);
    let answered = Client::connect_within(SILENT_FOR, host, from, to, change).and_then(|mut client| {
        client.send(&request("/", None, false))?;
        client.status()
    });
    answered.is_ok()
}
