//! One process that verifies, loads and runs a model.
//!
//! [`process`] is the child process's `main`; [`bundle`] checks what is loaded, [`engine`] runs it on ONNX
//! Runtime, [`runtime`] finds the library and refuses one that would phone home. One replica per process.
//!
//! Does not know about: callers, policies, other replicas, where its bundle came from.

pub mod bundle;
pub mod engine;
pub mod process;
pub mod runtime;
mod strings;
mod values;

pub use engine::Engine;
