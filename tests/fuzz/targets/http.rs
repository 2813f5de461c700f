//! libFuzzer makes up the bytes; the function says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| celeriac_fuzz_functions::http(bytes));
