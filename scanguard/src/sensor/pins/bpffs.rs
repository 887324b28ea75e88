//! The BPF file system: whether a directory is on one, and what a pin in it refers to.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use super::{
    super::{object::Shape, sys},
    PinsError,
};

/// `BPF_FS_MAGIC`, include/uapi/linux/magic.h.
const MAGIC: libc::c_long = 0xcafe_4a11;
/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF_OBJ_GET: libc::c_long = 7;
/// As above.
const BPF_LINK_DETACH: libc::c_long = 34;

/// The kind of object that a pin refers to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Pinned {
    Map(Shape),
    Link {
        /// The program's id.
        program: u32,
        /// Index of the interface; 0 if it is gone.
        interface: u32,
    },
    /// A program, or a kind that later kernels have.
    Other,
}

/// Checks that a directory, which may not exist yet, is on a BPF file system.
pub(super) fn check(directory: &Path) -> Result<(), PinsError> {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let path = CString::new(existing.as_os_str().as_bytes())
        .map_err(|error| PinsError::io("looking at", existing)(error.into()))?;
    // SAFETY: all zero is a value of this structure.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a path that ends with zero, and room for the answer.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut about) } != 0 {
        return Err(PinsError::io("looking at", existing)(io::Error::last_os_error()));
    }
    // This field has another type on some platforms.
    if about.f_type as libc::c_long != MAGIC {
        return Err(PinsError::NotBpffs { path: directory.to_owned() });
    }
    // SAFETY: all zero is a value of this structure.
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let known = unsafe { libc::statvfs(path.as_ptr(), &raw mut about) } == 0;
    if known && about.f_flag & libc::ST_RDONLY != 0 {
        return Err(PinsError::ReadOnly { path: directory.to_owned() });
    }
    Ok(())
}

/// `union bpf_attr`, the anonymous struct of `BPF_OBJ_GET`.
#[repr(C)]
struct GetAttributes {
    path: u64,
    descriptor: u32,
    flags: u32,
}

/// Opens a pin. Returns what it refers to, from /proc.
pub(super) fn open(path: &Path) -> io::Result<(OwnedFd, Pinned)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attributes = GetAttributes { path: path.as_ptr() as u64, descriptor: 0, flags: 0 };
    // SAFETY: the attributes are those of the command; the path outlives the call.
    let descriptor = unsafe { sys::bpf(BPF_OBJ_GET, &mut attributes) }?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: a new descriptor that nobody else owns.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd()))?;
    Ok((descriptor, pinned(&info)))
}

fn pinned(info: &str) -> Pinned {
    let field =
        |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let number = |name: &str| {
        field(name).map_or(0, |text| match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16).unwrap_or(0),
            None => text.parse().unwrap_or(0),
        })
    };
    if field("map_type").is_some() {
        Pinned::Map(Shape {
            kind: number("map_type"),
            key_size: number("key_size"),
            value_size: number("value_size"),
            max_entries: number("max_entries"),
            flags: number("map_flags"),
        })
    } else if field("link_type").is_some() {
        Pinned::Link { program: number("prog_id"), interface: number("ifindex") }
    } else {
        Pinned::Other
    }
}

/// `union bpf_attr`, the anonymous struct of `BPF_LINK_DETACH`.
#[repr(C)]
struct DetachAttributes {
    link: u32,
}

/// Detaches a link at once, even if other processes hold it. Closing the last descriptor may take effect later.
pub(super) fn detach(link: &OwnedFd) -> io::Result<()> {
    let mut attributes = DetachAttributes { link: link.as_raw_fd().cast_unsigned() };
    // SAFETY: the attributes are those of the command.
    unsafe { sys::bpf(BPF_LINK_DETACH, &mut attributes) }.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pin_is_of_is_read_from_what_the_kernel_writes() {
        let map = "pos:\t0\nflags:\t02000002\nmap_type:\t9\nkey_size:\t16\nvalue_size:\t464\nmax_entries:\t65536\n\
                   map_flags:\t0x1\nmap_extra:\t0x0\nmemlock:\t1\nmap_id:\t7\nfrozen:\t0\n";
        let shape = Shape { kind: 9, key_size: 16, value_size: 464, max_entries: 65_536, flags: 1 };
        assert_eq!(pinned(map), Pinned::Map(shape));
        let link = "pos:\t0\nlink_type:\txdp\nlink_id:\t3\nprog_tag:\tabc\nprog_id:\t41\nifindex:\t5\n";
        assert_eq!(pinned(link), Pinned::Link { program: 41, interface: 5 });
        assert_eq!(pinned("pos:\t0\nprog_type:\t6\nprog_id:\t41\n"), Pinned::Other);
    }
}
