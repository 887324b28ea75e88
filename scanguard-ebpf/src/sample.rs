//! The kernel half of `scanguard_common::sample`: copies the beginnings of requests and answers for the agent to read.

use aya_ebpf::{
    bindings::__sk_buff,
    btf_maps::{Array, PerCpuArray, RingBuf},
    macros::btf_map,
    programs::TcContext,
};
use scanguard_common::{
    abi::{Control, SampleHeader},
    classify,
    content::{self, Begins, HEAD, Head, MAX_SAMPLE, Payload, PortSet, Speaks, Start},
    outcome::{Flow, SegmentKind},
    packet::Packet,
    parse,
    sample::{BUDGETS, Budget, BudgetKind, CPU_BUDGETS, LeftOut, budget_place, charge, cpu_place},
    wire::protocol,
};

use crate::{
    argument::{Given, Place, give, given},
    config, deep,
    incoming::{self, Context, Incoming, Raw},
    opaque::{bounded, opaque},
    oracle::Kernel,
    packet::SkbPacket,
    tally,
};

/// Room for 7,000 requests of 512 bytes, or 1,700 of the longest hellos.
#[btf_map]
static SAMPLES: RingBuf<SampleHeader, { 4 << 20 }> = RingBuf::new();

/// Room to build a sample, which is too large for the stack.
#[repr(C)]
struct Draft {
    header: SampleHeader,
    bytes: [u8; MAX_SAMPLE],
}

#[btf_map]
static DRAFT: PerCpuArray<Draft, 1> = PerCpuArray::new();

/// How much of their budgets sources have used, see `scanguard_common::sample`. Shared: the packets of one source may
/// arrive on any CPU. When two CPUs change a place at once, one sample too many is taken.
#[btf_map]
static BUDGET: Array<u64, BUDGETS> = Array::new();

/// How much of its budgets this CPU has used.
#[btf_map]
static CPU_BUDGET: PerCpuArray<u64, CPU_BUDGETS> = PerCpuArray::new();

/// Where the headers of a packet are.
#[derive(Clone, Copy)]
pub(crate) enum Headers {
    /// In place.
    Shallow = 0,
    /// By [`deep::inspect`].
    Deep = 1,
}

/// An incoming segment, which [`content`] looks at more closely.
#[inline(always)]
pub(crate) fn arrived(ctx: &Context, headers: Headers) {
    if config::sampling() {
        scanguard_sample(incoming::raw(ctx), headers as u32);
    }
}

/// As above, for a segment that the early decision took for one of a connection.
#[inline(always)]
pub(crate) fn arrived_early(ctx: &Context, packet: &Incoming) {
    if config::sampling()
        && let Some((port, offset)) = classify::early_payload(packet)
        && let Some(speaks) = speaks(protocol::TCP, port)
        && starts(packet, speaks, offset)
    {
        scanguard_sample(incoming::raw(ctx), Headers::Shallow as u32);
    }
}

/// As above, if this TCP port is sampled.
#[inline(always)]
fn arrived_at(ctx: &Context, port: u16, headers: Headers) {
    if config::sampling() && config::is_in(PortSet::Tcp, port) {
        scanguard_sample(incoming::raw(ctx), headers as u32);
    }
}

/// A segment or datagram that may carry a payload, after it was judged.
#[inline(always)]
pub(crate) fn judged(ctx: &Context, kind: SegmentKind, flow: &Flow, headers: Headers) {
    match kind {
        SegmentKind::Closing => arrived_at(ctx, flow.service.port, headers),
        SegmentKind::Datagram if config::sampling() && config::is_in(PortSet::Udp, flow.service.port) => {
            scanguard_sample(incoming::raw(ctx), headers as u32);
        }
        SegmentKind::Datagram
        | SegmentKind::Acknowledgment
        | SegmentKind::SynAck
        | SegmentKind::Reset
        | SegmentKind::EmptyDatagram => {}
    }
}

/// A segment or datagram that leaves from a port whose answers may be sampled.
#[inline(always)]
pub(crate) fn leaves_from(ctx: &TcContext, port: u16) {
    if config::sampling() && (config::is_in(PortSet::Web, port) || config::is_in(PortSet::Dns, port)) {
        scanguard_sample_answer(ctx.skb.skb);
    }
}

/// As above, if the port is not known yet.
#[inline(always)]
pub(crate) fn leaves(ctx: &TcContext) {
    if config::sampling() {
        scanguard_sample_answer(ctx.skb.skb);
    }
}

/// The protocol of a port of this host.
#[inline(always)]
fn speaks(protocol: u8, port: u16) -> Option<Speaks> {
    content::speaks(protocol, port, config::is_in)
}

/// The payload of a packet whose headers are found in place.
#[inline(always)]
fn payload(packet: &impl Packet) -> Option<Payload> {
    content::payload_behind(packet, &parse::parse(packet).ok()?)
}

/// Whether a client's payload is worth a closer look.
#[inline(always)]
fn starts(packet: &Incoming, speaks: Speaks, offset: usize) -> bool {
    packet.view::<Start>(offset).is_some_and(|start| content::may_begin(speaks, start))
}

