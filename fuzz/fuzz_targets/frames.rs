#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sira_fuzz::frames::run(data));
