//! Each second, how many replicas each model's load needs: asked, carried into the world, recorded and kept. Where memory is short,
//! [`room`] says which of those that may sleep do so at once, and which may wake.

mod room;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use ledger::Record;
use plan::{ModelId, State, pressure::Recent, scale::Standing};
use rpc::orchestrator::Scaling;
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Catalog, Collection, Expect, Write, read_all};
use tokio::time::{MissedTickBehavior, interval};
use types::{Manifest, Refusal, Timestamp, manifest::ScaleMode};

use crate::{
    SCALING, Shared, key,
    loads::Asked,
    memory::Reserve,
    scaler::{self, Kept, Scaler, Second},
    turns,
    world::World,
};
use room::Room;

/// How often all are asked.
const TICK: Duration = Duration::from_secs(1);
/// Ticks after which what they have learnt is kept, though nothing has changed.
const KEEP: u64 = 30;

/// A scaler as it lies in the catalog.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Document {
    model: ModelId,
    #[serde(flatten)]
    kept: Kept,
}

/// The scalers of all models whose load says how many replicas they have.
pub(crate) struct Scalers {
    shared: Arc<Shared>,
    kept: BTreeMap<ModelId, Kept>,
    scalers: BTreeMap<ModelId, One>,
    ticks: u64,
    room: Option<Room>,
}

struct One {
    scaler: Scaler,
    /// Of the wish it was told of.
    generation: u64,
    /// How many are wanted as far as the world knows.
    told: u32,
    /// Seconds that a start takes.
    cold: f64,
    /// Whether it has learnt something since it was kept.
    fresh: bool,
    /// How the forecast stood when it was told last.
    stood: Standing,
    /// What it was asked lately.
    recent: Recent,
    /// Whether somebody asks right now.
    busy: bool,
    /// Since when it is awake, by steady time.
    awake: Option<Duration>,
}

impl One {
    fn new(scaler: Scaler, generation: u64, cold: f64) -> Self {
        let (told, stood) = (scaler.said().wanted, scaler.standing());
        let recent = Recent::default();
        Self { generation, told, cold, fresh: false, stood, recent, busy: false, awake: None, scaler }
    }
}

/// What the world says of a model that is scaled.
struct Subject {
    model: ModelId,
    manifest: Manifest,
    generation: u64,
    ready: u32,
    starting: u32,
    cold: f64,
    overruled: bool,
}

/// Reads what was kept; of models that nobody wants it is left out.
///
/// # Errors
/// When the catalog can't be read.
pub(crate) async fn kept(catalog: &dyn Catalog, world: &mut World) -> Result<BTreeMap<ModelId, Kept>, Refusal> {
    let mut all = BTreeMap::new();
    for document in read_all(catalog, Collection::Desired, SCALING).await? {
        // What another release wrote differently begins anew.
        let Ok(Document { model, kept }) = document.read::<Document>() else { continue };
        let Some((desired, _)) = world.wishes.get(&model) else { continue };
        if desired.manifest.scale_mode() == ScaleMode::Off {
            continue;
        }
        if kept.cold.is_finite() && kept.cold >= 0.0 {
            world.cold.insert(model.clone(), kept.cold);
        }
        let terms = scaler::terms(&desired.manifest, 1, kept.cold);
        let Ok(scaler) = Scaler::resume(&desired.manifest, terms, 0, &kept) else { continue };
        let scaling = scaler.scaling(false, kept.cold);
        world.scaling.insert(model.clone(), scaling);
        all.insert(model, kept);
    }
    Ok(all)
}

impl Scalers {
    pub(crate) fn new(shared: Arc<Shared>, kept: BTreeMap<ModelId, Kept>, memory: Option<Reserve>) -> Self {
        Self { shared, kept, scalers: BTreeMap::new(), ticks: 0, room: memory.map(Room::new) }
    }

