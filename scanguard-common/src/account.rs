//! The state of one source, and how a probe changes it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{
    address::Address,
    family,
    oracle::{REACHES, Reach},
    outcome::{ANSWERS, Answer, DYNAMIC_START, EPHEMERAL_START, Flow, PROBE_CLASSES, ProbeClass, Service},
    sketch::{self, ASKED_WORDS, Bit, EXACT_PORTS, HOST_WORDS, MET_WORDS, SERVICE_WORDS},
    syn::{self, Fingerprint},
};

/// [`PROBE_CLASSES`] rounded up, so that the fields behind the counters are aligned to 8 bytes.
pub const COUNT_SLOTS: usize = PROBE_CLASSES.next_multiple_of(2);
/// How many targets are kept as examples.
pub const SAMPLES: usize = 4;

/// How many novelties a source has shown: see [`SourceState::novelties`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Novelties {
    /// Since it entered the table, modulo 2^32.
    pub all: u32,
    /// In this epoch.
    pub in_epoch: u32,
}

/// The distinct targets of one source in one epoch. Targets that met a service are counted apart: clients meet
/// services, scanners mostly do not.
///
/// Whether a SYN meets a service is often known only later, when an answer leaves: a listener may be behind a packet
/// filter, and a service may be on a host behind this one. Such targets are kept among those that were asked for. The
/// ones that answered are kept beside them. The difference is what did not answer, see [`Self::unanswered_services`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Distinct {
    /// Bitmap of services that were probed and did not answer, see [`sketch::service_bit`].
    pub services: [u64; SERVICE_WORDS],
    /// Bitmap of addresses that were probed without meeting a service there, see [`sketch::host_bit`].
    pub hosts: [u64; HOST_WORDS],
    /// Bitmap of services that were met. It is one word.
    pub open_services: u64,
    /// Bitmap of addresses where a service was met. It is one word.
    pub open_hosts: u64,
    /// Bitmap of services whose handshakes the source aborted. It is one word. See
    /// [`crate::oracle::Decision::Ordinary::aborts`]. Of an actor, who aborts none: [`Self::nowhere_hosts`].
    pub aborted_services: u64,
    /// Bitmap of services on assigned ports (below [`DYNAMIC_START`]) with which the source completed connections. It
    /// is one word. Of an actor, who completes none with this host: [`Self::login_hosts`].
    pub connected_services: u64,
    /// Bitmap of services that a SYN asked for and whose answer is not known yet, see [`sketch::asked_service_bit`].
    pub asked_services: [u64; ASKED_WORDS],
    /// Bitmap of their addresses, see [`sketch::asked_host_bit`].
    pub asked_hosts: [u64; ASKED_WORDS],
    /// Bitmap of services that answered the source, by SYN and ACK or by RST.
    pub answered_services: [u64; ASKED_WORDS],
    /// Bitmap of addresses that answered.
    pub answered_hosts: [u64; ASKED_WORDS],
    /// Bitmap of the families ([`crate::family`]) of services that a SYN missed for certain. Services that were there
    /// within the last day are left out.
    pub missed_families: u64,
    /// Bitmap of the families of [`Self::asked_services`].
    pub asked_families: u64,
    /// Bitmap of the families of services that were met.
    pub met_families: u64,
    /// Two bitmaps of 32 bits, in one word since the program sets bits of whole words: [`Self::silent_services`] and
    /// [`Self::refused_hosts`].
    pub silent_and_refused: u64,
}

impl Distinct {
    /// Nothing was seen.
    pub const EMPTY: Self = Self {
        services: [0; SERVICE_WORDS],
        hosts: [0; HOST_WORDS],
        open_services: 0,
        open_hosts: 0,
        aborted_services: 0,
        connected_services: 0,
        asked_services: [0; ASKED_WORDS],
        asked_hosts: [0; ASKED_WORDS],
        answered_services: [0; ASKED_WORDS],
        answered_hosts: [0; ASKED_WORDS],
        missed_families: 0,
        asked_families: 0,
        met_families: 0,
        silent_and_refused: 0,
    };

