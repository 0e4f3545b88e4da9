//! libFuzzer runs `testkit::fuzz::onnx`.
#![no_main]
mantlet_fuzz::target!(onnx);
