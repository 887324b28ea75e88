//! Structures that are passed to global functions, which the verifier checks each for itself.
//!
//! They are passed by pointers. Before Linux 5.12 such functions take only numbers: in the object for these kernels (the
//! feature `old`) a structure is put into a map, and its place there is passed. No program that interrupts another one
//! on the same CPU may pass one at the same place. One case is left: a connection that is established in a soft interrupt
//! may come between the steps of the tracepoint for another one, over IPv6, whose source is then that of the first.

/// The form in which a structure is passed.
pub(crate) trait Argument: Sized {
    /// To be read.
    type Given;
    /// To be changed.
    type Lent;
}

/// As [`Argument::Given`].
pub(crate) type Given<T> = <T as Argument>::Given;
/// As [`Argument::Lent`].
pub(crate) type Lent<T> = <T as Argument>::Lent;

/// Where a structure lies meanwhile. A function that is called by another one has another place.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// The flow of the packet.
    Flow,
    /// A flow that may be used.
    Used,
    /// An address that may be nobody's.
    BadSource,
    /// An address whose source is looked for.
    Source,
    /// The same, of the peer of a connection.
    PeerSource,
    /// The beginning of a payload.
    Beginning,
    /// The options of a SYN.
    Options,
    /// The part of a frame before its network header.
    Link,
    /// Extension headers.
    Chain,
    /// The peer of a connection.
    Peer,
    /// The target of a call.
    Target,
}

pub(crate) use form::{give, given, given_back, lend, lent};

#[cfg(not(feature = "old"))]
mod form {
    use super::{Argument, Given, Lent, Place};

    impl<T> Argument for T {
        type Given = *const T;
        type Lent = *mut T;
    }

    /// Passes a structure.
    #[inline(always)]
    pub(crate) fn give<T>(_place: Place, value: &T) -> Given<T> {
        core::ptr::from_ref(value)
    }

    /// Passes a structure that comes back, see [`given_back`].
    #[inline(always)]
    pub(crate) fn lend<T>(_place: Place, value: &mut T) -> Lent<T> {
        core::ptr::from_mut(value)
    }

    /// Takes what has become of a structure.
    #[inline(always)]
    pub(crate) fn given_back<T>(_place: Place, _value: &mut T) {}

    /// The structure that was passed.
    #[inline(always)]
    pub(crate) fn given<'g, T>(given: Given<T>) -> Option<&'g T> {
        // SAFETY: the caller's. The verifier knows its size, but not that it is there.
        unsafe { given.as_ref() }
    }

    /// As above, to change it.
    #[inline(always)]
    pub(crate) fn lent<'l, T>(lent: Lent<T>) -> Option<&'l mut T> {
        // SAFETY: as above.
        unsafe { lent.as_mut() }
    }
}

#[cfg(feature = "old")]
mod form {
    use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};

    use super::{Argument, Given, Lent, Place};

    /// Room for the largest structure.
    const ROOM: usize = 8;

    #[btf_map]
    static ARGUMENTS: PerCpuArray<[u64; ROOM], 16> = PerCpuArray::new();

    impl<T> Argument for T {
        type Given = u32;
        type Lent = u32;
    }

    #[inline(always)]
    fn at<T>(place: u32) -> Option<*mut T> {
        const { assert!(size_of::<T>() <= size_of::<[u64; ROOM]>() && align_of::<T>() <= 8, "it has room") };
        ARGUMENTS.get_ptr_mut(place).map(<*mut [u64; ROOM]>::cast)
    }

    /// Passes a structure.
    #[inline(always)]
    pub(crate) fn give<T: Copy>(place: Place, value: &T) -> Given<T> {
        if let Some(at) = at::<T>(place as u32) {
            // SAFETY: this CPU's entry of a map, used by one program at a time.
            unsafe { at.write(*value) };
        }
        place as u32
    }

    /// Passes a structure that comes back, see [`given_back`].
    #[inline(always)]
    pub(crate) fn lend<T: Copy>(place: Place, value: &mut T) -> Lent<T> {
        give(place, value)
    }

    /// Takes what has become of a structure.
    #[inline(always)]
    pub(crate) fn given_back<T: Copy>(place: Place, value: &mut T) {
        if let Some(at) = at::<T>(place as u32) {
            // SAFETY: as above; it was written there by `lend`.
            *value = unsafe { at.read() };
        }
    }

    /// The structure that was passed.
    #[inline(always)]
    pub(crate) fn given<'g, T: Copy>(given: Given<T>) -> Option<&'g T> {
        // SAFETY: as above.
        at::<T>(given).map(|at| unsafe { &*at })
    }

    /// As above, to change it.
    #[inline(always)]
    pub(crate) fn lent<'l, T: Copy>(lent: Lent<T>) -> Option<&'l mut T> {
        // SAFETY: as above.
        at::<T>(lent).map(|at| unsafe { &mut *at })
    }
}
