//! Where model servers run: the trait that the embedded form and every other one implement.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use plan::{Room, ServerId};
use rpc::model_server::Renewal;
use types::{Digest, Namespace, Refusal, quantity::ByteCount};

/// A model server to start.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its id.
    pub server: ServerId,
    /// The namespace it serves, alone.
    pub namespace: Namespace,
    /// How many replicas it will hold.
    pub room: Room,
    /// Whether it asks other servers.
    pub outward: bool,
    /// Memory they may take together, beyond an empty one's.
    pub memory: ByteCount,
}

/// How a started model server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The socket of its door.
    pub socket: PathBuf,
    /// Its SPIFFE path.
    pub peer: String,
}

/// A started model server; it goes when this is dropped.
#[async_trait]
pub trait Process: Send {
    /// How it is reached.
    fn endpoint(&self) -> &Endpoint;

    /// Waits until it has ended; says how.
    async fn exited(&mut self) -> String;

    /// Asks it to end what it has and go.
    fn terminate(&mut self);

    /// Ends it at once.
    async fn kill(&mut self);
}

/// Starts model servers and reaches them.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Starts one.
    async fn start(&self, spec: Spec) -> Result<Box<dyn Process>, Refusal>;

    /// The door of a started one, for the orchestrator's own calls.
    fn door(&self, endpoint: &Endpoint) -> Result<rpc::model_server::ModelServerClient, Refusal>;

    /// Puts a bundle where this model server, and no other, may read it; returns where. Again changes nothing.
    async fn lend(&self, endpoint: &Endpoint, digest: Digest) -> Result<PathBuf, Refusal>;

    /// Takes a bundle away from a model server.
    async fn take_back(&self, endpoint: &Endpoint, digest: Digest);

    /// Public keys that bundles may be signed with, PEM.
    async fn keys(&self) -> Result<Vec<String>, Refusal>;

    /// A new certificate for a started one.
    async fn renewal(&self, endpoint: &Endpoint) -> Result<Renewal, Refusal>;

    /// How often a started one gets a new certificate.
    fn renew_every(&self) -> Duration;
}
