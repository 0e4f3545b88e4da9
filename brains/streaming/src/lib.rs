//! Streaming models: a learner of `online` behind the tensors that callers send, as a manifest with `source: {online: …}`
//! declares it.
//!
//! Who learns and who answers build the same [`Model`] from the manifest, and hand its state on as [`Model::save`] gives
//! it: the same state answers the same, bit for bit. A row is what a caller sent ([`Row`]), so that what is learnt is what
//! was served.
//!
//! Several [`workers`] can learn one state together, each a share of the examples.
//!
//! Versions of a model are compared by a [`Contest`]: what each lost with every label, and what the guard makes of it.
//!
//! Does not know about: where snapshots are kept, who signs them, when to learn, clocks.

mod contest;
pub mod kept;
mod model;
mod row;

pub use contest::{Contest, Seen, Verdict, loss};
pub use model::{Answer, Model, Truth, workers};
pub use row::{Cell, Row, columns, row, slice};