/// A global function, for the reason that [`crate::judge`] gives. 1 if it took a sample.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_sample(ctx: *mut Raw, headers: u32) -> u32 {
    let packet = incoming::packet(ctx);
    let payload = if headers == Headers::Deep as u32 { deep::payload() } else { payload(&packet) };
    // In two steps: before Linux 6.3 the verifier refuses code that reads a payload before it knows that there is one.
    let Some(Payload { flow, offset, len, numbers }) = payload else {
        return 0;
    };
    let Some(control) = config::control() else {
        return 0;
    };
    let Some(speaks) = speaks(flow.service.protocol, flow.service.port) else {
        return 0;
    };
    // The verifier of Linux 6.1 does not follow how the compiler knows that the place is within bounds.
    let offset = opaque(offset);
    // A copy is a call, which costs as much as everything else here.
    let start = packet.view::<Start>(offset).copied().or_else(|| packet.copy(offset));
    if !start.is_some_and(|start| content::may_begin(speaks, &start)) {
        return 0;
    }
    let sample = Sample { control, speaks, is_answer: false, flow, offset, len };
    sample
        .take(&packet, |flow| {
            let kernel = Kernel::new(ctx, control);
            if flow.service.protocol == protocol::TCP
                && let Some(position) = kernel.proves(flow, numbers)
            {
                return Some(Origin { is_proven: true, position });
            }
            let unproven = Origin { is_proven: false, position: numbers.sequence.into() };
            (!kernel.is_bad_source(&flow.source)).then_some(unproven)
        })
        .into()
}

/// As above, for outgoing packets. The flow is turned, so that its source is the client.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_sample_answer(ctx: *mut __sk_buff) -> u32 {
    let packet = SkbPacket::new(&TcContext::new(ctx));
    let Some(Payload { flow, offset, len, numbers }) = payload(&packet) else {
        return 0;
    };
    let Some(control) = config::control() else {
        return 0;
    };
    let Some(speaks) = speaks(flow.service.protocol, flow.source_port) else {
        return 0;
    };
    if !speaks.has_answers() {
        return 0;
    }
    let flow = flow.turned();
    let sample = Sample { control, speaks, is_answer: true, flow, offset, len };
    sample
        .take(&packet, |flow| {
            // In a connection, this host's own words are its own. For forwarded packets that is not known.
            // SAFETY: the program's context.
            let is_proven = flow.service.protocol == protocol::TCP && unsafe { (*ctx).ingress_ifindex } == 0;
            Some(Origin { is_proven, position: numbers.sequence.into() })
        })
        .into()
}

/// The beginning of a payload. It is a structure, so that the verifier knows its size.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Beginning(Head);

/// Where the protocol lies in what [`scanguard_begins`] is told about a payload. The lowest byte is for [`Speaks`].
const PROTOCOL_SHIFT: u32 = 8;

/// The number of the [`Begins`] that the payload of a client begins like, plus 1; 0: none of them. A global function:
/// there are many paths through all the protocols, and the verifier would follow whatever comes behind for each of them.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn scanguard_begins(head: Given<Beginning>, about: u32, len: u32) -> u32 {
    let Some(Beginning(head)) = given::<Beginning>(head) else {
        return 0;
    };
    let speaks = match about & 0xff {
        0 => Speaks::Web,
        1 => Speaks::Dns,
        2 => Speaks::Segments,
        _ => Speaks::Datagrams,
    };
    let protocol = (about >> PROTOCOL_SHIFT) as u8;
    content::begins(speaks, protocol, false, head, len as usize).map_or(0, |begins| begins as u32 + 1)
}

/// The facts about a payload that its connection shows.
#[derive(Clone, Copy)]
struct Origin {
    /// Whether nobody else can have sent it.
    is_proven: bool,
    /// See [`SampleHeader::position`].
    position: u64,
}

/// The last bytes of the head of a request (RFC 9112, 2.1).
const EMPTY_LINE: [u8; 4] = *b"\r\n\r\n";

/// A payload that may be sampled.
struct Sample<'c> {
    control: &'c Control,
    speaks: Speaks,
    is_answer: bool,
    /// From the client to this host.
    flow: Flow,
    offset: usize,
    len: usize,
}

