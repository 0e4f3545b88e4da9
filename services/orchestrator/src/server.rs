//! One task per model server: it owns the process, loads the model, probes it, and says what happens.

use std::{sync::Arc, time::Duration};

use plan::{ModelId, ServerId};
use rpc::{
    ModelServer as _,
    model_server::{Load, ModelServerClient},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::timeout,
};
use types::{Code, Digest, Refusal, Version, infer::ModelMetadata};

use crate::backend::{Backend, Endpoint, Process, Spec};

/// How long loading and warming up may take.
const LOADING: Duration = Duration::from_secs(120);
/// How long a ready model server may take to answer a probe.
const PROBE: Duration = Duration::from_secs(2);
/// The time between two probes.
const PAUSE: Duration = Duration::from_secs(1);
/// Probes that may be missed in a row; one missed probe alone says nothing.
const MISSES: u32 = 2;

/// What happened to a model server.
#[derive(Debug)]
pub(crate) enum Happened {
    /// It answers.
    Ready(Endpoint, Box<ModelMetadata>),
    /// It can't load this version at all.
    Refused(Refusal),
    /// It ended, or stopped answering.
    Crashed(String),
    /// It was drained and is gone.
    Gone,
}

/// One model server's life.
pub(crate) struct Life {
    pub(crate) server: ServerId,
    pub(crate) model: ModelId,
    pub(crate) version: Version,
    pub(crate) digest: Digest,
    pub(crate) spec: Spec,
    pub(crate) backend: Arc<dyn Backend>,
    /// Starts at a time on this machine: loading is heavy.
    pub(crate) starting: Arc<Semaphore>,
    pub(crate) happened: mpsc::Sender<(ServerId, Happened)>,
    /// Resolves when it shall drain; the value is how long that may take.
    pub(crate) drain: oneshot::Receiver<Duration>,
}

impl Life {
    /// Runs until the process is gone.
    pub(crate) async fn live(mut self) {
        let (server, happened) = (self.server.clone(), self.happened.clone());
        let end = self.run().await;
        // The executor outlives its servers; it is gone only when the node is.
        let _ = happened.send((server, end)).await;
    }

    async fn run(&mut self) -> Happened {
        let Ok(starting) = self.starting.clone().acquire_owned().await else { return Happened::Gone };
        if let Ok(grace) = self.drain.try_recv() {
            tracing::debug!(server = %self.server.0, ?grace, "drained before it started");
            return Happened::Gone;
        }
        let mut process = match self.backend.start(self.spec.clone()).await {
            Ok(process) => process,
            Err(refusal) if refusal.code == Code::RuntimeMissing => return Happened::Refused(refusal),
            Err(refusal) => return Happened::Crashed(refusal.to_string()),
        };
        let endpoint = process.endpoint().clone();
        let client = match self.backend.door(&endpoint) {
            Ok(client) => client,
            Err(refusal) => return Happened::Refused(refusal),
        };
        let load = self.load().await;
        let loading = timeout(LOADING, async { client.load(load?).await });
        let loaded = tokio::select! {
            loaded = loading => loaded,
            how = process.exited() => return Happened::Crashed(how),
            grace = &mut self.drain => return end(&mut *process, grace.unwrap_or_default()).await,
        };
        drop(starting);
        let metadata = match loaded {
            Ok(Ok(metadata)) => metadata,
            Ok(Err(refusal)) if refusal.code == Code::ReplicaLost => {
                // The process is about to be seen as ended; its own words are better than the connection's.
                let how = timeout(PROBE, process.exited()).await;
                return Happened::Crashed(how.unwrap_or_else(|_| refusal.to_string()));
            }
            Ok(Err(refusal)) => {
                end(&mut *process, Duration::ZERO).await;
                return Happened::Refused(refusal);
            }
            Err(_) => {
                process.kill().await;
                return Happened::Crashed(format!("loading took more than {} s", LOADING.as_secs()));
            }
        };
        let ready = Happened::Ready(endpoint, Box::new(metadata));
        if self.happened.send((self.server.clone(), ready)).await.is_err() {
            return Happened::Gone;
        }
        self.watch(&mut *process, &client).await
    }

    async fn load(&self) -> Result<Load, Refusal> {
        Ok(Load {
            namespace: self.model.namespace.clone(),
            model: self.model.name.clone(),
            version: self.version,
            digest: self.digest,
            path: self.backend.bundle(self.digest),
            keys: self.backend.keys().await?,
        })
    }

    async fn watch(&mut self, process: &mut dyn Process, client: &ModelServerClient) -> Happened {
        let mut missed = 0;
        let mut renewed = tokio::time::Instant::now();
        loop {
            if renewed.elapsed() >= self.backend.renew_every() {
                renewed = tokio::time::Instant::now();
                let endpoint = process.endpoint();
                let renewal = async { client.renew(self.backend.renewal(endpoint).await?).await };
                // It has two thirds of its certificate's life left: the next round tries again.
                match timeout(PROBE, renewal).await.unwrap_or_else(|_| Err(slow())) {
                    Ok(()) => tracing::debug!(server = %self.server.0, "a model server's certificate is renewed"),
                    Err(refusal) => {
                        tracing::warn!(server = %self.server.0, %refusal, "a certificate could not be renewed");
                    }
                }
            }
            tokio::select! {
                how = process.exited() => return Happened::Crashed(how),
                grace = &mut self.drain => return end(process, grace.unwrap_or_default()).await,
                () = tokio::time::sleep(PAUSE.min(self.backend.renew_every())) => {}
            }
            match timeout(PROBE, client.status()).await {
                Ok(Ok(status)) if status.ready => missed = 0,
                _ => missed += 1,
            }
            if missed > MISSES {
                process.kill().await;
                return Happened::Crashed(format!("it missed {missed} probes in a row"));
            }
        }
    }
}

fn slow() -> Refusal {
    Refusal::new(Code::DeadlineExceeded, "the model server did not answer in time")
}

/// Ends a process: asks, waits, insists.
async fn end(process: &mut dyn Process, grace: Duration) -> Happened {
    process.terminate();
    if timeout(grace + PROBE, process.exited()).await.is_err() {
        process.kill().await;
    }
    Happened::Gone
}
