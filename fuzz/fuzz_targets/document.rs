//! The fuzzer around [`sg_fuzz::document`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sg_fuzz::document::run(input));
