//! The planner: what is missing is loaded, what is ready is routed, what is left over is let go.
//!
//! For each model: the wanted version gets its replicas; once as many are ready as the version before has, it
//! answers; only then is the version before let go. While the wanted version is not ready, the answering one keeps
//! its own replicas, lost ones replaced: a version that can't be loaded never takes the last one down. A version that
//! shadows the wanted one has a replica of its own, beside both, and so has each that a person gives requests to.
//!
//! A replica gets a model server of its own while there are few of those; beyond, replicas of a namespace share.
//! Two copies of one version never share a server, and a version that crashed before is always alone.

use std::collections::BTreeMap;

use types::{Timestamp, Version};

use crate::{
    Beside, Current, Inputs, ModelId, Needs, Plan, Planned, Replica, Report, Room, Server, ServerId, State, Step,
    WaitingOn, Why, Wish,
};

/// Replicas in one model server, at most: all of them are lost together.
pub const SHARING: usize = 256;

/// Plans from what is wanted and what is there; `name` gives ids for new model servers.
///
/// Takes O((models + replicas) · log).
pub fn plan(inputs: &Inputs, parent: u64, now: Timestamp, name: &mut dyn FnMut() -> ServerId) -> (Plan, Report) {
    let mut planner = Planner {
        inputs,
        now,
        name,
        there: BTreeMap::new(),
        seats: Seats::of(inputs),
        steps: Vec::new(),
        report: Report::default(),
    };
    for (id, server) in &inputs.servers {
        for (replica, state) in &server.replicas {
            let state = if server.draining { State::Draining } else { *state };
            planner.there.entry(&replica.model).or_default().push((id, replica.version, state));
        }
    }
    for (model, wish) in &inputs.wishes {
        planner.model(model, wish);
    }
    planner.leftovers();
    let Planner { steps, report, .. } = planner;
    (Plan { generation: parent + 1, parent, steps }, report)
}

/// The versions that stand beside the wanted one, each once, with as many replicas as any reason asks for.
fn stand_beside(wish: &Wish) -> Vec<(Beside, Why)> {
    let mut all: Vec<(Beside, Why)> = Vec::new();
    let shadow = wish.shadow.iter().map(|beside| (beside, Why::Shadow { of: wish.version }));
    for (beside, why) in shadow.chain(wish.split.iter().map(|beside| (beside, Why::Split { of: wish.version }))) {
        match all.iter_mut().find(|(known, _)| known.of.version == beside.of.version) {
            Some((known, _)) => known.replicas = known.replicas.max(beside.replicas),
            None => all.push((*beside, why)),
        }
    }
    all
}

struct Planner<'a> {
    inputs: &'a Inputs,
    now: Timestamp,
    name: &'a mut dyn FnMut() -> ServerId,
    /// Each model's replicas.
    there: BTreeMap<&'a ModelId, Vec<(&'a ServerId, Version, State)>>,
    seats: Seats,
    steps: Vec<Planned>,
    report: Report,
}

impl<'a> Planner<'a> {
    fn model(&mut self, model: &'a ModelId, wish: &Wish) {
        let current = self.inputs.current.get(model).copied();
        let wanted = Current { version: wish.version, digest: wish.digest, needs: wish.needs };
        // What has not answered yet has to show that it can be loaded, though nobody asks right now.
        let answers = current.is_some_and(|current| current.version == wish.version);
        let replicas = if answers { wish.replicas } else { wish.replicas.max(1) };
        let missing = |there| Why::Missing { there, wanted: replicas };
        if let Some(waiting) = self.keep_up(model, wanted, replicas, missing) {
            self.report.waiting.insert(model.clone(), waiting);
        }
        let ready = self.count(model, wish.version, State::Ready);
        let before = current.filter(|current| current.version != wish.version);
        let answering = before.map_or(0, |before| self.count(model, before.version, State::Ready));
        let enough = ready >= replicas.min(answering.max(1));
        // Whether they are ready makes no difference to who asks the model.
        let answers = |version| version == wish.version || (!enough && before.is_some_and(|b| b.version == version));
        let mut beside = stand_beside(wish);
        beside.retain(|(beside, _)| !answers(beside.of.version));
        for (Beside { of, replicas }, why) in &beside {
            self.keep_up(model, *of, wish.replicas.min((*replicas).max(1)), |_| *why);
        }
        let stays = |version| beside.iter().any(|(beside, _)| beside.of.version == version);
        if let Some(before) = before.filter(|_| !enough) {
            // Whoever answers now keeps answering.
            self.keep_up(model, before, wish.replicas, |_| Why::Holding { wanted: wish.version });
            self.let_go(model, Why::Replaced { by: wish.version }, |version| {
                version != before.version && version != wish.version && !stays(version)
            });
            return;
        }
        if current.is_none_or(|current| current.version != wish.version) {
            let why = if current.is_none() { Why::First } else { Why::Enough { ready } };
            let replica = Replica { model: model.clone(), version: wish.version };
            self.push(Step::Route { replica, digest: wish.digest }, why);
        }
        self.let_go(model, Why::Replaced { by: wish.version }, |version| version != wish.version && !stays(version));
    }

