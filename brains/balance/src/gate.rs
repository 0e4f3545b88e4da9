//! Who is let in, who waits, and who is refused at once: limits per model, fairness between namespaces.
//!
//! A request goes on when its model is below its [`Limit`] and the work in flight leaves room on this machine. Else it
//! waits in its namespace's queue, if it can still be answered before its deadline. Room goes to the namespace that
//! has had least of it: start-time fair queueing (Goyal, Vin and Cheng, IEEE/ACM ToN 1997) by predicted cost; inside a
//! namespace the higher priority goes first, then who came first. A queue that is full loses the newest of whoever fills it.
//!
//! Cost is CPU time: rows times the model's mean time per row. O(log n) to enter; O(waiting models) to leave.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use crate::limit::Limit;
pub use crate::limit::Served;

/// Work in flight per core, in seconds: enough to keep it busy, and to make batches of.
pub(crate) const ROOM: f64 = 0.02;
/// A request in flight counts no more than this against the room, so that each core has two however much they cost.
const MOST: f64 = ROOM / 2.0;
/// A namespace with nothing in flight has room for one, until the work in flight is so many times what it should be.
const CROWD: f64 = 4.0;
/// Whose queue is the longest waits only where that takes less than this part of the time there is. A queue that stands
/// right up to the deadline answers no more than a short one, and whatever was estimated wrongly comes too late; a
/// namespace beside it that asks for less than its part has bursts, and no standing queue.
const CAUTION: u32 = 2;
/// Requests that may wait.
const WAITING: usize = 4_096;
/// What a row is supposed to cost before any was seen.
const UNKNOWN: f64 = 0.001;
/// Share of a new reading in the mean.
const FRESH: f64 = 0.1;

/// How a request matters inside its namespace; the first goes first, and waits only behind its like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Before all others.
    High,
    /// As most are.
    #[default]
    Normal,
    /// What can wait.
    Low,
}

/// Something for each priority.
type Lanes<T> = [T; 3];

/// What there is of this priority and those before it.
fn before<T: Copy + std::iter::Sum<T>>(lanes: &Lanes<T>, priority: Priority) -> T {
    lanes.iter().take(priority as usize + 1).copied().sum()
}

/// A request at the gate. `N` names a namespace, `M` a model on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask<N, M> {
    /// Whose it is.
    pub namespace: N,
    /// What it asks for.
    pub model: M,
    /// Its rows.
    pub rows: u64,
    /// How it matters.
    pub priority: Priority,
    /// When it must be answered, on the same clock as `now`.
    pub deadline: Duration,
}

/// A place in flight, or in the queue. Whoever has one gives it back: [`Gate::leave`].
#[derive(Debug, Clone, PartialEq)]
pub struct Ticket<N, M> {
    /// Its number; no two are the same.
    pub id: u64,
    namespace: N,
    model: M,
    cost: f64,
}

impl<N, M> Ticket<N, M> {
    /// What it counts against the room.
    fn weight(&self) -> f64 {
        self.cost.min(MOST)
    }
}

/// What the gate says.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry<N, M> {
    /// Go on.
    Admitted(Ticket<N, M>),
    /// Wait for a [`Verdict`].
    Waiting(Ticket<N, M>),
    /// There is no use in waiting; after so long there may be.
    Shed(Duration),
}

/// What was decided about one that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Admitted,
    /// It can't be answered in time, or its namespace fills the queue; after so long it may.
    Shed(Duration),
}

/// Verdicts on those that waited, by their ticket's number.
pub type Verdicts = Vec<(u64, Verdict)>;

#[derive(Debug, Default)]
struct Model {
    limit: Limit,
    in_flight: u32,
    waiting: Lanes<u32>,
    /// Seconds of CPU per row.
    cost: Option<f64>,
    /// Whether it is forgotten once nobody is left.
    gone: bool,
}

impl Model {
    /// Whether one more may be in flight.
    fn below(&self) -> bool {
        self.in_flight < self.limit.current()
    }

    /// How many wait, whatever their priority.
    fn queued(&self) -> u32 {
        before(&self.waiting, Priority::Low)
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.queued() == 0
    }
}

