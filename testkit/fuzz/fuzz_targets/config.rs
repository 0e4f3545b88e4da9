//! libFuzzer runs `testkit::fuzz::config`.
#![no_main]
mantlet_fuzz::target!(config);
