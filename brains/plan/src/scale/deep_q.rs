//! A network that learns by how much more, or less, than forecast and queueing is worth it.

use std::{collections::VecDeque, sync::Arc};

use online::Random;

use super::{
    Ahead, Scaler, Seen, Terms,
    network::{Adam, Network, Trace},
};

/// Seconds between decisions.
const EVERY: u64 = 15;
/// What may be added to what the rule wants, in tenths of it, and one at least.
const OFFSETS: [f64; 5] = [-1.0, 0.0, 1.0, 2.0, 4.0];
/// What a second in which requests are late costs, in replica-seconds for each that the load needs.
const LATE: f64 = 20.0;
/// How much what comes later counts, and how often the target network is renewed.
const DISCOUNT: f32 = 0.99;
const RENEW: u64 = 1_000;
/// Decisions that are remembered, and how many are learnt from at a time.
const REMEMBERED: usize = 50_000;
const BATCH: u32 = 32;
const RATE: f32 = 0.0005;
/// Units of a hidden layer.
const UNITS: usize = 64;
/// Numbers of a state.
const STATE: usize = 11;

type State = [f32; STATE];

/// Deep Q-learning (Mnih et al., Nature 2015), as double DQN (van Hasselt et al., AAAI 2016): each 15 s, an offset to what [`Ahead`] wants, by a network of two layers of 64
/// units that was taught on synthetic loads ([`Tutor`]). It is **shielded**: never fewer than the queueing floor R + √R, and never fewer than what waits
/// right now needs. A decision costs some 10 µs.
#[derive(Debug, Clone)]
pub struct DeepQ {
    terms: Terms,
    network: Arc<Network>,
    ahead: Ahead,
    wanted: Option<u32>,
    trace: Trace,
    /// The last minute's requests a second, newest last.
    recent: VecDeque<f64>,
    /// What this decision has cost so far, what it was, and how often something else is tried.
    open: Option<(State, usize, f64)>,
    curious: Option<(f64, Random)>,
    done: Vec<Step>,
}

/// A decision, what it cost, and what came of it.
#[derive(Debug, Clone)]
struct Step {
    state: State,
    action: usize,
    reward: f32,
    next: State,
}

impl DeepQ {
    /// One that does what a network says.
    ///
    /// # Errors
    /// As [`Ahead::new`].
    pub fn new(terms: Terms, network: Arc<Network>) -> online::Result<Self> {
        Ok(Self {
            terms,
            network,
            ahead: Ahead::new(terms)?,
            wanted: None,
            trace: Trace::default(),
            recent: VecDeque::new(),
            open: None,
            curious: None,
            done: Vec::new(),
        })
    }

    fn state(&self, at: u64, seen: &Seen, rule: f64) -> State {
        let scale = rule.max(1.0);
        let mean = |from: usize| {
            let values = self.recent.iter().skip(from);
            let count = self.recent.len().saturating_sub(from).max(1);
            values.sum::<f64>() / count as f64 * seen.service / f64::from(self.terms.lanes.max(1))
        };
        let (minute, now) = (mean(0), mean(self.recent.len().saturating_sub(15)));
        let waiting = (seen.in_flight - f64::from(seen.ready * self.terms.lanes)).max(0.0) * seen.service;
        let day = std::f64::consts::TAU * at as f64 / 86_400.0;
        [
            now / scale,
            minute / scale,
            (now - minute) / scale,
            f64::from(seen.ready) / scale,
            f64::from(seen.starting) / scale,
            (waiting / scale).min(10.0),
            f64::from(self.wanted.unwrap_or(0)) / scale,
            scale.ln() / 5.0,
            self.terms.cold / 60.0,
            day.sin(),
            day.cos(),
        ]
        .map(|value| value as f32)
    }

    fn choose(&mut self, state: &State) -> usize {
        if let Some((share, random)) = &mut self.curious
            && random.uniform() < *share
        {
            return random.below(OFFSETS.len() as u32) as usize;
        }
        best(self.network.run(state, &mut self.trace))
    }
}

fn best(values: &[f32]) -> usize {
    values.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(1, |(place, _)| place)
}

