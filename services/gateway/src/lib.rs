//! The request ring: listen → identify → authorize → assess → route → balance → forward → record.
//!
//! Read [`pipeline`] first: one function says what happens to a prediction, one file holds each step, and each
//! step takes the proof that the one before it handed out. [`rest`] and [`grpc`] are the doors of the Open
//! Inference Protocol, [`manage`] is the `/v1` API, [`follow`] keeps policies, credentials and routes up to date, [`keys`]
//! the keys of a JWT issuer; [`history`] reads what was recorded, [`replay`] runs it again,
//! [`trace`] tells a collector of it; [`load`] tells the orchestrator what models are asked; [`sense`] looks for attackers beside the requests, and [`restrictions`] holds what is in force
//! against them.
//!
//! Does not know about: how a model runs, how a bundle is made, who decides what is desired.

mod bucket;
mod extract;
pub mod follow;
mod grpc;
mod history;
pub mod keys;
pub mod listen;
pub mod load;
mod manage;
mod metric;
#[doc(hidden)]
pub mod parse;
mod patience;
pub mod pipeline;
mod replay;
mod rest;
mod restrictions;
pub mod ring;
mod router;
mod sense;
mod sent;
mod trace;

pub use ::balance::Mode as Balancer;
pub use metric::{BUCKETS, LOST, RECORDING};
pub use ring::{Limits, Parts, Ring, Security};
pub use router::router;
pub use sense::Settings as Sensing;
pub use trace::{Attempts, Trace, Traces};