    /// Bitmap of services with which the source completed connections in which it said nothing. Each of the first
    /// [`EXACT_PORTS`] bits stands for one port, see [`SourceState::silent_ports`]. The other bits are shared.
    pub fn silent_services(&self) -> u32 {
        self.silent_and_refused as u32
    }

    /// Bitmap of addresses of this host that refused segments of no connection although the service listens there, see
    /// [`record_refused`].
    pub fn refused_hosts(&self) -> u32 {
        (self.silent_and_refused >> u32::BITS) as u32
    }

    /// Bitmap of the addresses that lead nowhere, and that an actor asked: see [`record_nowhere`].
    pub fn nowhere_hosts(&self) -> u64 {
        self.aborted_services
    }

    /// Bitmap of the addresses that answered an actor where one logs in: see [`record_login`].
    pub fn login_hosts(&self) -> u64 {
        self.connected_services
    }

    /// Bitmap of the families of services of which the source met none.
    pub fn failed_families(&self) -> u64 {
        (self.missed_families | self.asked_families) & !self.met_families
    }

    /// Bitmap of the services that were asked for and did not answer.
    pub fn unanswered_services(&self) -> [u64; ASKED_WORDS] {
        core::array::from_fn(|word| self.asked_services[word] & !self.answered_services[word])
    }

    /// Bitmap of the addresses that were asked and did not answer.
    pub fn unanswered_hosts(&self) -> [u64; ASKED_WORDS] {
        core::array::from_fn(|word| self.asked_hosts[word] & !self.answered_hosts[word])
    }

    /// Adds the bits of `other`.
    pub fn union(&mut self, other: &Self) {
        fn add(words: &mut [u64], more: &[u64]) {
            words.iter_mut().zip(more).for_each(|(word, more)| *word |= more);
        }
        add(&mut self.services, &other.services);
        add(&mut self.hosts, &other.hosts);
        add(&mut self.asked_services, &other.asked_services);
        add(&mut self.asked_hosts, &other.asked_hosts);
        add(&mut self.answered_services, &other.answered_services);
        add(&mut self.answered_hosts, &other.answered_hosts);
        self.open_services |= other.open_services;
        self.open_hosts |= other.open_hosts;
        self.aborted_services |= other.aborted_services;
        self.connected_services |= other.connected_services;
        self.missed_families |= other.missed_families;
        self.asked_families |= other.asked_families;
        self.met_families |= other.met_families;
        self.silent_and_refused |= other.silent_and_refused;
    }
}

/// [`SourceState::missed`] of a source that was already held in this epoch, see [`crate::hold`].
pub const HELD_ALREADY: u32 = u32::MAX;

/// Adds one service to [`SourceState::missed`], whose lower half counts services. Neither half can overflow: a window
/// has 512 bits of services and 256 of addresses, and an epoch sees two windows at most.
pub const MISSED_SERVICE: u32 = 1;
/// Adds one address to it. The upper half counts addresses.
pub const MISSED_HOST: u32 = 1 << 16;

/// A target, kept as an example.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct Sample {
    /// The probed address.
    pub host: Address,
    /// The probed port in host byte order, 0 if there is none.
    pub port: u16,
    /// Protocol of the service.
    pub protocol: u8,
    /// 1 if the slot has a sample, 0 if it is empty.
    pub taken: u8,
    /// Epoch of the sample.
    pub epoch: u32,
}

