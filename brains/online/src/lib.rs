//! Learns from streams, one example at a time: classifiers, regressors, drift and anomaly detectors, evidence, forecasts.
//!
//! Everything here is pure: no I/O, no threads, no clock. Time is an argument, randomness comes from a seed, and the same
//! inputs give the same outputs bit for bit. Rows are slices of numbers that a [`Schema`] describes; nothing allocates
//! once a learner has grown to its size. State is saved and loaded by [`Snapshot`].
//!
//! Does not know about: models of others, where examples come from, who asks, what is done with an answer.

pub mod adaptive;
pub mod anomaly;
mod arena;
pub mod auto;
pub mod bandit;
pub mod basic;
pub mod boosted;
pub mod calibrate;
pub mod drift;
pub mod encode;
pub mod ensemble;
pub mod error;
pub mod evaluate;
pub mod evidence;
pub mod fimt_dd;
pub mod forecast;
pub mod forest;
pub mod guard;
pub mod hoeffding;
pub mod learner;
pub mod linear;
pub mod logistic;
mod moments;
pub mod neighbours;
pub mod peers;
pub mod pipeline;
mod places;
mod poisson;
pub mod random;
pub mod registry;
pub mod regression;
pub mod robust;
pub mod schema;
mod scratch;
pub mod share;
pub mod snapshot;
mod spread;
pub mod transform;
pub mod tree;
pub mod tune;
pub mod weights;

pub use adaptive::AdaptiveTree;
pub use anomaly::Scorer;
pub use auto::Auto;
pub use basic::Basic;
pub use boosted::Boosted;
pub use drift::{Detector, RowDetector};
pub use encode::{Encoder, Value};
pub use ensemble::Ensemble;
pub use error::Error;
pub use fimt_dd::RegressionTree;
pub use forest::RegressionForest;
pub use hoeffding::HoeffdingTree;
pub use learner::{Classifier, Regressor};
pub use linear::Linear;
pub use logistic::Logistic;
pub use neighbours::Neighbours;
pub use pipeline::Pipeline;
pub use random::Random;
pub use schema::{Feature, Kind, Schema};
pub use snapshot::Snapshot;
pub use transform::{Hashing, OneHot, Scaler, Transformer};

/// What may go wrong here: [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;
