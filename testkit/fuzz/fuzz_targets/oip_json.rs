//! libFuzzer runs `testkit::fuzz::oip_json`.
#![no_main]
mantlet_fuzz::target!(oip_json);