impl Scaler for DeepQ {
    fn second(&mut self, at: u64, seen: &Seen) -> u32 {
        if seen.requests.is_finite() {
            self.recent.push_back(seen.requests);
            if self.recent.len() > 60 {
                self.recent.pop_front();
            }
        }
        let rule = f64::from(self.ahead.second(at, seen));
        let lanes = f64::from(self.terms.lanes.max(1));
        let load = (self.recent.iter().sum::<f64>() / self.recent.len().max(1) as f64 * seen.service / lanes).max(0.0);
        if let Some((_, _, cost)) = &mut self.open {
            let waiting = (seen.in_flight - f64::from(seen.ready) * lanes).max(0.0);
            let late = waiting * seen.service > (self.terms.slo - seen.service) * f64::from(seen.ready.max(1)) * lanes;
            *cost += (f64::from(seen.there()) / load.max(1.0) + if late { LATE } else { 0.0 }) / EVERY as f64;
        }
        if self.wanted.is_none() || at.is_multiple_of(EVERY) {
            let state = self.state(at, seen, rule);
            if let Some((before, action, cost)) = self.open.take()
                && self.curious.is_some()
            {
                self.done.push(Step { state: before, action, reward: -cost as f32, next: state });
            }
            let action = self.choose(&state);
            let offset = OFFSETS.get(action).copied().unwrap_or(0.0) * (rule / 10.0).max(1.0);
            let shield = (load + load.sqrt()).ceil();
            self.wanted = Some(self.terms.bounded((rule + offset).round().max(shield)));
            self.open = Some((state, action, 0.0));
        }
        // What waits right now is never held back.
        let wanted = self.wanted.unwrap_or(1);
        let urgent = if self.ahead.is_urgent() { self.terms.bounded(rule) } else { 0 };
        self.wanted = Some(wanted.max(urgent));
        wanted.max(urgent)
    }
}

/// Teaches a network on loads that somebody plays.
#[derive(Debug)]
pub struct Tutor {
    network: Network,
    target: Network,
    adam: Adam,
    steps: VecDeque<Step>,
    learnt: u64,
    random: Random,
    traces: [Trace; 2],
}

impl Tutor {
    /// One that knows nothing.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut network = Network::new(&[STATE, UNITS, UNITS, OFFSETS.len()], &mut random);
        network.calm();
        let (target, adam) = (network.clone(), Adam::new(&network, RATE));
        Self { network, target, adam, steps: VecDeque::new(), learnt: 0, random, traces: Default::default() }
    }

    /// Who plays the next load, trying something else in this share of its decisions.
    ///
    /// # Errors
    /// As [`Ahead::new`].
    pub fn pupil(&mut self, terms: Terms, curious: f64) -> online::Result<DeepQ> {
        let curious = Some((curious, self.random.fork()));
        Ok(DeepQ { curious, ..DeepQ::new(terms, Arc::new(self.network.clone()))? })
    }

    /// Takes in what came of its decisions, and learns once for each.
    pub fn learn(&mut self, pupil: DeepQ) {
        let count = pupil.done.len();
        for step in pupil.done {
            if self.steps.len() >= REMEMBERED {
                self.steps.pop_front();
            }
            self.steps.push_back(step);
        }
        if self.steps.len() >= 10 * BATCH as usize {
            (0..count).for_each(|_| self.batch());
        }
    }

    fn batch(&mut self) {
        for _ in 0..BATCH {
            let place = self.random.below(self.steps.len() as u32) as usize;
            let Some(Step { state, action, reward, next }) = self.steps.get(place).cloned() else { continue };
            let [one, other] = &mut self.traces;
            // The network chooses, and the target says what that is worth.
            let chosen = best(self.network.run(&next, one));
            let later = self.target.run(&next, other).get(chosen).copied().unwrap_or(0.0);
            let said = self.network.run(&state, one).get(action).copied().unwrap_or(0.0);
            let error = (said - (reward + DISCOUNT * later)).clamp(-5.0, 5.0);
            let mut errors = [0.0; OFFSETS.len()];
            if let Some(slot) = errors.get_mut(action) {
                *slot = error;
            }
            self.adam.add(&self.network, one, &errors);
        }
        self.adam.step(&mut self.network, BATCH as f32);
        self.learnt += 1;
        if self.learnt.is_multiple_of(RENEW) {
            self.target = self.network.clone();
        }
    }

    /// What was learnt.
    pub fn network(self) -> Arc<Network> {
        Arc::new(self.network)
    }
}
