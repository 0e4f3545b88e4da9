//! One task per model server: it owns the process, has it load and let go, probes it, and says what happens.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use plan::{ModelId, Replica, ServerId};
use rpc::{
    Clock, ModelServer as _,
    clock::Jumps,
    model_server::{Away, Load, ModelServerClient, Relieve, State, Unload},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout},
};
use types::{Code, Digest, Refusal, infer::ModelMetadata};
use zeroize::Zeroizing;

use crate::{
    backend::{Backend, Endpoint, Process, Spec},
    executor::GRACE,
};

/// How long loading and warming up may take.
const LOADING: Duration = Duration::from_secs(120);
/// How long a model server may take to answer a probe.
const PROBE: Duration = Duration::from_secs(2);
/// The time between two probes.
const PAUSE: Duration = Duration::from_secs(1);
/// Probes that may be missed in a row; one missed probe alone says nothing.
const MISSES: u32 = 2;

/// What a model server is told to do.
pub(crate) enum Order {
    /// Load this; `known` is what it takes and gives, where it may be loaded when first asked for.
    Load {
        replica: Replica,
        digest: Digest,
        known: Option<ModelMetadata>,
        credential: Option<Zeroizing<String>>,
        streaming: bool,
    },
    /// Let this streaming replica, which holds what was learnt before, answer by this state from now on.
    Swap { replica: Replica, digest: Digest, before: Digest },
    /// Give up so many bytes of models that nobody uses; with 0, take as many again as at the start.
    Relieve(u64),
    /// Let go of this, once its requests in flight have ended.
    Unload { replica: Replica, digest: Digest },
}

/// What happened to a model server, or to a replica in it.
#[derive(Debug)]
pub(crate) enum Happened {
    /// It is up, and holds nothing yet.
    Up(Endpoint),
    /// A replica answers.
    Ready(Replica, Box<ModelMetadata>),
    /// It can't load this version at all.
    Refused(Replica, Refusal),
    /// A streaming replica answers by this state, or could not take it in.
    Swapped(Replica, Digest, Result<(), Refusal>),
    /// A replica is gone.
    Unloaded(Replica),
    /// These can't be asked right now, and why: other servers hold them, or held them until now.
    Away(BTreeMap<Replica, String>),
    /// So much private memory of it is in use, in bytes.
    Weighs(u64),
    /// No model server can be started here.
    Barren(Refusal),
    /// It ended, or stopped answering.
    Crashed(String),
    /// It was drained and is gone.
    Gone,
}

/// One model server's life.
pub(crate) struct Life {
    pub(crate) spec: Spec,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) clock: Clock,
    /// Loads at a time on this machine: they are heavy.
    pub(crate) loading: Arc<Semaphore>,
    pub(crate) happened: mpsc::Sender<(ServerId, Happened)>,
    pub(crate) orders: mpsc::Receiver<Order>,
    /// Resolves when it shall drain; the value is how long that may take.
    pub(crate) drain: oneshot::Receiver<Duration>,
}

/// How a piece of work with a model server ended.
enum Done {
    Told(Happened),
    Probed(Option<(Vec<Away>, u64)>),
    Renewed,
    Relieved,
    /// The connection broke; the process is about to be seen as ended, and its own words are better.
    Lost(String),
    /// It will not end by itself.
    Stuck(String),
}

type Work = FuturesUnordered<BoxFuture<'static, Done>>;

impl Life {
    /// Runs until the process is gone.
    pub(crate) async fn live(mut self) {
        let (server, happened) = (self.spec.server.clone(), self.happened.clone());
        let end = self.run().await;
        // The executor outlives its servers; it is gone only when the node is.
        let _ = happened.send((server, end)).await;
    }

    async fn run(&mut self) -> Happened {
        if let Ok(grace) = self.drain.try_recv() {
            tracing::debug!(server = %self.spec.server.0, ?grace, "drained before it started");
            return Happened::Gone;
        }
        let mut process = match self.backend.start(self.spec.clone()).await {
            Ok(process) => process,
            Err(refusal) if refusal.code == Code::RuntimeMissing => return Happened::Barren(refusal),
            Err(refusal) => return Happened::Crashed(refusal.to_string()),
        };
        let endpoint = process.endpoint().clone();
        let client = match self.backend.door(&endpoint) {
            Ok(client) => client,
            Err(refusal) => return Happened::Barren(refusal),
        };
        if !self.tell(Happened::Up(endpoint.clone())).await {
            return Happened::Gone;
        }
        self.serve(&mut *process, &client, &endpoint).await
    }

