//! The BPF links of this kernel: which program is attached, and to what. Also a link that this process holds.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use aya::programs::links::{FdLink, LinkError, LinkType};
use aya::programs::loaded_links;
use aya_obj::generated::bpf_link_info;

use super::sys::bpf;

/// `enum bpf_cmd`, include/uapi/linux/bpf.h.
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// As above.
const BPF_LINK_GET_FD_BY_ID: libc::c_long = 30;
/// As above.
const BPF_LINK_DETACH: libc::c_long = 34;

/// A link whose target is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Link {
    pub(super) id: u32,
    /// The program in the link.
    pub(super) program: u32,
    pub(super) target: Target,
}

/// A link of a tcx program that this process holds. The process can look at it without privileges. If somebody
/// detached it by force, the link still exists, but has no interface.
pub(super) struct TcxLink {
    _link: FdLink,
    /// It is open as long as the link. aya keeps it private.
    descriptor: RawFd,
}

impl TcxLink {
    /// The link that was just made or taken over.
    ///
    /// # Errors
    /// The kernel, or /proc, does not give it.
    pub(super) fn new(link: FdLink) -> io::Result<Self> {
        let id = link.info().map_err(io::Error::other)?.id();
        Ok(Self { descriptor: descriptor_of(id)?, _link: link })
    }

    /// Detaches it at once: closing its descriptor takes effect later.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn detach(self) -> io::Result<()> {
        let mut attributes = DetachAttributes { link: self.descriptor.cast_unsigned() };
        // SAFETY: the attributes are those of the command.
        unsafe { bpf(BPF_LINK_DETACH, &mut attributes) }.map(drop)
    }

    /// The index of its interface; 0 once it is detached.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub(super) fn interface(&self) -> io::Result<u32> {
        let info = info_of(self.descriptor)?;
        // SAFETY: the kernel has filled in the part of this kind; all of it are numbers.
        Ok(unsafe { info.__bindgen_anon_1.tcx.ifindex })
    }
}

/// The descriptor by which this process holds a link.
fn descriptor_of(link: u32) -> io::Result<RawFd> {
    let line = format!("link_id:\t{link}");
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let entry = entry?;
        // It may be closed by now, like that of this directory.
        let info = fs::read_to_string(entry.path()).unwrap_or_default();
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|_| info.lines().any(|other| other == line)) {
            return Ok(number);
        }
    }
    Err(io::Error::other(format!("link {link} is not among the descriptors of this process")))
}

/// The object that a program is attached to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Target {
    /// An interface, by its index.
    Interface(u32),
    /// A function of another program, by that program's id.
    Program(u32),
}

/// All links of XDP programs, and of programs that replace functions of others.
///
/// # Errors
/// It needs CAP_SYS_ADMIN.
pub(super) fn all() -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    for link in loaded_links() {
        let link = match link {
            Ok(link) => link,
            Err(LinkError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::PermissionDenied =>
            {
                return Err(error.io_error);
            }
            // It disappeared meanwhile, or belongs to a later kernel's kind.
            Err(_) => continue,
        };
        // For these kinds aya does not give the targets.
        if let Ok(kind @ (LinkType::Xdp | LinkType::Tracing)) = link.link_type()
            && let Ok(info) = info(link.id())
        {
            links.push(Link { id: info.id, program: info.prog_id, target: target(kind, &info) });
        }
    }
    Ok(links)
}

fn target(kind: LinkType, info: &bpf_link_info) -> Target {
    // SAFETY: the kernel has filled in the part of this kind; all of it are numbers.
    unsafe {
        match kind {
            LinkType::Xdp => Target::Interface(info.__bindgen_anon_1.xdp.ifindex),
            _ => Target::Program(info.__bindgen_anon_1.tracing.target_obj_id),
        }
    }
}

/// `union bpf_attr`, the anonymous struct of the commands by id.
#[repr(C)]
struct IdAttributes {
    id: u32,
    next: u32,
    flags: u32,
}

/// `union bpf_attr`, the struct of `BPF_LINK_DETACH`.
#[repr(C)]
struct DetachAttributes {
    link: u32,
}

/// `union bpf_attr`, the struct named `info`.
#[repr(C)]
struct InfoAttributes {
    descriptor: u32,
    len: u32,
    info: u64,
}

fn info(id: u32) -> io::Result<bpf_link_info> {
    let mut attributes = IdAttributes { id, next: 0, flags: 0 };
    // SAFETY: the attributes are those of the command.
    let descriptor = unsafe { bpf(BPF_LINK_GET_FD_BY_ID, &mut attributes) }?;
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: a new descriptor that nobody else owns.
    let link = unsafe { OwnedFd::from_raw_fd(descriptor) };
    info_of(link.as_raw_fd())
}

/// The kernel's information about a link, given its descriptor. Anybody with a descriptor may ask.
fn info_of(link: RawFd) -> io::Result<bpf_link_info> {
    // SAFETY: all zero is a value of this structure.
    let mut info: bpf_link_info = unsafe { std::mem::zeroed() };
    let mut attributes = InfoAttributes {
        descriptor: link.cast_unsigned(),
        len: u32::try_from(size_of_val(&info)).map_err(io::Error::other)?,
        info: (&raw mut info) as u64,
    };
    // SAFETY: the attributes of the command. The kernel writes at most the given number of bytes, which is the size of
    // the value.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes) }?;
    Ok(info)
}
