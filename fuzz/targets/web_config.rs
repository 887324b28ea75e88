//! See `scanguard_tests::fuzz::web_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| scanguard_tests::fuzz::web_config(bytes));
