//! libFuzzer runs `testkit::fuzz::jwt`.
#![no_main]
mantlet_fuzz::target!(jwt);
