//! The loop: plan, journal, carry out, wait for what happens.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use plan::{Plan, Planned, Replica, Room, Server, ServerId, State, Step};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rpc::registry::Secret;
use store::{Collection, Expect, Write};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use types::{Code, Digest, Refusal, Timestamp, manifest::Source, quantity::ByteCount};
use zeroize::Zeroizing;

use crate::{
    CURRENT, Shared,
    backend::{Backend, Spec},
    heads::{self, AskHeads},
    journal::{Journal, Place},
    key,
    scaling::Scalers,
    server::{Happened, Life, Order},
    world::{Current, Held},
};

/// Planned again at least this often, whatever happens.
const TICK: Duration = Duration::from_secs(5);
/// How long requests in flight may take when a server is drained.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// How long they may take when the node stops.
const STOP: Duration = Duration::from_secs(8);
/// What happened and is not looked at yet, at most; servers wait then.
const QUEUE: usize = 256;
/// Orders to one model server that it has not looked at yet, at most.
const ORDERS: usize = 4 * plan::SHARING;

/// What happened, and to which server.
type News = (ServerId, Happened);
/// An open step: of a server, or of a replica in it.
type Open = (ServerId, Option<Replica>);

/// How a model server is spoken to.
struct Reins {
    orders: mpsc::Sender<Order>,
    drain: oneshot::Sender<Duration>,
}

/// A newer state of a streaming replica.
enum Swap {
    UnderWay,
    /// It could not be taken in, and is not tried again before there is a newer one.
    Refused(Digest),
}

/// The orchestrator's loop.
pub struct Executor {
    shared: Arc<Shared>,
    journal: Journal,
    backend: Arc<dyn Backend>,
    generation: u64,
    rng: ChaCha8Rng,
    loading: Arc<Semaphore>,
    lives: JoinSet<()>,
    reins: BTreeMap<ServerId, Reins>,
    open: BTreeMap<Open, Place>,
    /// With which writing of its secret a replica was loaded.
    secrets: BTreeMap<(ServerId, Replica), u64>,
    /// What becomes of newer states that streaming replicas were given.
    swaps: BTreeMap<(ServerId, Replica), Swap>,
    /// Until it runs.
    beside: Option<(AskHeads, Scalers)>,
    happened: (mpsc::Sender<News>, mpsc::Receiver<News>),
}

impl Executor {
    pub(crate) fn new(
        shared: Arc<Shared>,
        journal: Journal,
        backend: Arc<dyn Backend>,
        beside: (AskHeads, Scalers),
    ) -> Self {
        let (high, low) = uuid::Uuid::now_v7().as_u64_pair();
        let at_a_time = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        Self {
            shared,
            journal,
            backend,
            generation: 0,
            rng: ChaCha8Rng::seed_from_u64(high ^ low),
            loading: Arc::new(Semaphore::new(at_a_time)),
            lives: JoinSet::new(),
            reins: BTreeMap::new(),
            open: BTreeMap::new(),
            secrets: BTreeMap::new(),
            swaps: BTreeMap::new(),
            beside: Some(beside),
            happened: mpsc::channel(QUEUE),
        }
    }

