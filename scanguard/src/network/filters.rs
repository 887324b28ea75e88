//! Filters of traffic control (tc) at what leaves by an interface, and the queueing discipline (clsact) that they hang
//! from. The requests wait for the kernel, which answers at once.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage,
        NetlinkPayload, Parseable as _,
    },
    packet_route::{
        RouteNetlinkMessage,
        tc::{
            TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcHeader, TcMessage, TcOption,
        },
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// `RTM_NEWQDISC`, include/uapi/linux/rtnetlink.h.
const NEW_QDISC: u16 = 36;
/// `RTM_NEWTFILTER`, as above.
const NEW_FILTER: u16 = 44;
/// `NLMSG_ALIGNTO`, include/uapi/linux/netlink.h.
const ALIGNMENT: usize = 4;
/// The kernel sends at most 32 KiB at once: `netlink_dump`, net/netlink/af_netlink.c.
const BUFFER: usize = 64 << 10;
/// `ETH_P_ALL`, include/uapi/linux/if_ether.h.
const ALL_PROTOCOLS: u16 = 3;
/// The queueing discipline.
const CLSACT: &str = "clsact";

/// A side of clsact.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// What comes.
    Ingress,
    /// What leaves.
    Egress,
}

impl Side {
    const fn parent(self) -> TcHandle {
        let minor = match self {
            Self::Ingress => TcHandle::MIN_INGRESS,
            Self::Egress => TcHandle::MIN_EGRESS,
        };
        TcHandle { major: u16::MAX, minor }
    }
}

/// The place of a filter at one side of an interface.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Filters with a lower number come first.
    pub priority: u16,
    /// Distinguishes filters of the same priority.
    pub handle: u32,
}

/// A filter, or a group of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filter {
    /// Its place. The handle 0 stands for all filters of the priority.
    pub place: Place,
    /// For which protocol it is (`ETH_P_*`).
    pub protocol: u16,
    /// Its kind, such as "bpf" or "u32"; empty if it cannot be read.
    pub kind: String,
    /// The name that who added it has given it; filters of other kinds have none.
    pub name: Option<String>,
    /// The id of its program.
    pub program: Option<u32>,
}

impl Filter {
    /// Whether filters with programs for all protocols can be added at its priority.
    fn has_programs(&self) -> bool {
        self.kind == TcFilterBpf::KIND && self.protocol == ALL_PROTOCOLS
    }
}

/// A socket for requests about filters. To ask for the present ones needs no privileges, to change them
/// CAP_NET_ADMIN.
pub struct Filters {
    socket: Socket,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Filters {
    /// Opens the socket.
    ///
    /// # Errors
    /// There is none.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER), sequence: 0 })
    }

