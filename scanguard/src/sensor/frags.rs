//! Whether this kernel supports programs for frames in several buffers. Without this, it refuses ours with EINVAL and
//! without a message.

use std::io;

use super::least;

/// `enum bpf_prog_type`, include/uapi/linux/bpf.h.
const BPF_PROG_TYPE_XDP: u32 = 6;
/// `enum xdp_action`.
const XDP_PASS: u32 = 2;
/// A flag of `BPF_PROG_LOAD`.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// Loads the shortest such program into the kernel, and drops it at once.
///
/// # Errors
/// The kernel refuses it for another reason than missing support.
pub fn are_supported() -> io::Result<bool> {
    match least::load(BPF_PROG_TYPE_XDP, XDP_PASS, BPF_F_XDP_HAS_FRAGS) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}
