//! libFuzzer runs `testkit::fuzz::grpc_frame`.
#![no_main]
mantlet_fuzz::target!(grpc_frame);
