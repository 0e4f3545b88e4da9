//! libFuzzer runs `testkit::fuzz::bundle`.
#![no_main]
mantlet_fuzz::target!(bundle);