#[derive(Debug)]
struct Waiting<N, M> {
    ticket: Ticket<N, M>,
    priority: Priority,
    deadline: Duration,
}

#[derive(Debug)]
struct Share<N, M> {
    /// The virtual time up to which it has had its part.
    had: f64,
    in_flight: u32,
    /// In the order they go: by priority, then as they came.
    waiting: VecDeque<Waiting<N, M>>,
    /// What those cost that wait.
    cost: Lanes<f64>,
}

impl<N, M> Share<N, M> {
    fn queued(&self) -> f64 {
        before(&self.cost, Priority::Low)
    }
}

/// The gate of one machine.
#[derive(Debug)]
pub struct Gate<N, M> {
    cores: f64,
    models: BTreeMap<M, Model>,
    shares: BTreeMap<N, Share<N, M>>,
    virtual_time: f64,
    in_flight: f64,
    waiting: usize,
    next: u64,
}

impl<N: Ord + Clone, M: Ord + Clone> Gate<N, M> {
    /// An open one, for a machine with this many cores.
    pub fn new(cores: usize) -> Self {
        Self {
            cores: cores.max(1) as f64,
            models: BTreeMap::new(),
            shares: BTreeMap::new(),
            virtual_time: 0.0,
            in_flight: 0.0,
            waiting: 0,
            next: 0,
        }
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Requests of this model in flight, and those that wait.
    pub fn load(&self, model: &M) -> (u32, u32) {
        self.models.get(model).map_or((0, 0), |model| (model.in_flight, model.queued()))
    }

    /// What is let in of this model at a time, and what is in flight.
    pub fn model(&self, model: &M) -> Option<(u32, u32)> {
        self.models.get(model).map(|model| (model.limit.current(), model.in_flight))
    }

    /// Forgets a model that is gone, once the last of those in flight and waiting has left.
    pub fn forget(&mut self, model: &M) {
        if let Some(known) = self.models.get_mut(model) {
            known.gone = true;
        }
        self.tidy_model(model);
    }

    /// How long a request would wait now; says so before anything of it was read.
    ///
    /// # Errors
    /// When that is too long for its deadline: how long.
    pub fn peek(
        &self,
        namespace: &N,
        model: &M,
        priority: Priority,
        deadline: Duration,
        now: Duration,
    ) -> Result<(), Duration> {
        let Some(known) = self.models.get(model) else { return Ok(()) };
        let row = known.cost.unwrap_or(UNKNOWN).min(MOST);
        if known.below() && known.queued() == 0 && self.in_flight + row <= self.room() + 1e-9 {
            return Ok(());
        }
        let wait = self.wait(namespace, known, priority);
        let caution = if self.is_longest(namespace) { CAUTION } else { 1 };
        if now + wait * caution + known.limit.at_most() > deadline { Err(wait) } else { Ok(()) }
    }

    /// Asks to be let in; others may have to go for it.
    pub fn enter(&mut self, ask: Ask<N, M>, now: Duration) -> (Entry<N, M>, Verdicts) {
        let model = self.models.entry(ask.model.clone()).or_default();
        let cost = ask.rows.max(1) as f64 * model.cost.unwrap_or(UNKNOWN);
        let (below, next) = (model.below(), model.queued() == 0);
        let ticket = Ticket { id: self.next, namespace: ask.namespace, model: ask.model, cost };
        self.next += 1;
        let next = next && !self.crowded() && self.has_room(&ticket);
        if below && (next || self.is_first(&ticket)) {
            self.admit(&ticket);
            return (Entry::Admitted(ticket), Vec::new());
        }
        if let Err(wait) = self.peek(&ticket.namespace, &ticket.model, ask.priority, ask.deadline, now) {
            return (Entry::Shed(wait), Vec::new());
        }
        let mut verdicts = Vec::new();
        if self.waiting >= WAITING {
            let longest = self.shares.iter().max_by_key(|(_, share)| share.waiting.len()).map(|(name, _)| name.clone());
            let Some(longest) = longest.filter(|longest| *longest != ticket.namespace) else {
                let model = self.models.get(&ticket.model);
                let wait = model.map(|model| self.wait(&ticket.namespace, model, ask.priority));
                return (Entry::Shed(wait.unwrap_or_default()), verdicts);
            };
            verdicts.extend(self.take_last(&longest).map(|id| (id, Verdict::Shed(Duration::from_secs(1)))));
        }
        self.queue(Waiting { ticket: ticket.clone(), priority: ask.priority, deadline: ask.deadline });
        (Entry::Waiting(ticket), verdicts)
    }

    /// Gives a place back that was in flight; `served` where there was an answer. Says who goes on.
    pub fn leave(&mut self, ticket: &Ticket<N, M>, served: Option<Served>, now: Duration) -> Verdicts {
        self.in_flight = (self.in_flight - ticket.weight()).max(0.0);
        if let Some(share) = self.shares.get_mut(&ticket.namespace) {
            share.in_flight = share.in_flight.saturating_sub(1);
        }
        if let Some(model) = self.models.get_mut(&ticket.model) {
            if let Some(served) = served {
                model.limit.observe(served, model.in_flight, now);
                let row = (served.cost.as_secs_f64() / served.batch.max(1) as f64).max(1e-6);
                model.cost = Some(model.cost.map_or(row, |mean| mean + FRESH * (row - mean)));
            }
            model.in_flight = model.in_flight.saturating_sub(1);
        }
        let verdicts = self.pump(now);
        self.tidy(&ticket.namespace);
        self.tidy_model(&ticket.model);
        verdicts
    }

    /// Gives a place in the queue back; says who goes on.
    pub fn cancel(&mut self, ticket: &Ticket<N, M>, now: Duration) -> Verdicts {
        let Some(share) = self.shares.get_mut(&ticket.namespace) else { return Vec::new() };
        let place = share.waiting.iter().position(|waiting| waiting.ticket.id == ticket.id);
        if let Some(place) = place {
            self.take(&ticket.namespace.clone(), place);
        }
        let verdicts = self.pump(now);
        self.tidy(&ticket.namespace);
        self.tidy_model(&ticket.model);
        verdicts
    }

    fn room(&self) -> f64 {
        self.cores * ROOM
    }

    /// Whether one more may be in flight.
    fn has_room(&self, ticket: &Ticket<N, M>) -> bool {
        self.in_flight + ticket.weight() <= self.room() + 1e-9 || self.is_first(ticket)
    }

    /// Whether its namespace has nothing in flight, and there are not too many of those.
    fn is_first(&self, ticket: &Ticket<N, M>) -> bool {
        let nothing = self.shares.get(&ticket.namespace).is_none_or(|share| share.in_flight == 0);
        nothing && self.in_flight < CROWD * self.room()
    }

    /// Whether somebody waits whose model would let it in: then it waits for room, and comes first.
    fn crowded(&self) -> bool {
        self.waiting > 0
            && self.shares.values().flat_map(|share| &share.waiting).any(|waiting| self.below(&waiting.ticket.model))
    }

    fn below(&self, model: &M) -> bool {
        self.models.get(model).is_none_or(Model::below)
    }

    /// How long a request of this namespace for this model would wait: behind its model's queue by Little's law, behind its
    /// namespace's by its share of the cores.
    fn wait(&self, namespace: &N, model: &Model, priority: Priority) -> Duration {
        let ahead = f64::from(before(&model.waiting, priority)) / f64::from(model.limit.current().max(1));
        let behind_model = (ahead + 1.0) * model.limit.latency().as_secs_f64();
        let own = self.shares.get(namespace).map_or(0.0, |share| before(&share.cost, priority));
        let active = self.shares.values().filter(|share| !share.waiting.is_empty()).count().max(1);
        let behind_namespace = own * active as f64 / self.cores;
        let wait = if model.below() { 0.0 } else { behind_model };
        Duration::from_secs_f64(wait.max(behind_namespace).clamp(0.0, 3_600.0))
    }

    fn is_longest(&self, namespace: &N) -> bool {
        let own = self.shares.get(namespace).map_or(0.0, Share::queued);
        self.shares.values().all(|share| share.queued() <= own)
    }

    fn share(&mut self, namespace: &N) -> &mut Share<N, M> {
        let virtual_time = self.virtual_time;
        let new = || Share { had: virtual_time, in_flight: 0, waiting: VecDeque::new(), cost: [0.0; 3] };
        self.shares.entry(namespace.clone()).or_insert_with(new)
    }

    fn admit(&mut self, ticket: &Ticket<N, M>) {
        let virtual_time = self.virtual_time;
        let share = self.share(&ticket.namespace);
        let start = share.had.max(virtual_time);
        share.had = start + ticket.cost;
        share.in_flight += 1;
        self.virtual_time = start;
        self.in_flight += ticket.weight();
        if let Some(model) = self.models.get_mut(&ticket.model) {
            model.in_flight += 1;
        }
    }

    fn queue(&mut self, waiting: Waiting<N, M>) {
        self.waiting += 1;
        if let Some(model) = self.models.get_mut(&waiting.ticket.model) {
            model.waiting[waiting.priority as usize] += 1;
        }
        let share = self.share(&waiting.ticket.namespace.clone());
        share.cost[waiting.priority as usize] += waiting.ticket.cost;
        let place = share.waiting.partition_point(|other| other.priority <= waiting.priority);
        share.waiting.insert(place, waiting);
    }

    fn take(&mut self, namespace: &N, place: usize) -> Option<Waiting<N, M>> {
        let share = self.shares.get_mut(namespace)?;
        let waiting = share.waiting.remove(place)?;
        let lane = waiting.priority as usize;
        share.cost[lane] -= waiting.ticket.cost;
        if share.waiting.iter().all(|other| other.priority != waiting.priority) {
            // What additions and subtractions left over.
            share.cost[lane] = 0.0;
        }
        self.waiting -= 1;
        if let Some(model) = self.models.get_mut(&waiting.ticket.model) {
            model.waiting[lane] = model.waiting[lane].saturating_sub(1);
        }
        Some(waiting)
    }

    fn take_last(&mut self, namespace: &N) -> Option<u64> {
        let last = self.shares.get(namespace)?.waiting.len().checked_sub(1)?;
        self.take(namespace, last).map(|waiting| waiting.ticket.id)
    }

    /// Lets in whoever can go now, and refuses whoever can't make it any more.
    fn pump(&mut self, now: Duration) -> Verdicts {
        let mut verdicts = Vec::new();
        while self.waiting > 0 {
            let first =
                |share: &Share<N, M>| share.waiting.iter().position(|waiting| self.below(&waiting.ticket.model));
            let ready = self.shares.iter().filter_map(|(name, share)| Some((share.had, name, first(share)?)));
            let Some((_, name, place)) = ready.min_by(|a, b| a.0.total_cmp(&b.0)) else { break };
            let name = name.clone();
            let waiting = self.shares.get(&name).and_then(|share| share.waiting.get(place));
            let Some(Waiting { ticket, deadline, .. }) = waiting else { break };
            let latency = self.models.get(&ticket.model).map_or(Duration::ZERO, |model| model.limit.at_most());
            let late = now + latency > *deadline;
            if !late && !self.has_room(ticket) {
                break;
            }
            let Some(waiting) = self.take(&name, place) else { break };
            if late {
                verdicts.push((waiting.ticket.id, Verdict::Shed(latency)));
            } else {
                self.admit(&waiting.ticket);
                verdicts.push((waiting.ticket.id, Verdict::Admitted));
            }
        }
        verdicts
    }

    fn tidy_model(&mut self, model: &M) {
        if self.models.get(model).is_some_and(|known| known.gone && known.is_idle()) {
            self.models.remove(model);
        }
    }

    /// Forgets a namespace that has nothing here and no debt.
    fn tidy(&mut self, namespace: &N) {
        let virtual_time = self.virtual_time;
        let idle = |share: &Share<N, M>| share.in_flight == 0 && share.waiting.is_empty() && share.had <= virtual_time;
        if self.shares.get(namespace).is_some_and(idle) {
            self.shares.remove(namespace);
        }
        // Debts end as time goes on; there are never more of them than callers at a time.
        if self.shares.len() > 1_024 {
            self.shares.retain(|_, share| !idle(share));
        }
        if self.in_flight <= 1e-9 && self.waiting == 0 {
            self.shares.retain(|_, share| share.in_flight > 0);
        }
    }
}

#[cfg(test)]
mod tests;
