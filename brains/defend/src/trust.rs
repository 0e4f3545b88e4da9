//! Whether what an agent has learnt is still worth more than its plain rule, in each namespace, by what people say.
//!
//! Each learnt part runs beside its rule as the guard's challenger runs beside the champion (`online::guard`), on paired evidence: when
//! something is done or proposed about a subject, it is frozen what either alone says of it. A person who approves says that it is
//! hostile, one who undoes or rejects that it is not; who said otherwise has lost. Where both said the same nothing is learnt.
//!
//! What was learnt acts as soon as there is enough to compare with, and hands back to its rule on weak evidence: an e-detector that is
//! wrong once in twenty such labels at most, which five undone in a row suffice for. It comes back on strong evidence: wealth of
//! α⁻¹ = 20, more after each time that it handed back (α 6 / (π² k²)), or when a person says so.
//!
//! **Blind spot:** only what was acted on is labelled, and whoever may undo in a namespace can hand its agents back there; that is
//! safe, since rules act on.

use std::collections::HashMap;

use online::evidence::{EDetector, EProcess, spending};
use serde::{Deserialize, Serialize};
use types::{Namespace, defence::AgentName};

/// Agents × namespaces that are judged, at most; of more nothing is learnt.
const PAIRS: usize = 1_024;
/// Labels between two hand-backs of something that is no worse, on average.
const RUN_LENGTH: f64 = 20.0;
/// The probability that something that is no better comes back ever.
const ALPHA: f64 = 0.05;

/// What an agent said of a subject when something was done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Which.
    pub agent: AgentName,
    /// Whether what it learnt, alone, spoke against the subject.
    pub learnt: bool,
    /// Whether its plain rule did, alone.
    pub rule: bool,
}

/// What a label changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The rule acts alone from now on.
    HandedBack,
    /// What was learnt acts again.
    TakenUp,
}

/// How one agent does in one namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Record {
    /// While what was learnt acts: whether it has become worse than the rule.
    detector: EDetector,
    /// While it does not: whether it is better.
    process: EProcess,
    handed_back: bool,
    /// How often it handed back.
    times: u32,
}

/// How every agent does, in every namespace.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    of: HashMap<(Namespace, AgentName), Record>,
}

/// What is kept of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Kept(Vec<(Namespace, AgentName, Record)>);

impl Record {
    fn new() -> Option<Self> {
        let detector = EDetector::new(RUN_LENGTH).ok()?;
        Some(Self { detector, process: EProcess::default(), handed_back: false, times: 0 })
    }

    fn label(&mut self, said: Said, hostile: bool) -> Option<Turn> {
        let lost = |said: bool| f64::from(u8::from(said != hostile));
        let harm = lost(said.learnt) - lost(said.rule);
        if self.handed_back {
            self.process.observe(-harm).ok()?;
            let wanted = 1.0 / spending::retry(ALPHA, self.times);
            return (self.process.log_wealth() >= wanted.ln()).then(|| self.take_up());
        }
        self.detector.observe(harm).ok()?.then(|| {
            (self.handed_back, self.times) = (true, self.times.saturating_add(1));
            self.process = EProcess::default();
            Turn::HandedBack
        })
    }

    fn take_up(&mut self) -> Turn {
        self.handed_back = false;
        self.detector.reset();
        Turn::TakenUp
    }
}

impl Trust {
    /// Goes on with what was kept.
    pub fn resume(Kept(kept): Kept) -> Self {
        Self { of: kept.into_iter().map(|(namespace, agent, record)| ((namespace, agent), record)).collect() }
    }

    /// What is to be kept.
    pub fn keep(&self) -> Kept {
        let of = |((namespace, agent), record): (&(Namespace, AgentName), &Record)| {
            (namespace.clone(), *agent, record.clone())
        };
        Kept(self.of.iter().map(of).collect())
    }

    /// Takes in a person's word on a subject, of whom agents said this; the agents with whom that changes something.
    pub fn label(&mut self, namespace: &Namespace, said: &[Said], hostile: bool) -> Vec<(AgentName, Turn)> {
        let mut turns = Vec::new();
        for said in said.iter().filter(|said| said.learnt != said.rule) {
            let (key, full) = ((namespace.clone(), said.agent), self.of.len() >= PAIRS);
            if !self.of.contains_key(&key) {
                let Some(record) = Record::new().filter(|_| !full) else { continue };
                self.of.insert(key.clone(), record);
            }
            let turn = self.of.get_mut(&key).and_then(|record| record.label(*said, hostile));
            turns.extend(turn.map(|turn| (said.agent, turn)));
        }
        turns
    }