/// The entry of one source in the table. It has a fixed size and no padding, and all CPUs share it.
///
/// The agent numbers its polls, and this number is the epoch. Distinct things are kept for the running epoch and the
/// one before it, in `windows[epoch % 2]`. After the agent has moved to the next epoch, a reader therefore finds the
/// finished one whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub struct SourceState {
    /// Kernel monotonic time of the insertion in nanoseconds. It distinguishes this entry from an earlier one of the
    /// same source, whose counters are gone.
    pub born_ns: u64,
    /// The last epoch in which something was counted.
    pub epoch: u32,
    /// Connections with the source that the kernel's TCP established, modulo 2^32. They prove that a host uses that
    /// address. They do not prove that this host sent the probes.
    pub completed: u32,
    /// Novelties in this epoch.
    pub fresh: u32,
    /// Misses of the source in this epoch, in two halves: services that a SYN asked for, that are certainly closed
    /// and that are new in this epoch; and their addresses. See [`crate::hold`], which also gives a special value to a
    /// source that was already held.
    pub missed: u32,
    /// Until when the program holds the source, encoded by [`crate::hold::hold`].
    pub held: u64,
    /// Probes by class since the insertion, modulo 2^32.
    pub counts: [u32; COUNT_SLOTS],
    /// The same probes by their [`Reach`].
    pub reach: [u32; REACHES],
    /// Answers that left for the source, by [`Answer`], modulo 2^32.
    pub answers: [u32; ANSWERS],
    /// Novelties, modulo 2^32: probes that met nothing and whose service or address was new in their epoch, probes
    /// that no stack sends, and aborted handshakes with a service that had none in this epoch before. Their number
    /// decides when the agent is woken.
    pub novelties: u32,
    /// Handshakes that the source aborted, modulo 2^32; see [`crate::oracle::Decision::Ordinary::aborts`].
    pub aborted: u32,
    /// Connections with services of this host that have ended and in which the source said nothing, modulo 2^32.
    pub silent: u32,
    /// SYNs with unknown reach that were meant for another host of the link, modulo 2^32: see [`Around::is_overheard`].
    pub overheard: u32,
    /// Bitmap of the services at addresses that the source met since the insertion, see [`sketch::target_bit`]. If such a
    /// service is down later, the source does not look for it: it has met it before.
    pub met: [u64; MET_WORDS],
    /// The first ports to which the source said nothing since the insertion; 0 where there is none. The place of a port
    /// is that of its bit in [`Distinct::silent_services`].
    pub silent_ports: [u16; EXACT_PORTS],
    /// Distinct things of the last two epochs.
    pub windows: [Distinct; 2],
    /// Examples of targets.
    pub samples: [Sample; SAMPLES],
    /// Fingerprints of its SYNs, see [`syn::record`].
    pub fingerprints: [syn::Slot; syn::SLOTS],
}

impl SourceState {
    /// A new entry: nothing was counted yet.
    #[inline(always)]
    pub const fn new(born_ns: u64, epoch: u32) -> Self {
        const NONE: Sample = Sample { host: Address::UNSPECIFIED, port: 0, protocol: 0, taken: 0, epoch: 0 };
        Self {
            born_ns,
            epoch,
            completed: 0,
            fresh: 0,
            missed: 0,
            held: 0,
            counts: [0; COUNT_SLOTS],
            reach: [0; REACHES],
            answers: [0; ANSWERS],
            novelties: 0,
            aborted: 0,
            silent: 0,
            overheard: 0,
            met: [0; MET_WORDS],
            silent_ports: [0; EXACT_PORTS],
            windows: [Distinct::EMPTY; 2],
            samples: [NONE; SAMPLES],
            fingerprints: [syn::Slot::EMPTY; syn::SLOTS],
        }
    }

    /// The distinct things of `epoch` and later, as far as they are still kept.
    pub fn distinct_since(&self, epoch: u32) -> Distinct {
        let mut seen = Distinct::EMPTY;
        // Wrapping distance, since epochs are numbered modulo 2^32.
        let age = self.epoch.wrapping_sub(epoch);
        if age > u32::MAX / 2 {
            return seen;
        }
        seen.union(&self.windows[slot(self.epoch)]);
        if age > 0 {
            seen.union(&self.windows[slot(self.epoch.wrapping_sub(1))]);
        }
        seen
    }
}

#[inline(always)]
fn slot(epoch: u32) -> usize {
    (epoch & 1) as usize
}

/// How to change memory that other CPUs may change at the same time.
pub trait Memory {
    /// Adds 1.
    ///
    /// # Safety
    /// `counter` is valid for reads and writes and aligned.
    unsafe fn increment(counter: *mut u32);

    /// Sets bits.
    ///
    /// # Safety
    /// `word` is valid for reads and writes and aligned.
    unsafe fn set_bits(word: *mut u64, bits: u64);
}

/// Memory that only one thread uses, on the host side.
pub struct Unshared;

