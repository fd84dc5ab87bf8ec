//! The fuzzer around [`sg_fuzz::packet`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sg_fuzz::packet::run(input));
