//! portsentry, which looks at ports below 1024 by a raw socket (`-atcp`). It does not count packets.

use anyhow::Result;
use scanguard_tests::fixtures::lab::Lab;

use super::{Peer, Running, place::Place};

pub(super) const PEER: Peer = Peer { name: "portsentry -atcp", start };

struct Portsentry<'l>(Place<'l>);

fn start<'l>(lab: &'l Lab) -> Result<Box<dyn Running + 'l>> {
    let mut place = Place::new(lab, "portsentry")?;
    place.run("mkdir -p /var/lib/portsentry && portsentry -atcp && exec sleep 600")?;
    place.await_log("now active and listening")?;
    Ok(Box::new(Portsentry(place)))
}

impl Running for Portsentry<'_> {
    fn has_spoken(&mut self) -> Result<bool> {
        Ok(self.0.is_logged("scan from host"))
    }
}
