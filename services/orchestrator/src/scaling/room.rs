//! Where memory is short: which models go to sleep at once, and whether one that is asked again may wake.

use std::{collections::BTreeMap, time::Duration};

use ledger::Record;
use plan::{
    ModelId, ServerId,
    pressure::{Candidate, Memory, Pressure},
};
use serde_json::json;
use types::quantity::ByteCount;

use super::{One, since};
use crate::{Shared, memory::Reserve, world::Held};

/// Bytes that a model is supposed to take of which nothing is known.
const UNKNOWN: u64 = 64 << 20;

/// The machine's memory, and what was done about it.
pub(super) struct Room {
    reserve: Reserve,
    pressure: Pressure,
    /// Models that go so that another one comes back, with what is told of it.
    displaced: BTreeMap<ModelId, String>,
    /// Models that may be displaced, as they were at the last look.
    candidates: Vec<Candidate>,
    /// Shared model servers that gave up memory, and have not got it back; what they took when they were asked last.
    relieved: BTreeMap<ServerId, u64>,
    /// What is to be ordered of them, once it is recorded: bytes to give up, or 0 to have it back, with the reason.
    orders: BTreeMap<ServerId, (u64, String)>,
}

impl Room {
    pub(super) fn new(reserve: Reserve) -> Self {
        let pressure = Pressure::new(reserve.share);
        Self {
            reserve,
            pressure,
            displaced: BTreeMap::new(),
            candidates: Vec::new(),
            relieved: BTreeMap::new(),
            orders: BTreeMap::new(),
        }
    }

    /// Why a model that sleeps and is asked can't be woken; nothing where it can. Who is worth less may have to go for it.
    pub(super) fn lacks(&mut self, model: &ModelId, one: &One, shared: &Shared) -> Option<String> {
        let (memory, now) = (self.reserve.read()?, since(shared.clock.steady()));
        let bytes = shared.world.lock().weights.get(model).copied().filter(|bytes| *bytes > 0).unwrap_or(UNKNOWN);
        let lacking = self.pressure.admit(bytes, memory, now).err()?;
        let asked =
            Candidate { model: model.clone(), requests: one.recent.count(now), cold: one.cold, bytes, since: now };
        let told = format!("{}, and `{}/{}` is asked", free(memory), model.namespace, model.name);
        for gone in self.pressure.displace(lacking, &asked, &self.candidates, now) {
            self.displaced.insert(gone, told.clone());
        }
        let (stays, takes) = (size(self.pressure.reserve(memory)), size(bytes));
        Some(format!("{}: {stays} are to stay free, and it takes {takes}", free(memory)))
    }

    /// Puts to sleep what is worth least, where memory is short or somebody else is to come back.
    pub(super) fn make(&mut self, scalers: &mut BTreeMap<ModelId, One>, shared: &Shared) {
        let Some(memory) = self.reserve.read() else { return };
        let (now, at) = (since(shared.clock.steady()), shared.clock.now());
        self.candidates = candidates(scalers, shared, now);
        let was_short = self.pressure.is_short();
        let lacking = self.pressure.lacking(memory, now);
        if was_short != self.pressure.is_short() {
            tracing::warn!(free = memory.free, total = memory.total, short = !was_short, "the machine's memory");
        }
        let told = free(memory);
        let gone = self.pressure.unload(lacking, &self.candidates, now);
        let given: u64 =
            self.candidates.iter().filter(|one| gone.contains(&one.model)).map(|candidate| candidate.bytes).sum();
        self.relieve(lacking.saturating_sub(given), &told, shared, now);
        let gone = gone.into_iter().map(|model| (model, told.clone()));
        for (model, told) in gone.chain(std::mem::take(&mut self.displaced)).collect::<Vec<_>>() {
            let candidate = self.candidates.iter().find(|candidate| candidate.model == model);
            // Who is asked since stays.
            let (Some(one), Some(candidate)) = (scalers.get_mut(&model), candidate) else { continue };
            let why = format!("{told}; it is worth least: {}", worth(candidate));
            tracing::warn!(model = %model.name, namespace = %model.namespace, why, "unloaded for lack of memory");
            one.scaler.unload(&why, at);
        }
    }
}

