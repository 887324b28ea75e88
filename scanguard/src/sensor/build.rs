//! Which build of the kernel programs a kernel takes.

use super::frags;

/// The loss by [`Build::Old`], for logs and doctor.
pub const LOSS: &str = "the program for older kernels is used: it cannot be attached in native mode where packets lie in \
                        several buffers (large MTU), and where two CPUs note something of a source at the same moment, \
                        one of both may be lost until its next packet";

/// A build.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Build {
    /// For kernels with frags (Linux 5.18), which have all else that the programs use.
    Full,
    /// For older ones.
    Old,
}

impl Build {
    /// The build for the running kernel. Where it does not say, the full one, with which loading says why.
    pub fn of_kernel() -> Self {
        match frags::are_supported() {
            Ok(false) => Self::Old,
            Ok(true) | Err(_) => Self::Full,
        }
    }
}
