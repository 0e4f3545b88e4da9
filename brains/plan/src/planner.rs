//! The planner: what is missing is started, what is ready is routed, what is left over is drained.
//!
//! For each model: the wanted version gets its replicas; once one is ready it answers; only then is the version
//! before drained. While the wanted version is not ready, the answering one keeps its own replicas, restarts
//! included: a version that can't be loaded never takes the last one down.

use types::{Digest, Timestamp, Version};

use crate::{Inputs, ModelId, Plan, Report, Server, ServerId, State, Step, WaitingOn, Wish};

/// Plans from what is wanted and what is there; `name` gives ids for new model servers.
///
/// Takes O(models + servers · log servers).
pub fn plan(inputs: &Inputs, parent: u64, now: Timestamp, name: &mut dyn FnMut() -> ServerId) -> (Plan, Report) {
    let mut planner = Planner { inputs, now, name, steps: Vec::new(), report: Report::default() };
    for (model, wish) in &inputs.wishes {
        planner.model(model, wish);
    }
    planner.leftovers();
    let Planner { steps, report, .. } = planner;
    (Plan { generation: parent + 1, parent, steps }, report)
}

struct Planner<'a> {
    inputs: &'a Inputs,
    now: Timestamp,
    name: &'a mut dyn FnMut() -> ServerId,
    steps: Vec<Step>,
    report: Report,
}

impl Planner<'_> {
    fn model(&mut self, model: &ModelId, wish: &Wish) {
        let ready = self.count(model, wish.version, State::Ready);
        let current = self.inputs.current.get(model).copied();
        self.keep_up(model, wish.version, wish.digest, wish.replicas, true);
        if ready == 0 && wish.replicas > 0 {
            // Whoever answers now keeps answering.
            if let Some((version, digest)) = current.filter(|(version, _)| *version != wish.version) {
                self.keep_up(model, version, digest, wish.replicas, false);
                self.drain(|server| server.version != version && server.version != wish.version, model);
                return;
            }
        }
        if current.map(|(version, _)| version) != Some(wish.version) && (ready > 0 || current.is_none()) {
            self.steps.push(Step::Route { model: model.clone(), version: wish.version, digest: wish.digest });
        }
        self.drain(|server| server.version != wish.version, model);
    }

    /// Starts what is missing of a version and drains what is too much.
    fn keep_up(&mut self, model: &ModelId, version: Version, digest: Digest, replicas: u32, report: bool) {
        let (ready, starting) = (self.count(model, version, State::Ready), self.count(model, version, State::Starting));
        let there = ready + starting;
        if there > replicas {
            self.drain_surplus(model, version, there - replicas);
            return;
        }
        let waiting = self.blocked(model, version);
        let blocked = waiting.is_some();
        let waiting = waiting.or_else(|| (starting > 0).then_some(WaitingOn::Starting(starting)));
        if let Some(waiting) = waiting
            && ready < replicas
            && report
        {
            self.report.waiting.insert(model.clone(), waiting);
        }
        if blocked || there == replicas {
            return;
        }
        for _ in there..replicas {
            let server = (self.name)();
            self.steps.push(Step::Start { server, model: model.clone(), version, digest });
        }
        if report {
            self.report.waiting.insert(model.clone(), WaitingOn::Starting(replicas - ready));
        }
    }

    fn blocked(&mut self, model: &ModelId, version: Version) -> Option<WaitingOn> {
        let trouble = self.inputs.trouble.get(&(model.clone(), version))?;
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
        let fits = |server: &&Server| server.model == *model && server.version == version && server.state == state;
        u32::try_from(self.inputs.servers.values().filter(fits).count()).unwrap_or(u32::MAX)
    }

    /// Those that are not ready yet go first.
    fn drain_surplus(&mut self, model: &ModelId, version: Version, surplus: u32) {
        let mut of_version: Vec<(bool, &ServerId)> = self
            .inputs
            .servers
            .iter()
            .filter(|(_, s)| s.model == *model && s.version == version && s.state != State::Draining)
            .map(|(id, s)| (s.state == State::Ready, id))
            .collect();
        of_version.sort();
        let drained = of_version.into_iter().take(surplus as usize);
        self.steps.extend(drained.map(|(_, id)| Step::Drain { server: id.clone() }));
    }

    fn drain(&mut self, which: impl Fn(&Server) -> bool, model: &ModelId) {
        let drained = self
            .inputs
            .servers
            .iter()
            .filter(|(_, server)| server.model == *model && server.state != State::Draining && which(server))
            .map(|(id, _)| Step::Drain { server: id.clone() });
        self.steps.extend(drained);
    }

    /// Models that nobody wants any more.
    fn leftovers(&mut self) {
        for model in self.inputs.current.keys().filter(|model| !self.inputs.wishes.contains_key(*model)) {
            self.steps.push(Step::Unroute { model: model.clone() });
        }
        let unwanted =
            self.inputs.servers.iter().filter(|(_, server)| {
                server.state != State::Draining && !self.inputs.wishes.contains_key(&server.model)
            });
        self.steps.extend(unwanted.map(|(id, _)| Step::Drain { server: id.clone() }));
    }
}

#[cfg(test)]
mod tests;
