//! Diffs desired against observed state and yields steps; why nothing happens is data too.
//!
//! [`plan`] is pure: the same inputs give the same [`Plan`] and [`Report`]. Steps leave no choice to whoever
//! carries them out, and carrying one out twice or late is harmless. [`check`](check::check) audits any plan
//! independently of how it was made; [`backoff`] says when a crashed model server is started again.
//!
//! Does not know about: processes, sockets, where state is kept, clocks (`now` is an argument).

mod backoff;
pub mod canary;
pub mod check;
mod foresee;
mod planner;
pub mod pressure;
pub mod scale;
pub mod slices;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use types::{Digest, ModelName, Namespace, Refusal, Timestamp, Version};

pub use backoff::{Crashes, LOOP, LOOP_WINDOW};
pub use foresee::foresee;
pub use planner::{SHARING, plan};

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

/// A copy of a version, wherever it lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// Of which model.
    pub model: ModelId,
    /// Of which version.
    pub version: Version,
}

/// What is wanted of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The version that should answer.
    pub version: Version,
    /// Its bundle.
    pub digest: Digest,
    /// How many replicas.
    pub replicas: u32,
    /// What each of them needs.
    pub needs: Needs,
    /// A version that stands beside it: it is asked copies, or a share of the requests.
    pub shadow: Option<Beside>,
    /// Versions that a person gives requests to.
    pub split: Vec<Beside>,
}

/// A version that stands beside the one that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beside {
    /// Which.
    pub of: Current,
    /// How many replicas it has, and no more than the other.
    pub replicas: u32,
}

/// What a replica needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Memory it may take, in bytes.
    pub memory: u64,
    /// Whether it is always loaded, and so alone.
    pub pinned: bool,
    /// Whether another server holds the model, and only asking it is done here.
    pub outward: bool,
}

/// How far a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It loads and warms up.
    Starting,
    /// It answers.
    Ready,
    /// It ends what it has and goes.
    Draining,
}

/// How many replicas a model server holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Room {
    /// One: whatever it does hurts nobody else.
    One,
    /// Many of one namespace, the least recently used of which give up their memory for others.
    Many,
}

/// A model server that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Whose replicas it holds.
    pub namespace: Namespace,
    /// How many it may hold.
    pub room: Room,
    /// Whether it asks other servers; such a one holds no model itself, and always many replicas.
    pub outward: bool,
    /// Whether it ends what it has and goes.
    pub draining: bool,
    /// What it holds.
    pub replicas: BTreeMap<Replica, State>,
}

impl Server {
    /// One that holds nothing yet.
    pub fn empty(namespace: Namespace, room: Room, outward: bool) -> Self {
        Self { namespace, room, outward, draining: false, replicas: BTreeMap::new() }
    }
}

/// What went wrong with a version so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trouble {
    /// Its crashes.
    pub crashes: Crashes,
    /// Why it can't be loaded at all; holds until somebody wants it anew.
    pub refused: Option<Refusal>,
}

/// How replicas are spread over model servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    /// Model servers that hold one replica each, at most; replicas beyond share.
    pub alone: u32,
    /// Memory that those who share a server may take together, in bytes; who may take more stays alone.
    pub shared: u64,
}

impl Default for Spread {
    fn default() -> Self {
        Self { alone: 8, shared: 4 << 30 }
    }
}

/// Everything a plan is made from.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// What is wanted.
    pub wishes: BTreeMap<ModelId, Wish>,
    /// What is there.
    pub servers: BTreeMap<ServerId, Server>,
    /// Which version answers now.
    pub current: BTreeMap<ModelId, Current>,
    /// What went wrong so far.
    pub trouble: BTreeMap<Replica, Trouble>,
    /// How to spread them.
    pub spread: Spread,
}

/// The version of a model that answers now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// Its number.
    pub version: Version,
    /// Its bundle.
    pub digest: Digest,
    /// What each of its replicas needs.
    pub needs: Needs,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Start an empty model server.
    Start {
        /// The new server's id.
        server: ServerId,
        /// Whose replicas it will hold.
        namespace: Namespace,
        /// How many.
        room: Room,
        /// Whether it asks other servers.
        #[serde(default)]
        outward: bool,
        /// Memory they may take together, in bytes.
        memory: u64,
    },
    /// Load this version into it.
    Load {
        /// Which server.
        server: ServerId,
        /// What.
        replica: Replica,
        /// From which bundle.
        digest: Digest,
    },
    /// Let this version answer from now on.
    Route {
        /// Which.
        replica: Replica,
        /// Its bundle.
        digest: Digest,
    },
    /// Let no version answer any more.
    Unroute {
        /// Of which model.
        model: ModelId,
    },
    /// Let this replica end what it has, then let go of it.
    Unload {
        /// Which server.
        server: ServerId,
        /// What.
        replica: Replica,
    },
    /// Let this server end what it has, then stop it.
    Drain {
        /// Which.
        server: ServerId,
    },
}

/// Why a step is taken, for people by `Display`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Fewer replicas are there than wanted.
    Missing {
        /// There.
        there: u32,
        /// Wanted.
        wanted: u32,
    },
    /// It answers until the version wanted is ready, and lost a replica.
    Holding {
        /// The version wanted.
        wanted: Version,
    },
    /// It stands beside the version that answers: it is compared with it, or answers a share of the requests.
    Shadow {
        /// Which answers.
        of: Version,
    },
    /// A person gives it requests.
    Split {
        /// Which answers the rest.
        of: Version,
    },
    /// Nothing answers yet.
    First,
    /// As many of its replicas are ready as the version before has.
    Enough {
        /// Ready.
        ready: u32,
    },
    /// Another version answers.
    Replaced {
        /// Which.
        by: Version,
    },
    /// More replicas are there than wanted.
    Surplus {
        /// There.
        there: u32,
        /// Wanted.
        wanted: u32,
    },
    /// Nobody wants the model any more.
    Unwanted,
    /// Nothing is left in it.
    Empty,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { there, wanted } => write!(f, "{there} of {wanted} replicas are there"),
            Self::Holding { wanted } => write!(f, "it answers until {wanted} is ready"),
            Self::Shadow { of } => write!(f, "it stands beside {of}, which answers"),
            Self::Split { of } => write!(f, "a person gives it requests beside {of}, which answers"),
            Self::First => write!(f, "nothing answers yet"),
            Self::Enough { ready: 1 } => write!(f, "1 replica is ready, as many as answer now"),
            Self::Enough { ready } => write!(f, "{ready} replicas are ready, as many as answer now"),
            Self::Replaced { by } => write!(f, "{by} answers instead"),
            Self::Surplus { there, wanted } => write!(f, "{there} replicas are there and {wanted} are wanted"),
            Self::Unwanted => write!(f, "nobody wants the model any more"),
            Self::Empty => write!(f, "nothing is left in it"),
        }
    }
}

/// A step with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// What to do.
    pub step: Step,
    /// Why.
    pub why: Why,
}

/// What to do, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// Its own number.
    pub generation: u64,
    /// The plan it follows.
    pub parent: u64,
    /// The steps.
    pub steps: Vec<Planned>,
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
