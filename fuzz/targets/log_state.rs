//! See `scanguard_tests::fuzz::log_state`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| scanguard_tests::fuzz::log_state(bytes));
