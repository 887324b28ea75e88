//! Frames put on the wire as they are (AF_PACKET): what no stack would send.

use std::{ffi::CString, io, os::fd::AsRawFd as _, os::fd::FromRawFd as _, os::fd::OwnedFd};

use anyhow::{Result, ensure};

use crate::lab::Namespace;

/// The index of an interface in the calling thread's namespace.
///
/// # Errors
/// It does not exist.
pub fn index(interface: &str) -> Result<u32> {
    let name = CString::new(interface)?;
    // SAFETY: a terminated string.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    ensure!(index != 0, "{interface}: {}", io::Error::last_os_error());
    Ok(index)
}

/// Sends frames out of an interface.
///
/// # Errors
/// The interface does not exist, or does not take a frame.
pub fn send(namespace: &Namespace, interface: &str, frames: &[Vec<u8>]) -> Result<()> {
    namespace.enter(|| {
        let wire = Wire::open(interface)?;
        frames.iter().try_for_each(|frame| wire.send(frame))
    })
}

/// An interface that takes frames, whatever namespace the thread is in later.
pub struct Wire {
    socket: OwnedFd,
    address: libc::sockaddr_ll,
}

impl Wire {
    /// Opens an interface of the calling thread's namespace.
    ///
    /// # Errors
    /// It does not exist.
    pub fn open(interface: &str) -> Result<Self> {
        let index = index(interface)?;
        // SAFETY: no memory; the result is checked. Protocol 0: it receives nothing.
        let descriptor = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
        ensure!(descriptor >= 0, "AF_PACKET: {}", io::Error::last_os_error());
        // SAFETY: a new descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // SAFETY: all fields are numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = u16::try_from(libc::AF_PACKET)?;
        address.sll_ifindex = i32::try_from(index)?;
        Ok(Self { socket, address })
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// It is not taken.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // The other end's queue is full while a flood goes on.
        let mut tries = 0..200;
        while let Err(error) = send_frame(&self.socket, &self.address, frame) {
            let full = error.raw_os_error() == Some(libc::ENOBUFS) && tries.next().is_some();
            ensure!(full, "frame of {} bytes: {error}", frame.len());
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        Ok(())
    }
}

fn send_frame(socket: &OwnedFd, address: &libc::sockaddr_ll, frame: &[u8]) -> io::Result<()> {
    // SAFETY: both the frame and the address are as long as is said.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            0,
            std::ptr::from_ref(address).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
