//! Model servers without models, for tests of the orchestrator alone.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use orchestrator::backend::{Backend, Endpoint, Process, Spec};
use parking_lot::Mutex;
use rpc::{
    ModelServer,
    model_server::{Load, ModelServerClient, Renewal, ServerStatus, Unload, model_server_router},
};
use testkit::remote::{self, Remote};
use tokio::sync::Notify;
use types::{
    Code, Digest, Refusal,
    infer::{InferRequest, InferResponse, ModelMetadata},
};

/// A model server that loads anything and answers nothing.
struct Hollow;

#[async_trait]
impl ModelServer for Hollow {
    async fn load(&self, _: Load) -> Result<ModelMetadata, Refusal> {
        Ok(ModelMetadata::default())
    }

    async fn unload(&self, _: Unload) -> Result<(), Refusal> {
        Ok(())
    }

    async fn status(&self) -> Result<ServerStatus, Refusal> {
        let (loaded, away) = (0, Vec::new());
        Ok(ServerStatus { ready: true, in_flight: 0, answered: 0, queued: 0, loaded, unloaded: 0, memory: 0, away })
    }

    async fn infer(&self, _: InferRequest) -> Result<InferResponse, Refusal> {
        Err(Refusal::new(Code::InferenceFailed, "hollow"))
    }
}

/// Starts hollow model servers, behind one real door.
pub(crate) struct Stage {
    remote: Remote,
    /// Ends each that was started.
    pub(crate) ends: Mutex<Vec<Arc<Notify>>>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let remote = remote::open(model_server_router(Arc::new(Hollow), Arc::new(|_| Ok(()))));
        Self { remote, ends: Mutex::default() }
    }
}

/// Nobody tells of states of streaming versions.
pub(crate) fn no_heads() -> orchestrator::AskHeads {
    Box::new(|_| Box::pin(std::future::pending()))
}

struct Actor(Endpoint, Arc<Notify>);

#[async_trait]
impl Process for Actor {
    fn endpoint(&self) -> &Endpoint {
        &self.0
    }

    async fn exited(&mut self) -> String {
        self.1.notified().await;
        "ended".into()
    }

    fn terminate(&mut self) {
        self.1.notify_one();
    }

    async fn kill(&mut self) {
        self.1.notify_one();
    }
}

#[async_trait]
impl Backend for Stage {
    async fn start(&self, spec: Spec) -> Result<Box<dyn Process>, Refusal> {
        let endpoint = Endpoint { socket: PathBuf::from(&spec.server.0), peer: "service".into() };
        let end = Arc::new(Notify::new());
        self.ends.lock().push(end.clone());
        Ok(Box::new(Actor(endpoint, end)))
    }

    fn door(&self, _: &Endpoint) -> Result<ModelServerClient, Refusal> {
        Ok(ModelServerClient::new(self.remote.channel.clone()))
    }

    async fn lend(&self, _: &Endpoint, _: Digest) -> Result<PathBuf, Refusal> {
        Ok(PathBuf::new())
    }

    async fn take_back(&self, _: &Endpoint, _: Digest) {}

    async fn keys(&self) -> Result<Vec<String>, Refusal> {
        Ok(Vec::new())
    }

    async fn renewal(&self, _: &Endpoint) -> Result<Renewal, Refusal> {
        Ok(Renewal::default())
    }

    fn renew_every(&self) -> Duration {
        Duration::from_secs(3_600)
    }
}
