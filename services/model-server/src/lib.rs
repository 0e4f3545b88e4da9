//! One process that verifies, loads and runs models of one namespace.
//!
//! [`process`] is the child process's `main`; [`bundle`] checks what is loaded, [`engine`] answers with it: `load`
//! makes sessions of ONNX Runtime and tries the model, `batcher` queues requests for them, `inference` runs a batch,
//! `cache` says which models are in memory, `upstream` asks those that other servers hold, `streaming`
//! answers with what a learner has learnt so far, `stand` counts what is here for gateways that share the replica. [`runtime`] finds the library and refuses one that would phone home.
//!
//! Does not know about: callers, policies, other replicas, where its bundle came from.

mod batcher;
pub mod bundle;
mod cache;
pub mod engine;
mod inference;
mod load;
pub mod process;
pub mod runtime;
mod stand;
mod streaming;
mod strings;
mod trial;
mod upstream;
mod values;

pub use cache::Gauge;
pub use engine::{Engine, Sessions};
