//! Why a line gives no event for the rules.

use scanguard_common::numbered;

numbered! {
    /// Why a line was skipped.
    Skipped {
        /// It is longer than 32 KiB.
        TooLong = "too_long",
        /// It does not have the form of its file's format.
        Syntax = "syntax",
        /// There is no address where the client's should be.
        Address = "address",
        /// The client's address was masked (the host part is zero), and so is nobody's.
        Masked = "masked",
        /// It came by syslog from a program that is not in `logs.programs`.
        Program = "program",
        /// It is older than `logs.max_age`.
        Old = "old",
        /// The client is this host itself: a proxy on this host whose network is not in `logs.trusted_proxies`.
        Local = "local",
        /// It came through a trusted proxy that does not give the client's address.
        Proxy = "proxy",
    }
}
