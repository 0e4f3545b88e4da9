//! A candidate, and how far it has got.

use serde::{Deserialize, Serialize};

use super::{
    rungs::Rungs,
    score::Score,
    space::{Candidate, Tunable},
};

/// How things stand with a candidate at its rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    /// It may begin.
    Ready,
    /// A job is out, which has been reported up to an example.
    Out { job: u64, warm: Option<u32>, reached: u64 },
    /// It was scored.
    Scored,
    /// It is worse than the leader.
    Stopped,
    /// It can't be built.
    Broken,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "S: Tunable")]
pub(super) struct Entry<S> {
    pub(super) candidate: Candidate<S>,
    /// The kind that it was drawn of; none of a champion and of hints.
    pub(super) kind: Option<u32>,
    /// The rung that it is at.
    pub(super) rung: usize,
    pub(super) state: State,
    /// By rung, the one it is at last.
    pub(super) scores: Vec<Score>,
    /// The first example that the model it left has learnt, and the end of its rung.
    pub(super) left: Option<(u64, u64)>,
    pub(super) examples: u64,
    pub(super) cost: f64,
}

impl<S: Tunable> Entry<S> {
    pub(super) fn new(candidate: Candidate<S>, kind: Option<u32>) -> Self {
        let (scores, left) = (Vec::new(), None);
        Self { candidate, kind, rung: 0, state: State::Ready, scores, left, examples: 0, cost: 0.0 }
    }

    /// The job that is out.
    pub(super) fn job(&self) -> Option<u64> {
        match self.state {
            State::Out { job, .. } => Some(job),
            _ => None,
        }
    }

    /// Whether all of a rung's examples were scored.
    pub(super) fn is_scored(&self, rung: usize) -> bool {
        self.scores.get(rung).is_some_and(Score::is_whole)
    }

    /// The mean loss at a rung; 1 where there is none.
    pub(super) fn loss(&self, rung: usize) -> f64 {
        self.scores.get(rung).map_or(1.0, Score::mean)
    }

    /// What an example costs; 0 before it is known.
    pub(super) fn dear(&self) -> f64 {
        if self.examples == 0 { 0.0 } else { self.cost / self.examples as f64 }
    }

    /// Whether what it does at a rung is what the other does there.
    pub(super) fn is_twin(&self, other: &Self, rungs: &Rungs, rung: usize) -> bool {
        let begin = |entry: &Self| rungs.begin(rung, entry.candidate.window);
        self.candidate.spec == other.candidate.spec && begin(self) == begin(other)
    }

    /// Goes on to the next rung.
    pub(super) fn promote(&mut self) {
        self.rung += 1;
        self.state = State::Ready;
    }

    /// Forgets what was scored at its rung: it begins there again.
    pub(super) fn restart(&mut self) {
        self.scores.truncate(self.rung);
        self.left = None;
        self.state = State::Ready;
    }

    pub(super) fn is_sound(&self, rungs: &Rungs, kinds: usize, jobs: u64) -> bool {
        let scored = |rung: usize| rungs.end(rung) - rungs.scored(rung);
        let scores = self.scores.iter().enumerate().all(|(rung, score)| score.is_sound(scored(rung)));
        // Rungs below were scored whole; at its own a score is there once it has begun.
        let below = (0..self.rung).all(|rung| self.is_scored(rung));
        let own = match self.state {
            State::Ready => self.scores.len() == self.rung,
            State::Scored => self.is_scored(self.rung),
            State::Out { job, reached, .. } => {
                job < jobs && reached <= rungs.end(self.rung) && self.scores.len() == self.rung + 1
            }
            State::Stopped | State::Broken => self.scores.len() <= self.rung + 1,
        };
        let left = self.left.is_none_or(|(begin, end)| begin <= end && end <= rungs.end(rungs.top()));
        let kind = self.kind.is_none_or(|kind| (kind as usize) < kinds);
        let fits = self.rung < rungs.count() && self.scores.len() <= self.rung + 1;
        scores && below && own && left && kind && fits && (0.0..=1e300).contains(&self.cost)
    }
}
