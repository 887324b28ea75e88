//! See `scanguard_tests::fuzz::log_line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| scanguard_tests::fuzz::log_line(bytes));
