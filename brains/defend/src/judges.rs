//! What a score is worth in a namespace: how rare it is among the windows of ordinary callers there, as evidence.
//!
//! Scores are calibrated on subjects × windows ([`online::calibrate`]): one score a subject and window, its greatest. All agents of
//! a namespace share one budget α of alarms per subject and window, in equal parts. Below n = 1/α there is no verdict, and what was
//! learnt says nothing; rules do. A rare score is worth e = ½ p^(−½), a calibrator of p-values to e-values (Vovk and Wang 2021);
//! beyond the threshold, where no sample reaches, half of what it is above it: scores are nats, or spreads, which are rarer still.
//!
//! All agents **together** are one more judge, whose scores are the sums of what each caller is believed of ([`crate::belief`]).
//!
//! A namespace with too few callers for a threshold of its own takes, until then, the one of all namespaces together.

use std::collections::HashMap;

use online::{
    Snapshot as _,
    calibrate::{Calibrator, Settings, Verdict},
};
use types::{Namespace, defence::AgentName};

/// Namespaces with thresholds of their own; more share one.
const NAMESPACES: usize = 32;
/// Scores that are kept of each: so many times what a verdict needs, within bounds.
const TIMES: f64 = 2.5;
const SCORES: (f64, f64) = (4_000.0, 20_000.0);
/// The share of them that one caller may have: a namespace may have few callers.
const HELD: f64 = 0.05;

/// What is added to a sum: about nought of ordinary callers, to either side.
const TYPICAL: f64 = 20.0;

/// What is made of a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Worth {
    /// There is too little to compare it with.
    Unknown,
    /// The logarithm of its e-value, and whether it is an alarm by the budget.
    Known(f64, bool),
}

/// Thresholds of every agent and namespace.
#[derive(Debug)]
pub struct Judges {
    /// The budget of one agent.
    alpha: f64,
    by: HashMap<(Option<Namespace>, Option<AgentName>), Calibrator>,
    namespaces: Vec<Namespace>,
}

impl Judges {
    /// With a budget of alarms per subject and window for all agents together.
    pub fn new(budget: f64) -> Self {
        let alpha = (budget / AgentName::ALL.len() as f64).clamp(0.000_01, 0.5);
        Self { alpha, by: HashMap::new(), namespaces: Vec::new() }
    }

    /// What a score is worth.
    pub fn judge(&self, namespace: Option<&Namespace>, agent: AgentName, score: f64) -> Worth {
        self.look(namespace, Some(agent), score)
    }

    /// What the sum of what all agents say of a subject is worth.
    pub fn together(&self, namespace: Option<&Namespace>, sum: f64) -> Worth {
        self.look(namespace, None, positive(sum))
    }

    fn look(&self, namespace: Option<&Namespace>, agent: Option<AgentName>, score: f64) -> Worth {
        let of = |namespace| self.by.get(&(namespace, agent)).and_then(|judge| worth(judge, score));
        let own = of(namespace.cloned());
        let shared = || of(None);
        own.or_else(shared).unwrap_or(Worth::Unknown)
    }

    /// Learns the greatest score of a subject's window that is over. `now` is in seconds.
    pub fn learn(&mut self, namespace: Option<&Namespace>, agent: AgentName, subject: u64, score: f64, now: f64) {
        self.add(namespace, Some(agent), (subject, score), now);
    }

    /// Learns the greatest sum of a subject's windows that are over.
    pub fn learn_together(&mut self, namespace: Option<&Namespace>, subject: u64, sum: f64, now: f64) {
        self.add(namespace, None, (subject, positive(sum)), now);
    }

    fn add(&mut self, namespace: Option<&Namespace>, agent: Option<AgentName>, score: (u64, f64), now: f64) {
        if let Some(namespace) = namespace {
            let known = self.namespaces.contains(namespace);
            if !known && self.namespaces.len() < NAMESPACES {
                self.namespaces.push(namespace.clone());
            }
            if self.namespaces.contains(namespace) {
                self.observe((Some(namespace.clone()), agent), score, now);
            }
        }
        self.observe((None, agent), score, now);
    }

    fn observe(&mut self, key: (Option<Namespace>, Option<AgentName>), (subject, score): (u64, f64), now: f64) {
        let alpha = self.alpha;
        if !self.by.contains_key(&key) {
            let capacity = (TIMES / alpha).clamp(SCORES.0, SCORES.1) as u32;
            let settings = Settings { alpha, capacity, held: HELD, ..Settings::default() };
            let Ok(judge) = Calibrator::new(settings, None) else { return };
            self.by.insert(key.clone(), judge);
        }
        if let Some(judge) = self.by.get_mut(&key) {
            // A clock that goes back, or a score that is no number, teaches nothing.
            let _ = judge.observe(subject, score, now);
        }
    }

    /// Forgets what a subject said, since somebody confirmed that it is hostile.
    pub fn confirm(&mut self, namespace: Option<&Namespace>, subject: u64) {
        for ((of, _), judge) in &mut self.by {
            if of.is_none() || of.as_ref() == namespace {
                judge.confirm(subject);
            }
        }
    }