    /// The filters at one side of an interface, in their order; none if it has no clsact.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn list(&mut self, interface: u32, side: Side) -> io::Result<Vec<Filter>> {
        let message = about(interface, side)?;
        let mut filters = Vec::new();
        self.ask(RouteNetlinkMessage::GetTrafficFilter(message), NLM_F_DUMP, &mut |kind, payload| {
            filters.extend((kind == NEW_FILTER).then(|| filter(payload)).transpose()?);
            Ok(())
        })?;
        Ok(filters)
    }

    /// Gives an interface a clsact. Returns whether it had none.
    ///
    /// # Errors
    /// The kernel refuses; or there is an ingress qdisc in its place. A filter for what leaves would then see what
    /// comes.
    pub fn add_clsact(&mut self, interface: u32) -> io::Result<bool> {
        let message = RouteNetlinkMessage::NewQueueDiscipline(clsact(interface)?);
        match self.order(message, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                let present = self.ingress_qdisc(interface)?.unwrap_or_default();
                if present == CLSACT {
                    return Ok(false);
                }
                Err(io::Error::other(format!(
                    "the interface has an {present} qdisc (`tc qdisc show`), beside which there can be no clsact"
                )))
            }
            Err(error) => Err(error),
        }
    }

    /// The kind of the qdisc that is in the place of clsact.
    fn ingress_qdisc(&mut self, interface: u32) -> io::Result<Option<String>> {
        let message = clsact(interface)?;
        let (index, handle) = (message.header.index, message.header.handle);
        let mut found = None;
        self.ask(RouteNetlinkMessage::GetQueueDiscipline(message), NLM_F_DUMP, &mut |kind, payload| {
            // Those of all interfaces come, some of kinds that cannot be read.
            let header = TcHeader::parse(payload).map_err(io::Error::other)?;
            if kind == NEW_QDISC && header.index == index && header.handle == handle {
                let message = TcMessage::parse(payload).map_err(io::Error::other)?;
                found = message.attributes.into_iter().find_map(|attribute| match attribute {
                    TcAttribute::Kind(kind) => Some(kind),
                    _ => None,
                });
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Takes an interface's clsact away, with all filters in it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn remove_clsact(&mut self, interface: u32) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelQueueDiscipline(clsact(interface)?);
        self.order(message, 0)
    }

    /// Adds a filter with this program to what leaves. It never takes the place of another one.
    ///
    /// # Errors
    /// The kernel refuses: `EEXIST` if the place is taken.
    pub fn add(
        &mut self,
        interface: u32,
        place: Place,
        name: &str,
        program: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let message = with_program(interface, place, name, program)?;
        self.order(RouteNetlinkMessage::NewTrafficFilter(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Puts this program into the filter at a place, in one step.
    ///
    /// # Errors
    /// The kernel refuses: `ENOENT` if there is none.
    pub fn replace(
        &mut self,
        interface: u32,
        place: Place,
        name: &str,
        program: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let message = with_program(interface, place, name, program)?;
        self.order(RouteNetlinkMessage::NewTrafficFilter(message), 0)
    }

    /// Takes away the filter with a program at this place.
    ///
    /// # Errors
    /// The kernel refuses: `ENOENT` if there is none.
    pub fn remove(&mut self, interface: u32, place: Place) -> io::Result<()> {
        let mut message = at(interface, place)?;
        message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
        self.order(RouteNetlinkMessage::DelTrafficFilter(message), 0)
    }

    /// Has the kernel change something.
    fn order(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.ask(message, NLM_F_ACK | flags, &mut |_, _| Ok(()))
    }

    /// Sends a request, and passes on the answers, by kind and payload, until the kernel has said that this is all.
    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16, take: Take<'_>) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        (request.header.flags, request.header.sequence_number) = (NLM_F_REQUEST | flags, self.sequence);
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            if read(&self.buffer, self.sequence, take)? {
                return Ok(());
            }
        }
    }
}

/// Takes the kind and the payload of an answer.
type Take<'t> = &'t mut dyn FnMut(u16, &[u8]) -> io::Result<()>;

/// Reads messages; returns whether they were the last.
fn read(mut rest: &[u8], sequence: u32, take: Take<'_>) -> io::Result<bool> {
    while !rest.is_empty() {
        let buffer = NetlinkBuffer::new_checked(rest).map_err(io::Error::other)?;
        let message = rest;
        rest = rest.get((buffer.length() as usize).next_multiple_of(ALIGNMENT)..).unwrap_or_default();
        if buffer.sequence_number() != sequence {
            continue;
        }
        if [NEW_QDISC, NEW_FILTER].contains(&buffer.message_type()) {
            take(buffer.message_type(), buffer.payload())?;
            continue;
        }
        let message =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map_err(io::Error::other)?;
        match message.payload {
            NetlinkPayload::Done(done) if done.code < 0 => {
                return Err(io::Error::from_raw_os_error(-done.code));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => {
                return if error.code.is_none() { Ok(true) } else { Err(error.to_io()) };
            }
            _ => {}
        }
    }
    Ok(false)
}

/// A filter from its message. Those of kinds that cannot be read are there nevertheless: nobody may take them for
/// nothing.
fn filter(payload: &[u8]) -> io::Result<Filter> {
    let header = TcHeader::parse(payload).map_err(io::Error::other)?;
    let place = Place { priority: (header.info >> 16) as u16, handle: header.handle.into() };
    let protocol = u16::from_be(header.info as u16);
    let mut filter = Filter { place, protocol, kind: String::new(), name: None, program: None };
    let Ok(message) = TcMessage::parse(payload) else {
        return Ok(filter);
    };
    for attribute in message.attributes {
        match attribute {
            TcAttribute::Kind(kind) => filter.kind = kind,
            TcAttribute::Options(options) => {
                for option in options {
                    match option {
                        TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => filter.name = Some(name),
                        TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => filter.program = Some(id),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(filter)
}

/// The first place where a filter with a program can be added, with this handle or one after it. Within a priority, the
/// filter that was added last comes first.
pub fn free_place(filters: &[Filter], handle: u32) -> Option<Place> {
    let at = |priority: u16| filters.iter().filter(move |filter| filter.place.priority == priority);
    let priority = (1..=u16::MAX).find(|priority| at(*priority).all(Filter::has_programs))?;
    let is_free = |handle: &u32| at(priority).all(|filter| filter.place.handle != *handle);
    let handle = (handle..=u32::MAX).find(is_free)?;
    Some(Place { priority, handle })
}

fn about(interface: u32, side: Side) -> io::Result<TcMessage> {
    let mut message = TcMessage::with_index(i32::try_from(interface).map_err(io::Error::other)?);
    message.header.parent = side.parent();
    Ok(message)
}

fn at(interface: u32, place: Place) -> io::Result<TcMessage> {
    let mut message = about(interface, Side::Egress)?;
    message.header.handle = place.handle.into();
    message.header.info = u32::from(place.priority) << 16 | u32::from(ALL_PROTOCOLS.to_be());
    Ok(message)
}

fn with_program(interface: u32, place: Place, name: &str, program: BorrowedFd<'_>) -> io::Result<TcMessage> {
    let mut message = at(interface, place)?;
    let options = [
        TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
        TcFilterBpfOption::ProgName(name.to_owned()),
        // The program gives the verdict itself.
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    message.attributes.push(TcAttribute::Kind(TcFilterBpf::KIND.to_owned()));
    message.attributes.push(TcAttribute::Options(options.map(TcOption::Bpf).into()));
    Ok(message)
}

fn clsact(interface: u32) -> io::Result<TcMessage> {
    let mut message = TcMessage::with_index(i32::try_from(interface).map_err(io::Error::other)?);
    message.header.handle = TcHandle { major: u16::MAX, minor: 0 };
    message.header.parent = TcHandle::CLSACT;
    message.attributes.push(TcAttribute::Kind(CLSACT.to_owned()));
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(priority: u16, handle: u32, kind: &str, protocol: u16) -> Filter {
        let place = Place { priority, handle };
        Filter { place, protocol, kind: kind.to_owned(), name: None, program: None }
    }

    #[test]
    fn the_first_priority_is_taken_that_no_filter_of_another_kind_has() {
        let free = |filters: &[Filter]| free_place(filters, 7).map(|place| (place.priority, place.handle));
        assert_eq!(free(&[]), Some((1, 7)));
        let beside = [present(1, 0, "bpf", ALL_PROTOCOLS), present(1, 7, "bpf", ALL_PROTOCOLS)];
        assert_eq!(free(&beside), Some((1, 8)));
        let others = [present(1, 1, "u32", ALL_PROTOCOLS), present(2, 1, "bpf", 0x0800)];
        assert_eq!(free(&others), Some((3, 7)));
        assert_eq!(free(&[present(1, 1, "", ALL_PROTOCOLS)]), Some((2, 7)));
    }

    #[test]
    fn an_unknown_kind_of_filter_is_there() {
        let mut message = vec![0; 20];
        message[4] = 3;
        message[16..20].copy_from_slice(&(49152_u32 << 16 | u32::from(ALL_PROTOCOLS.to_be())).to_ne_bytes());
        // An attribute that is longer than the message.
        message.extend([200, 0, 1, 0]);
        let filter = filter(&message).unwrap();
        assert_eq!(filter, present(49152, 0, "", ALL_PROTOCOLS));
        assert!(super::filter(&message[..10]).is_err());
    }
}
