//! The embedded backend: model servers are child processes of the node.
//!
//! A child gets a listening Unix socket as its standard input, its secrets in a file that only its owner may read
//! and that it removes, and an environment that is empty but for two variables: one keeps ONNX Runtime quiet, one the allocator modest.
//! Bundles are linked into a folder of its own, which is all it may read; where they can't be, they are copied.

use std::{
    fs::{self, DirBuilder},
    os::{fd::OwnedFd, unix::fs::DirBuilderExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

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

/// The folder that a model server's bundles are put into.
pub fn bundles(socket: &Path) -> PathBuf {
    socket.with_extension("bundles")
}

fn lend(from: &Path, to: &Path) -> std::io::Result<()> {
    if to.exists() {
        return Ok(());
    }
    let making = to.with_extension("new");
    match fs::remove_dir_all(&making) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir(&making)?,
    }
    for file in fs::read_dir(from)? {
        let file = file?;
        let place = making.join(file.file_name());
        // Across file systems, or where a fence keeps what may be written apart from what may not, it is a copy.
        if fs::hard_link(file.path(), &place).is_err() {
            fs::copy(file.path(), &place)?;
        }
    }
    fs::rename(&making, to)
}

#[async_trait]
impl Backend for Local {
    async fn start(&self, spec: Spec) -> Result<Box<dyn Process>, Refusal> {
        let peer = format!("{}/model-server/{}", spec.namespace, spec.server.0);
        let settings = (self.settings)(self.supervisor.identity(peer.clone()).await?, &spec)?;
        let socket = self.run.join(format!("{}.sock", spec.server.0));
        let folder = bundles(&socket);
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| failed(&Refusal::new(Code::Internal, format!("{}: {error}", folder.display()))))?;
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

    async fn lend(&self, endpoint: &Endpoint, digest: Digest) -> Result<PathBuf, Refusal> {
        let (from, to) = (self.artefacts.path(digest), bundles(&endpoint.socket).join(digest.to_string()));
        let lent = to.clone();
        let outcome = tokio::task::spawn_blocking(move || lend(&from, &to)).await;
        let why = match outcome {
            Ok(Ok(())) => return Ok(lent),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        Err(Refusal::new(Code::LoadFailed, format!("the bundle {digest} can't be handed to its model server: {why}"))
            .hint("see whether the node's disk is full, and run `mantlet doctor`"))
    }

    async fn take_back(&self, endpoint: &Endpoint, digest: Digest) {
        let lent = bundles(&endpoint.socket).join(digest.to_string());
        // What is left goes with the model server's folder.
        let _ = tokio::fs::remove_dir_all(lent).await;
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
        let _ = fs::remove_dir_all(bundles(&self.endpoint.socket));
    }
}
