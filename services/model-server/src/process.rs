//! The child process: settings in, one door open, until the parent says stop or is gone.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rpc::{
    door::Badge,
    model_server::{Renewal, model_server_router},
};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use types::{Code, Refusal};
use zeroize::Zeroizing;

use crate::{Engine, Gauge, Sessions};

/// Services that may call a model server.
const PEERS: &[&str] = &["gateway", "orchestrator"];
/// Private memory of a model server before it has loaded anything, rounded up.
const EMPTY: u64 = 256 << 20;

/// What a model server is told at its start, in a file that only its owner may read and that it removes.
#[derive(Serialize, Deserialize)]
pub struct Settings {
    /// Its certificate chain, PEM.
    pub chain: String,
    /// Its private key, PEM.
    pub key: Zeroizing<String>,
    /// The CA its peers must come from, PEM.
    pub ca: String,
    /// ONNX Runtime's library.
    pub library: PathBuf,
    /// How many inferences run at a time; 0 for what is fastest.
    pub sessions: usize,
    /// Cores it may count on; a confined process can't see every limit on them.
    pub cores: usize,
    /// Private memory it may take beyond an empty model server's, in bytes.
    pub memory: u64,
    /// Whether it confines itself.
    pub sandbox: Sandbox,
    /// Whether it asks other servers for their models, and holds none itself.
    #[serde(default)]
    pub outward: bool,
    /// Whether it puts models out of memory to make room for others; else the limit on the process decides.
    #[serde(default)]
    pub shared: bool,
    /// The folder that bundles are put into for it, and the only one it may read.
    pub bundles: PathBuf,
    /// Files it must not be able to read; it tries.
    pub forbidden: Vec<PathBuf>,
    /// How long requests in flight may take to end after a stop, in milliseconds.
    pub grace_ms: u64,
    /// How long a connection lasts at most, in milliseconds.
    pub age_ms: u64,
}

/// Whether a model server confines itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sandbox {
    /// As far as the kernel can.
    Auto,
    /// Wholly, or it does not start.
    Required,
    /// Not beyond its memory limit: for measuring what confinement costs.
    Off,
}

impl Sandbox {
    /// What is lacking, as one text, where that may be; nothing when nothing is.
    ///
    /// # Errors
    /// `sandbox_incomplete` where confinement is required.
    pub fn accept(self, lacking: &[impl ToString]) -> Result<Option<String>, Refusal> {
        if lacking.is_empty() {
            return Ok(None);
        }
        let lacking = lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        if self == Self::Required {
            return Err(Refusal::new(Code::SandboxIncomplete, lacking)
                .hint("run it on a kernel with Landlock and seccomp, or set model-server.sandbox to auto"));
        }
        Ok(Some(lacking))
    }
}

/// Reads and removes the settings file, and confines this process. There must be no other threads yet. The gauge is
/// opened before.
///
/// # Errors
/// Settings that can't be read; `sandbox_incomplete` where confinement is required and a layer is missing.
pub fn confine(settings: &Path) -> Result<(Settings, Option<Gauge>), Refusal> {
    let settings: Settings = rpc::child::settings(settings)?;
    let gauge = Gauge::open();
    let memory = settings.memory.saturating_add(EMPTY);
    if settings.sandbox == Sandbox::Off {
        limit_memory(memory)?;
        return Ok((settings, gauge));
    }
    if settings.outward {
        limit_memory(memory)?;
        let read: Vec<PathBuf> = sandbox::OUTWARD.iter().map(PathBuf::from).chain([settings.bundles.clone()]).collect();
        let lacking = sandbox::fence(&read, &[], &[]);
        match settings.sandbox.accept(&lacking)? {
            None => tracing::info!("fenced in: it reads its bundles, and calls other servers"),
            Some(lacking) => tracing::warn!(lacking, "fenced in in part"),
        }
        return Ok((settings, gauge));
    }
    // The library may be a link; what it points to is what is read.
    let library = settings.library.canonicalize().unwrap_or_else(|_| settings.library.clone());
    let profile = sandbox::Profile { read: vec![settings.bundles.clone(), settings.library.clone(), library], memory };
    let mut lacking: Vec<String> = sandbox::confine(&profile).iter().map(ToString::to_string).collect();
    let attempts = sandbox::attest(&settings.forbidden);
    lacking.extend(attempts.iter().filter(|attempt| !attempt.denied()).map(ToString::to_string));
    let shown = attempts.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match settings.sandbox.accept(&lacking)? {
        None => tracing::info!(attempts = shown, "confined"),
        Some(lacking) => tracing::warn!(lacking, attempts = shown, "confined in part"),
    }
    Ok((settings, gauge))
}

/// Runs until SIGTERM, or until the parent is gone. Standard input is the listening socket.
///
/// # Errors
/// What kept it from serving.
pub async fn run(settings: Settings, gauge: Option<Gauge>, parent: u32) -> Result<(), Refusal> {
    let listener = rpc::child::unix_listener()?;
    let sessions = match settings.sessions {
        0 => Sessions::Fastest { cores: settings.cores },
        number => Sessions::Exactly(number),
    };
    let mut engine = if settings.outward { Engine::outward() } else { Engine::new(&settings.library, sessions)? };
    if !settings.outward {
        // Where there is one model alone, the limit on the process decides.
        engine = engine.with_room(if settings.shared { settings.memory } else { u64::MAX }, gauge);
    }
    let engine = Arc::new(engine);
    let shown = Renewal { chain: settings.chain, key: settings.key, ca: settings.ca };
    let badge = Badge::new(shown.tls()?);
    let shown = badge.clone();
    let renew = move |renewal: Renewal| {
        shown.replace(renewal.tls()?);
        Ok(())
    };
    let router = model_server_router(engine.clone(), Arc::new(renew));
    let times = (Duration::from_millis(settings.age_ms), Duration::from_millis(settings.grace_ms));
    rpc::door::serve(listener, badge, rpc::door::for_services(PEERS, router), rpc::child::stopped(parent)?, times)
        .await;
    engine.stop();
    Ok(())
}

fn limit_memory(memory: u64) -> Result<(), Refusal> {
    let limit = Some(memory);
    rustix::process::setrlimit(Resource::Data, Rlimit { current: limit, maximum: limit })
        .map_err(|error| Refusal::new(Code::Internal, format!("the memory limit can't be set: {error}")))
}
