//! libFuzzer runs `testkit::fuzz::snapshot`.
#![no_main]
mantlet_fuzz::target!(snapshot);
