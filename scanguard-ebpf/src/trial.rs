//! Programs that do nothing. By these the agent finds out whether an interface takes the programs of `main.rs`, before it
//! loads one of the two objects with them.
#![no_std]
#![no_main]

mod object;

use aya_ebpf::{
    bindings::{TC_ACT_UNSPEC, xdp_action::XDP_PASS},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};

/// With frags, as the program for incoming packets has them: an interface may take the one and not the other.
#[cfg_attr(not(feature = "old"), xdp(frags))]
#[cfg_attr(feature = "old", xdp)]
pub(crate) fn scanguard_trial(_ctx: XdpContext) -> u32 {
    XDP_PASS
}

/// The same for tc.
#[classifier]
pub(crate) fn scanguard_try_tc(_ctx: TcContext) -> i32 {
    TC_ACT_UNSPEC
}
