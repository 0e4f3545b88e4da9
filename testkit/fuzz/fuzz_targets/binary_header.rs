//! libFuzzer runs `testkit::fuzz::binary_header`.
#![no_main]
mantlet_fuzz::target!(binary_header);
