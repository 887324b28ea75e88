//! See `scanguard_tests::fuzz::host_tables`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| scanguard_tests::fuzz::host_tables(bytes));
