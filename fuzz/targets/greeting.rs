//! See `scanguard_tests::fuzz::greeting`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| scanguard_tests::fuzz::greeting(bytes));
