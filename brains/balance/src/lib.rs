//! Chooses a replica, says when a second one is asked, and how much is let in.
//!
//! [`Pool`] holds the replicas of one version: power of two choices (Mitzenmacher, IEEE TPDS 2001) by peak-EWMA latency
//! times requests in flight, outlier ejection with a panic threshold, slow start, and the moment of a hedge.
//! [`Budget`](budget::Budget) bounds what is sent more than once. The gateway counts what it has in flight itself, so
//! nothing here is stale, and drawing keeps several gateways from all choosing the same replica.
//!
//! [`batch`] decides inside a replica which waiting requests run together.
//!
//! Does not know about: sockets, who asks, clocks: `now` is a monotonic time that the caller hands in. `README.md` beside
//! this crate lists the wanted properties; each is a property test.

pub mod batch;
pub mod budget;
pub mod ewma;
pub mod gate;
mod guarded;
mod least;
pub mod limit;
pub mod pace;
pub mod policy;
pub mod pool;
pub mod predict;
pub mod quantile;
pub mod report;
pub mod work;

pub use gate::Gate;
pub use guarded::{Guarded, Standing};
pub use online::guard::Mode;
pub use pool::{Outcome, Patience, Pool};