    /// Runs until `stop` resolves; then stops every model server and waits for them.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let beside = self.beside.take().map(|(heads, scalers)| {
            [tokio::spawn(heads::follow(self.shared.clone(), heads)), tokio::spawn(scalers.run())]
        });
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
        for task in beside.into_iter().flatten() {
            task.abort();
        }
        self.stop().await;
    }

    async fn stop(mut self) {
        for (_, reins) in std::mem::take(&mut self.reins) {
            // A server that is gone already needs no word.
            let _ = reins.drain.send(STOP);
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
        let (now, steady) = (self.shared.clock.now(), self.shared.clock.steady());
        let over = self.shared.unsend(now).await?;
        let (plan, report) = {
            let mut world = self.shared.world.lock();
            let (plan, report) = plan::plan(&world.inputs(), self.generation, steady, &mut new_id);
            world.note_waiting(&report, now);
            (plan, report)
        };
        let again = report.again_at.map(|at: Timestamp| at.since(steady));
        let again = again.into_iter().chain(over.map(|at| at.since(now))).min().unwrap_or(TICK).min(TICK);
        if !plan.steps.is_empty() {
            self.carry_out(plan, now).await?;
        }
        self.renew_secrets().await?;
        self.swap();
        let relieve = std::mem::take(&mut self.shared.world.lock().relieve);
        relieve.into_iter().for_each(|(server, bytes)| self.order(&server, Order::Relieve(bytes)));
        self.shared.publish();
        Ok(Instant::now() + again)
    }

    async fn carry_out(&mut self, plan: Plan, now: Timestamp) -> Result<(), Refusal> {
        self.generation = plan.generation;
        let places = self.journal.begin(&plan, now).await?;
        for (Planned { step, .. }, place) in plan.steps.into_iter().zip(places) {
            match step {
                Step::Start { server, namespace, room, outward, memory } => {
                    self.begun((server.clone(), None), place).await?;
                    self.start(Spec { server, namespace, room, outward, memory: ByteCount(memory) });
                }
                Step::Load { server, replica, digest } => {
                    self.begun((server.clone(), Some(replica.clone())), place).await?;
                    self.load(&server, replica, digest).await;
                }
                Step::Unload { server, replica } => {
                    self.begun((server.clone(), Some(replica.clone())), place).await?;
                    self.unload(&server, replica);
                }
                Step::Drain { server } => {
                    self.begun((server.clone(), None), place).await?;
                    self.drain(&server);
                }
                Step::Route { replica, digest } => {
                    self.route(replica, digest).await?;
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

    /// Keeps a step open until it is known how it ended; the one before on the same thing has not come that far.
    async fn begun(&mut self, what: Open, place: Place) -> Result<(), Refusal> {
        match self.open.insert(what, place) {
            Some(overtaken) => self.journal.end(overtaken, "overtaken").await,
            None => Ok(()),
        }
    }

    async fn route(&mut self, replica: Replica, digest: Digest) -> Result<(), Refusal> {
        let current = {
            let world = self.shared.world.lock();
            let Some(manifest) = world.manifest(&replica) else { return Ok(()) };
            let metadata = world.known.get(&replica).cloned();
            Current { model: replica.model, version: replica.version, digest, manifest, metadata }
        };
        self.keep(current).await
    }

    async fn keep(&mut self, current: Current) -> Result<(), Refusal> {
        let at = key(CURRENT, (&current.model.namespace, &current.model.name));
        let write = Write::put(Collection::Desired, at, Expect::Any, &current)?;
        self.shared.catalog.commit(vec![write], Vec::new()).await?;
        self.shared.world.lock().current.insert(current.model.clone(), current);
        Ok(())
    }

    fn start(&mut self, spec: Spec) {
        let Spec { server, namespace, room, outward, .. } = spec.clone();
        let held = Server::empty(namespace, room, outward);
        let held = Held {
            server: held,
            endpoint: None,
            digests: BTreeMap::new(),
            away: BTreeMap::new(),
            began: BTreeMap::new(),
            bytes: 0,
        };
        self.shared.world.lock().servers.insert(server.clone(), held);
        let ((drain, drained), (orders, ordered)) = (oneshot::channel(), mpsc::channel(ORDERS));
        self.reins.insert(server, Reins { orders, drain });
        let life = Life {
            spec,
            backend: self.backend.clone(),
            clock: self.shared.clock.clone(),
            loading: self.loading.clone(),
            happened: self.happened.0.clone(),
            orders: ordered,
            drain: drained,
        };
        self.lives.spawn(life.live());
    }

    async fn load(&mut self, server: &ServerId, replica: Replica, digest: Digest) {
        let credential = match self.credential(&replica).await {
            Ok(credential) => credential.map(|(secret, written)| {
                self.secrets.insert((server.clone(), replica.clone()), written);
                secret
            }),
            Err(refusal) => {
                self.take(server.clone(), Happened::Refused(replica, refusal)).await;
                return;
            }
        };
        let now = self.shared.clock.steady();
        let (known, digest, streaming) = {
            let mut world = self.shared.world.lock();
            let known = world.known.get(&replica).cloned();
            let manifest = world.manifest(&replica);
            let streaming = manifest.is_some_and(|manifest| matches!(manifest.spec.source, Source::Online(_)));
            let digest = world.bundle(&replica, digest);
            let Some(held) = world.servers.get_mut(server) else { return };
            held.server.replicas.insert(replica.clone(), State::Starting);
            held.digests.insert(replica.clone(), digest);
            held.began.insert(replica.clone(), now);
            // Where memory is shared, what was loaded before is loaded when it is asked for.
            (known.filter(|_| held.server.room == Room::Many && !streaming), digest, streaming)
        };
        self.order(server, Order::Load { replica, digest, known, credential, streaming });
    }

    /// Loads replicas again whose secret was set anew since; they answer meanwhile.
    async fn renew_secrets(&mut self) -> Result<(), Refusal> {
        let loaded: Vec<_> = self.secrets.keys().cloned().collect();
        for (server, replica) in loaded {
            let (digest, known) = {
                let world = self.shared.world.lock();
                let held = world.servers.get(&server);
                let ready = held.filter(|held| held.server.replicas.get(&replica) == Some(&State::Ready));
                let digest = ready.and_then(|held| held.digests.get(&replica).copied());
                (digest, world.known.get(&replica).cloned())
            };
            let Some(digest) = digest else {
                if !self.reins.contains_key(&server) {
                    self.secrets.remove(&(server, replica));
                }
                continue;
            };
            // One that was taken away is missed when it is loaded the next time.
            let Ok(Some((secret, written))) = self.credential(&replica).await else { continue };
            if self.secrets.insert((server.clone(), replica.clone()), written) != Some(written) {
                tracing::info!(server = %server.0, replica = %Named(&replica), "its secret was set anew");
                let credential = Some(secret);
                self.order(&server, Order::Load { replica, digest, known, credential, streaming: false });
            }
        }
        Ok(())
    }

    /// Gives replicas of streaming versions the newest state; they answer by the one before meanwhile.
    fn swap(&mut self) {
        let outdated = self.shared.world.lock().outdated();
        for (server, replica, [before, digest]) in outdated {
            let swap = (server, replica);
            match self.swaps.get(&swap) {
                Some(Swap::UnderWay) => continue,
                Some(Swap::Refused(refused)) if *refused == digest => continue,
                _ => {}
            }
            self.swaps.insert(swap.clone(), Swap::UnderWay);
            let (server, replica) = swap;
            self.order(&server, Order::Swap { replica, digest, before });
        }
    }

    /// What a model of another server is asked with, and how often that was written.
    ///
    /// # Errors
    /// When its address is not allowed here, or there is no such secret.
    async fn credential(&self, replica: &Replica) -> Result<Option<(Zeroizing<String>, u64)>, Refusal> {
        let manifest = self.shared.world.lock().manifest(replica);
        let Some(Source::Upstream(upstream)) = manifest.map(|manifest| manifest.spec.source) else { return Ok(None) };
        self.shared.allows(&upstream)?;
        let Some(name) = upstream.credential else { return Ok(None) };
        let namespace = &replica.model.namespace;
        let secret = self.shared.catalog.get(Collection::Secret, &format!("{namespace}/{name}")).await?;
        let document = secret.ok_or_else(|| {
            Refusal::new(Code::SecretNotFound, format!("`{namespace}` has no secret `{name}`"))
                .hint(format!("set it, and deploy again: `mantlet secrets set {name} < token`"))
        })?;
        Ok(Some((document.read::<Secret>()?.value, document.generation)))
    }

    fn unload(&mut self, server: &ServerId, replica: Replica) {
        let digest = {
            let mut world = self.shared.world.lock();
            let Some(held) = world.servers.get_mut(server) else { return };
            held.server.replicas.insert(replica.clone(), State::Draining);
            held.digests.get(&replica).copied()
        };
        // Followers stop choosing it before it is told to go.
        self.shared.publish();
        if let Some(digest) = digest {
            self.order(server, Order::Unload { replica, digest });
        }
    }

    fn order(&mut self, server: &ServerId, order: Order) {
        let Some(reins) = self.reins.get(server) else { return };
        if let Err(error) = reins.orders.try_send(order) {
            // It has ended, which is about to be seen; or it takes no orders any more, which its probes will show.
            tracing::warn!(server = %server.0, %error, "a model server was given an order that it did not take");
        }
    }

    fn drain(&mut self, server: &ServerId) {
        if let Some(held) = self.shared.world.lock().servers.get_mut(server) {
            held.server.draining = true;
        }
        // Followers stop choosing it before it is told to go.
        self.shared.publish();
        if let Some(reins) = self.reins.remove(server) {
            let _ = reins.drain.send(GRACE);
        }
    }

    async fn take(&mut self, server: ServerId, happened: Happened) {
        let about = match &happened {
            Happened::Ready(replica, _) | Happened::Refused(replica, _) | Happened::Unloaded(replica) => {
                Some(replica.clone())
            }
            _ => None,
        };
        let ended = matches!(happened, Happened::Barren(_) | Happened::Crashed(_) | Happened::Gone);
        let outcome = self.note(&server, happened);
        let mut closed: Vec<Place> = self.open.remove(&(server.clone(), about)).into_iter().collect();
        if ended {
            let of_server: Vec<Open> = self.open.keys().filter(|(of, _)| *of == server).cloned().collect();
            closed.extend(of_server.iter().filter_map(|open| self.open.remove(open)));
        }
        for place in closed {
            if let Err(refusal) = self.journal.end(place, &outcome).await {
                tracing::warn!(%refusal, "a step could not be closed in the journal");
            }
        }
        let learned = std::mem::take(&mut self.shared.world.lock().learned);
        for current in learned {
            if let Err(refusal) = self.keep(current).await {
                tracing::warn!(%refusal, "what a model takes and gives could not be kept");
            }
        }
        self.shared.publish();
    }

    fn note(&mut self, id: &ServerId, happened: Happened) -> String {
        let now = self.shared.clock.steady();
        if matches!(happened, Happened::Barren(_) | Happened::Crashed(_) | Happened::Gone) {
            self.swaps.retain(|(server, _), _| server != id);
        }
        let mut world = self.shared.world.lock();
        let Some(held) = world.servers.get_mut(id) else { return "unknown".into() };
        match happened {
            Happened::Up(endpoint) => {
                held.endpoint = Some(endpoint);
                tracing::info!(server = %id.0, namespace = %held.server.namespace, "model server up");
                "up".into()
            }
            Happened::Ready(replica, metadata) => {
                if let Some(state) = held.server.replicas.get_mut(&replica).filter(|state| **state == State::Starting) {
                    *state = State::Ready;
                }
                tracing::info!(server = %id.0, replica = %Named(&replica), "replica ready");
                if let Some(began) = held.began.remove(&replica) {
                    world.started(&replica.model, now.since(began));
                }
                world.learn(replica, *metadata);
                "ready".into()
            }
            Happened::Refused(replica, refusal) => {
                held.server.replicas.remove(&replica);
                held.digests.remove(&replica);
                tracing::warn!(server = %id.0, replica = %Named(&replica), %refusal, "replica refused");
                world.trouble.entry(replica).or_default().refused = Some(refusal);
                "refused".into()
            }
            Happened::Swapped(replica, digest, outcome) => {
                let swap = (id.clone(), replica);
                self.swaps.remove(&swap);
                match outcome {
                    Ok(()) => {
                        tracing::debug!(server = %id.0, replica = %Named(&swap.1), "a newer state answers");
                        held.digests.insert(swap.1, digest);
                    }
                    // The server is about to be seen as lost, or its connection ended in the middle of the call.
                    Err(refusal) if refusal.code == Code::ReplicaLost => {}
                    Err(refusal) => {
                        tracing::warn!(server = %id.0, replica = %Named(&swap.1), %refusal, "a newer state was refused");
                        self.swaps.insert(swap, Swap::Refused(digest));
                    }
                }
                "swapped".into()
            }
            Happened::Unloaded(replica) => {
                held.server.replicas.remove(&replica);
                held.digests.remove(&replica);
                tracing::info!(server = %id.0, replica = %Named(&replica), "replica gone");
                "gone".into()
            }
            Happened::Weighs(bytes) => {
                held.bytes = bytes;
                world.weigh(id);
                "weighed".into()
            }
            Happened::Away(away) => {
                for (replica, why) in &away {
                    tracing::warn!(server = %id.0, replica = %Named(replica), why, "the server that holds it is away");
                }
                held.away = away;
                "away".into()
            }
            Happened::Barren(refusal) => {
                tracing::warn!(server = %id.0, %refusal, "no model server can be started");
                self.reins.remove(id);
                for replica in world.lose(id).into_keys() {
                    world.trouble.entry(replica).or_default().refused = Some(refusal.clone());
                }
                "refused".into()
            }
            Happened::Crashed(how) if !held.server.draining => {
                tracing::warn!(server = %id.0, how, "model server lost");
                self.reins.remove(id);
                let lost = world.lose(id);
                // Who was loading is the suspect.
                for (replica, state) in lost.into_iter().filter(|(_, state)| *state != State::Draining) {
                    tracing::warn!(server = %id.0, replica = %Named(&replica), "replica lost");
                    world.note_restart(&replica.model);
                    let crashes = &mut world.trouble.entry(replica).or_default().crashes;
                    crashes.note(now, state == State::Ready, &mut self.rng);
                }
                format!("crashed: {how}")
            }
            Happened::Crashed(_) | Happened::Gone => {
                tracing::info!(server = %id.0, "model server gone");
                self.reins.remove(id);
                world.lose(id);
                "gone".into()
            }
        }
    }
}

/// A replica as people read it.
struct Named<'a>(&'a Replica);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Replica { model, version } = self.0;
        write!(f, "{}/{} version {version}", model.namespace, model.name)
    }
}

/// An id for a new model server.
pub(crate) fn new_id() -> ServerId {
    ServerId(format!("m{}", &uuid::Uuid::new_v4().simple().to_string()[..12]))
}