impl Room {
    /// Has shared model servers give up what is lacking still, the largest first, and have it back once memory is not short any more.
    fn relieve(&mut self, lacking: u64, told: &str, shared: &Shared, now: Duration) {
        let world = shared.world.lock();
        let is_shared = |held: &&Held| held.server.room == plan::Room::Many && !held.server.outward;
        let mut servers: Vec<(&ServerId, u64)> =
            world.servers.iter().filter(|(_, held)| is_shared(held)).map(|(id, held)| (id, held.bytes)).collect();
        self.relieved.retain(|id, _| world.servers.contains_key(id));
        if !self.pressure.is_short() {
            let back = std::mem::take(&mut self.relieved);
            self.orders.extend(back.into_keys().map(|id| (id, (0, "memory is not short any more".to_owned()))));
            return;
        }
        servers.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let mut left = lacking;
        for (id, bytes) in servers.into_iter().filter(|(_, bytes)| *bytes > 0) {
            // Who gave nothing the last time has nothing to give.
            if self.relieved.get(id) == Some(&bytes) {
                continue;
            }
            if left == 0 {
                break;
            }
            self.orders.insert(id.clone(), (left, told.to_owned()));
            self.relieved.insert(id.clone(), bytes);
            left = left.saturating_sub(bytes);
            self.pressure.acted(now);
        }
    }

    /// What the ledger is told of what is to be ordered.
    pub(super) fn records(&self, shared: &Shared) -> Vec<Vec<u8>> {
        let world = shared.world.lock();
        let record = |(id, (bytes, why)): (&ServerId, &(u64, String))| {
            let namespace = &world.servers.get(id)?.server.namespace;
            let detail = json!({ "bytes": bytes, "why": why });
            let record = Record {
                v: 1,
                at: shared.clock.now().0,
                action: "model-server.relieve".into(),
                namespace: Some(namespace.to_string()),
                actor: "orchestrator".into(),
                subject: format!("model-server:{namespace}/{}", id.0),
                detail,
            };
            Some(record.to_line())
        };
        self.orders.iter().filter_map(record).collect()
    }

    /// What is ordered, now that it is recorded.
    pub(super) fn orders(&mut self) -> impl Iterator<Item = (ServerId, u64)> + use<> {
        std::mem::take(&mut self.orders).into_iter().map(|(id, (bytes, _))| (id, bytes))
    }
}

/// Models that may be unloaded: nobody asks, nobody has said that they stay, and it is known what they take.
fn candidates(scalers: &BTreeMap<ModelId, One>, shared: &Shared, now: Duration) -> Vec<Candidate> {
    let world = shared.world.lock();
    let idle = scalers.iter().filter(|(_, one)| one.scaler.may_sleep() && !one.scaler.sleeps() && !one.busy);
    let of = |(model, one): (&ModelId, &One)| {
        let bytes = world.taken(model).filter(|bytes| *bytes > 0)?;
        let (requests, since) = (one.recent.count(now), one.awake?);
        Some(Candidate { model: model.clone(), requests, cold: one.cold, bytes, since })
    };
    idle.filter_map(of).collect()
}

fn size(bytes: u64) -> ByteCount {
    // Rounded, so that it reads well.
    ByteCount(bytes >> 20 << 20)
}

fn free(Memory { total, free }: Memory) -> String {
    format!("memory is short: {} of {} are free", size(free), size(total))
}

fn worth(candidate: &Candidate) -> String {
    let Candidate { requests, cold, bytes, .. } = candidate;
    format!("{requests:.1} recent requests, {cold:.1} s to start, {}", size(*bytes))
}
