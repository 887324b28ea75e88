//! The sequence numbers of a connection, which only its two ends know.

use std::{io, net::TcpStream, os::fd::AsRawFd as _};

use anyhow::{Result, ensure};

/// `TCP_RECV_QUEUE` and `TCP_SEND_QUEUE` (include/uapi/linux/tcp.h).
const RECEIVED: libc::c_int = 1;
/// As above.
const SENT: libc::c_int = 2;
/// `TCP_REPAIR_ON` and `TCP_REPAIR_OFF_NO_WP`: off without a probe of the window.
const ON: libc::c_int = 1;
/// As above.
const OFF: libc::c_int = -1;

/// Of this end: the number that it wants next, and the one that it sends next. As root.
///
/// # Errors
/// The kernel does not say.
pub fn of(stream: &TcpStream) -> Result<(u32, u32)> {
    set(stream, libc::TCP_REPAIR, ON)?;
    let queue = |queue| {
        set(stream, libc::TCP_REPAIR_QUEUE, queue)?;
        get(stream, libc::TCP_QUEUE_SEQ)
    };
    let numbers = queue(RECEIVED).and_then(|received| Ok((received, queue(SENT)?)));
    set(stream, libc::TCP_REPAIR, OFF)?;
    numbers
}

fn set(stream: &TcpStream, option: libc::c_int, value: libc::c_int) -> Result<()> {
    let (pointer, size) = (std::ptr::from_ref(&value).cast(), size_of_val(&value) as u32);
    // SAFETY: the value is as long as is said.
    let done = unsafe { libc::setsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, option, pointer, size) };
    ensure!(done == 0, "setsockopt {option}: {}", io::Error::last_os_error());
    Ok(())
}

fn get(stream: &TcpStream, option: libc::c_int) -> Result<u32> {
    let (mut value, mut size) = (0u32, 4u32);
    // SAFETY: the value is as long as is said.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            std::ptr::from_mut(&mut value).cast(),
            &raw mut size,
        )
    };
    ensure!(done == 0, "getsockopt {option}: {}", io::Error::last_os_error());
    Ok(value)
}