    /// Asks them each second, and at once where somebody waits for a model that sleeps; as long as it runs.
    pub(crate) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => self.second(),
                () = self.shared.asked.notified() => self.wake(),
            }
            self.tell().await;
        }
    }

    /// Tells every scaler a second.
    fn second(&mut self) {
        let (now, lanes) = (self.shared.clock.now(), self.shared.lanes);
        // Whoever sets the system's clock makes nobody idle.
        let steady = self.shared.clock.steady();
        self.ticks += 1;
        let asked = self.shared.heard.lock().look(steady);
        let subjects = subjects(&self.shared.world.lock());
        let known: BTreeSet<&ModelId> = subjects.iter().map(|subject| &subject.model).collect();
        self.scalers.retain(|model, _| known.contains(model));
        for subject in subjects {
            let Subject { model, manifest, generation, ready, starting, cold, overruled } = subject;
            let (terms, at) = (scaler::terms(&manifest, lanes, cold), steady.0 / 1_000);
            let kept = self.kept.remove(&model);
            let one = match self.scalers.entry(model.clone()) {
                Entry::Occupied(one) => one.into_mut(),
                Entry::Vacant(place) => {
                    let new = || Scaler::new(&manifest, terms, at, ((ready + starting).max(manifest.replicas()), now));
                    match kept.map_or_else(new, |kept| Scaler::resume(&manifest, terms, at, &kept)) {
                        Ok(scaler) => place.insert(One::new(scaler, generation, cold)),
                        Err(error) => {
                            tracing::error!(%error, "a scaler can't be made");
                            continue;
                        }
                    }
                }
            };
            one.cold = cold;
            if one.scaler.differs(&manifest, terms) {
                one.scaler.set(&manifest, terms);
            }
            if one.generation != generation {
                one.generation = generation;
                one.scaler.touch(now);
            }
            let Asked { requests, in_flight, open, served } = match &asked {
                Some(asked) => asked.get(&model).copied().unwrap_or_default(),
                None => Asked { requests: f64::NAN, ..Asked::default() },
            };
            one.busy = open > 0 || requests > 0.0 || in_flight > 0.0;
            one.recent.note(requests, since(steady));
            if one.busy && one.scaler.sleeps() {
                let short = self.room.as_mut().and_then(|room| room.lacks(&model, one, &self.shared));
                one.scaler.hold(short);
            } else {
                one.scaler.hold(None);
            }
            one.scaler.second(at, Second { requests, in_flight, open, served, ready, starting, overruled }, now);
            one.fresh |= requests > 0.0;
            one.awake = one.awake.or(Some(since(steady))).filter(|_| !one.scaler.sleeps());
        }
        if let Some(room) = &mut self.room {
            room.make(&mut self.scalers, &self.shared);
        }
    }

    /// Wakes what sleeps and is asked.
    fn wake(&mut self) {
        let (now, heard) = (self.shared.clock.now(), self.shared.heard.lock());
        for (model, one) in &mut self.scalers {
            if one.scaler.sleeps() && heard.is_asked(model) {
                let short = self.room.as_mut().and_then(|room| room.lacks(model, one, &self.shared));
                one.scaler.hold(short);
                one.scaler.wake(now);
            }
        }
    }

    /// Records what has changed, keeps what was learnt, and carries it into the world: a change no sooner than it is recorded.
    async fn tell(&mut self) {
        let all = self.ticks.is_multiple_of(KEEP);
        let (mut writes, mut records) = (Vec::new(), Vec::new());
        for (model, one) in &mut self.scalers {
            let changed = one.told != one.scaler.said().wanted;
            let grown = all && one.fresh;
            let turns = turns::turned(&one.stood, &one.scaler.standing());
            if !changed && !grown && turns.is_empty() {
                continue;
            }
            let document = Document { model: model.clone(), kept: one.scaler.kept(one.cold) };
            match Write::put(Collection::Desired, key(SCALING, (&model.namespace, &model.name)), Expect::Any, &document)
            {
                Ok(write) => writes.push(write),
                Err(error) => tracing::error!(%error, "what a scaler knows can't be written"),
            }
            records.extend(turns.iter().map(|turn| turns::record(&self.shared, model, turn).to_line()));
            if changed {
                records.push(record(&self.shared, model, one).to_line());
            }
        }
        if let Some(room) = &self.room {
            records.extend(room.records(&self.shared));
        }
        let changed = !records.is_empty();
        if !writes.is_empty() || changed {
            // What was not recorded does not happen: it is tried again in a second.
            if let Err(error) = self.shared.catalog.commit(writes, records).await {
                tracing::warn!(%error, "what scalers say can't be recorded");
                return;
            }
        }
        for one in self.scalers.values_mut() {
            one.told = one.scaler.said().wanted;
            one.stood = one.scaler.standing();
            one.fresh &= !all;
        }
        self.show();
        if let Some(room) = &mut self.room {
            self.shared.world.lock().relieve.extend(room.orders());
        }
        if changed {
            self.shared.changed.notify_one();
        }
    }

    fn show(&self) {
        if self.carry() {
            // Who waits is told why.
            self.shared.publish();
        }
    }

    /// Carries into the world what is said; whether it is another one for those who wait.
    fn carry(&self) -> bool {
        let (mut world, mut changed) = (self.shared.world.lock(), false);
        world.scaling.retain(|model, _| {
            let stays = self.scalers.contains_key(model) || self.kept.contains_key(model);
            if !stays {
                turns::measure(model, &Standing::default());
            }
            stays
        });
        for (model, one) in &self.scalers {
            turns::measure(model, &one.stood);
            // Somebody may have taken the wish back meanwhile.
            if world.wishes.contains_key(model) {
                let before = world.scaling.insert(model.clone(), one.scaler.scaling(false, one.cold));
                changed |= before.is_some_and(|before| before.short.as_ref() != one.scaler.short());
            }
        }
        changed
    }
}

