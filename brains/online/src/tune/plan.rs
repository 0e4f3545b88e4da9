//! What is done next, and what a report changes: the rules of successive halving.

use super::{
    Failure, Job, Next, Tuner, Verdict,
    entry::{Entry, State},
    score::Score,
    space::{Candidate, Tunable},
};
use crate::{Error, Result};

/// Draws until one is found that was not tried: then the space is as good as used up.
const DRAWS: usize = 32;
/// Blocks that two must share before one may be stopped: bounds of fewer are wide.
const FEWEST: u64 = 100;

impl<S: Tunable> Tuner<S> {
    pub(super) fn plan(&mut self) -> Result<Next<S>> {
        let job = if self.has_budget() { self.work()? } else { None };
        Ok(match job {
            Some(job) => Next::Work(job),
            None if self.out().next().is_some() => Next::Wait,
            None => Next::Finished,
        })
    }

    fn has_budget(&self) -> bool {
        self.settings.budget.is_none_or(|budget| self.spent.examples < budget)
    }

    /// A job, if there is any to give out now. Each round begins one, or brings one candidate further.
    fn work(&mut self) -> Result<Option<Job<S>>> {
        loop {
            match self.ready() {
                Some(number) => match self.begin(number) {
                    Some(job) => return Ok(Some(job)),
                    None => continue,
                },
                None if self.draw()? || self.promote() || self.end() => continue,
                None => return Ok(None),
            }
        }
    }

    /// The candidate at the lowest rung that may begin, unless its twin is at it: then there is nothing to do but to wait.
    fn ready(&self) -> Option<usize> {
        let ready = self.entries.iter().enumerate().filter(|(_, entry)| entry.state == State::Ready);
        let free = ready.filter(|(_, entry)| {
            let at = |other: &&Entry<S>| other.job().is_some() && other.rung == entry.rung;
            !self.entries.iter().filter(at).any(|other| entry.is_twin(other, &self.rungs, entry.rung))
        });
        free.min_by_key(|(_, entry)| entry.rung).map(|(number, _)| number)
    }

    /// Gives a job out; nothing where a twin has done it already, whose score it gets.
    fn begin(&mut self, number: usize) -> Option<Job<S>> {
        let entry = self.entries.get(number)?;
        let (rung, window) = (entry.rung, entry.candidate.window);
        let mut twins = self.entries.iter().filter(|other| other.is_twin(entry, &self.rungs, rung));
        if let Some(score) = twins.find_map(|twin| twin.scores.get(rung).filter(|score| score.is_whole())).cloned() {
            let entry = self.entries.get_mut(number)?;
            entry.scores.push(score);
            self.settle(number);
            return None;
        }
        let begin = self.rungs.begin(rung, window);
        let before = rung.checked_sub(1).map(|below| (begin, self.rungs.end(below)));
        let goes_on = |other: &Entry<S>| {
            before.is_some()
                && other.left == before
                && other.job().is_none()
                && other.candidate.spec == entry.candidate.spec
        };
        let own = Some(number).filter(|_| goes_on(entry));
        let warm = own.or_else(|| self.entries.iter().position(goes_on));
        let from = if warm.is_some() { before.map_or(begin, |(_, end)| end) } else { begin };
        let (to, scored) = (self.rungs.end(rung), self.rungs.scored(rung));
        let job = Job { id: self.jobs, number, candidate: entry.candidate.clone(), warm, from, to, scored };
        let entry = self.entries.get_mut(number)?;
        entry.scores.push(Score::new(to - scored));
        entry.state = State::Out { job: self.jobs, warm: warm.map(|warm| warm as u32), reached: from };
        // Whoever would copy the model from now on gets another.
        entry.left = None;
        self.jobs += 1;
        Some(job)
    }

    /// Draws a candidate that was not tried; false where there is none, or where there are enough.
    fn draw(&mut self) -> Result<bool> {
        while self.entries.len() < self.settings.candidates {
            let Some(kind) = self.kind() else { return Ok(false) };
            let Some(candidate) = self.of_kind(kind)? else { continue };
            self.entries.push(Entry::new(candidate, Some(kind as u32)));
            return Ok(true);
        }
        Ok(false)
    }

    /// A kind of which there are some left, by Thompson sampling.
    fn kind(&mut self) -> Option<usize> {
        let left = |pool: &Option<Vec<u32>>| pool.as_ref().is_none_or(|pool| !pool.is_empty());
        for _ in 0..DRAWS {
            let kind = self.kinds.choose();
            if self.pools.get(kind).is_some_and(left) {
                return Some(kind);
            }
        }
        self.pools.iter().position(left)
    }

