//! Metrics of what the kernel programs count, and where they are attached.

use std::time::Duration;

use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use scanguard_common::{
    abi,
    content::Begins,
    oracle::Reach,
    outcome::{Answer, EgressExit, Exit, ProbeClass},
    sample::LeftOut,
    tally::Tally,
};

use super::{Occupancy, Poll, Whole, attach::AttachedMode, build::Build, egress::Way};
use crate::metrics::Register;

/// The metrics.
pub struct SensorMetrics {
    packets: IntCounterVec,
    probes: IntCounterVec,
    reached: IntCounterVec,
    answers: IntCounterVec,
    egress: IntCounterVec,
    attached: IntGaugeVec,
    unwatched: GaugeVec,
    egress_attached: IntGaugeVec,
    egress_way: IntGaugeVec,
    mostly_not_ip: IntGauge,
    connections_attached: IntGauge,
    old_program: IntGauge,
    live: IntGauge,
    published: IntGauge,
    interface_losses: IntCounterVec,
    egress_losses: IntCounterVec,
    sources: IntGauge,
    source_inserts: IntCounter,
    source_evictions: IntCounter,
    whole_reads: IntCounterVec,
    trips: IntCounter,
    trips_lost: IntCounter,
    samples: IntCounterVec,
    samples_left_out: IntCounterVec,
    samples_heard: IntCounter,
    would_drop: IntCounter,
    spared: IntCounter,
    holds: IntCounter,
    holds_refused: IntCounter,
}

