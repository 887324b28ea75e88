//! The process at the other end of the socket, and whether it has access.

use std::{fmt, io, os::fd::AsRawFd as _};

use tokio::net::UnixStream;

use crate::privileges::effective_user;

/// `SO_PEERGROUPS` of include/uapi/asm-generic/socket.h; libc defines it for some targets only.
const SO_PEERGROUPS: libc::c_int = 59;
/// `NGROUPS_MAX`, include/uapi/linux/limits.h.
const MAX_GROUPS: usize = 65_536;

/// A process, with its credentials at the time it connected, as the kernel reports them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Process id; `None` if it is in another process namespace.
    pub pid: Option<i32>,
    /// Primary and supplementary groups.
    groups: Vec<u32>,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        match self.pid {
            Some(pid) => write!(f, " pid {pid}"),
            None => Ok(()),
        }
    }
}

impl Peer {
    /// This process itself, for requests that it authorizes by other means.
    pub fn this_process() -> Self {
        Self { uid: effective_user(), pid: i32::try_from(std::process::id()).ok(), groups: Vec::new() }
    }

    /// The credentials of the connected process.
    ///
    /// # Errors
    /// The kernel does not report them.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let mut groups = supplementary(stream)?;
        groups.push(credentials.gid());
        Ok(Self { uid: credentials.uid(), pid: credentials.pid(), groups })
    }
}

fn supplementary(stream: &UnixStream) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let bytes = size_of_val(groups.as_slice());
        let mut length = libc::socklen_t::try_from(bytes).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `length` bytes to the vector, and stores the length that it needs.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        let may_grow =
            error.raw_os_error() == Some(libc::ERANGE) && groups.len() < count && count <= MAX_GROUPS;
        if !may_grow {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// The peers with access: root, the agent's own user, members of a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rights {
    /// The agent's user.
    pub own: u32,
    /// The group, if one is configured.
    pub group: Option<u32>,
}

impl Rights {
    /// Whether this peer has access.
    pub fn permit(&self, peer: &Peer) -> bool {
        peer.uid == 0 || peer.uid == self.own || self.group.is_some_and(|group| peer.groups.contains(&group))
    }
}

/// The id of a group, given by name or number.
///
/// # Errors
/// There is no such group, or it could not be looked up.
pub fn group(name: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = std::ffi::CString::new(name)?;
    // A large group has many members, so the buffer has to grow.
    let mut buffer = vec![0_u8; 1 << 20];
    // SAFETY: all zero is a valid value of this structure of integers and pointers.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are valid for the given lengths; the entry points into the buffer, which outlives it.
    let code = unsafe {
        libc::getgrnam_r(
            text.as_ptr(),
            &raw mut entry,
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            &raw mut found,
        )
    };
    match (code, found.is_null()) {
        (0, false) => Ok(entry.gr_gid),
        (0, true) => Err(io::Error::from(io::ErrorKind::NotFound)),
        (code, _) => Err(io::Error::from_raw_os_error(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_own_user_and_the_group_may_ask() {
        let peer = |uid, groups: &[u32]| Peer { uid, pid: None, groups: groups.to_vec() };
        let (alone, shared) = (Rights { own: 7, group: None }, Rights { own: 7, group: Some(30) });
        for (peer, without, with) in [
            (peer(0, &[]), true, true),
            (peer(7, &[]), true, true),
            (peer(8, &[8, 30]), false, true),
            (peer(8, &[8, 0, 7]), false, false),
        ] {
            assert_eq!((alone.permit(&peer), shared.permit(&peer)), (without, with), "{peer:?}");
        }
    }

    #[test]
    fn groups_are_found_by_name_and_number() {
        assert_eq!(group("root").unwrap(), 0);
        assert_eq!(group("4711").unwrap(), 4711);
        assert_eq!(group("no-such-group").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
