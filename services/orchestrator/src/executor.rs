//! The loop: plan, journal, carry out, wait for what happens.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use plan::{Plan, Server, ServerId, State, Step};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use store::{Collection, Expect, Write};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use types::{Refusal, Timestamp};

use crate::{
    CURRENT, Shared,
    backend::{Backend, Endpoint, Spec},
    journal::{Journal, Place},
    key,
    server::{Happened, Life},
    world::{Current, Held},
};

/// Planned again at least this often, whatever happens.
const TICK: Duration = Duration::from_secs(5);
/// How long requests in flight may take when a server is drained.
const GRACE: Duration = Duration::from_secs(30);
/// How long they may take when the node stops.
const STOP: Duration = Duration::from_secs(8);
/// What happened and is not looked at yet, at most; servers wait then.
const QUEUE: usize = 256;

/// What happened, and to which server.
type News = (ServerId, Happened);

/// The orchestrator's loop.
pub struct Executor {
    shared: Arc<Shared>,
    journal: Journal,
    backend: Arc<dyn Backend>,
    generation: u64,
    rng: ChaCha8Rng,
    starting: Arc<Semaphore>,
    lives: JoinSet<()>,
    drains: BTreeMap<ServerId, oneshot::Sender<Duration>>,
    open: BTreeMap<ServerId, Place>,
    happened: (mpsc::Sender<News>, mpsc::Receiver<News>),
}

impl Executor {
    pub(crate) fn new(shared: Arc<Shared>, journal: Journal, backend: Arc<dyn Backend>) -> Self {
        let (high, low) = uuid::Uuid::now_v7().as_u64_pair();
        let at_a_time = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        Self {
            shared,
            journal,
            backend,
            generation: 0,
            rng: ChaCha8Rng::seed_from_u64(high ^ low),
            starting: Arc::new(Semaphore::new(at_a_time)),
            lives: JoinSet::new(),
            drains: BTreeMap::new(),
            open: BTreeMap::new(),
            happened: mpsc::channel(QUEUE),
        }
    }

