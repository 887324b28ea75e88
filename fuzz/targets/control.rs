//! See `scanguard_tests::fuzz::control`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| scanguard_tests::fuzz::control(bytes));
