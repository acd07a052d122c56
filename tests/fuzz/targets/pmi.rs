//! The fuzz target `pmi`: see the function of this name in `checks.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    hpc_fuzz::pmi(bytes);
});