    async fn tell(&self, happened: Happened) -> bool {
        self.happened.send((self.spec.server.clone(), happened)).await.is_ok()
    }

    async fn serve(&mut self, process: &mut dyn Process, client: &ModelServerClient, endpoint: &Endpoint) -> Happened {
        let (mut work, mut missed, mut renewed) = (Work::new(), 0, Instant::now());
        let mut tick = tokio::time::interval(PAUSE.min(self.backend.renew_every() / 4));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Until it has answered once it is starting, and loading has its own limit.
        let (mut probing, mut renewing, mut seen) = (false, false, false);
        let mut jumps = Jumps::of(&self.clock);
        let (mut away, mut weight) = (BTreeMap::new(), 0_u64);
        loop {
            tokio::select! {
                how = process.exited() => return Happened::Crashed(how),
                grace = &mut self.drain => return end(process, grace.unwrap_or_default()).await,
                Some(order) = self.orders.recv() => work.push(self.carry_out(order, client, endpoint)),
                Some(done) = work.next() => match done {
                    Done::Told(happened) => {
                        if !self.tell(happened).await {
                            return Happened::Gone;
                        }
                    }
                    Done::Probed(well) => {
                        (probing, seen) = (false, seen || well.is_some());
                        missed = if well.is_some() || !seen { 0 } else { missed + 1 };
                        let (well, bytes) = well.unwrap_or((Vec::new(), weight));
                        // Small changes are told by nobody: they come with each request.
                        if bytes.abs_diff(weight) > weight / 8 {
                            weight = bytes;
                            if !self.tell(Happened::Weighs(bytes)).await {
                                return Happened::Gone;
                            }
                        }
                        let now = self.away(well);
                        if now != away {
                            away.clone_from(&now);
                            if !self.tell(Happened::Away(now)).await {
                                return Happened::Gone;
                            }
                        }
                    }
                    Done::Renewed => renewing = false,
                    Done::Relieved => {}
                    Done::Lost(why) => {
                        let how = timeout(PROBE, process.exited()).await;
                        process.kill().await;
                        return Happened::Crashed(how.unwrap_or(why));
                    }
                    Done::Stuck(why) => {
                        process.kill().await;
                        return Happened::Crashed(why);
                    }
                },
                _ = tick.tick() => {
                    if !probing {
                        probing = true;
                        work.push(probe(client.clone()));
                    }
                    // Certificates are judged by the system's clock: where that was set, a new one is needed at once.
                    let due = renewed.elapsed() >= self.backend.renew_every() || jumps.jumped(&self.clock);
                    if !renewing && due {
                        (renewing, renewed) = (true, Instant::now());
                        work.push(self.renew(client, endpoint));
                    }
                }
            }
            if missed > MISSES {
                process.kill().await;
                return Happened::Crashed(format!("it missed {missed} probes in a row"));
            }
        }
    }

    fn away(&self, away: Vec<Away>) -> BTreeMap<Replica, String> {
        let replica = |Away { model, version, why }| {
            let model = ModelId { namespace: self.spec.namespace.clone(), name: model };
            (Replica { model, version }, why)
        };
        away.into_iter().map(replica).collect()
    }

