//! The orchestrator's trait: desired state goes in, routes and status come out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use types::{Digest, Manifest, ModelName, Namespace, Timestamp, Version, infer::ModelMetadata};

use crate::{Changes, Since, registry::Receipt};

/// What is wanted of one model; written by compare-and-swap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Desired {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub model: ModelName,
    /// The version that should answer.
    pub version: Version,
    /// That version's bundle.
    pub digest: Digest,
    /// That version's manifest.
    pub manifest: Manifest,
    /// Who wants it.
    pub author: String,
    /// Why.
    pub reason: String,
}

/// Submits a wish.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Submit {
    /// What is wanted; `None` wants the model gone.
    pub desired: Option<Desired>,
    /// The model it is about.
    pub namespace: Namespace,
    /// The model it is about.
    pub model: ModelName,
    /// Who asks.
    pub actor: String,
    /// The generation that must stand; whatever stands when left out.
    #[serde(default)]
    pub expect: Option<u64>,
    /// What the ledger calls it, for example `model.rollback`.
    pub action: String,
}

/// An accepted wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The new generation.
    pub generation: u64,
    /// What to wait for.
    pub receipt: Receipt,
}

/// A model, by namespace and name.
pub type ModelKey = (Namespace, ModelName);

/// How a model is reached: its versions, and for each the replicas that are ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelRoute {
    /// The version that answers when none is named.
    pub current: Version,
    /// That version's manifest.
    pub manifest: Manifest,
    /// What it takes and gives; known once a replica was ready.
    pub metadata: Option<ModelMetadata>,
    /// Ready replicas of every version.
    pub replicas: Vec<Replica>,
    /// Why there is none, when there is none.
    pub waiting: Option<String>,
}

/// One ready replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Its id, also its model server's.
    pub id: String,
    /// Which version it is a copy of.
    pub version: Version,
    /// The socket of its model server.
    pub socket: PathBuf,
    /// The SPIFFE path of its model server.
    pub peer: String,
}

/// What is so, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub model: ModelName,
    /// The version wanted.
    pub desired: Option<Version>,
    /// The version that answers, once a replica of it is ready.
    pub ready: Option<Version>,
    /// Ready replicas of the version wanted.
    pub replicas: u32,
    /// Replicas wanted.
    pub wanted: u32,
    /// Why it is not as wanted, when it is not.
    pub waiting: Option<Waiting>,
    /// Generation of the wish.
    pub generation: u64,
    /// Restarts of its model servers so far.
    pub restarts: u32,
}

/// Why a model is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The reason.
    pub reason: types::Refusal,
    /// Whether nothing will change by itself: somebody has to act.
    pub stuck: bool,
    /// Since when.
    pub since: Timestamp,
}

/// Names a namespace, or a model in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatusOf {
    /// The namespace.
    pub namespace: Namespace,
    /// The model; all when left out.
    pub model: Option<ModelName>,
}

/// Changes of routes, by model.
pub type Routes = Changes<ModelKey, ModelRoute>;

service! {
    /// Desired state in, routes and status out.
    pub trait Orchestrator, client OrchestratorClient, router orchestrator_router, path "mantlet.Orchestrator" {
        /// Submits a wish.
        fn submit(Submit) -> Submitted;
        /// What is so.
        fn status(StatusOf) -> Vec<Status>;
        /// Follows the routes.
        fn routes(Since) -> Routes;
    }
}
