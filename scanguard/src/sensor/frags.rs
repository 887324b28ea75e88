//! Whether this kernel takes programs for frames that lie in several buffers: without it, it refuses ours with EINVAL and
//! without a word.

use std::io;

use super::least;

/// `enum bpf_prog_type`, include/uapi/linux/bpf.h.
const BPF_PROG_TYPE_XDP: u32 = 6;
/// `enum xdp_action`.
const XDP_PASS: u32 = 2;
/// A flag of `BPF_PROG_LOAD`.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// Has the kernel take the shortest such program, which is let go at once.
///
/// # Errors
/// It refuses for another reason than that it does not know them.
pub fn are_supported() -> io::Result<bool> {
    match least::load(BPF_PROG_TYPE_XDP, XDP_PASS, BPF_F_XDP_HAS_FRAGS) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}