    fn carry_out(&self, order: Order, client: &ModelServerClient, endpoint: &Endpoint) -> BoxFuture<'static, Done> {
        let (client, endpoint, backend) = (client.clone(), endpoint.clone(), self.backend.clone());
        let loading = self.loading.clone();
        match order {
            Order::Load { replica, digest, known, credential, streaming } => async move {
                // What is known is not loaded yet.
                let _turn = match &known {
                    None => loading.acquire_owned().await.ok(),
                    Some(_) => None,
                };
                let given = Given { known, credential, state: streaming.then_some(State::First) };
                let load = load(&client, &*backend, &endpoint, (&replica, digest), given);
                match timeout(LOADING, load).await {
                    Ok(Ok(metadata)) => Done::Told(Happened::Ready(replica, Box::new(metadata))),
                    Ok(Err(refusal)) if refusal.code == Code::ReplicaLost => Done::Lost(refusal.to_string()),
                    Ok(Err(refusal)) => {
                        backend.take_back(&endpoint, digest).await;
                        Done::Told(Happened::Refused(replica, refusal))
                    }
                    Err(_) => Done::Stuck(format!("loading took more than {} s", LOADING.as_secs())),
                }
            }
            .boxed(),
            Order::Swap { replica, digest, before } => async move {
                let given = Given { state: Some(State::Newer), ..Given::default() };
                let load = load(&client, &*backend, &endpoint, (&replica, digest), given);
                let outcome = timeout(LOADING, load).await.unwrap_or_else(|_| Err(slow())).map(drop);
                // Whichever does not answer is no longer needed there.
                let idle = if outcome.is_ok() { before } else { digest };
                if before != digest {
                    backend.take_back(&endpoint, idle).await;
                }
                Done::Told(Happened::Swapped(replica, digest, outcome))
            }
            .boxed(),
            Order::Relieve(bytes) => async move {
                let outcome = timeout(GRACE, client.relieve(Relieve { bytes })).await;
                tracing::info!(bytes, ?outcome, "a model server was asked to give up memory");
                Done::Relieved
            }
            .boxed(),
            Order::Unload { replica, digest } => async move {
                let unload = Unload { model: replica.model.name.clone(), version: replica.version };
                // What takes longer ends without anybody waiting for it; one that is lost has let go of everything.
                let outcome = timeout(GRACE, client.unload(unload)).await;
                tracing::debug!(?replica, ?outcome, "a replica is let go of");
                backend.take_back(&endpoint, digest).await;
                Done::Told(Happened::Unloaded(replica))
            }
            .boxed(),
        }
    }

    fn renew(&self, client: &ModelServerClient, endpoint: &Endpoint) -> BoxFuture<'static, Done> {
        let (client, endpoint) = (client.clone(), endpoint.clone());
        let (backend, server) = (self.backend.clone(), self.spec.server.clone());
        async move {
            let renewal = async {
                match client.renew(backend.renewal(&endpoint).await?).await {
                    // Connections end now and then, in the middle of a call too: on a new one it goes through.
                    Err(refusal) if refusal.code == Code::ReplicaLost => {
                        client.renew(backend.renewal(&endpoint).await?).await
                    }
                    outcome => outcome,
                }
            };
            // It has two thirds of its certificate's life left: the next round tries again.
            match timeout(PROBE, renewal).await.unwrap_or_else(|_| Err(slow())) {
                Ok(()) => tracing::debug!(server = %server.0, "a model server's certificate is renewed"),
                Err(refusal) => tracing::warn!(server = %server.0, %refusal, "a certificate could not be renewed"),
            }
            Done::Renewed
        }
        .boxed()
    }
}

/// What a replica is loaded with beside its bundle.
#[derive(Default)]
struct Given {
    known: Option<ModelMetadata>,
    credential: Option<Zeroizing<String>>,
    state: Option<State>,
}

/// Hands a bundle to a model server, and has it loaded.
async fn load(
    client: &ModelServerClient,
    backend: &dyn Backend,
    endpoint: &Endpoint,
    (replica, digest): (&Replica, Digest),
    Given { known, credential, state }: Given,
) -> Result<ModelMetadata, Refusal> {
    let load = Load {
        namespace: replica.model.namespace.clone(),
        model: replica.model.name.clone(),
        version: replica.version,
        digest,
        path: backend.lend(endpoint, digest).await?,
        keys: backend.keys().await?,
        known,
        state,
        credential,
    };
    client.load(load).await
}

fn probe(client: ModelServerClient) -> BoxFuture<'static, Done> {
    let probe = async move {
        let status = timeout(PROBE, client.status()).await.ok().and_then(Result::ok);
        Done::Probed(status.filter(|status| status.ready).map(|status| (status.away, status.memory)))
    };
    probe.boxed()
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
