//! A third host behind the scanned one, which forwards to it.

use std::{net::TcpListener, thread, time::Duration};

use anyhow::{Context as _, Result};

use crate::lab::{Lab, Namespace, SCANNER};

/// The network between the two.
pub const BEHIND: &str = "10.80.0.2";
const VICTIM_BEHIND: &str = "10.80.0.1";
/// The first bytes of a network that is routed through the scanned host to the third one.
pub const HOME: &str = "10.79.0";

/// Joins a third host to the victim's other side, and has the victim forward.
///
/// # Errors
/// `ip` could not.
pub fn join(lab: &Lab) -> Result<Namespace> {
    let behind = Namespace::new("behind")?;
    lab.victim.ip(&format!("link add inner0 type veth peer name up0 netns {}", behind.name()))?;
    for (host, interface, address) in [(&lab.victim, "inner0", VICTIM_BEHIND), (&behind, "up0", BEHIND)] {
        host.ip(&format!("link set {interface} addrgenmode none"))?;
        host.ip(&format!("addr add {address}/24 dev {interface}"))?;
        host.ip(&format!("link set {interface} up"))?;
    }
    lab.victim.sysctl("ipv4/ip_forward", "1")?;
    behind.ip(&format!("route add default via {VICTIM_BEHIND}"))?;
    lab.victim.ip(&format!("route add {HOME}.0/24 via {BEHIND}"))?;
    lab.scanner.ip(&format!("route add {HOME}.0/24 via {}", crate::lab::VICTIM))?;
    // Answers of what forwards are counted, not those about how it forwards.
    lab.victim.sysctl("ipv4/conf/all/send_redirects", "0")?;
    Ok(behind)
}

/// How long a client may be silent before it is let go.
const SILENCE: Duration = Duration::from_secs(2);

/// Accepts connections at a port of all addresses of a host, and reads what is said, for as long as the test runs.
///
/// # Errors
/// The port is taken.
pub fn serve(host: &Namespace, port: u16) -> Result<()> {
    let listener = host.enter(|| TcpListener::bind(("0.0.0.0", port)).context("bind"))?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                // Until the client has nothing more to say; a server that closes at once would accept nothing of it.
                let _ = stream.set_read_timeout(Some(SILENCE));
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            });
        }
    });
    Ok(())
}

/// Publishes a port of the victim's address by DNAT to the third host.
///
/// # Errors
/// `nft` could not.
pub fn publish(lab: &Lab, port: u16, to: u16) -> Result<()> {
    translate(lab, port, &format!("dnat to {BEHIND}:{to}"))
}

/// Publishes a port of the victim's address by redirecting it to another one there.
///
/// # Errors
/// `nft` could not.
pub fn redirect(lab: &Lab, port: u16, to: u16) -> Result<()> {
    translate(lab, port, &format!("redirect to :{to}"))
}

fn translate(lab: &Lab, port: u16, verdict: &str) -> Result<()> {
    let rules = format!(
        "table ip nat {{ chain prerouting {{ type nat hook prerouting priority dstnat; \
         ip daddr {} tcp dport {port} {verdict}; }}; }}",
        crate::lab::VICTIM
    );
    crate::lab::run(lab.victim.command("nft").arg(rules)).map(drop)
}

/// Connects from the scanner, and closes at once.
///
/// # Errors
/// Nobody answers.
pub fn connect(lab: &Lab, address: &str, port: u16, times: usize) -> Result<()> {
    lab.scanner.enter(|| {
        for _ in 0..times {
            std::net::TcpStream::connect((address, port))
                .with_context(|| format!("{SCANNER} to {address}"))?;
        }
        Ok(())
    })
}
