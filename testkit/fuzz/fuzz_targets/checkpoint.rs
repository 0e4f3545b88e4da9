//! libFuzzer runs `testkit::fuzz::checkpoint`.
#![no_main]
mantlet_fuzz::target!(checkpoint);
