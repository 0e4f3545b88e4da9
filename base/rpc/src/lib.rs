//! The traits services meet through, each in two forms: a call in one process, and mTLS gRPC between processes.
//!
//! [`registry`], [`orchestrator`], [`model_server`], [`trainer`], [`sentinel`] and [`supervisor`] hold one trait each, with its remote form beside
//! it; [`store`] holds the remote forms of the stores.
//! [`door`] opens and calls remote doors, [`oip`] turns inferences into the Open Inference Protocol's messages
//! and back, [`report`] is what a replica says of itself beside an answer,
//! [`child`] is how a process starts another, [`feed`] carries state that others follow, [`clock`] is the one place that reads the time.
//!
//! Does not know about: what a service does with a call.

pub mod child;
pub mod clock;
pub mod door;
pub mod feed;
#[macro_use]
pub mod remote;
pub mod model_server;
pub mod oip;
pub mod orchestrator;
pub mod registry;
pub mod report;
pub mod sentinel;
pub mod store;
pub mod supervisor;
pub mod trainer;

pub use clock::Clock;
pub use feed::{Change, Changes, Feed, Since};
pub use model_server::ModelServer;
pub use orchestrator::Orchestrator;
pub use registry::Registry;
pub use sentinel::Sentinel;
pub use supervisor::Supervisor;
pub use trainer::Trainer;
