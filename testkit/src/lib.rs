//! Real nodes, clients and fixtures for tests.
//!
//! [`node`] starts the real binary on a directory of its own and talks to it, [`onnx`] makes small models without
//! any other tool, [`issuer`] signs JSON Web Tokens, [`remote`] opens a service's door for contract tests, [`reference`] keeps generated pages true,
//! [`setup`] finds what `cargo xtask` has set up and says plainly what is skipped without it, [`collector`] takes spans, [`receiver`] webhooks, [`load`] asks for predictions while
//! something else happens, [`proxy`] makes a bad network before a model server, [`disk`] bad disks, [`sim`] simulates load on replicas. With the feature `fuzz`, `fuzz` holds what must be true of every parser of untrusted bytes.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests: failing loudly is their job"
)]

pub mod bundle;
pub mod collector;
pub mod disk;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod issuer;
pub mod keys;
pub mod load;
pub mod node;
pub mod onnx;
pub mod proxy;
pub mod receiver;
pub mod reference;
pub mod remote;
pub mod setup;
pub mod sim;

pub use node::Node;