    /// Whether the rule of an agent acts alone in a namespace.
    pub fn is_handed_back(&self, namespace: &Namespace, agent: AgentName) -> bool {
        !self.of.is_empty() && self.of.get(&(namespace.clone(), agent)).is_some_and(|record| record.handed_back)
    }

    /// A person says that what was learnt is to act again; whether it did not.
    pub fn take_up(&mut self, namespace: &Namespace, agent: AgentName) -> bool {
        let record = self.of.get_mut(&(namespace.clone(), agent)).filter(|record| record.handed_back);
        record.map(Record::take_up).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGENT: AgentName = AgentName::Evasion;
    const LEARNT: Said = Said { agent: AGENT, learnt: true, rule: false };
    const RULE: Said = Said { agent: AGENT, learnt: false, rule: true };

    fn bank() -> Namespace {
        "bank".parse().unwrap()
    }

    /// Labels until something changes, at most so many.
    fn until(trust: &mut Trust, most: usize, said: Said, hostile: bool) -> Option<usize> {
        (1..=most).find(|_| !trust.label(&bank(), &[said], hostile).is_empty())
    }

    #[test]
    fn a_handful_of_undone_actions_hand_it_back_and_approved_ones_keep_it() {
        let mut trust = Trust::default();
        let labels = until(&mut trust, 100, LEARNT, false);
        assert!(labels.is_some_and(|labels| (4..=6).contains(&labels)), "{labels:?}");
        assert!(trust.is_handed_back(&bank(), AGENT));
        assert!(!trust.is_handed_back(&"other".parse().unwrap(), AGENT), "elsewhere it is as it was");
        assert!(!trust.is_handed_back(&bank(), AgentName::Caller));

        // Mostly right: it keeps its place.
        let mut trust = Trust::default();
        for label in 0..1_000 {
            trust.label(&bank(), &[LEARNT], label % 4 != 0);
        }
        assert!(!trust.is_handed_back(&bank(), AGENT));
        // So is what its rule says, too: where both said the same nothing is learnt.
        let both = Said { agent: AGENT, learnt: true, rule: true };
        assert_eq!(until(&mut trust, 1_000, both, false), None);
    }

    #[test]
    fn it_comes_back_when_it_is_better_and_each_time_it_takes_more() {
        let mut trust = Trust::default();
        let mut needed = Vec::new();
        for _ in 0..3 {
            until(&mut trust, 100, LEARNT, false).unwrap();
            // It watches, and is right where its rule is wrong.
            needed.push(until(&mut trust, 100, RULE, false).unwrap());
            assert!(!trust.is_handed_back(&bank(), AGENT));
        }
        assert!(needed[0] >= 6 && needed.windows(2).all(|pair| pair[0] < pair[1]), "{needed:?}");
        // What is no better stays where it is.
        until(&mut trust, 100, LEARNT, false).unwrap();
        for label in 0..1_000 {
            trust.label(&bank(), &[RULE], label % 2 == 0);
        }
        assert!(trust.is_handed_back(&bank(), AGENT));
    }

    #[test]
    fn a_person_brings_it_back_and_a_start_goes_on_alike() {
        let mut trust = Trust::default();
        until(&mut trust, 100, LEARNT, false).unwrap();
        let kept = serde_json::to_string(&trust.keep()).unwrap();
        let mut again = Trust::resume(serde_json::from_str(&kept).unwrap());
        assert!(again.is_handed_back(&bank(), AGENT));
        assert_eq!(until(&mut trust, 100, RULE, false), until(&mut again, 100, RULE, false));
        until(&mut again, 100, LEARNT, false).unwrap();
        assert!(again.take_up(&bank(), AGENT) && !again.take_up(&bank(), AGENT));
        assert!(!again.is_handed_back(&bank(), AGENT));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut trust = Trust::default();
        for n in 0..2_000 {
            trust.label(&format!("n{n}").parse().unwrap(), &[LEARNT], true);
        }
        assert_eq!(trust.of.len(), PAIRS);
    }
}
