//! Real packets on real (veth) interfaces: real tools scan, the real agent watches, tcpdump counts beside it.

mod above;
mod answered;
mod auto;
mod bare;
mod cards;
mod clsact;
mod coexistence;
mod content;
mod counts;
mod crafted;
mod crowdsec;
mod doctor;
mod egress;
mod faults;
mod fleet;
mod fleet_hostile;
mod fleet_take_over;
mod fleet_zmap;
mod flood;
mod greetings;
mod half_open;
mod hostile_files;
mod interfaces;
mod jumbo;
mod late;
mod lifecycle;
mod limits;
mod logs;
mod malice;
mod monitor;
mod outbound;
mod outbound_bounds;
mod outbound_crafted;
mod outbound_facts;
mod outbound_identity;
mod output;
mod page;
mod persist;
mod prefixes;
mod prometheus;
mod proof;
mod quiet;
mod response;
mod sandbox;
mod shield;
mod sinks;
mod ssh;
mod tc;
mod top;
mod translator;
mod web;

use std::process::ExitCode;

use anyhow::Result;
use libtest_mimic::{Arguments, Failed, Trial};
use scanguard_tests::fixtures::{cleanup, root};

/// Set, pictures of the page and of `top` are written there, with more scans before: docs/pictures is made so.
pub(crate) const PICTURES: &str = "SCANGUARD_WRITE_PICTURES";

fn main() -> ExitCode {
    if let Some(code) = outbound_bounds::instead_of_tests() {
        return code;
    }
    if let Err(error) = cleanup::on_signals() {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let mut arguments = Arguments::from_args();
    // Scanners, sensors and tcpdump share the machine: more at once only makes them slow.
    arguments.test_threads.get_or_insert(4);
    let trials = [
        above::trials(),
        answered::trials(),
        auto::trials(),
        bare::trials(),
        cards::trials(),
        clsact::trials(),
        coexistence::trials(),
        content::trials(),
        counts::trials(),
        crafted::trials(),
        crowdsec::trials(),
        doctor::trials(),
        egress::trials(),
        faults::trials(),
        fleet::trials(),
        fleet_hostile::trials(),
        fleet_take_over::trials(),
        fleet_zmap::trials(),
        flood::trials(),
        greetings::trials(),
        half_open::trials(),
        hostile_files::trials(),
        jumbo::trials(),
        interfaces::trials(),
        late::trials(),
        lifecycle::trials(),
        limits::trials(),
        logs::trials(),
        malice::trials(),
        monitor::trials(),
        outbound::trials(),
        outbound_bounds::trials(),
        outbound_crafted::trials(),
        outbound_facts::trials(),
        outbound_identity::trials(),
        output::trials(),
        page::trials(),
        persist::trials(),
        prefixes::trials(),
        prometheus::trials(),
        proof::trials(),
        quiet::trials(),
        response::trials(),
        shield::trials(),
        sandbox::trials(),
        sinks::trials(),
        ssh::trials(),
        tc::trials(),
        top::trials(),
        translator::trials(),
        web::trials(),
    ]
    .concat_trials();
    if let Err(error) = faults::check(&trials) {
        eprintln!("the table of faults: {error}");
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test of this layer.
fn trial(name: impl Into<String>, test: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    root::trial(name, || test().map_err(|error| Failed::from(format!("{error:#}"))))
}

/// Joins lists of tests.
trait ConcatTrials {
    fn concat_trials(self) -> Vec<Trial>;
}

impl<const N: usize> ConcatTrials for [Vec<Trial>; N] {
    fn concat_trials(self) -> Vec<Trial> {
        self.into_iter().flatten().collect()
    }
}