    /// Loads what is missing of a version and lets go of what is too much; says why some are not ready.
    fn keep_up(&mut self, model: &ModelId, of: Current, replicas: u32, why: impl Fn(u32) -> Why) -> Option<WaitingOn> {
        let ready = self.count(model, of.version, State::Ready);
        let starting = self.count(model, of.version, State::Starting);
        let there = ready + starting;
        if there > replicas {
            self.let_go_surplus(model, of.version, there, replicas);
            return None;
        }
        let waiting = self.blocked(model, of.version);
        let missing = if waiting.is_some() { 0 } else { replicas - there };
        for _ in 0..missing {
            self.load(model, of, why(there));
        }
        let starting = starting + missing;
        waiting.or((starting > 0).then_some(WaitingOn::Starting(starting))).filter(|_| ready < replicas)
    }

    fn load(&mut self, model: &ModelId, Current { version, digest, needs }: Current, why: Why) {
        let replica = Replica { model: model.clone(), version };
        let crashed = self.inputs.trouble.get(&replica).is_some_and(|trouble| trouble.crashes.any_before_ready());
        let outward = needs.outward;
        let alone = !outward && (crashed || self.seats.is_alone(&replica, needs, self.inputs));
        let room = if alone { Room::One } else { Room::Many };
        let server = match (room, self.seats.shared(&replica, outward)) {
            (Room::Many, Some(server)) => server,
            (room, _) => {
                let server = (self.name)();
                let memory = if room == Room::One { needs.memory } else { self.inputs.spread.shared };
                let namespace = model.namespace.clone();
                self.push(Step::Start { server: server.clone(), namespace, room, outward, memory }, why);
                server
            }
        };
        self.seats.take(&server, (room, outward), &replica);
        self.push(Step::Load { server, replica, digest }, why);
    }

    fn blocked(&mut self, model: &ModelId, version: Version) -> Option<WaitingOn> {
        let trouble = self.inputs.trouble.get(&Replica { model: model.clone(), version })?;
        if let Some(refusal) = &trouble.refused {
            return Some(WaitingOn::Refused(refusal.clone()));
        }
        if trouble.crashes.is_loop(self.now) {
            let lately = u32::try_from(trouble.crashes.lately(self.now)).unwrap_or(u32::MAX);
            return Some(WaitingOn::CrashLoop(lately));
        }
        let at = trouble.crashes.retry_at().filter(|at| *at > self.now)?;
        self.report.again_at = Some(self.report.again_at.map_or(at, |other| other.min(at)));
        Some(WaitingOn::Backoff(at))
    }

    fn count(&self, model: &ModelId, version: Version, state: State) -> u32 {
        let there = self.there.get(model).map(Vec::as_slice).unwrap_or_default();
        let fits = |(_, of, is): &&(&ServerId, Version, State)| *of == version && *is == state;
        u32::try_from(there.iter().filter(fits).count()).unwrap_or(u32::MAX)
    }

    /// Those that are not ready yet go first.
    fn let_go_surplus(&mut self, model: &ModelId, version: Version, there: u32, wanted: u32) {
        let mut of_version: Vec<_> = self.there.get(model).into_iter().flatten().copied().collect();
        of_version.retain(|(_, of, state)| *of == version && *state != State::Draining);
        of_version.sort_by_key(|(server, _, state)| (*state, *server));
        for (server, ..) in of_version.into_iter().take((there - wanted) as usize) {
            self.release(server, model, version, Why::Surplus { there, wanted });
        }
    }