impl SensorMetrics {
    pub(crate) fn new(register: &Register, max_sources: u32) -> prometheus::Result<Self> {
        register
            .gauge("scanguard_sources_limit", "Sources that the kernel's table can hold.")?
            .set(max_sources.into());
        register
            .gauge("scanguard_live_addresses_limit", "Addresses that the kernel's table of them can hold.")?
            .set(abi::MAX_LIVE.into());
        register
            .gauge(
                "scanguard_published_services_limit",
                "Services that the kernel's table of them can hold.",
            )?
            .set(abi::MAX_PUBLISHED.into());
        let metrics = Self {
            mostly_not_ip: register.gauge(
                "scanguard_mostly_not_ip",
                "1 if more than half of the packets within the last minute were not IP, and at least 3,000 were not; \
                 else 0.",
            )?,
            packets: register.counters(
                "scanguard_packets_total",
                "Packets seen by the kernel program, by how they left it. The sum is all packets.",
                &["exit"],
            )?,
            probes: register.counters(
                "scanguard_probes_total",
                "Probes seen by the kernel program, by class; exact even if the table of sources is full.",
                &["class"],
            )?,
            reached: register.counters(
                "scanguard_probes_reached_total",
                "The same probes, by the reach that they met.",
                &["reach"],
            )?,
            answers: register.counters(
                "scanguard_answers_total",
                "Answers that left by the interfaces where the egress program is attached, by kind.",
                &["answer"],
            )?,
            egress: register.counters(
                "scanguard_egress_packets_total",
                "Packets seen by the egress program, by how they left it. The sum is all packets.",
                &["exit"],
            )?,
            attached: register.gauges(
                "scanguard_xdp_attached",
                "Whether the program is attached to the interface in this mode.",
                &["interface", "mode"],
            )?,
            unwatched: register.real_gauges(
                "scanguard_unwatched_seconds",
                "How long nobody watched the interface before the program was attached there at the start: at most since \
                 the agent before wrote its state, or since this one's process started if there is none; 0 if the program \
                 took the place of the one before.",
                &["interface"],
            )?,
            egress_attached: register.gauges(
                "scanguard_egress_attached",
                "Whether the egress program is attached to the interface.",
                &["interface"],
            )?,
            egress_way: register.gauges(
                "scanguard_egress_way",
                "Whether the egress program is attached to the interface in this way: by a link of tcx, or by a filter of \
                 tc (clsact).",
                &["interface", "way"],
            )?,
            connections_attached: register.gauge(
                "scanguard_connections_attached",
                "Whether the program that counts completed connections is attached; without it, nothing on the \
                 wire is proven.",
            )?,
            old_program: register.gauge(
                "scanguard_old_program",
                "1 if the programs for kernels before Linux 5.18 are used, which lose a little; else 0.",
            )?,
            live: register.gauge(
                "scanguard_live_addresses",
                "Addresses in networks routed to this host that have answered.",
            )?,
            published: register.gauge(
                "scanguard_published_services",
                "Services that answered from this host's addresses without having a socket here.",
            )?,
            interface_losses: register.counters(
                "scanguard_interface_losses_total",
                "Times that an interface disappeared, or that another process detached the program from it.",
                &["interface"],
            )?,
            egress_losses: register.counters(
                "scanguard_egress_losses_total",
                "Times that another process detached the egress program from the interface.",
                &["interface"],
            )?,
            sources: register.gauge("scanguard_sources", "Sources in the kernel's table.")?,
            source_inserts: register
                .counter("scanguard_source_inserts_total", "Sources put into the kernel's table.")?,
            source_evictions: register.counter(
                "scanguard_source_evictions_total",
                "Sources that the kernel evicted from its table to make room.",
            )?,
            whole_reads: register.counters(
                "scanguard_whole_table_reads_total",
                "Polls that read the kernel's whole table instead of only its changes, by reason.",
                &["reason"],
            )?,
            trips: register.counter(
                "scanguard_trips_total",
                "Wake-ups: times that the kernel program reported a source to the agent at once.",
            )?,
            trips_lost: register.counter(
                "scanguard_trips_lost_total",
                "Wake-ups that were lost because the buffer was full; the next poll examined the source.",
            )?,
            samples: register.counters(
                "scanguard_samples_total",
                "Payloads whose beginning the kernel program passed to the agent, by the kind of message that \
                 they begin like.",
                &["begins"],
            )?,
            samples_left_out: register.counters(
                "scanguard_samples_left_out_total",
                "Payloads that begin like such a message but were not passed to the agent, by reason.",
                &["reason"],
            )?,
            samples_heard: register
                .counter("scanguard_samples_heard_total", "Samples that the agent read.")?,
            would_drop: register.counter(
                "scanguard_would_drop_packets_total",
                "Packets of sources that are banned, held or shielded from, which would have been dropped in the \
                 mode enforce.",
            )?,
            spared: register.counter(
                "scanguard_spared_packets_total",
                "Packets of sources that are banned, held or shielded from, but passed because the source is allowed.",
            )?,
            holds: register.counter(
                "scanguard_holds_total",
                "Sources that the kernel program held until the agent had judged them, or would have held in a \
                 dry run.",
            )?,
            holds_refused: register.counter(
                "scanguard_holds_refused_total",
                "Sources that were not held because as many were held in this epoch as response.max_per_minute says.",
            )?,
        };
        for exit in Exit::ALL {
            metrics.packets.with_label_values(&[exit.label()]);
        }
        for class in ProbeClass::ALL {
            metrics.probes.with_label_values(&[class.label()]);
        }
        for reach in Reach::ALL {
            metrics.reached.with_label_values(&[reach.label()]);
        }
        for answer in Answer::ALL {
            metrics.answers.with_label_values(&[answer.label()]);
        }
        for exit in EgressExit::ALL {
            metrics.egress.with_label_values(&[exit.label()]);
        }
        for begins in Begins::ALL {
            metrics.samples.with_label_values(&[begins.label()]);
        }
        for why in LeftOut::ALL {
            metrics.samples_left_out.with_label_values(&[why.label()]);
        }
        for whole in Whole::ALL {
            metrics.whole_reads.with_label_values(&[whole.label()]);
        }
        Ok(metrics)
    }

