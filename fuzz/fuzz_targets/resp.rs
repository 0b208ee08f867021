#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sira_fuzz::resp::run(data));