    fn let_go(&mut self, model: &ModelId, why: Why, which: impl Fn(Version) -> bool) {
        let there: Vec<_> = self.there.get(model).into_iter().flatten().copied().collect();
        for (server, version, state) in there {
            if state != State::Draining && which(version) {
                self.release(server, model, version, why);
            }
        }
    }

    /// A server that holds one replica goes with it.
    fn release(&mut self, server: &ServerId, model: &ModelId, version: Version, why: Why) {
        let step = match self.inputs.servers.get(server).map(|server| server.room) {
            Some(Room::Many) => {
                Step::Unload { server: server.clone(), replica: Replica { model: model.clone(), version } }
            }
            _ => Step::Drain { server: server.clone() },
        };
        self.push(step, why);
    }

    /// Models that nobody wants any more, and servers that hold nothing any more.
    fn leftovers(&mut self) {
        let unwanted = |model: &ModelId| !self.inputs.wishes.contains_key(model);
        let unrouted: Vec<_> = self.inputs.current.keys().filter(|model| unwanted(model)).cloned().collect();
        let models: Vec<&ModelId> = self.there.keys().copied().filter(|model| unwanted(model)).collect();
        for model in unrouted {
            self.push(Step::Unroute { model }, Why::Unwanted);
        }
        for model in models {
            self.let_go(model, Why::Unwanted, |_| true);
        }
        for (id, server) in &self.inputs.servers {
            if !server.draining && self.seats.is_empty(id) {
                self.push(Step::Drain { server: id.clone() }, Why::Empty);
            }
        }
    }

    fn push(&mut self, step: Step, why: Why) {
        self.steps.push(Planned { step, why });
    }
}

/// Who sits where, with what this plan loads.
struct Seats {
    servers: BTreeMap<ServerId, Server>,
    /// Replicas that are alone in theirs.
    alone: BTreeMap<Replica, u32>,
}

impl Seats {
    fn of(inputs: &Inputs) -> Self {
        let mut alone: BTreeMap<Replica, u32> = BTreeMap::new();
        let live = inputs.servers.values().filter(|server| server.room == Room::One && !server.draining);
        for replica in live.filter_map(|server| server.replicas.keys().next()) {
            *alone.entry(replica.clone()).or_default() += 1;
        }
        Self { servers: inputs.servers.clone(), alone }
    }

    /// Whether a replica gets a server of its own: a new version does where the one before has.
    fn is_alone(&self, replica: &Replica, needs: Needs, inputs: &Inputs) -> bool {
        let before = |of: &Replica| of.model == replica.model && of.version != replica.version;
        let taken: u32 = self.alone.iter().filter(|(of, _)| !before(of)).map(|(_, servers)| servers).sum();
        let needed = needs.pinned || needs.memory > inputs.spread.shared;
        needed || taken < inputs.spread.alone || self.alone.keys().any(before)
    }

    /// A shared server with room for it: the one that holds the fewest.
    fn shared(&self, replica: &Replica, outward: bool) -> Option<ServerId> {
        let fits = |server: &Server| {
            server.room == Room::Many
                && server.outward == outward
                && !server.draining
                && server.namespace == replica.model.namespace
                && server.replicas.len() < SHARING
                && !server.replicas.contains_key(replica)
        };
        let fitting = self.servers.iter().filter(|(_, server)| fits(server));
        fitting.min_by_key(|(id, server)| (server.replicas.len(), *id)).map(|(id, _)| id.clone())
    }

    fn take(&mut self, server: &ServerId, (room, outward): (Room, bool), replica: &Replica) {
        if room == Room::One {
            *self.alone.entry(replica.clone()).or_default() += 1;
        }
        let empty = || Server::empty(replica.model.namespace.clone(), room, outward);
        let taken = self.servers.entry(server.clone()).or_insert_with(empty);
        taken.replicas.insert(replica.clone(), State::Starting);
    }

    fn is_empty(&self, server: &ServerId) -> bool {
        self.servers.get(server).is_none_or(|server| server.replicas.is_empty())
    }
}

#[cfg(test)]
mod tests;
