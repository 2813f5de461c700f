//! libFuzzer makes up the bytes; the function says what must hold.
#![no_main]

#[global_allocator]
static COUNTING: celeriac_broker::internals::fuzz::Counting = celeriac_broker::internals::fuzz::Counting;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| celeriac_broker::internals::fuzz::cost(bytes));
