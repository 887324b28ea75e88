//! AF_XDP sockets that only send: bound in copy mode, without a program and without a map.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    lab::{Namespace, wait_for},
    wire,
};

/// Frames that may wait, a power of two; each has a chunk of its own.
const FRAMES: u32 = 64;
/// Bytes of a chunk.
const CHUNK: u32 = 4096;
/// `SOL_XDP`, include/linux/socket.h.
const SOL_XDP: libc::c_int = 283;

/// Memory that the kernel shares.
struct Shared {
    start: *mut libc::c_void,
    len: usize,
}

// SAFETY: nothing in it belongs to a thread.
unsafe impl Send for Shared {}

impl Shared {
    fn map(len: usize, flags: libc::c_int, descriptor: i32, offset: libc::off_t) -> Result<Self> {
        // SAFETY: a new mapping; the result is checked.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, descriptor, offset)
        };
        ensure!(start != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        Ok(Self { start, len })
    }

    /// A counter of a ring, which the kernel changes too.
    fn counter(&self, offset: u64) -> Result<&AtomicU32> {
        let offset = usize::try_from(offset)?;
        ensure!(offset + size_of::<AtomicU32>() <= self.len && offset.is_multiple_of(4));
        // SAFETY: within the mapping, aligned, and changed by atomic operations only.
        Ok(unsafe { &*self.start.byte_add(offset).cast::<AtomicU32>() })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping is this one's own.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

/// Such a socket at queue 0 of an interface.
pub struct Xsk {
    socket: OwnedFd,
    ring: Shared,
    offsets: libc::xdp_ring_offset,
    /// Frames, which live longer than the socket: fields are dropped in their order.
    memory: Shared,
}

impl Xsk {
    /// Opens and binds one.
    ///
    /// # Errors
    /// The kernel has no AF_XDP, or the interface does not take it.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        // One that was closed a moment ago may still have the queue.
        let mut last = None;
        let opened = wait_for("AF_XDP", Duration::from_secs(10), || {
            namespace.enter(|| Self::open_here(interface)).map_err(|error| last = Some(error)).ok()
        });
        opened.map_err(|late| last.take().unwrap_or(late))
    }

    fn open_here(interface: &str) -> Result<Self> {
        // SAFETY: no memory; the result is checked.
        let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        ensure!(socket >= 0, "AF_XDP: {}", io::Error::last_os_error());
        // SAFETY: a new descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let len = (FRAMES * CHUNK) as usize;
        let memory = Shared::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
        // SAFETY: all fields are numbers.
        let mut area: libc::xdp_umem_reg_v1 = unsafe { std::mem::zeroed() };
        (area.addr, area.len, area.chunk_size) = (memory.start as u64, len as u64, CHUNK);
        set(&socket, libc::XDP_UMEM_REG, &area)?;
        // Without a fill ring there is no binding, although nothing will be received.
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_TX_RING] {
            set(&socket, ring, &FRAMES)?;
        }
        // SAFETY: all fields are numbers.
        let mut offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
        let mut size = libc::socklen_t::try_from(size_of_val(&offsets))?;
        // SAFETY: the kernel writes at most as much as is said, which is how large it is.
        let got = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                SOL_XDP,
                libc::XDP_MMAP_OFFSETS,
                (&raw mut offsets).cast(),
                &raw mut size,
            )
        };
        ensure!(got == 0, "XDP_MMAP_OFFSETS: {}", io::Error::last_os_error());
        let len = usize::try_from(offsets.tx.desc)? + FRAMES as usize * size_of::<libc::xdp_desc>();
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        let ring = Shared::map(len, flags, socket.as_raw_fd(), libc::XDP_PGOFF_TX_RING)?;
        // SAFETY: all fields are numbers.
        let mut address: libc::sockaddr_xdp = unsafe { std::mem::zeroed() };
        address.sxdp_family = u16::try_from(libc::AF_XDP)?;
        address.sxdp_ifindex = wire::index(interface)?;
        address.sxdp_flags = libc::XDP_COPY;
        let size = libc::socklen_t::try_from(size_of_val(&address))?;
        // SAFETY: the address is as long as is said.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
        ensure!(bound == 0, "{interface}: bind: {}", io::Error::last_os_error());
        Ok(Self { socket, ring, offsets: offsets.tx, memory })
    }

    /// Sends frames, at most as many as one such socket has room for, and waits until the kernel has taken them.
    ///
    /// # Errors
    /// There are too many, one is too long, or they are not taken in time.
    pub fn send(&mut self, frames: &[Vec<u8>]) -> Result<()> {
        let count = u32::try_from(frames.len())?;
        let producer = self.ring.counter(self.offsets.producer)?;
        let consumer = self.ring.counter(self.offsets.consumer)?;
        let start = producer.load(Ordering::Relaxed);
        ensure!(start + count <= FRAMES, "room for {FRAMES} frames");
        for (place, frame) in (start..).zip(frames) {
            ensure!(frame.len() <= CHUNK as usize, "a frame of {} bytes", frame.len());
            let chunk = place * CHUNK;
            let descriptor =
                libc::xdp_desc { addr: chunk.into(), len: u32::try_from(frame.len())?, options: 0 };
            let at = usize::try_from(self.offsets.desc)? + place as usize * size_of_val(&descriptor);
            // SAFETY: `place` is below the number of chunks and descriptors, which both mappings have room for; the kernel
            // looks at neither before the producer's counter says so.
            unsafe {
                let into = self.memory.start.byte_add(chunk as usize).cast::<u8>();
                ptr::copy_nonoverlapping(frame.as_ptr(), into, frame.len());
                self.ring.start.byte_add(at).cast::<libc::xdp_desc>().write(descriptor);
            }
        }
        producer.store(start + count, Ordering::Release);
        wait_for("AF_XDP to send", Duration::from_secs(10), || {
            // SAFETY: no memory: the frames are in the ring. It says EAGAIN and the like while there are more.
            unsafe {
                libc::sendto(self.socket.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0)
            };
            (consumer.load(Ordering::Acquire) == start + count).then_some(())
        })
    }
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>())?;
    // SAFETY: the value is as long as is said.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), SOL_XDP, option, ptr::from_ref(value).cast(), size) };
    (done == 0)
        .then_some(())
        .with_context(|| format!("AF_XDP option {option}: {}", io::Error::last_os_error()))
}