/// Steady time as a length.
fn since(steady: Timestamp) -> Duration {
    Duration::from_millis(steady.0)
}

/// What the ledger is told of another number.
fn record(shared: &Shared, model: &ModelId, one: &One) -> Record {
    let Scaling { mode, wanted, why, by, twin, .. } = one.scaler.scaling(false, one.cold);
    let twin = twin.map(|(name, wanted)| json!({ "name": name, "wanted": wanted }));
    tracing::info!(model = %model.name, namespace = %model.namespace, from = one.told, to = wanted, why, "autoscaled");
    let detail = json!({ "from": one.told, "to": wanted, "why": why, "mode": mode, "by": by, "twin": twin });
    shared.record("model.autoscale", (&model.namespace, &model.name), "orchestrator".into(), detail)
}

/// Every model whose load says how many replicas it has, as the world is now.
fn subjects(world: &World) -> Vec<Subject> {
    let scaled: Vec<_> =
        world.wishes.iter().filter(|(_, (desired, _))| desired.manifest.scale_mode() != ScaleMode::Off).collect();
    if scaled.is_empty() {
        return Vec::new();
    }
    let mut there: BTreeMap<(&ModelId, types::Version), (u32, u32)> = BTreeMap::new();
    for held in world.servers.values().filter(|held| !held.server.draining) {
        for (replica, state) in &held.server.replicas {
            let (ready, starting) = there.entry((&replica.model, replica.version)).or_default();
            match state {
                State::Ready => *ready += 1,
                State::Starting => *starting += 1,
                State::Draining => {}
            }
        }
    }
    let subject = |(model, (desired, generation)): (&ModelId, &(rpc::orchestrator::Desired, u64))| {
        let version = world.current.get(model).map_or(desired.version, |current| current.version);
        let (ready, starting) = there.get(&(model, version)).copied().unwrap_or_default();
        Subject {
            model: model.clone(),
            manifest: desired.manifest.clone(),
            generation: *generation,
            ready,
            starting,
            cold: world.cold.get(model).copied().unwrap_or(scaler::COLD),
            overruled: world.scaled.contains_key(model),
        }
    };
    scaled.into_iter().map(subject).collect()
}