    /// Whether most packets are not IP.
    pub fn mostly_not_ip(&self, is_most: bool) {
        self.mostly_not_ip.set(is_most.into());
    }

    /// A poll succeeded: `delta` is what the totals grew by since the one before.
    pub fn polled(&self, poll: &Poll, delta: &Tally, evicted: u64) {
        for exit in Exit::ALL {
            self.packets.with_label_values(&[exit.label()]).inc_by(delta.exit(exit));
        }
        for class in ProbeClass::ALL {
            self.probes.with_label_values(&[class.label()]).inc_by(delta.probe(class));
        }
        for reach in Reach::ALL {
            self.reached.with_label_values(&[reach.label()]).inc_by(delta.reach(reach));
        }
        for answer in Answer::ALL {
            self.answers.with_label_values(&[answer.label()]).inc_by(delta.answer(answer));
        }
        for exit in EgressExit::ALL {
            self.egress.with_label_values(&[exit.label()]).inc_by(delta.egress(exit));
        }
        for begins in Begins::ALL {
            self.samples.with_label_values(&[begins.label()]).inc_by(delta.sampled(begins));
        }
        for why in LeftOut::ALL {
            self.samples_left_out.with_label_values(&[why.label()]).inc_by(delta.left_out(why));
        }
        self.sources.set(poll.entries.cast_signed());
        self.source_inserts.inc_by(delta.inserted);
        self.trips.inc_by(delta.wakeups);
        self.trips_lost.inc_by(delta.wakeups_lost);
        self.would_drop.inc_by(delta.would_drop);
        self.spared.inc_by(delta.spared);
        self.holds.inc_by(delta.holds);
        self.holds_refused.inc_by(delta.holds_refused);
        self.source_evictions.inc_by(evicted);
        if let Some(whole) = poll.whole {
            self.whole_reads.with_label_values(&[whole.label()]).inc();
        }
    }

    /// So many samples were read.
    pub fn samples_read(&self, count: usize) {
        self.samples_heard.inc_by(count as u64);
    }

    /// The program is attached to an interface in this mode, or not at all.
    pub fn attached(&self, interface: &str, mode: Option<AttachedMode>) {
        for one in AttachedMode::ALL {
            self.attached.with_label_values(&[interface, one.label()]).set(i64::from(mode == Some(one)));
        }
        self.interface_losses.with_label_values(&[interface]);
    }

    /// At the start, nobody had watched an interface for so long.
    pub fn unwatched(&self, interface: &str, gap: Duration) {
        self.unwatched.with_label_values(&[interface]).set(gap.as_secs_f64());
    }

    /// The kernel says which connections are completed, or does not.
    pub fn connections_attached(&self, attached: bool) {
        self.connections_attached.set(attached.into());
    }

    /// The programs are of this build.
    pub fn set_build(&self, build: Build) {
        self.old_program.set((build == Build::Old).into());
    }

    /// The egress program is attached to an interface in this way, or not at all.
    pub fn egress_attached(&self, interface: &str, way: Option<Way>) {
        self.egress_attached.with_label_values(&[interface]).set(way.is_some().into());
        for one in Way::ALL {
            self.egress_way.with_label_values(&[interface, one.label()]).set((way == Some(one)).into());
        }
        self.egress_losses.with_label_values(&[interface]);
    }

    /// The egress program was taken off an interface.
    pub fn egress_lost(&self, interface: &str) {
        self.egress_losses.with_label_values(&[interface]).inc();
    }

    /// How full the maps of what answered are.
    pub fn occupancy(&self, occupancy: Occupancy) {
        self.live.set(occupancy.live.cast_signed());
        self.published.set(occupancy.published.cast_signed());
    }

    /// An interface went away.
    pub fn interface_lost(&self, interface: &str) {
        self.interface_losses.with_label_values(&[interface]).inc();
        self.attached(interface, None);
    }
}
