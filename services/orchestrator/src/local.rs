//! The embedded backend: model servers are child processes of the node.
//!
//! A child gets a listening Unix socket as its standard input, its secrets in a file that only its owner may read
//! and that it removes, and an environment that is empty but for the one variable that keeps ONNX Runtime quiet.

use std::{
    fs,
    io::Write as _,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{OpenOptionsExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use access::{Authority, Identity};
use async_trait::async_trait;
use rpc::{
    Clock,
    door::Badge,
    model_server::{ModelServerClient, Renewal},
};
use store::Artefacts;
use tokio::process::{Child, Command};
use types::{Code, Digest, Refusal};

use crate::backend::{Backend, Endpoint, Process, Spec};

/// Makes the settings file of a child; the node knows what a model server reads.
pub type MakeSettings = Box<dyn Fn(&Identity, &Spec) -> Result<Vec<u8>, Refusal> + Send + Sync>;

/// Starts model servers as child processes.
pub struct Local {
    /// The binary to start, with the arguments that make it a model server.
    pub command: (PathBuf, Vec<String>),
    /// Variables of its environment; there are no others.
    pub environment: Vec<(String, String)>,
    /// Where sockets and settings lie while children run; only its owner may enter.
    pub run: PathBuf,
    /// Signs the children's certificates.
    pub authority: Arc<Authority>,
    /// What the orchestrator itself shows.
    pub badge: Badge,
    /// How long the children's certificates last; they are renewed at a third of it.
    pub life: Duration,
    /// Where bundles are.
    pub artefacts: Arc<dyn Artefacts>,
    /// Public keys that bundles may be signed with, PEM.
    pub keys: Vec<String>,
    /// Makes settings.
    pub settings: MakeSettings,
    /// The clock.
    pub clock: Clock,
}

fn failed(what: &Path) -> impl Fn(std::io::Error) -> Refusal {
    let what = what.display().to_string();
    move |error| {
        Refusal::new(Code::LoadFailed, format!("a model server can't be started: {what}: {error}"))
            .hint("run `mantlet doctor`")
    }
}

#[async_trait]
impl Backend for Local {
    async fn start(&self, spec: Spec) -> Result<Box<dyn Process>, Refusal> {
        let socket = self.run.join(format!("{}.sock", spec.server.0));
        let listener = UnixListener::bind(&socket).map_err(failed(&socket))?;
        fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).map_err(failed(&socket))?;
        let peer = format!("{}/model-server/{}", spec.namespace, spec.server.0);
        let identity = self
            .authority
            .service(&peer, self.clock.now(), self.life)
            .map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let settings = self.run.join(format!("{}.json", spec.server.0));
        let content = zeroize::Zeroizing::new((self.settings)(&identity, &spec)?);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&settings)
            .map_err(failed(&settings))?;
        file.write_all(&content).map_err(failed(&settings))?;

        let (binary, arguments) = &self.command;
        let child = Command::new(binary)
            .args(arguments)
            .arg(&settings)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.run)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed(binary))?;
        Ok(Box::new(Running { child, endpoint: Endpoint { socket, peer }, settings }))
    }

    fn door(&self, endpoint: &Endpoint) -> Result<ModelServerClient, Refusal> {
        let channel = rpc::door::connect(endpoint.socket.clone(), &endpoint.peer, self.badge.clone());
        channel.map(ModelServerClient::new).map_err(|error| Refusal::new(Code::Internal, error.to_string()))
    }

    fn bundle(&self, digest: Digest) -> PathBuf {
        self.artefacts.path(digest)
    }

    fn keys(&self) -> Vec<String> {
        self.keys.clone()
    }

    fn renewal(&self, endpoint: &Endpoint) -> Result<Renewal, Refusal> {
        let made = self.authority.service(&endpoint.peer, self.clock.now(), self.life);
        let Identity { chain, key } = made.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        Ok(Renewal { chain, key, ca: self.authority.certificate().to_owned() })
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
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // A process that is gone already needs no signal.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
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
