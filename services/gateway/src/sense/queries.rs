//! What rows and answers give away, model by model: the detectors of extraction and evasion, with what bounds their cost.
//!
//! So many rows are looked at in a round, and so many of one caller, that looking takes some percent of a core at most; of more,
//! the first ones are. So many models have a detector, and the one that was asked longest ago gives its own up.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
};

use defend::queries::{Queries, Rule, Seen, Settings};
use rpc::orchestrator::ModelKey;
use types::{
    Timestamp,
    defence::{AgentName, Reading, Subject},
};

use super::rows::{Answers, Room, Rows};
use crate::ring::Model;

/// Models with a detector: some 5 MB each, once they are asked.
const MODELS: usize = 16;
/// Rows that are looked at in a round, and of one caller.
const ROWS: u32 = 600;
const OWN: u32 = 200;
/// Scores of a row that are read in the time that looking at a row takes; one of more counts as so many rows.
const SCORES: usize = 4_096;
/// Rows that a detector remembers.
const REMEMBERED: usize = 8_192;
/// Nats from which on it is worth to say in words what was seen.
const TELL: f64 = 4.0;
/// Nats that no ordinary caller of any model came near in the bench of queries: a fixed threshold, the twin of the calibrated one.
const CLEAR: f64 = 20.0;

pub(super) struct Desk {
    models: HashMap<ModelKey, (Queries, usize, Timestamp)>,
    window: f64,
    salt: u64,
    left: u32,
    own: HashMap<u64, u32>,
    room: Room,
}

impl Desk {
    pub(super) fn new(window: f64) -> Self {
        // Where rows fall is nobody's to know: the generator's own keys are drawn by the system.
        let salt = RandomState::new().hash_one(0);
        Self { models: HashMap::new(), window, salt, left: ROWS, own: HashMap::new(), room: Room::default() }
    }

    /// A new round begins.
    pub(super) fn round(&mut self) {
        self.left = ROWS;
        self.own.clear();
    }

    /// What the rows of a prediction say of whoever asked them.
    pub(super) fn look(
        &mut self,
        subject: &Subject,
        model: &Model,
        seen: &super::Seen,
        now: Timestamp,
    ) -> Vec<Reading> {
        let caller = subject.number();
        let own = self.own.entry(caller).or_insert(OWN);
        let most = self.left.min(*own) as usize;
        if most == 0 || seen.inputs.is_empty() {
            return Vec::new();
        }
        let spec = &model.route.manifest.spec;
        let rows = Rows::of(&seen.inputs, seen.rows);
        let Some(answers) = Answers::of(&seen.outputs, seen.rows, spec.task.as_ref(), most) else { return Vec::new() };
        let each = (1 + answers.columns() / SCORES).min(OWN as usize);
        let looked = rows.len().min(most / each);
        if looked == 0 {
            return Vec::new();
        }
        *own -= (looked * each) as u32;
        self.left -= (looked * each) as u32;
        let (Some(namespace), Some(name)) = (&seen.namespace, &seen.name) else { return Vec::new() };
        let key = (namespace.clone(), name.clone());
        self.make_room(&key);
        let width = rows.width();
        let (window, salt) = (self.window, self.salt);
        let fresh = || {
            let settings = Settings { window, rows: REMEMBERED, ..Settings::default() };
            (Queries::new(settings, width, salt), width, now)
        };
        let entry = self.models.entry(key).or_insert_with(fresh);
        if entry.1 != width {
            *entry = fresh();
        }
        entry.2 = now;
        let mut last = Seen::default();
        let seconds = now.0 as f64 / 1_000.0;
        for number in 0..looked {
            let said = answers.said(number, &mut self.room);
            last = entry.0.observe_by(caller, (width, |at| rows.value(number, at)), said, seconds);
        }
        readings(&last, || entry.0.evidence(caller).map(|evidence| evidence.to_string()).unwrap_or_default())
    }

    fn make_room(&mut self, key: &ModelKey) {
        if self.models.len() >= MODELS && !self.models.contains_key(key) {
            let oldest = self.models.iter().min_by_key(|(_, (_, _, at))| *at).map(|(key, _)| key.clone());
            oldest.map(|oldest| self.models.remove(&oldest));
        }
    }
}

/// What is known of a caller, as each agent's reading.
fn readings(seen: &Seen, words: impl Fn() -> String) -> Vec<Reading> {
    let (near, many) = match seen.rule {
        Some(Rule::NearRows) => (8.0, 0.0),
        Some(Rule::ManyRows) => (0.0, 8.0),
        // PRADA's test of normality is broken by most who are ordinary: it is no floor.
        Some(Rule::Distances) | None => (0.0, 0.0),
    };
    let clear = |score: f64| if score - 1.0 >= CLEAR { 8.0 + (score - 1.0 - CLEAR) / 10.0 } else { 0.0 };
    let reading = |agent, score: f64, twin: f64| {
        let rule = clear(score).min(9.21);
        let what = if score > 1.0 + TELL || twin > 0.0 { words() } else { String::new() };
        Reading { agent, score, rule, twin, certain: false, what }
    };
    if seen.evasion == 0.0 && seen.extraction == 0.0 {
        return Vec::new();
    }
    vec![reading(AgentName::Evasion, seen.evasion, near), reading(AgentName::Extraction, seen.extraction, many)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_belongs_to_the_agent_whose_twin_it_is() {
        let seen = Seen { evasion: 9.0, extraction: 2.0, rule: Some(Rule::NearRows), ..Seen::default() };
        let found = readings(&seen, || "near".into());
        assert_eq!((found[0].agent, found[0].score, found[0].what.as_str()), (AgentName::Evasion, 9.0, "near"));
        assert!(found[0].twin > 0.0 && found[1].twin == 0.0 && found[1].what.is_empty());
        let clear = readings(&Seen { evasion: 40.0, ..seen }, String::new);
        assert!(clear[0].rule > 9.0 && found[0].rule == 0.0, "what nobody ordinary comes near is a rule");
        assert!(readings(&Seen::default(), String::new).is_empty(), "nothing was looked at");
    }
}
