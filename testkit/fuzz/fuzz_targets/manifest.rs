//! libFuzzer runs `testkit::fuzz::manifest`.
#![no_main]
mantlet_fuzz::target!(manifest);