impl Memory for Unshared {
    unsafe fn increment(counter: *mut u32) {
        // SAFETY: the caller's promise.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }

    unsafe fn set_bits(word: *mut u64, bits: u64) {
        // SAFETY: the caller's promise.
        unsafe { *word |= bits };
    }
}

/// Empties a window word by word. The writes are volatile: otherwise the compiler would call memset, which writes
/// single bytes on the BPF target.
///
/// # Safety
/// `window` is valid for writes and aligned.
#[inline(always)]
unsafe fn clear(window: *mut Distinct) {
    const WORDS: usize = size_of::<Distinct>() / size_of::<u64>();
    let words = window.cast::<u64>();
    let mut place = 0;
    while place < WORDS {
        // SAFETY: a word of the window, as the caller promises.
        unsafe { words.add(place).write_volatile(0) };
        place += 1;
    }
}

/// Moves the windows to `epoch`, and gives the window of that epoch.
///
/// # Safety
/// `state` is valid for reads and writes and aligned.
#[inline(always)]
unsafe fn window(state: *mut SourceState, epoch: u32) -> *mut Distinct {
    // SAFETY: the caller's promise holds for the whole state, hence for each part of it.
    unsafe {
        let last = (&raw const (*state).epoch).read();
        // A packet that was under way when its epoch ended may arrive after a packet of the next epoch. Then its
        // window is the one before, and must not be emptied.
        if last != epoch && last.wrapping_sub(epoch) != 1 {
            (&raw mut (*state).epoch).write(epoch);
            (&raw mut (*state).missed).write(0);
            (&raw mut (*state).fresh).write(0);
            clear(&raw mut (*state).windows[slot(epoch)]);
            if epoch.wrapping_sub(last) != 1 {
                clear(&raw mut (*state).windows[slot(epoch.wrapping_sub(1))]);
            }
        }
        &raw mut (*state).windows[slot(epoch)]
    }
}

/// Counts one more novelty, and gives their number so far.
///
/// # Safety
/// `state` is valid for reads and writes and aligned.
#[inline(always)]
unsafe fn one_more(state: *mut SourceState) -> Novelties {
    // The count is not exact when several CPUs count at once. It only decides when the agent looks.
    // SAFETY: the caller's promise.
    unsafe {
        let novelties = (&raw const (*state).novelties).read().wrapping_add(1);
        (&raw mut (*state).novelties).write(novelties);
        let fresh = (&raw const (*state).fresh).read().wrapping_add(1);
        (&raw mut (*state).fresh).write(fresh);
        Novelties { all: novelties, in_epoch: fresh }
    }
}

/// Whether a SYN certainly failed. Ephemeral ports are left out: a client of passive FTP behind a filter fails on
/// another one each time.
#[inline(always)]
fn is_surely_closed(reach: Reach, service: Service) -> bool {
    service.port < EPHEMERAL_START
        && match reach {
            Reach::Closed | Reach::Dark => true,
            Reach::Open | Reach::Unknown => false,
        }
}

/// Counts a service or address that was missed for the first time in an epoch, unless the source was already held in
/// it.
///
/// # Safety
/// `state` is valid for reads and writes and aligned.
#[inline(always)]
unsafe fn more_missed(state: *mut SourceState, more: u32) {
    // As with novelties, this is not exact when several CPUs count at once. Then the hold begins a little later.
    // SAFETY: the caller's promise.
    unsafe {
        let missed = (&raw const (*state).missed).read();
        if missed != HELD_ALREADY {
            (&raw mut (*state).missed).write(missed + more);
        }
    }
}

/// How many bits of a word of [`SourceState::met`] are used at most. A source that meets very many services must not
/// seem to have met all: of the services that it never met, a quarter at most share a bit with others.
const MET_IN_WORD: u32 = 16;

/// Whether a source met this service before, or meets it now (`meets`), which is remembered.
///
/// # Safety
/// `state` is valid for reads and writes and aligned.
#[inline(always)]
unsafe fn has_met<M: Memory>(state: *mut SourceState, target: Bit, meets: bool) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let word = &raw mut (*state).met[target.word];
        let met = word.read();
        let is_known = met & target.mask != 0;
        if meets && !is_known && met.count_ones() < MET_IN_WORD {
            M::set_bits(word, target.mask);
        }
        is_known || meets
    }
}