    /// Runs until `stop` resolves; then stops every model server and waits for them.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            let again = match self.turn().await {
                Ok(again) => again,
                Err(refusal) => {
                    tracing::error!(%refusal, "a plan could not be carried out; it is made again");
                    Instant::now() + Duration::from_secs(1)
                }
            };
            tokio::select! {
                () = &mut stop => break,
                () = self.shared.changed.notified() => {}
                () = sleep_until(again) => {}
                Some((server, happened)) = self.happened.1.recv() => {
                    self.take(server, happened).await;
                    while let Ok((server, happened)) = self.happened.1.try_recv() {
                        self.take(server, happened).await;
                    }
                }
            }
            while self.lives.try_join_next().is_some() {}
        }
        self.stop().await;
    }

    async fn stop(mut self) {
        for (_, drain) in std::mem::take(&mut self.drains) {
            // A server that is gone already needs no word.
            let _ = drain.send(STOP);
        }
        let lives = async { while self.lives.join_next().await.is_some() {} };
        let messages = async { while self.happened.1.recv().await.is_some() {} };
        tokio::select! {
            () = lives => {}
            () = messages => {}
            () = tokio::time::sleep(STOP + GRACE) => tracing::warn!("model servers did not end in time"),
        }
    }

    /// Makes and carries out one plan; returns when to plan again.
    async fn turn(&mut self) -> Result<Instant, Refusal> {
        let now = self.shared.clock.now();
        let mut name = || ServerId(format!("m{}", &uuid::Uuid::new_v4().simple().to_string()[..12]));
        let (plan, report) = {
            let mut world = self.shared.world.lock();
            let (plan, report) = plan::plan(&world.inputs(), self.generation, now, &mut name);
            world.note_waiting(&report, now);
            (plan, report)
        };
        let again = report.again_at.map_or(TICK, |at: Timestamp| at.since(now).min(TICK));
        if !plan.steps.is_empty() {
            self.carry_out(plan, now).await?;
        }
        self.shared.publish();
        Ok(Instant::now() + again)
    }

    async fn carry_out(&mut self, plan: Plan, now: Timestamp) -> Result<(), Refusal> {
        self.generation = plan.generation;
        let places = self.journal.begin(&plan, now).await?;
        for (step, place) in plan.steps.into_iter().zip(places) {
            match step {
                Step::Start { server, model, version, digest } => {
                    self.open.insert(server.clone(), place);
                    self.start(server, model, version, digest);
                }
                Step::Drain { server } => {
                    self.drain(&server);
                    self.journal.end(place, "begun").await?;
                }
                Step::Route { model, version, digest } => {
                    let manifest = self.shared.world.lock().manifest(&model, version);
                    if let Some(manifest) = manifest {
                        let current = Current { model: model.clone(), version, digest, manifest };
                        let at = key(CURRENT, (&model.namespace, &model.name));
                        let write = Write::put(Collection::Desired, at, Expect::Any, &current)?;
                        self.shared.catalog.commit(vec![write], Vec::new()).await?;
                        self.shared.world.lock().current.insert(model, current);
                    }
                    self.journal.end(place, "done").await?;
                }
                Step::Unroute { model } => {
                    let at = key(CURRENT, (&model.namespace, &model.name));
                    let write = Write::remove(Collection::Desired, at, Expect::Any);
                    self.shared.catalog.commit(vec![write], Vec::new()).await?;
                    self.shared.world.lock().current.remove(&model);
                    self.journal.end(place, "done").await?;
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, server: ServerId, model: plan::ModelId, version: types::Version, digest: types::Digest) {
        let mut world = self.shared.world.lock();
        let resources = world.manifest(&model, version).map(|manifest| manifest.spec.resources).unwrap_or_default();
        let held = Server { model: model.clone(), version, state: State::Starting };
        world.servers.insert(server.clone(), Held { server: held, endpoint: None, metadata: None });
        drop(world);
        let (drain, drained) = oneshot::channel();
        self.drains.insert(server.clone(), drain);
        let life = Life {
            spec: Spec { server: server.clone(), namespace: model.namespace.clone(), digest, memory: resources.memory },
            server,
            model,
            version,
            digest,
            backend: self.backend.clone(),
            starting: self.starting.clone(),
            happened: self.happened.0.clone(),
            drain: drained,
        };
        self.lives.spawn(life.live());
    }

    fn drain(&mut self, server: &ServerId) {
        if let Some(held) = self.shared.world.lock().servers.get_mut(server) {
            held.server.state = State::Draining;
        }
        // Followers stop choosing it before it is told to go.
        self.shared.publish();
        if let Some(drain) = self.drains.remove(server) {
            let _ = drain.send(GRACE);
        }
    }

    async fn take(&mut self, server: ServerId, happened: Happened) {
        let outcome = self.note(&server, happened);
        if let Some(place) = self.open.remove(&server)
            && let Err(refusal) = self.journal.end(place, &outcome).await
        {
            tracing::warn!(%refusal, "a step could not be closed in the journal");
        }
        self.shared.publish();
    }

    fn note(&mut self, id: &ServerId, happened: Happened) -> String {
        let now = self.shared.clock.now();
        let mut world = self.shared.world.lock();
        let Some(held) = world.servers.get_mut(id) else { return "unknown".into() };
        let Server { model, version, state } = held.server.clone();
        let name = format!("{}/{}", model.namespace, model.name);
        if let Happened::Ready(endpoint, metadata) = happened {
            set_ready(held, endpoint, *metadata);
            tracing::info!(server = %id.0, model = name, %version, "replica ready");
            return "ready".into();
        }
        world.servers.remove(id);
        self.drains.remove(id);
        let trouble = world.trouble.entry((model.clone(), version)).or_default();
        match happened {
            Happened::Refused(refusal) => {
                tracing::warn!(server = %id.0, model = name, %version, %refusal, "replica refused");
                trouble.refused = Some(refusal);
                "refused".into()
            }
            Happened::Crashed(how) if state != State::Draining => {
                tracing::warn!(server = %id.0, model = name, %version, how, "replica lost");
                trouble.crashes.note(now, state == State::Ready, &mut self.rng);
                world.note_restart(&model);
                format!("crashed: {how}")
            }
            _ => {
                tracing::info!(server = %id.0, model = name, %version, "replica gone");
                "gone".into()
            }
        }
    }
}

fn set_ready(held: &mut Held, endpoint: Endpoint, metadata: types::infer::ModelMetadata) {
    held.endpoint = Some(endpoint);
    held.metadata = Some(metadata);
    if held.server.state == State::Starting {
        held.server.state = State::Ready;
    }
}
