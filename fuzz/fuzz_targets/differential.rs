//! The fuzzer around [`sg_fuzz::differential`].
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| sg_fuzz::differential::run(input));