/// The facts around a probe that do not come from its packet alone.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    /// The running epoch.
    pub epoch: u32,
    /// The salt of the bitmaps.
    pub salt: u64,
    /// Whether the answers to probes are seen when they leave. Then a socket that wants a SYN is not taken for an
    /// answer: only a SYN and ACK is.
    pub sees_answers: bool,
    /// Whether the frame was for another host of the link, on an interface that takes all frames: a mirror port, a port
    /// of a bridge, or one that is watched by somebody else, too. The answers may not pass here.
    pub is_overheard: bool,
    /// Whether it is known from elsewhere that the source has not met the target before: actors' targets are kept one by one.
    pub is_new: bool,
}

/// Counts one probe for its source.
///
/// A SYN that may be answered counts among what was asked for, until [`record_answer`] has its answer. A SYN to a
/// service that the source met before counts among the services that it meets, also if the service is down
/// now: clients come back to their services, scanners look for services. The counts of results have it as it is.
///
/// The counters are exact, however many CPUs count at once. The bitmaps may lose a bit when the first probes of an
/// epoch arrive on several CPUs at the same instant. They only estimate, and the next probe of the same target sets
/// the bit again.
///
/// `was_there` says whether a service that is closed now was there within the last day. It is asked once for a service in
/// an epoch at most.
///
/// `class` is the index of a [`crate::outcome::ProbeClass`]; any other number does nothing. It is a number because the
/// verifier must see a comparison with the bound, and the compiler omits that comparison for an enum.
///
/// Gives the number of novelties so far if this probe is a novelty.
///
/// # Safety
/// `state` is valid for reads and writes and aligned. With [`Unshared`], nobody else uses it.
#[inline(always)]
pub unsafe fn record<M: Memory>(
    state: *mut SourceState,
    class: usize,
    reach: Reach,
    flow: &Flow,
    around: Around,
    was_there: impl FnOnce() -> bool,
) -> Option<Novelties> {
    if class >= PROBE_CLASSES {
        return None;
    }
    // SAFETY: the caller's promise holds for the whole state.
    unsafe {
        let novelties = mark::<M>(state, class, reach, flow, around, was_there);
        // This comes last, here and in the functions below. A reader that comes in between finds the bits of all that it
        // finds counted; what it finds only in the bits is read again, because it is counted after that.
        M::increment(&raw mut (*state).counts[class]);
        novelties
    }
}