    /// Every threshold with what it was learnt from, as bytes.
    pub fn save(&self) -> Vec<(Option<Namespace>, Option<AgentName>, Vec<u8>)> {
        self.by.iter().map(|((namespace, agent), judge)| (namespace.clone(), *agent, judge.save())).collect()
    }

    /// Takes up what was saved; not what was learnt for another budget.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn load(&mut self, namespace: Option<Namespace>, agent: Option<AgentName>, bytes: &[u8]) -> online::Result<()> {
        let judge = Calibrator::load(bytes)?;
        if let Some(namespace) = &namespace
            && !self.namespaces.contains(namespace)
        {
            if self.namespaces.len() >= NAMESPACES {
                return Ok(());
            }
            self.namespaces.push(namespace.clone());
        }
        self.by.insert((namespace, agent), judge);
        Ok(())
    }

    /// The threshold of an agent, and for whom it holds: in its namespace, else of all together.
    pub fn threshold(&self, namespace: Option<&Namespace>, agent: AgentName) -> Option<f64> {
        let of = |key: Option<Namespace>| self.by.get(&(key, Some(agent))).and_then(Calibrator::threshold);
        of(namespace.cloned()).or_else(|| of(None))
    }
}

/// A sum as a calibrator wants its scores: at least nought, and in units of what is typical, so that what moves all sums a little
/// moves none of their ranks.
fn positive(sum: f64) -> f64 {
    (sum + TYPICAL).max(0.0)
}

fn worth(judge: &Calibrator, score: f64) -> Option<Worth> {
    let evidence = |p: f64| (0.5 * p.max(1e-9).powf(-0.5)).ln();
    match judge.judge(score).ok()? {
        Verdict::Observe => None,
        Verdict::Ordinary { p } => Some(Worth::Known(evidence(p), false)),
        Verdict::Alarm { p } => {
            let above = judge.threshold().map_or(0.0, |threshold| score - threshold).max(0.0);
            Some(Worth::Known(evidence(p) + above / 2.0, true))
        }
    }
}

#[cfg(test)]
mod tests {
    use online::Random;

    use super::*;

    /// Windows until there is a verdict, of so many callers.
    fn windows(budget: f64, callers: u32) -> Option<u32> {
        let mut judges = Judges::new(budget);
        let (mut random, agent, bank) = (Random::new(1), AgentName::Caller, "bank".parse().unwrap());
        (0..30_000_u32).find(|window| {
            let subject = u64::from(random.below(callers));
            judges.learn(Some(&bank), agent, subject, random.exponential(), f64::from(*window));
            judges.judge(Some(&bank), agent, 1.0) != Worth::Unknown
        })
    }

    #[test]
    fn few_callers_and_small_budgets_get_a_verdict_too() {
        for (budget, callers, needed) in [(0.01, 400, 600), (0.01, 20, 600), (0.01, 5, 600), (0.001, 400, 6_000)] {
            let windows = windows(budget, callers);
            assert!(windows.is_some_and(|windows| (needed..3 * needed).contains(&windows)), "{callers}: {windows:?}");
        }
    }

    #[test]
    fn rare_scores_are_worth_more_and_few_scores_nothing() {
        let mut judges = Judges::new(0.06);
        let (mut random, agent) = (Random::new(1), AgentName::Caller);
        let (bank, other): (Namespace, Namespace) = ("bank".parse().unwrap(), "other".parse().unwrap());
        assert_eq!(judges.judge(Some(&bank), agent, 100.0), Worth::Unknown);
        for window in 0..3_000_u32 {
            let subject = u64::from(random.below(40));
            judges.learn(Some(&bank), agent, subject, random.exponential(), f64::from(window));
        }
        let Worth::Known(low, false) = judges.judge(Some(&bank), agent, 0.5) else { panic!("ordinary") };
        let Worth::Known(high, true) = judges.judge(Some(&bank), agent, 10.0) else { panic!("an alarm") };
        let Worth::Known(higher, true) = judges.judge(Some(&bank), agent, 1_000.0) else { panic!("an alarm") };
        assert!(low < 0.1 && high > 2.0 && higher > 8.0, "{low} {high} {higher}");
        // Who has none of its own takes that of all.
        assert!(matches!(judges.judge(Some(&other), agent, 10.0), Worth::Known(_, true)));
        assert!(judges.threshold(Some(&other), agent) == judges.threshold(None, agent));
        assert_eq!(judges.judge(Some(&bank), AgentName::Evasion, 10.0), Worth::Unknown);
        let mut again = Judges::new(0.06);
        for (namespace, agent, bytes) in judges.save() {
            again.load(namespace, agent, &bytes).unwrap();
        }
        assert_eq!(again.judge(Some(&bank), agent, 10.0), judges.judge(Some(&bank), agent, 10.0));
        assert!(again.load(None, Some(agent), b"nonsense").is_err());
    }
}