    /// A candidate of a kind that was not tried. Nothing where the one drawn was; a kind of ranges that gives nothing new is
    /// used up.
    fn of_kind(&mut self, kind: usize) -> Result<Option<Candidate<S>>> {
        let tried =
            |entries: &[Entry<S>], candidate: &Candidate<S>| entries.iter().any(|entry| entry.candidate == *candidate);
        let Some(pool) = self.pools.get_mut(kind) else { return Ok(None) };
        if let Some(pool) = pool {
            let place = self.random.below(pool.len() as u32) as usize;
            if place >= pool.len() {
                return Ok(None);
            }
            let candidate = self.space.numbered(kind, pool.swap_remove(place) as usize)?;
            return Ok(Some(candidate).filter(|candidate| !tried(&self.entries, candidate)));
        }
        for _ in 0..DRAWS {
            let candidate = self.space.drawn(kind, &mut self.random)?;
            if !tried(&self.entries, &candidate) {
                return Ok(Some(candidate));
            }
        }
        *pool = Some(Vec::new());
        Ok(None)
    }

    /// Lets one go on to the next rung, from the lowest rung where one may; false where none may.
    fn promote(&mut self) -> bool {
        for rung in 0..self.rungs.top() {
            if let Some(number) = self.champion_of(rung).or_else(|| self.chosen(rung))
                && let Some(entry) = self.entries.get_mut(number)
            {
                entry.promote();
                return true;
            }
        }
        false
    }

    /// The champion, where it waits at a rung from which somebody went on.
    fn champion_of(&self, rung: usize) -> Option<usize> {
        let champion = self.entries.first().filter(|_| self.has_champion)?;
        let gone = self.entries.iter().any(|entry| entry.rung > rung);
        (gone && self.waits(champion, rung)).then_some(0)
    }

    /// Whoever may go on from a rung: of the best, not counting twins, who gains most per cost.
    fn chosen(&self, rung: usize) -> Option<usize> {
        let mut order: Vec<(usize, &Entry<S>)> = self.scored(rung).collect();
        order.sort_by(|(_, a), (_, b)| a.loss(rung).total_cmp(&b.loss(rung)));
        let middle = order.get(order.len() / 2).map_or(1.0, |(_, entry)| entry.loss(rung));
        let mut groups: Vec<Vec<(usize, &Entry<S>)>> = Vec::new();
        for (number, entry) in order {
            let twins =
                groups.iter_mut().find(|group| group.iter().any(|(_, twin)| entry.is_twin(twin, &self.rungs, rung)));
            match twins {
                Some(group) => group.push((number, entry)),
                None => groups.push(vec![(number, entry)]),
            }
        }
        let places = (groups.len() as f64 * self.rungs.share(rung, &self.settings)).floor() as usize;
        let worth = |entry: &Entry<S>| {
            let examples = self.rungs.end(rung + 1) - self.rungs.end(rung);
            (middle - entry.loss(rung)) / (entry.dear().max(1e-9) * examples as f64)
        };
        let may = groups.iter().take(places).flatten().filter(|(_, entry)| self.waits(entry, rung));
        may.max_by(|(_, a), (_, b)| worth(a).total_cmp(&worth(b))).map(|(number, _)| *number)
    }

    /// Whether it is scored at a rung, and goes no further by itself.
    fn waits(&self, entry: &Entry<S>, rung: usize) -> bool {
        entry.rung == rung && entry.state == State::Scored
    }

    /// When nothing else is to be done and nobody is at work: lets the best of those that got furthest go on, until there are
    /// as many finalists as there should be.
    fn end(&mut self) -> bool {
        let top = self.rungs.top();
        let known = usize::from(self.has_champion);
        let finalists = self.scored(top).filter(|(number, _)| *number >= known).count();
        if self.out().next().is_some() || finalists >= self.settings.finalists {
            return false;
        }
        let number = (0..top).rev().find_map(|rung| {
            let waiting = self.scored(rung).filter(|(_, entry)| self.waits(entry, rung));
            waiting.min_by(|(_, a), (_, b)| a.loss(rung).total_cmp(&b.loss(rung))).map(|(number, _)| number)
        });
        let Some(entry) = number.and_then(|number| self.entries.get_mut(number)) else { return false };
        entry.promote();
        true
    }