/// All of [`record`] but the count.
///
/// # Safety
/// As [`record`].
#[inline(always)]
unsafe fn mark<M: Memory>(
    state: *mut SourceState,
    class: usize,
    reach: Reach,
    flow: &Flow,
    around: Around,
    was_there: impl FnOnce() -> bool,
) -> Option<Novelties> {
    let Around { epoch, salt, sees_answers, is_overheard, is_new } = around;
    let is_syn = class == ProbeClass::Syn as usize;
    // SAFETY: the caller's promise holds for the whole state, hence for each part of it. The code makes no reference
    // into it, since other CPUs may write to it.
    unsafe {
        if is_overheard {
            M::increment(&raw mut (*state).overheard);
        }
        let window = window(state, epoch);
        let (is_wanted, may_answer) = match reach {
            Reach::Open => {
                M::increment(&raw mut (*state).reach[Reach::Open as usize]);
                (true, is_syn && sees_answers)
            }
            Reach::Closed => {
                M::increment(&raw mut (*state).reach[Reach::Closed as usize]);
                (false, false)
            }
            Reach::Unknown => {
                M::increment(&raw mut (*state).reach[Reach::Unknown as usize]);
                (false, is_syn)
            }
            Reach::Dark => {
                M::increment(&raw mut (*state).reach[Reach::Dark as usize]);
                (false, false)
            }
        };
        let is_met = is_wanted && !may_answer;
        // Ports of clients are left out, as below: passive FTP meets another one each time.
        let is_met = if is_syn && !is_new && flow.service.port < EPHEMERAL_START {
            has_met::<M>(state, sketch::target_bit(flow.destination, flow.service, salt), is_met)
        } else {
            is_met
        };
        let meets = is_met || is_wanted;
        let mut service = sketch::service_bit(flow.service, salt);
        let mut host = sketch::host_bit(flow.destination, salt);
        let (services, hosts) = if is_met {
            (&raw mut (*window).open_services, &raw mut (*window).open_hosts)
        } else if may_answer {
            service = sketch::asked_service_bit(flow.service, salt);
            host = sketch::asked_host_bit(flow.destination, salt);
            (&raw mut (*window).asked_services[service.word], &raw mut (*window).asked_hosts[host.word])
        } else {
            (&raw mut (*window).services[service.word], &raw mut (*window).hosts[host.word])
        };
        let new_service = services.read() & service.mask == 0;
        let new_host = hosts.read() & host.mask == 0;
        let mut missed = 0;
        if new_service && is_syn {
            let families = if is_met {
                &raw mut (*window).met_families
            } else if may_answer {
                &raw mut (*window).asked_families
            } else {
                &raw mut (*window).missed_families
            };
            let family = family::bit(flow.service.port, salt);
            if families.read() & family == 0 && (is_met || may_answer || !was_there()) {
                M::set_bits(families, family);
            }
        }
        if new_service {
            M::set_bits(services, service.mask);
            missed += MISSED_SERVICE;
        }
        if new_host {
            M::set_bits(hosts, host.mask);
            missed += MISSED_HOST;
        }
        if missed != 0 && !meets && is_syn && is_surely_closed(reach, flow.service) {
            more_missed(state, missed);
        }
        let is_odd = ODD_CLASSES & (1 << (class & 31)) != 0;
        if !(new_service || new_host || is_odd) {
            return None;
        }
        if new_service || new_host {
            // The hash of a target chooses its slot, so that the examples vary.
            let place = (service.mask.trailing_zeros() ^ host.mask.trailing_zeros()) as usize % SAMPLES;
            (&raw mut (*state).samples[place]).write(Sample {
                host: flow.destination,
                port: flow.service.port,
                protocol: flow.service.protocol,
                taken: 1,
                epoch,
            });
        }
        // Sources that meet services are mostly clients.
        if meets && !is_odd {
            return None;
        }
        Some(one_more(state))
    }
}

/// Counts a SYN for the fingerprints of its source, after [`record`].
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn record_fingerprint(state: *mut SourceState, fingerprint: Fingerprint, reach: Reach) {
    let met = matches!(reach, Reach::Open);
    // SAFETY: the caller's promise holds for each part of the state.
    unsafe { syn::record(&raw mut (*state).fingerprints, fingerprint, met) };
}

/// Classes whose single probe is already odd, because no stack sends it. A bit for each index.
const ODD_CLASSES: u32 = {
    let odd = [
        ProbeClass::Null,
        ProbeClass::Fin,
        ProbeClass::Xmas,
        ProbeClass::SynFin,
        ProbeClass::SynRst,
        ProbeClass::OddFlags,
        ProbeClass::TinyFragment,
        ProbeClass::HeaderChain,
    ];
    let mut bits = 0;
    let mut place = 0;
    while place < odd.len() {
        bits |= 1 << odd[place] as u32;
        place += 1;
    }
    bits
};

/// Notes that a connection with the source was completed. `service` is the service of this host, or nothing if this
/// host began the connection, or if the listener is too young to count as a service. The windows move on, so that the agent sees the change with those of this epoch.
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn record_completed<M: Memory>(
    state: *mut SourceState,
    service: Option<Service>,
    epoch: u32,
    salt: u64,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let window = window(state, epoch);
        if let Some(service) = service.filter(|service| service.port < DYNAMIC_START) {
            M::set_bits(&raw mut (*window).connected_services, sketch::service_bit(service, salt).mask);
        }
        M::increment(&raw mut (*state).completed);
    }
}

/// Notes that a connection with a service of this host has ended in which the source said nothing. The windows move on, as
/// in [`record_completed`].
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn record_silent<M: Memory>(state: *mut SourceState, service: Service, epoch: u32, salt: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let window = window(state, epoch);
        if service.port < DYNAMIC_START {
            let bit = silent_bit(state, service, salt);
            M::set_bits(&raw mut (*window).silent_and_refused, u64::from(bit));
        }
        M::increment(&raw mut (*state).silent);
    }
}

