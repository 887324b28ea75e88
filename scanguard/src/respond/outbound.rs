//! Decides which actors are blocked: programs of this host that scan others. Pure but for the sensor that it orders to.
//!
//! A block ends by itself after [`LASTS`]. Those are never blocked that this host depends on ([`mod@never`]), and at most
//! [`MOST_PER_MINUTE`] within a minute: a rule that is wrong must not cut off a host.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use scanguard_common::{actor::MAX_BLOCKED, address::Address, numbered};

use crate::{
    clock::Now,
    detect::{
        Confidence, Proof, Severity,
        findings::{Direction, Finding},
        rules::outbound::SCANS,
    },
    outbound::{Actor, never, settings::Response},
    sensor::{ActorSensor, gate::GateMode},
    settings::Interval,
};

/// How long a block lasts.
pub const LASTS: Duration = Duration::from_secs(5 * 60);
/// How many blocks may begin within a minute.
pub const MOST_PER_MINUTE: usize = 5;
const MINUTE: Duration = Duration::from_secs(60);

numbered! {
    /// What was decided about an actor, for the metrics.
    Outcome {
        /// It is blocked.
        Blocked = "blocked",
        /// It would be, if blocking were on.
        Counted = "counted",
        /// It is never blocked.
        Never = "never",
        /// Too many blocks began within a minute.
        Breaker = "breaker",
        /// There is no room for another block.
        Full = "full",
        /// The kernel did not take it.
        Failed = "failed",
    }
}

/// Why an actor is not blocked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The response is to observe.
    Observing,
    /// Its finding is not about a scan for certain.
    Unsure,
    /// This host depends on it.
    Never(&'static str),
    /// Too many blocks began within a minute.
    Breaker,
    /// There is no room.
    Full,
    /// The kernel did not take it.
    Kernel(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Observing => f.write_str("not blocked: the response is to observe (outbound.response)"),
            Self::Unsure => {
                f.write_str("not blocked: it is not certain enough that this is a scan by this program")
            }
            Self::Never(why) => write!(f, "never blocked: {why}"),
            Self::Breaker => write!(f, "not blocked: {MOST_PER_MINUTE} blocks began within the last minute"),
            Self::Full => write!(f, "not blocked: {MAX_BLOCKED} actors are"),
            Self::Kernel(error) => write!(f, "not blocked: {error}"),
        }
    }
}

/// A block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Block {
    /// When it ends, by the monotonic clock.
    until: Duration,
    /// Whether attempts are refused, rather than counted.
    refuses: bool,
}

/// The blocks in force.
#[derive(Debug)]
pub struct Blocks {
    response: Response,
    /// This agent's pid.
    agent: u32,
    blocks: HashMap<Address, Block>,
    /// When blocks began within the last minute.
    begun: VecDeque<Duration>,
}

impl Blocks {
    /// No blocks, for an agent with this pid.
    pub fn new(response: Response, agent: u32, sensor: &mut dyn ActorSensor) -> Self {
        let mut blocks = Self { response, agent, blocks: HashMap::new(), begun: VecDeque::new() };
        blocks.set_response(response, sensor);
        blocks
    }

    /// Changes the response. Blocks that refuse end if it does not block any more.
    pub fn set_response(&mut self, response: Response, sensor: &mut dyn ActorSensor) {
        self.response = response;
        let mode = match response {
            Response::Observe => GateMode::Off,
            Response::DryRun => GateMode::DryRun,
            Response::Block => GateMode::Enforce,
        };
        if let Err(error) = sensor.set_mode(mode) {
            tracing::error!("outbound.response could not be put into force: {error}");
        }
        if response == Response::Block {
            return;
        }
        end(self.blocks.extract_if(|_, block| block.refuses), sensor);
    }

    /// How many actors are blocked.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Takes the blocks out of the kernel whose time is over: they would have it look at all datagrams, and fill its table.
    pub fn expire(&mut self, now: Now, sensor: &mut dyn ActorSensor) {
        end(self.blocks.extract_if(|_, block| block.until <= now.at), sensor);
    }

