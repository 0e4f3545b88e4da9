//! The embedded backend: model servers are child processes of the node.
//!
//! A child gets a listening Unix socket as its standard input, its secrets in a file that only its owner may read
//! and that it removes, and an environment that is empty but for the one variable that keeps ONNX Runtime quiet.

use std::{fs, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use rpc::{
    Supervisor, child,
    door::Badge,
    model_server::{ModelServerClient, Renewal},
};
use store::Artefacts;
use tokio::process::Child;
use types::{Code, Digest, Refusal};
use zeroize::Zeroizing;

use crate::backend::{Backend, Endpoint, Process, Spec};

/// Makes the settings of a child; the node knows what a model server reads.
pub type MakeSettings = Box<dyn Fn(Renewal, &Spec) -> Result<Zeroizing<Vec<u8>>, Refusal> + Send + Sync>;

/// Starts model servers as child processes.
pub struct Local {
    /// The binary to start, with the arguments that make it a model server.
    pub command: (PathBuf, Vec<String>),
    /// Variables of its environment; there are no others.
    pub environment: Vec<(String, String)>,
    /// Where sockets and settings lie while children run; only its owner may enter.
    pub run: PathBuf,
    /// Makes the children's certificates, and knows which keys bundles may be signed with.
    pub supervisor: Arc<dyn Supervisor>,
    /// What the orchestrator itself shows.
    pub badge: Badge,
    /// How long the children's certificates last; they are renewed at a third of it.
    pub life: Duration,
    /// Where bundles are.
    pub artefacts: Arc<dyn Artefacts>,
    /// Makes settings.
    pub settings: MakeSettings,
}

fn failed(refusal: &Refusal) -> Refusal {
    Refusal::new(Code::LoadFailed, format!("a model server can't be started: {}", refusal.message))
        .hint("run `mantlet doctor`")
}

#[async_trait]
impl Backend for Local {
    async fn start(&self, spec: Spec) -> Result<Box<dyn Process>, Refusal> {
        let peer = format!("{}/model-server/{}", spec.namespace, spec.server.0);
        let settings = (self.settings)(self.supervisor.identity(peer.clone()).await?, &spec)?;
        let socket = self.run.join(format!("{}.sock", spec.server.0));
        let listener = child::bind(&socket).map_err(|refusal| failed(&refusal))?;
        let start = child::Start {
            command: (&self.command.0, &self.command.1),
            environment: &self.environment,
            run: &self.run,
            dir: &self.run,
            name: &spec.server.0,
            socket: OwnedFd::from(listener),
        };
        let (child, settings) = start.spawn(&settings).map_err(|refusal| failed(&refusal))?;
        Ok(Box::new(Running { child, endpoint: Endpoint { socket, peer }, settings }))
    }

    fn door(&self, endpoint: &Endpoint) -> Result<ModelServerClient, Refusal> {
        let channel = rpc::door::connect(endpoint.socket.clone(), &endpoint.peer, self.badge.clone());
        channel.map(ModelServerClient::new).map_err(|error| Refusal::new(Code::Internal, error.to_string()))
    }

    fn bundle(&self, digest: Digest) -> PathBuf {
        self.artefacts.path(digest)
    }

    async fn keys(&self) -> Result<Vec<String>, Refusal> {
        self.supervisor.bundle_keys(()).await
    }

    async fn renewal(&self, endpoint: &Endpoint) -> Result<Renewal, Refusal> {
        self.supervisor.identity(endpoint.peer.clone()).await
    }

    fn renew_every(&self) -> Duration {
        self.life / 3
    }
}

struct Running {
    child: Child,
    endpoint: Endpoint,
    settings: PathBuf,
}

#[async_trait]
impl Process for Running {
    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    async fn exited(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => format!("it can't be waited for: {error}"),
        }
    }

    fn terminate(&mut self) {
        child::terminate(&self.child);
    }

    async fn kill(&mut self) {
        // It fails only for a process that is gone.
        let _ = self.child.kill().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for path in [&self.endpoint.socket, &self.settings] {
            // The settings are gone as soon as they were read.
            let _ = fs::remove_file(path);
        }
    }
}
