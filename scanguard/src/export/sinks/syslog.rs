//! Syslog: RFC 5424 over UDP (RFC 5426) and TCP (RFC 6587, octet counting), and the format of syslog(3) over the
//! local socket.

use std::io;

use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpStream, UdpSocket, UnixDatagram},
};

use super::{
    super::forms::Formatter,
    settings::{Facility, Transport},
    worker::{Deliver, Failure, datagram},
};
use crate::detect::{
    Severity,
    findings::{Event, EventKind},
};

/// The limit of RFC 5424 for a host's name.
const MAX_HOST: usize = 255;
const APP: &str = "scanguard";

/// The sink.
pub(super) struct Syslog {
    transport: Transport,
    facility: Facility,
    formatter: Formatter,
    stream: Option<TcpStream>,
}

impl Syslog {
    /// A sink for the server behind this transport.
    pub(super) fn new(transport: Transport, facility: Facility, formatter: Formatter) -> Self {
        Self { transport, facility, formatter, stream: None }
    }

    /// RFC 5424, section 6.
    fn message(&self, event: &Event) -> Result<String, Failure> {
        Ok(format!(
            "<{}>1 {:.6} {} {APP} {} {} [origin software=\"scanguard\" swVersion=\"{}\"] {}",
            self.priority(event),
            event.time,
            host(&self.formatter.context().host),
            std::process::id(),
            event.kind.label(),
            env!("CARGO_PKG_VERSION"),
            self.formatter.line(event)?,
        ))
    }

    /// The format of syslog(3). journald and rsyslog accept only this at the local socket, and add the time
    /// themselves.
    fn local_message(&self, event: &Event) -> Result<String, Failure> {
        let line = self.formatter.line(event)?;
        Ok(format!("<{}>{APP}[{}]: {line}", self.priority(event), std::process::id()))
    }

    fn priority(&self, event: &Event) -> u8 {
        let severity = match (event.kind, event.finding.severity) {
            (EventKind::Closed, _) | (EventKind::Opened | EventKind::Updated, Severity::Info) => 6,
            (EventKind::Opened | EventKind::Updated, Severity::Low) => 5,
            (EventKind::Opened | EventKind::Updated, Severity::Medium) => 4,
            (EventKind::Opened | EventKind::Updated, Severity::High) => 3,
        };
        self.facility.number() * 8 + severity
    }

    async fn send(&mut self, event: &Event) -> Result<(), Failure> {
        match self.transport.clone() {
            Transport::Udp(address) => {
                let message = self.message(event)?;
                // The name is resolved each time: events are rare, and addresses may change.
                let server = tokio::net::lookup_host(&address).await?.next();
                let server = server.ok_or_else(|| io::Error::other("the name has no address"))?;
                let own = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                datagram(UdpSocket::bind(own).await?.send_to(message.as_bytes(), server).await)
            }
            Transport::Tcp(address) => {
                let message = self.message(event)?;
                // Taken out, so that a connection with a partially sent message is not used again.
                let mut stream = match self.stream.take().filter(is_open) {
                    Some(stream) => stream,
                    None => TcpStream::connect(&address).await?,
                };
                stream.write_all(format!("{} {message}", message.len()).as_bytes()).await?;
                self.stream = Some(stream);
                Ok(())
            }
            Transport::Unix(path) => {
                let message = self.local_message(event)?;
                datagram(UnixDatagram::unbound()?.send_to(message.as_bytes(), path).await)
            }
        }
    }
}

/// Whether the server has not closed the connection: writing to a closed one would lose the message without an error.
/// (The server never sends data.)
fn is_open(stream: &TcpStream) -> bool {
    let mut byte = [0];
    matches!(stream.try_read(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// A name without the characters that RFC 5424 forbids there.
fn host(name: &str) -> String {
    let name: String = name.chars().filter(char::is_ascii_graphic).take(MAX_HOST).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

impl Deliver for Syslog {
    async fn deliver(&mut self, event: &Event) -> Result<(), Failure> {
        self.send(event).await.map_err(|failure| match failure {
            Failure::Away(why) => Failure::Away(format!("{}: {why}", self.transport)),
            Failure::Unable(why) => Failure::Unable(why),
            Failure::Refused(why) => Failure::Refused(why),
        })
    }
}