impl Sample<'_> {
    /// The kind of message that the payload begins like.
    #[inline(always)]
    fn begins(&self, head: &Head) -> Option<Begins> {
        let protocol = self.flow.service.protocol;
        if self.is_answer {
            // Few comparisons, for each segment that leaves.
            return content::begins(self.speaks, protocol, true, head, self.len);
        }
        let about = self.speaks as u32 | u32::from(protocol) << PROTOCOL_SHIFT;
        // SAFETY: a structure of that alone.
        let head: &Beginning = unsafe { &*core::ptr::from_ref(head).cast() };
        let begins = scanguard_begins(give(Place::Beginning, head), about, self.len as u32);
        Begins::from_index(begins.wrapping_sub(1) as u8)
    }

    /// Whether the payload ends as the head of a request does.
    #[inline(always)]
    fn ends_head(&self, packet: &impl Packet) -> bool {
        let end = self.offset.wrapping_add(self.len);
        packet.copy::<[u8; 4]>(end.wrapping_sub(EMPTY_LINE.len())) == Some(EMPTY_LINE)
    }

    /// Takes the sample, if it is one. `origin` returns what the connection tells about it, or nothing if no other host
    /// can have sent it at all. It is only called for a payload that begins like something that is sampled.
    #[inline(always)]
    fn take(&self, packet: &impl Packet, origin: impl FnOnce(&Flow) -> Option<Origin>) -> bool {
        let Self { control, is_answer, ref flow, offset, len, .. } = *self;
        // If the head lies in the first buffer, it is read in place: a call costs as much as everything else here.
        // The verifier before Linux 5.12 loses the bound of the offset on the way.
        let begins = if !cfg!(feature = "old")
            && len >= HEAD
            && let Some(head) = packet.view::<Head>(offset)
        {
            self.begins(head)
        } else {
            let mut head = [0; HEAD];
            let Some(head_len) = bounded(len, HEAD) else {
                return false;
            };
            if !head.get_mut(..head_len).is_some_and(|head| packet.load(offset, head)) {
                tally::count_left_out(LeftOut::Unreadable);
                return false;
            }
            self.begins(&head)
        };
        let Some(begins) = begins else {
            return false;
        };
        let Some(origin) = origin(flow) else {
            return false;
        };
        if origin.is_proven && origin.position > begins.furthest() {
            return false;
        }
        let kind = match (is_answer, origin.is_proven) {
            (true, _) => BudgetKind::Answer,
            (false, true) => BudgetKind::Proven,
            (false, false) => BudgetKind::Unproven,
        };
        if let Err(why) = pay(control, flow, kind, begins) {
            tally::count_left_out(why);
            return false;
        }
        let ends_head = matches!(begins, Begins::Request) && self.ends_head(packet);
        let header = SampleHeader {
            source: config::source(flow.source),
            host: flow.destination,
            port: flow.service.port,
            client_port: flow.source_port,
            protocol: flow.service.protocol,
            begins: begins as u8,
            owned: origin.is_proven.into(),
            ends_head: ends_head.into(),
            position: origin.position,
            len: len as u32,
            reserved: 0,
        };
        match send(header, |into| {
            let into = into.get_mut(..bounded(len.min(begins.limit()), MAX_SAMPLE)?)?;
            packet.load(offset, into).then_some(into.len())
        }) {
            Ok(()) => {
                tally::count_sampled(begins);
                true
            }
            Err(why) => {
                tally::count_left_out(why);
                false
            }
        }
    }
}

/// Takes one sample from the budgets. The source's budget comes first, so that a source without a budget costs the
/// others nothing.
#[inline(always)]
fn pay(control: &Control, flow: &Flow, kind: BudgetKind, begins: Begins) -> Result<(), LeftOut> {
    let source = config::source(flow.source);
    let (place, tag) = budget_place(source, kind, config::salt());
    let Control { epoch, source_samples, cpu_samples, sample_epochs, .. } = *control;
    let of_source = Budget { samples: source_samples, epochs: sample_epochs };
    let of_cpu = Budget { samples: cpu_samples, epochs: sample_epochs };
    pay_from(BUDGET.get_ptr_mut(place), tag, epoch, of_source, LeftOut::SourceBudget)?;
    let of_this_cpu = CPU_BUDGET.get_ptr_mut(cpu_place(flow.service.protocol, kind, begins));
    pay_from(of_this_cpu, 0, epoch, of_cpu, LeftOut::CpuBudget)
}

#[inline(always)]
fn pay_from(
    held: Option<*mut u64>,
    tag: u32,
    epoch: u32,
    budget: Budget,
    why: LeftOut,
) -> Result<(), LeftOut> {
    let held = held.ok_or(why)?;
    // SAFETY: an aligned number in a map, read and written whole.
    unsafe { held.write(charge(held.read(), tag, epoch, budget).ok_or(why)?) };
    Ok(())
}

/// Joins header and bytes, and sends them.
#[inline(always)]
fn send(
    header: SampleHeader,
    load: impl FnOnce(&mut [u8; MAX_SAMPLE]) -> Option<usize>,
) -> Result<(), LeftOut> {
    let draft = DRAFT.get_ptr_mut(0).ok_or(LeftOut::Unreadable)?;
    // SAFETY: this CPU's entry of a map.
    let len = unsafe {
        (&raw mut (*draft).header).write(header);
        load(&mut (*draft).bytes).ok_or(LeftOut::Unreadable)?
    };
    // SAFETY: the header, which was written, and as many of the bytes behind it as were loaded.
    let sample: &[u8] = unsafe { core::slice::from_raw_parts(draft.cast(), size_of::<SampleHeader>() + len) };
    SAMPLES.output_untyped::<[u8]>(sample, 0).map_err(|_| LeftOut::RingFull)
}
