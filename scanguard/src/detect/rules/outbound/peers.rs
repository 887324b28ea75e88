//! Tells a client of peers that all have one port (IPFS, Ethereum) from a sweep of that port.
//!
//! Most of the peers that others name are gone, so that the failures look the same. But such a client is a peer itself:
//! the same executable, in the same control group and network namespace, listens at that port, and strangers call there, in
//! connections that the kernel established. And some of those that it calls answer and are spoken to.
//!
//! A scanner that wants to look like that has to serve the port that it scans, by its own executable, where hosts of eight
//! networks can reach it; to have accomplices there who call it every hour; and to know an address that answers, and that it
//! has never called before, for each eight that do not. Ports below 1024, and those where one logs in, are left out: there,
//! a service that was taken over scans for others of its kind.

use scanguard_common::{actor::is_login, wire::protocol};

use crate::detect::Source;

/// So many networks called in the last one to two hours, at least. Whoever scans the Internet for all ports, and
/// completes connections, comes from fewer.
const NETWORKS: u64 = 8;

/// So many failures for each address that answered and was spoken to, at most. Scans of random addresses meet far fewer.
pub(super) const FAILURES_PER_ANSWER: u64 = 8;

/// The port at which an actor is a peer among peers; nothing, if it is none. Most of its latest targets have that port. Somebody
/// who never used the network here before is none either.
pub(super) fn port(source: &Source<'_>) -> Option<u16> {
    let known = source.known.filter(|known| known.news.usual)?;
    let samples = || source.delta.samples.iter().filter(|sample| sample.taken == 1);
    let is_most = |port: u16| {
        let of_it = samples().filter(|sample| sample.protocol == protocol::TCP && sample.port == port);
        of_it.count() * 2 > samples().count()
    };
    let serves = known.serves.iter().filter(|serves| serves.networks >= NETWORKS && !is_login(serves.port));
    serves.map(|serves| serves.port).find(|port| is_most(*port))
}

#[cfg(test)]
mod tests {
    use scanguard_common::actor::Key;

    use super::super::testing::*;

    /// The reports about an actor that calls peers at one port and serves a port: how many of its calls fail, how many are
    /// answered, and from how many networks it was called.
    fn told_of(
        failures: u32,
        answers: u32,
        served: u16,
        port: u16,
        networks: u64,
    ) -> Vec<(Key, &'static str)> {
        told(|script| {
            script.usual().serves(served, networks);
            for host in 0..failures + answers {
                for actor in [PROGRAM, GROUP] {
                    script.at(u64::from(host / 20)).ask(actor, host, port);
                    if host % (failures + answers).div_ceil(answers.max(1)) == 0 {
                        script.answered();
                    }
                }
            }
        })
    }

    #[test]
    fn a_peer_among_peers_is_quiet_and_a_sweep_with_as_many_failures_is_told() {
        for (served, port, networks, quiet) in [
            (4_001, 4_001, 20, true),
            (4_001, 4_001, 8, true),
            (4_001, 4_001, 7, false),
            (4_001, 4_001, 0, false),
            (4_001, 4_002, 20, false),
            (2_222, 2_222, 50, false),
        ] {
            let told = told_of(120, 40, served, port, networks);
            let expected: &[_] = if quiet { &[] } else { &[(PROGRAM, "outbound_sweep")] };
            assert_eq!(told, expected, "serves {served}, calls {port}, {networks} networks called");
        }
    }

    #[test]
    fn a_peer_that_nearly_nobody_answers_scans() {
        assert_eq!(told_of(160, 40, 4_001, 4_001, 20), []);
        assert_eq!(told_of(390, 10, 4_001, 4_001, 20), [(PROGRAM, "outbound_sweep")]);
    }

    #[test]
    fn a_program_that_was_never_seen_before_is_no_peer() {
        let told = told(|script| {
            script.learned(true).serves(4_001, 20);
            for host in 0..160 {
                script.at(u64::from(host / 20)).ask(PROGRAM, host, 4_001);
                if host % 4 == 0 {
                    script.answered();
                }
            }
        });
        assert_eq!(told, [(PROGRAM, "outbound_sweep")]);
    }
}
