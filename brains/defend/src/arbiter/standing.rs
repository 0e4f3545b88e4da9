//! How a subject stands: what is believed of it, on which rung it is and until when, and what people said.

use serde::{Deserialize, Serialize};
use types::{
    ModelName, Timestamp,
    defence::{AgentName, Rung},
};

use crate::{
    belief::{Belief, Reason},
    ladder::{self, REPEAT},
    trust::Said,
};

/// How a subject stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Standing {
    pub(super) belief: Belief,
    pub(super) rung: Rung,
    pub(super) scope: Option<ModelName>,
    pub(super) since: Timestamp,
    pub(super) until: Option<Timestamp>,
    /// Answers within a day, and when the last one ended.
    pub(super) repeats: u32,
    pub(super) ended: Option<Timestamp>,
    pub(super) proposed: Rung,
    pub(super) noted: bool,
    pub(super) pardoned: Option<Timestamp>,
    /// A person set it: evidence that fades does not end it.
    #[serde(default)]
    pub(super) held: bool,
    /// What agents' learnt parts say alone, and their rules; and what both said when something was done last.
    #[serde(default)]
    pub(super) learnt: Belief,
    #[serde(default)]
    pub(super) rules: Belief,
    #[serde(default)]
    pub(super) said: Vec<Said>,
}

impl Standing {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            belief: Belief::default(),
            rung: Rung::Observe,
            scope: None,
            since: now,
            until: None,
            repeats: 0,
            ended: None,
            proposed: Rung::Observe,
            noted: false,
            pardoned: None,
            held: false,
            learnt: Belief::default(),
            rules: Belief::default(),
            said: Vec::new(),
        }
    }

    /// Freezes what learnt parts and rules say now, each alone: of those agents whose learnt part could say anything.
    pub(super) fn freeze(&mut self, now: Timestamp) {
        let rules: Vec<(AgentName, bool)> = self.rules.speaks(now).collect();
        let rule = |agent| rules.iter().any(|(other, speaks)| *other == agent && *speaks);
        self.said = self.learnt.speaks(now).map(|(agent, learnt)| Said { agent, learnt, rule: rule(agent) }).collect();
    }

    /// Whether somebody spoke for it, and that still holds.
    pub(super) fn is_pardoned(&self, now: Timestamp) -> bool {
        self.pardoned.is_some_and(|until| now < until)
    }

    /// Forgets what anybody said.
    pub(super) fn forget(&mut self) {
        (self.belief, self.learnt, self.rules) = Default::default();
    }

    /// The model that all the evidence is about, if it is one.
    pub(super) fn model(reasons: &[Reason]) -> Option<ModelName> {
        let first = reasons.first()?.model.clone()?;
        reasons.iter().all(|reason| reason.model.as_ref() == Some(&first)).then_some(first)
    }

    pub(super) fn set(&mut self, rung: Rung, scope: Option<ModelName>, now: Timestamp) -> Option<Timestamp> {
        let fresh = self.rung == Rung::Observe;
        if fresh {
            let again = self.ended.is_some_and(|ended| now.since(ended) < REPEAT);
            self.repeats = if again { self.repeats + 1 } else { 0 };
        }
        self.rung = rung;
        self.scope = scope;
        self.since = now;
        self.proposed = Rung::Observe;
        self.until = Some(now.plus(ladder::lasts(self.repeats)));
        self.until
    }

    pub(super) fn free(&mut self, now: Timestamp) {
        self.rung = Rung::Observe;
        self.until = None;
        self.held = false;
        self.noted = false;
        self.proposed = Rung::Observe;
        self.ended = Some(now);
    }
}