    /// Takes losses and costs in, which were checked, unless there are too many.
    pub(super) fn take(&mut self, number: usize, losses: &[f64], cost: f64) -> Result<Verdict> {
        let missing = || Error::Unknown(format!("candidate {number}"));
        let entry = self.entries.get_mut(number).ok_or_else(missing)?;
        let State::Out { job, warm, reached } = entry.state else { return Err(missing()) };
        let (end, scored) = (self.rungs.end(entry.rung), self.rungs.scored(entry.rung));
        let left = end.saturating_sub(reached);
        if losses.len() as u64 > left {
            return Err(Error::Width { wanted: left as usize, found: losses.len() });
        }
        let counted = losses.get(scored.saturating_sub(reached) as usize..).unwrap_or_default();
        if let Some(score) = entry.scores.last_mut() {
            counted.iter().for_each(|loss| score.add(*loss));
        }
        let count = losses.len() as u64;
        entry.examples = entry.examples.saturating_add(count);
        entry.cost += cost;
        entry.state = State::Out { job, warm, reached: reached + count };
        self.spent.examples = self.spent.examples.saturating_add(count);
        self.spent.cost += cost;
        if count == left {
            entry.left = Some((self.rungs.begin(entry.rung, entry.candidate.window), end));
            return Ok(if self.settle(number) { Verdict::Stopped } else { Verdict::Done });
        }
        if self.is_beaten(number) {
            self.stop(number);
            return Ok(Verdict::Stopped);
        }
        Ok(Verdict::GoOn)
    }

    /// A candidate is scored at its rung: its kind is rewarded at the first, and whoever is worse than the leader now is
    /// stopped. Says whether it is itself.
    fn settle(&mut self, number: usize) -> bool {
        let Some(entry) = self.entries.get_mut(number) else { return false };
        entry.state = State::Scored;
        let rung = entry.rung;
        if rung == 0 {
            self.reward(number);
        }
        let waiting: Vec<usize> =
            self.scored(rung).filter(|(_, entry)| self.waits(entry, rung)).map(|(number, _)| number).collect();
        for waiting in waiting {
            if self.is_beaten(waiting) {
                self.stop(waiting);
            }
        }
        self.entries.get(number).is_some_and(|entry| entry.state == State::Stopped)
    }

    fn stop(&mut self, number: usize) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        let early = entry.state != State::Scored;
        entry.state = State::Stopped;
        entry.left = None;
        if early && entry.rung == 0 {
            self.reward(number);
        }
    }

    /// Whether a candidate's losses at its rung lie above the leader's on the same examples: the one that lost least of those
    /// that are through.
    fn is_beaten(&self, number: usize) -> bool {
        let Some(entry) = self.entries.get(number) else { return false };
        let others = self.scored(entry.rung).filter(|(other, _)| *other != number);
        let leader = others.min_by(|(_, a), (_, b)| a.loss(entry.rung).total_cmp(&b.loss(entry.rung)));
        let scores =
            leader.and_then(|(_, leader)| Some((entry.scores.get(entry.rung)?, leader.scores.get(entry.rung)?)));
        let Some((own, leader)) = scores else { return false };
        if own.blocks() < FEWEST {
            return false;
        }
        let alpha = self.settings.alpha / self.settings.candidates as f64;
        own.against(leader, alpha).is_ok_and(|interval| interval.mean() > 0.0 && interval.bounds().0 > 0.0)
    }

    /// Rewards a kind by the share of others that its candidate is better than at the first rung, less what it is dearer.
    fn reward(&mut self, number: usize) {
        let Some(entry) = self.entries.get(number) else { return };
        let Some(kind) = entry.kind else { return };
        let others = || self.entries.iter().filter(|other| !other.scores.is_empty() && other.job().is_none());
        let all = others().count().max(1) as f64;
        let worse = others().filter(|other| other.loss(0) > entry.loss(0)).count() as f64;
        let cheapest = others().map(Entry::dear).filter(|cost| *cost > 0.0).fold(f64::INFINITY, f64::min);
        let dearer = if entry.dear() > 0.0 { (cheapest / entry.dear()).min(1.0) } else { 1.0 };
        let reward = ((worse + 0.5) / all).min(1.0) * dearer.powf(self.settings.thrift);
        // A reward from 0 to 1 of a kind that is there is always taken.
        let _ = self.kinds.reward(kind as usize, reward.clamp(0.0, 1.0));
    }

    pub(super) fn lose(&mut self, number: usize, failure: Failure) {
        let Some(entry) = self.entries.get_mut(number) else { return };
        let State::Out { warm, .. } = entry.state else { return };
        entry.restart();
        if failure == Failure::Broken {
            entry.state = State::Broken;
        }
        // The model that should have gone on is not there, whoever's it was.
        if let Some(source) = warm.and_then(|warm| self.entries.get_mut(warm as usize)) {
            source.left = None;
        }
    }
}
