//! scanlogd, which looks at all of TCP by a raw socket. It does not count packets.

use anyhow::Result;
use scanguard_tests::fixtures::lab::Lab;

use super::{Peer, Running, place::Place};

pub(super) const PEER: Peer = Peer { name: "scanlogd", start };

/// With the user that its package would make.
const SCRIPT: &str = "echo 'scanlogd:x:64871:64871::/nonexistent:/bin/false' >> /etc/passwd && \
    echo 'scanlogd:x:64871:' >> /etc/group && mkdir -p /run/scanlogd/empty && scanlogd && exec sleep 600";

struct Scanlogd<'l>(Place<'l>);

fn start<'l>(lab: &'l Lab) -> Result<Box<dyn Running + 'l>> {
    let mut place = Place::new(lab, "scanlogd")?;
    place.run(SCRIPT)?;
    // It says nothing when it starts.
    std::thread::sleep(std::time::Duration::from_secs(1));
    place.check()?;
    Ok(Box::new(Scanlogd(place)))
}

impl Running for Scanlogd<'_> {
    fn has_spoken(&mut self) -> Result<bool> {
        Ok(self.0.is_logged("scanlogd"))
    }
}
