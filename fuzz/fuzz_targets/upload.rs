#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| elevon_fuzz::upload(bytes));
