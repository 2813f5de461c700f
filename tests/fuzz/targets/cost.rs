//! libFuzzer makes up the bytes; the function says what must hold.
#![no_main]

#[global_allocator]
static COUNTING: celeriac_fuzz_functions::Counting = celeriac_fuzz_functions::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| celeriac_fuzz_functions::cost(bytes));
