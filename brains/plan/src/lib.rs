//! Diffs desired against observed state and yields steps; why nothing happens is data too.
//!
//! [`plan`] is pure: the same inputs give the same [`Plan`] and [`Report`]. Steps leave no choice to whoever
//! carries them out, and carrying one out twice or late is harmless. [`check`](check::check) audits any plan
//! independently of how it was made; [`backoff`] says when a crashed model server is started again.
//!
//! Does not know about: processes, sockets, where state is kept, clocks (`now` is an argument).

mod backoff;
pub mod check;
mod planner;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use types::{Digest, ModelName, Namespace, Refusal, Timestamp, Version};

pub use backoff::{Crashes, LOOP, LOOP_WINDOW};
pub use planner::plan;

/// A model, by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModelId {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: ModelName,
}

/// A model server, by its id; ids are never used twice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServerId(pub String);

/// What is wanted of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The version that should answer.
    pub version: Version,
    /// Its bundle.
    pub digest: Digest,
    /// How many replicas.
    pub replicas: u32,
}

/// How far a model server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It starts, loads and warms up.
    Starting,
    /// It answers.
    Ready,
    /// It ends what it has and goes.
    Draining,
}

/// A model server that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Whose replica it holds.
    pub model: ModelId,
    /// Of which version.
    pub version: Version,
    /// How far it is.
    pub state: State,
}

/// What went wrong with a version so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trouble {
    /// Its crashes.
    pub crashes: Crashes,
    /// Why it can't be loaded at all; holds until somebody wants it anew.
    pub refused: Option<Refusal>,
}

/// Everything a plan is made from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// What is wanted.
    pub wishes: BTreeMap<ModelId, Wish>,
    /// What is there.
    pub servers: BTreeMap<ServerId, Server>,
    /// Which version answers now, and its bundle.
    pub current: BTreeMap<ModelId, (Version, Digest)>,
    /// What went wrong so far.
    pub trouble: BTreeMap<(ModelId, Version), Trouble>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Start a model server and load this version into it.
    Start {
        /// The new server's id.
        server: ServerId,
        /// Whose replica.
        model: ModelId,
        /// Of which version.
        version: Version,
        /// From which bundle.
        digest: Digest,
    },
    /// Let this version answer from now on.
    Route {
        /// Of which model.
        model: ModelId,
        /// Which version.
        version: Version,
        /// Its bundle.
        digest: Digest,
    },
    /// Let no version answer any more.
    Unroute {
        /// Of which model.
        model: ModelId,
    },
    /// Let this server end what it has, then stop it.
    Drain {
        /// Which.
        server: ServerId,
    },
}

/// What to do, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Its own number.
    pub generation: u64,
    /// The plan it follows.
    pub parent: u64,
    /// The steps.
    pub steps: Vec<Step>,
}

/// Why a model is not as wanted, though nothing is to be done right now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingOn {
    /// Replicas start.
    Starting(u32),
    /// A crashed replica is started again at this time.
    Backoff(Timestamp),
    /// It crashed too often; somebody has to act.
    CrashLoop(u32),
    /// It can't be loaded; somebody has to act.
    Refused(Refusal),
}

/// What a plan found, model by model.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Models that are not as wanted, and why.
    pub waiting: BTreeMap<ModelId, WaitingOn>,
    /// When to plan again though nothing changed.
    pub again_at: Option<Timestamp>,
}
