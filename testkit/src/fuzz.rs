//! What must be true of every parser of untrusted bytes, as functions of the bytes.
//!
//! Each target takes any bytes at all, and panics where something does not hold: what parses is written and parses back
//! the same, what verifies was signed here, what was changed is refused, and memory stays within a multiple of the
//! input. libFuzzer runs them (`cargo xtask fuzz`, from `testkit/fuzz`), and `testkit/tests/fuzz.rs` runs them over
//! their seeds and mutations of those. To add one: a function, its seeds, a line in [`TARGETS`], and its three lines in
//! `testkit/fuzz`.

mod bundle;
mod config;
mod inference;
mod jwt;
mod keys;
mod log;
mod manifest;
mod snapshot;

use peak_alloc::PeakAlloc;

pub use bundle::{bundle, onnx};
pub use config::config;
pub use inference::{binary_header, grpc_frame, json_request, oip_json};
pub use jwt::jwt;
pub use log::{checkpoint, records};
pub use manifest::manifest;
pub use snapshot::snapshot;

/// Memory that a target may take whatever its input is: keys, tables, a runtime.
const BASE: usize = 2 << 20;

/// One target.
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Runs it; panics where something does not hold.
    pub run: fn(&[u8]),
    /// Inputs to begin with, all of them good ones.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes of memory that a byte of input may take at the most, beside [`BASE`].
    pub cost: usize,
}

/// Every target there is.
pub const TARGETS: [Target; 11] = [
    Target { name: "oip_json", run: oip_json, seeds: inference::json_seeds, cost: 64 },
    Target { name: "binary_header", run: binary_header, seeds: inference::binary_seeds, cost: 64 },
    Target { name: "grpc_frame", run: grpc_frame, seeds: inference::grpc_seeds, cost: 256 },
    Target { name: "bundle", run: bundle, seeds: bundle::bundle_seeds, cost: 64 },
    Target { name: "onnx", run: onnx, seeds: bundle::onnx_seeds, cost: 64 },
    Target { name: "manifest", run: manifest, seeds: manifest::seeds, cost: 256 },
    Target { name: "checkpoint", run: checkpoint, seeds: log::checkpoint_seeds, cost: 64 },
    Target { name: "records", run: records, seeds: log::record_seeds, cost: 256 },
    Target { name: "jwt", run: jwt, seeds: jwt::seeds, cost: 64 },
    Target { name: "config", run: config, seeds: config::seeds, cost: 256 },
    Target { name: "snapshot", run: snapshot, seeds: snapshot::all_seeds, cost: 256 },
];

/// The target of this name.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target of the list")
}

impl Target {
    /// Runs it over one input, and holds what it took of memory against the input's size. That is counted only in
    /// processes whose allocator is `PeakAlloc`.
    pub fn check(&self, data: &[u8]) {
        PeakAlloc.reset_peak_usage();
        let before = PeakAlloc.current_usage();
        (self.run)(data);
        let took = PeakAlloc.peak_usage().saturating_sub(before);
        let most = BASE + self.cost * data.len();
        assert!(took <= most, "{} took {took} bytes of memory for {} of input", self.name, data.len());
    }
}

/// The first byte says how the rest is to be read, one of `ways`.
fn split(data: &[u8], ways: u8) -> Option<(u8, &[u8])> {
    data.split_first().map(|(way, rest)| (way % ways, rest))
}

/// Whether this is no JSON, and not one of the few such inputs that are worth a signature: making and checking one takes
/// a thousand times longer than finding out.
fn dull(data: &[u8]) -> bool {
    !data.len().is_multiple_of(16) && serde_json::from_slice::<serde::de::IgnoredAny>(data).is_err()
}

/// A seed to be read in this way.
fn seed(way: u8, rest: impl AsRef<[u8]>) -> Vec<u8> {
    [&[way], rest.as_ref()].concat()
}