    /// Decides about the actor of a finding, and carries it out. Returns what is new; nothing if the actor is blocked
    /// already, or the response is to observe.
    pub fn consider(&mut self, finding: &Finding, now: Now, sensor: &mut dyn ActorSensor) -> Option<Outcome> {
        self.expire(now, sensor);
        while self.begun.front().is_some_and(|begun| now.at.saturating_sub(*begun) >= MINUTE) {
            self.begun.pop_front();
        }
        if self.blocks.contains_key(&finding.source) {
            return None;
        }
        let refuses = self.response == Response::Block;
        let decided = self.judge(finding).and_then(|()| match sensor.block(&finding.source, Some(LASTS)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::Kernel("the programs that block are not loaded".to_owned())),
            Err(error) => Err(Refusal::Kernel(error.to_string())),
        });
        match decided {
            Ok(()) => {
                self.blocks.insert(finding.source, Block { until: now.at + LASTS, refuses });
                self.begun.push_back(now.at);
                let actor = finding.actor.as_ref().map_or_else(String::new, ToString::to_string);
                let what = if refuses { "blocked" } else { "would be blocked" };
                tracing::warn!(id = finding.id, "{actor} {what} for {}: {}", Interval(LASTS), finding.reason);
                Some(if refuses { Outcome::Blocked } else { Outcome::Counted })
            }
            Err(Refusal::Never(_)) => Some(Outcome::Never),
            Err(Refusal::Breaker) => Some(Outcome::Breaker),
            Err(Refusal::Full) => Some(Outcome::Full),
            Err(Refusal::Kernel(error)) => {
                tracing::error!("an actor could not be blocked: {error}");
                Some(Outcome::Failed)
            }
            Err(Refusal::Observing | Refusal::Unsure) => None,
        }
    }

    /// Whether the actor of a finding may be blocked now.
    fn judge(&self, finding: &Finding) -> Result<(), Refusal> {
        let Some(actor) = finding.actor.as_ref().filter(|_| finding.direction() == Direction::Outbound)
        else {
            return Err(Refusal::Unsure);
        };
        if self.response == Response::Observe {
            return Err(Refusal::Observing);
        }
        let is_sure = SCANS.contains(&finding.rule)
            && finding.severity >= Severity::Medium
            && finding.known().0 == Confidence::High
            && finding.proof() == Proof::Connection;
        if !is_sure {
            return Err(Refusal::Unsure);
        }
        if let Some(why) = never::why(actor, self.agent) {
            return Err(Refusal::Never(why));
        }
        if self.begun.len() >= MOST_PER_MINUTE {
            return Err(Refusal::Breaker);
        }
        if self.blocks.len() >= MAX_BLOCKED as usize {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    /// What holds for the actor of a finding, in words.
    pub fn explain(&self, finding: &Finding, now: Now) -> String {
        self.standing(&finding.source, now).unwrap_or_else(|| match self.judge(finding) {
            Ok(()) => "to be blocked".to_owned(),
            Err(refusal) => refusal.to_string(),
        })
    }

    /// What holds for an actor, whether it has findings or not, in words.
    pub fn explain_actor(&self, actor: &Actor, findings: &[Finding], now: Now) -> String {
        let address = actor.key.address();
        if let Some(standing) = self.standing(&address, now) {
            return standing;
        }
        // Notices are no grounds for a block.
        let worst = findings
            .iter()
            .max_by_key(|finding| (SCANS.contains(&finding.rule), finding.severity, finding.known().0));
        if let Some(finding) = worst {
            return format!("{}: {}", finding.rule, self.explain(finding, now));
        }
        match never::why(actor, self.agent) {
            Some(why) => format!("never blocked: {why}; it has no open finding"),
            None => "not blocked: it has no open finding".to_owned(),
        }
    }

    /// The block of an actor, in words.
    fn standing(&self, actor: &Address, now: Now) -> Option<String> {
        let Block { until, refuses } = self.blocks.get(actor).filter(|block| block.until > now.at)?;
        let left = Interval(Duration::from_secs((*until - now.at).as_secs()));
        Some(if *refuses {
            format!("blocked for {left} more: its new connections and datagrams are refused")
        } else {
            format!("would be blocked for {left} more: the response is a dry run (outbound.response)")
        })
    }
}

/// Ends blocks in the kernel.
fn end(blocks: impl Iterator<Item = (Address, Block)>, sensor: &mut dyn ActorSensor) {
    for (actor, _) in blocks {
        if let Err(error) = sensor.block(&actor, None) {
            tracing::warn!("a block could not be ended, and ends by itself: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use scanguard_common::actor::{Key, Kind};

    use super::*;
    use crate::{
        detect::rules::outbound::testing::{OutScript, PROGRAM},
        outbound::{baseline::News, identity::testing::Draft},
        pipeline::outbound::testing::FakeActors,
    };

    fn now(second: u64) -> Now {
        let at = Duration::from_secs(second);
        Now { at, wall: Timestamp::UNIX_EPOCH + at }
    }

    /// A sweep by this program.
    fn sweep(path: &str) -> Finding {
        let mut script = OutScript::all_rules();
        script.is(PROGRAM, &Draft::new(path, "/system.slice/web.service"), News::default());
        (0..60).for_each(|host| _ = script.ask(PROGRAM, host, 22));
        script.events().remove(0).finding
    }

    fn of_group(finding: &Finding, group: u64) -> Finding {
        let key = Key { group, ..Key::from_address(finding.source) };
        let mut finding = finding.clone();
        finding.source = key.address();
        finding
    }

    #[test]
    fn a_scan_is_blocked_for_a_while_and_once() {
        let (finding, mut sensor) = (sweep("/usr/bin/python3"), FakeActors::new());
        let mut blocks = Blocks::new(Response::Block, 1, &mut FakeActors::new());
        assert_eq!(blocks.explain(&finding, now(1)), "to be blocked");
        assert_eq!(blocks.consider(&finding, now(1), &mut sensor), Some(Outcome::Blocked));
        assert_eq!(blocks.consider(&finding, now(2), &mut sensor), None);
        assert_eq!(sensor.blocked, [(finding.source, Some(LASTS))]);
        assert!(blocks.explain(&finding, now(2)).starts_with("blocked for 4m 59s more"));
        assert_eq!(blocks.consider(&finding, now(302), &mut sensor), Some(Outcome::Blocked));
    }

    #[test]
    fn the_kernel_forgets_a_block_that_is_over_though_nobody_scans_any_more() {
        let (finding, mut sensor) = (sweep("/usr/bin/python3"), FakeActors::new());
        let mut blocks = Blocks::new(Response::Block, 1, &mut sensor);
        blocks.consider(&finding, now(1), &mut sensor);
        blocks.expire(now(300), &mut sensor);
        assert_eq!((blocks.len(), sensor.blocked.len()), (1, 1));
        blocks.expire(now(301), &mut sensor);
        assert!(blocks.is_empty());
        assert_eq!(sensor.blocked.last(), Some(&(finding.source, None)));
    }

    #[test]
    fn nothing_is_refused_unless_blocking_is_on() {
        let finding = sweep("/usr/bin/python3");
        for (response, outcome, mode, ordered) in [
            (Response::Observe, None, GateMode::Off, 0),
            (Response::DryRun, Some(Outcome::Counted), GateMode::DryRun, 1),
        ] {
            let mut sensor = FakeActors::new();
            let mut blocks = Blocks::new(response, 1, &mut sensor);
            assert_eq!(blocks.consider(&finding, now(1), &mut sensor), outcome);
            assert_eq!((sensor.mode, sensor.blocked.len()), (mode, ordered));
        }
        let mut sensor = FakeActors::new();
        let mut blocks = Blocks::new(Response::Block, 1, &mut FakeActors::new());
        blocks.consider(&finding, now(1), &mut sensor);
        blocks.set_response(Response::Observe, &mut sensor);
        assert_eq!(sensor.blocked.last(), Some(&(finding.source, None)));
        assert!(blocks.is_empty());
    }

    #[test]
    fn those_that_this_host_depends_on_and_the_unsure_are_spared() {
        let mut blocks = Blocks::new(Response::Block, 1, &mut FakeActors::new());
        let mut sensor = FakeActors::new();
        let sshd = sweep("/usr/sbin/sshd");
        assert_eq!(blocks.consider(&sshd, now(1), &mut sensor), Some(Outcome::Never));
        assert_eq!(blocks.explain(&sshd, now(1)), "never blocked: the SSH server");
        let mut low = sweep("/usr/bin/python3");
        low.severity = Severity::Low;
        assert_eq!(blocks.consider(&low, now(1), &mut sensor), None);
        let mut notice = sweep("/usr/bin/python3");
        notice.rule = "first_network_use";
        assert_eq!(blocks.consider(&notice, now(1), &mut sensor), None);
        assert_eq!(sensor.blocked, []);
    }

    #[test]
    fn the_breaker_ends_a_storm_of_blocks() {
        let (finding, mut sensor) = (sweep("/usr/bin/python3"), FakeActors::new());
        let mut blocks = Blocks::new(Response::Block, 1, &mut FakeActors::new());
        let outcomes: Vec<_> = (1..=7)
            .map(|group| blocks.consider(&of_group(&finding, group), now(group), &mut sensor))
            .collect();
        assert_eq!(outcomes[..5], [Some(Outcome::Blocked); 5]);
        assert_eq!(outcomes[5..], [Some(Outcome::Breaker); 2]);
        assert_eq!(blocks.consider(&of_group(&finding, 8), now(62), &mut sensor), Some(Outcome::Blocked));
        assert_eq!(Key::from_address(sensor.blocked[0].0).kind, Kind::Program);
    }

    #[test]
    fn a_sensor_that_cannot_block_is_said() {
        let (finding, mut sensor) = (sweep("/usr/bin/python3"), FakeActors::new());
        sensor.can_block = false;
        let mut blocks = Blocks::new(Response::Block, 1, &mut FakeActors::new());
        assert_eq!(blocks.consider(&finding, now(1), &mut sensor), Some(Outcome::Failed));
        assert!(blocks.is_empty());
    }
}
