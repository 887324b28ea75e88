//! Asks the kernel for lists, of routes and sockets, and passes the items on one by one. The kernel makes the next part
//! only when the socket has room for it, so that a million routes take no memory here. The requests of rtnetlink would
//! queue all of them.

use std::io;

use rtnetlink::{
    Error,
    packet_core::{
        DecodeError, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkMessage,
        NetlinkPayload, NetlinkSerializable,
    },
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteMessage, RouteType},
    },
    sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};

use super::NetworkError;

/// The kernel sends at most 32 KiB at once: `netlink_dump`, net/netlink/af_netlink.c.
const BUFFER: usize = 64 << 10;
/// `NLMSG_ALIGNTO`, include/uapi/linux/netlink.h.
const ALIGNMENT: usize = 4;

/// A socket for one such request at a time.
pub(super) struct Dump {
    socket: TokioSocket,
    buffer: Vec<u8>,
    /// The sequence number of the last request.
    sequence: u32,
}

impl Dump {
    /// A socket for routes.
    pub(super) fn of_routes() -> io::Result<Self> {
        let mut dump = Self::new(NETLINK_ROUTE)?;
        // Only then does the kernel filter by the request.
        dump.socket.socket_mut().set_netlink_get_strict_chk(true)?;
        Ok(dump)
    }

    /// A socket for this protocol of netlink.
    pub(super) fn new(protocol: isize) -> io::Result<Self> {
        let mut socket = TokioSocket::new(protocol)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, buffer: Vec::with_capacity(BUFFER), sequence: 0 })
    }

    /// Passes on the routes of one kind from all tables.
    ///
    /// # Errors
    /// The kernel did not answer, or refused.
    pub(super) async fn routes(
        &mut self,
        family: AddressFamily,
        kind: RouteType,
        take: &mut (dyn FnMut(RouteMessage) + Send),
    ) -> Result<(), NetworkError> {
        let mut wanted = RouteMessage::default();
        (wanted.header.address_family, wanted.header.kind) = (family, kind);
        self.ask(RouteNetlinkMessage::GetRoute(wanted), &mut |answer| {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                take(route);
            }
        })
        .await
    }

    /// Passes on all answers to a request.
    ///
    /// # Errors
    /// The kernel did not answer, or refused.
    pub(super) async fn ask<M>(
        &mut self,
        request: M,
        take: &mut (dyn FnMut(M) + Send),
    ) -> Result<(), NetworkError>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<M>> + Send,
        M::Error: std::error::Error + Send + Sync + 'static,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(request);
        (request.header.flags, request.header.sequence_number) = (NLM_F_REQUEST | NLM_F_DUMP, self.sequence);
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes).await?;
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer).await?;
            if self.take(take)? {
                return Ok(());
            }
        }
    }

    /// Handles received messages. Returns whether they were the last.
    fn take<M: NetlinkDeserializable>(&self, take: &mut (dyn FnMut(M) + Send)) -> Result<bool, NetworkError>
    where
        M::Error: std::error::Error + Send + Sync + 'static,
    {
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let length = NetlinkBuffer::new_checked(rest)?.length() as usize;
            let message = NetlinkMessage::<M>::deserialize(rest);
            rest = rest.get(length.next_multiple_of(ALIGNMENT)..).unwrap_or_default();
            let (header, payload) = match message {
                Ok(message) => message.into_parts(),
                Err(error) => {
                    tracing::warn!("an answer of netlink that cannot be read is left out: {error}");
                    continue;
                }
            };
            // The rest of a request that was cancelled.
            if header.sequence_number != self.sequence {
                continue;
            }
            match payload {
                NetlinkPayload::InnerMessage(answer) => take(answer),
                NetlinkPayload::Done(done) if done.code < 0 => {
                    return Err(io::Error::from_raw_os_error(-done.code).into());
                }
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => return Err(Error::NetlinkError(error).into()),
                // Other messages do not answer this request.
                _ => {}
            }
        }
        Ok(false)
    }
}

impl From<DecodeError> for NetworkError {
    fn from(error: DecodeError) -> Self {
        Self::Answer(error.to_string())
    }
}