/// The bit of a service in [`Distinct::silent_services`]: its own, as long as there are free ones. If two CPUs give the
/// same one away at once, the later port has it.
///
/// # Safety
/// As [`record`].
#[inline(always)]
unsafe fn silent_bit(state: *mut SourceState, service: Service, salt: u64) -> u32 {
    let mut place = 0;
    while place < EXACT_PORTS {
        // SAFETY: the caller's promise.
        unsafe {
            let slot = &raw mut (*state).silent_ports[place];
            let held = slot.read();
            if held == 0 {
                slot.write(service.port);
            }
            if held == 0 || held == service.port {
                return 1 << place;
            }
        }
        place += 1;
    }
    sketch::shared_port_bit(service, salt)
}

/// Notes that this host refused a segment of no connection to a service that listens at one of its addresses. It counts as a probe by ACK, of unknown fate: the segment may belong to a connection that this host
/// forgot. Gives the number of novelties so far if the address is new in this epoch.
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn record_refused<M: Memory>(
    state: *mut SourceState,
    host: Address,
    epoch: u32,
    salt: u64,
) -> Option<Novelties> {
    // SAFETY: the caller's promise.
    unsafe {
        let hosts = &raw mut (*window(state, epoch)).silent_and_refused;
        let bit = u64::from(sketch::few_hosts_bit(host, salt)) << u32::BITS;
        let is_new = hosts.read() & bit == 0;
        if is_new {
            M::set_bits(hosts, bit);
        }
        M::increment(&raw mut (*state).reach[Reach::Unknown as usize]);
        M::increment(&raw mut (*state).counts[ProbeClass::Ack as usize]);
        is_new.then(|| one_more(state))
    }
}

/// Notes that a service was there after all: it has answered. If the source seemed to miss it in the running epoch, the
/// service moves from the missed to the met.
///
/// The bits are cleared without a lock, so that a bit which another CPU sets meanwhile may be lost: see [`record`].
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn record_met<M: Memory>(state: *mut SourceState, flow: &Flow, epoch: u32, salt: u64) {
    let service = sketch::service_bit(flow.service, salt);
    let host = sketch::host_bit(flow.destination, salt);
    // SAFETY: the caller's promise.
    unsafe {
        let window = window(state, epoch);
        let services = &raw mut (*window).services[service.word];
        let hosts = &raw mut (*window).hosts[host.word];
        if services.read() & service.mask == 0 {
            return;
        }
        services.write(services.read() & !service.mask);
        let mut fewer = MISSED_SERVICE;
        if hosts.read() & host.mask != 0 {
            hosts.write(hosts.read() & !host.mask);
            fewer += MISSED_HOST;
        }
        M::set_bits(&raw mut (*window).open_services, service.mask);
        M::set_bits(&raw mut (*window).open_hosts, host.mask);
        M::set_bits(&raw mut (*window).met_families, family::bit(flow.service.port, salt));
        fewer_missed(state, fewer);
    }
}

/// Takes back what [`more_missed`] counted, as far as it counted it.
///
/// # Safety
/// `state` is valid for reads and writes and aligned.
#[inline(always)]
unsafe fn fewer_missed(state: *mut SourceState, fewer: u32) {
    // SAFETY: the caller's promise.
    unsafe {
        let missed = (&raw const (*state).missed).read();
        let has_each =
            missed % MISSED_HOST >= fewer % MISSED_HOST && missed / MISSED_HOST >= fewer / MISSED_HOST;
        if missed != HELD_ALREADY && has_each {
            (&raw mut (*state).missed).write(missed - fewer);
        }
    }
}

/// Notes that the source aborted a handshake with a service. Gives the number of novelties so far if the service had
/// no aborted handshake in this epoch before.
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn record_aborted<M: Memory>(
    state: *mut SourceState,
    service: Service,
    epoch: u32,
    salt: u64,
) -> Option<Novelties> {
    // SAFETY: the caller's promise.
    unsafe {
        let services = &raw mut (*window(state, epoch)).aborted_services;
        let mask = sketch::service_bit(service, salt).mask;
        let is_new = services.read() & mask == 0;
        if is_new {
            M::set_bits(services, mask);
        }
        M::increment(&raw mut (*state).aborted);
        is_new.then(|| one_more(state))
    }
}

