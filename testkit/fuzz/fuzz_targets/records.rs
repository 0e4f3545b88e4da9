//! libFuzzer runs `testkit::fuzz::records`.
#![no_main]
mantlet_fuzz::target!(records);
