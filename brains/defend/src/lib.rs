//! Who attacks, and what is done about it: detectors, the evidence of several fused, and the ladder of answers.
//!
//! ```text
//! requests → crowd, intruder, queries → sightings → agents → judges → belief → ladder → arbiter → acts
//!            beside the gateway                     the sentinel
//! ```
//!
//! Nothing here does I/O, reads a clock or draws chance of its own: a gateway feeds what it sees, the sentinel fuses what came of
//! it, decides with the [`Arbiter`], and carries it out.
//!
//! Does not know about: HTTP, where state is kept, who carries out what is decided.

mod agent;
pub mod agents;
pub mod arbiter;
pub mod belief;
pub mod crowd;
pub mod degrade;
pub mod intruder;
pub mod judges;
pub mod ladder;
pub mod queries;
pub mod tables;
pub mod trust;
pub mod watch;
pub mod windows;

pub use agent::{Agent, Make, Seat, Wants, agents, techniques};
pub use arbiter::Arbiter;