/// Notes that an actor asks for an address that leads nowhere, before the attempt is counted.
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn record_nowhere<M: Memory>(state: *mut SourceState, host: Address, epoch: u32, salt: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let window = window(state, epoch);
        M::set_bits(&raw mut (*window).aborted_services, sketch::host_bit(host, salt).mask);
    }
}

/// Notes that an address answered an actor for the first time, at a service where one logs in, before the answer is counted.
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn record_login<M: Memory>(state: *mut SourceState, host: Address, epoch: u32, salt: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        let window = window(state, epoch);
        M::set_bits(&raw mut (*window).connected_services, sketch::host_bit(host, salt).mask);
    }
}

/// Notes an answer that left for the source. The windows move on, as in [`record_completed`]. A SYN and ACK shows that
/// its service was there, and a RST that a service that was asked for was not.
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub unsafe fn record_answer<M: Memory>(
    state: *mut SourceState,
    answer: Answer,
    flow: &Flow,
    epoch: u32,
    salt: u64,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let window = window(state, epoch);
        match answer {
            Answer::SynAck => {
                answered::<M>(state, window, flow, salt);
                M::increment(&raw mut (*state).answers[Answer::SynAck as usize]);
            }
            Answer::Reset => {
                refused::<M>(window, flow, salt);
                M::increment(&raw mut (*state).answers[Answer::Reset as usize]);
            }
            Answer::Unreachable => M::increment(&raw mut (*state).answers[Answer::Unreachable as usize]),
            Answer::Reply => M::increment(&raw mut (*state).answers[Answer::Reply as usize]),
        }
    }
}

/// A service answered.
///
/// # Safety
/// As [`record`]; `window` is one of the state's.
#[inline(always)]
unsafe fn answered<M: Memory>(state: *mut SourceState, window: *mut Distinct, flow: &Flow, salt: u64) {
    let service = sketch::asked_service_bit(flow.service, salt);
    let host = sketch::asked_host_bit(flow.destination, salt);
    // SAFETY: the caller's promise.
    unsafe {
        M::set_bits(&raw mut (*window).answered_services[service.word], service.mask);
        M::set_bits(&raw mut (*window).answered_hosts[host.word], host.mask);
        M::set_bits(&raw mut (*window).open_services, sketch::service_bit(flow.service, salt).mask);
        M::set_bits(&raw mut (*window).open_hosts, sketch::host_bit(flow.destination, salt).mask);
        M::set_bits(&raw mut (*window).met_families, family::bit(flow.service.port, salt));
        if flow.service.port < EPHEMERAL_START {
            has_met::<M>(state, sketch::target_bit(flow.destination, flow.service, salt), true);
        }
    }
}

/// A service refused the source. It counts as missed for certain if the source asked for it in this epoch, and if it
/// did not answer otherwise: a RST may also end a connection.
///
/// # Safety
/// As [`record`].
#[inline(always)]
unsafe fn refused<M: Memory>(window: *mut Distinct, flow: &Flow, salt: u64) {
    let asked = sketch::asked_service_bit(flow.service, salt);
    // SAFETY: the caller's promise.
    unsafe {
        let unanswered = (&raw const (*window).asked_services[asked.word]).read()
            & !(&raw const (*window).answered_services[asked.word]).read();
        if unanswered & asked.mask != 0 {
            let service = sketch::service_bit(flow.service, salt);
            let host = sketch::host_bit(flow.destination, salt);
            M::set_bits(&raw mut (*window).services[service.word], service.mask);
            M::set_bits(&raw mut (*window).hosts[host.word], host.mask);
            M::set_bits(&raw mut (*window).missed_families, family::bit(flow.service.port, salt));
            let asked_host = sketch::asked_host_bit(flow.destination, salt);
            M::set_bits(&raw mut (*window).answered_services[asked.word], asked.mask);
            M::set_bits(&raw mut (*window).answered_hosts[asked_host.word], asked_host.mask);
        }
    }
}

#[cfg(test)]
mod tests;
