//! Tests the responder with an enforcer that needs no kernel.

use super::{
    super::{
        orders::{self, Order, OrderError},
        testing::*,
    },
    *,
};
use crate::{
    detect::{Confidence, findings::Spoofable},
    metrics::Register,
    sources::Sources,
};

pub(in crate::respond) fn metrics() -> Arc<ResponseMetrics> {
    Arc::new(ResponseMetrics::new(&Register::default()).unwrap())
}

pub(in crate::respond) fn settings(mode: Mode) -> Settings {
    Settings { mode, jitter: 0, ..Settings::default() }
}

/// A responder with a fake enforcer, in place of a whole agent.
pub(in crate::respond) struct Bench {
    pub(in crate::respond) responder: Responder,
    pub(in crate::respond) enforcer: FakeEnforcer,
}

impl Bench {
    pub(in crate::respond) fn new(mode: Mode) -> Self {
        Self::restored(settings(mode), None, 0, FakeEnforcer::default())
    }

    pub(in crate::respond) fn restored(
        settings: Settings,
        state: Option<State>,
        second: u64,
        enforcer: FakeEnforcer,
    ) -> Self {
        let responder = Responder::new(settings, Sources::new(64, &[]), state, metrics(), now(second));
        let mut bench = Self { responder, enforcer };
        let found = Discovered { own: vec![net("192.0.2.1/32")], ..Discovered::default() };
        bench.responder.set_discovered(found, now(second), &mut bench.enforcer);
        bench.responder.enter(now(second), &mut bench.enforcer).unwrap();
        bench
    }

    /// A finding that may ban, by default.
    pub(in crate::respond) fn find(&mut self, text: &str, second: u64) -> Decision {
        self.find_by(text, Spoofable::No { completed: 1 }, second)
    }

    /// A finding on evidence whose address may be forged.
    pub(in crate::respond) fn find_unproven(&mut self, text: &str, second: u64) -> Decision {
        self.find_by(text, Spoofable::Yes, second)
    }

    fn find_by(&mut self, text: &str, spoofable: Spoofable, second: u64) -> Decision {
        let cause = Cause::Rule {
            rule: "vertical_scan".to_owned(),
            finding: "1-0".to_owned(),
            confidence: Confidence::High,
            spoofable,
            had_connections: false,
            has_grounds: true,
            reason: "40 syn probes".to_owned(),
        };
        self.responder.make(net(text), &cause, now(second), &mut self.enforcer)
    }

    pub(in crate::respond) fn order(
        &mut self,
        order: Order,
        second: u64,
    ) -> Result<crate::respond::report::Done, OrderError> {
        orders::carry_out(&mut self.responder, order, 0, now(second), &mut self.enforcer)
    }

    pub(in crate::respond) fn ban(
        &mut self,
        text: &str,
        seconds: Option<u64>,
    ) -> Result<crate::respond::report::Done, OrderError> {
        let lasts = seconds.map(Duration::from_secs);
        self.order(Order::Ban { net: net(text), lasts, reason: "noise".to_owned() }, 0)
    }

    pub(in crate::respond) fn set(
        &mut self,
        mode: Mode,
        confirm: Option<u64>,
        second: u64,
    ) -> Result<crate::respond::report::Done, OrderError> {
        self.order(Order::Mode { mode, confirm: confirm.map(Duration::from_secs) }, second)
    }

    pub(in crate::respond) fn chores(&mut self, second: u64) {
        self.responder.chores(now(second), &mut self.enforcer);
    }

    /// The same for a shield.
    pub(in crate::respond) fn shield(&self, text: &str) -> Option<(Option<u64>, bool)> {
        let shield = self.enforcer.shields.get(&net(text));
        shield.map(|(lasts, enforced)| (lasts.map(|lasts| lasts.as_secs()), *enforced))
    }

    /// The seconds, and whether it drops.
    pub(in crate::respond) fn enforcer(&self, text: &str) -> Option<(Option<u64>, bool)> {
        self.enforcer
            .bans
            .get(&net(text))
            .map(|(lasts, enforced)| (lasts.map(|lasts| lasts.as_secs()), *enforced))
    }
}
