//! A champion and a challenger of one model: both answer every example before they learn it, and the guard says whether
//! the challenger may take over, or must hand back.
//!
//! What is compared are lineages, learner with settings, not single states. Losses are known when the label comes, from
//! states that have not seen it. So whoever has the joined log can come to the same decision again.

use std::collections::BTreeSet;

use online::guard::{Decision, Guard, Label, Mode, Settings, Why};
use serde::{Deserialize, Serialize};
use types::{
    Code, Refusal, Timestamp, Version,
    manifest::{Learning, Promote},
    rollout::{Evidence, Stand},
};

use crate::{Answer, Truth};

/// The probability, over all challengers that a model ever has, that one is promoted that is not better.
const ALPHA: f64 = 0.05;
/// No test needs less.
const LEAST: f64 = 1e-9;
/// So many contributors are a crowd, of which none may have more than a quarter of the gain.
const CROWD: usize = 8;
/// The share of a new error in the scale of errors.
const FRESH: f64 = 0.01;

/// A label, as both versions see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// Its place in the order of labels.
    pub sequence: u64,
    /// When the prediction was made, and when its label came.
    pub at: Timestamp,
    /// See `at`.
    pub received: Timestamp,
    /// Who found out what was right.
    pub contributor: u64,
    /// The slice of the traffic that it belongs to, below as many as the contest was made with.
    pub slice: Option<u16>,
    /// What was right.
    pub truth: Truth,
}

/// Two versions of a model, one of which answers.
///
/// A label takes O(1) time, some 200 ns.
#[derive(Debug, Serialize, Deserialize)]
pub struct Contest {
    /// The version that answered when the other came.
    pub champion: Version,
    /// The version that would like to.
    pub challenger: Version,
    /// Which challenger of the model this is, from 1.
    pub attempt: u32,
    /// The first entry of the joined log that counts, and the next.
    from: u64,
    offset: u64,
    #[serde(with = "crate::kept::whole")]
    guard: Guard,
    /// How it stands.
    pub stand: Stand,
    /// Sums of both sides' losses, since the first.
    labels: u64,
    losses: [f64; 2],
    /// The usual error of a regression, by which errors are measured.
    scale: f64,
    decided: Option<Evidence>,
    /// The slice that suffers, while one does.
    #[serde(default)]
    suffers: Option<u16>,
    /// What a person said of it, and who.
    word: Option<String>,
    /// Contributors seen, up to as many as make a cap possible.
    contributors: BTreeSet<u64>,
}

/// What follows from a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The challenger is to answer.
    Promote,
    /// A person is to be asked whether it is.
    Propose,
    /// The champion is to answer again.
    HandBack,
}

impl Contest {
    /// A contest from this entry of the joined log on; the guard vetoes where a slice suffers, of so many.
    ///
    /// # Errors
    /// When the guard can't be made.
    pub fn new(
        [champion, challenger]: [Version; 2],
        attempt: u32,
        from: u64,
        (learning, slices): (&Learning, u16),
    ) -> Result<Self, Refusal> {
        let mode = if learning.promote == Promote::Automatic { Mode::On } else { Mode::Shadow };
        let number = f64::from(attempt.max(1));
        let settings = Settings {
            mode,
            // Σ 6/(π² k²) = 1: however many challengers come, together they have this probability.
            alpha: (ALPHA * 6.0 / (std::f64::consts::PI * number).powi(2)).max(LEAST),
            season: learning.season(),
            slices,
            ..Settings::default()
        };
        let guard = Guard::new(settings).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        Ok(Self {
            champion,
            challenger,
            attempt,
            from,
            offset: from,
            guard,
            stand: Stand::Judging,
            labels: 0,
            losses: [0.0; 2],
            scale: 0.0,
            decided: None,
            suffers: None,
            word: None,
            contributors: BTreeSet::new(),
        })
    }

    /// The next entry that counts.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What lies before this entry is done with.
    pub fn advance(&mut self, offset: u64) {
        self.offset = self.offset.max(offset);
    }

    /// Whether the versions are still compared.
    pub fn goes_on(&self) -> bool {
        matches!(self.stand, Stand::Judging | Stand::Proposed | Stand::Promoted)
    }

    /// Takes in what both said of an example before they learnt it.
    pub fn take(&mut self, seen: &Seen, [champion, challenger]: [&Answer; 2]) -> Option<Verdict> {
        let Seen { sequence, truth, contributor, .. } = *seen;
        if sequence < self.offset {
            return None;
        }
        self.offset = sequence + 1;
        if !self.goes_on() {
            return None;
        }
        // Errors are measured by the champion's usual one before this label.
        let losses = [loss(champion, truth, self.scale)?, loss(challenger, truth, self.scale)?];
        if let (Answer::Value(value), Truth::Number(number)) = (champion, truth) {
            let share = FRESH.max(1.0 / (self.labels as f64 + 1.0));
            self.scale += share * ((value - number).abs() - self.scale);
        }
        self.labels += 1;
        self.losses[0] += losses[0];
        self.losses[1] += losses[1];
        let now = seconds(seen.received);
        // Of few contributors each has a large share, whoever they are: a cap would only mean that nothing is ever proven.
        if self.contributors.len() < CROWD {
            self.contributors.insert(contributor);
        }
        let label = Label {
            requested: seconds(seen.at).min(now),
            champion: losses[0],
            challengers: &losses[1..],
            slice: seen.slice,
            contributor: (self.contributors.len() >= CROWD).then_some(contributor),
        };
        // Labels of several gateways come in one order, whatever their clocks say.
        let decision = match self.guard.paired(&label, now) {
            Err(online::Error::Time { before, .. }) => self.guard.paired(&label, before),
            decision => decision,
        };
        self.decide(decision.ok()?)
    }

    fn decide(&mut self, decision: Decision) -> Option<Verdict> {
        self.suffers = match decision.why {
            Why::SliceWorse { slice } => Some(slice),
            _ => None,
        };
        let verdict = match (decision.why, self.stand) {
            // A person was first.
            (Why::Promoted, Stand::Promoted) => return None,
            (Why::Promoted, _) => Verdict::Promote,
            (Why::HandedBack, _) => Verdict::HandBack,
            (Why::Proven, Stand::Judging) if self.guard.settings().mode == Mode::Shadow => Verdict::Propose,
            _ => return None,
        };
        self.stand = match verdict {
            Verdict::Promote => Stand::Promoted,
            Verdict::Propose => Stand::Proposed,
            Verdict::HandBack => Stand::HandedBack,
        };
        self.decided = Some(self.evidence());
        Some(verdict)
    }

    /// A person says that the challenger may answer.
    pub fn approve(&mut self, word: String) {
        // It hands back as any other would that turns out to be worse.
        self.guard.permit(Mode::On);
        self.stand = Stand::Promoted;
        self.word = Some(word);
    }

    /// A person says that it may not, or no longer.
    pub fn reject(&mut self, word: String) {
        self.guard.permit(Mode::Off);
        self.stand = Stand::Rejected;
        self.word = Some(word);
    }

    /// Whether the challenger answers by this contest.
    pub fn acts(&self) -> bool {
        self.stand == Stand::Promoted
    }

    /// What was known when it was decided last; what is known now, where nothing is decided.
    pub fn decided_on(&self) -> Evidence {
        self.decided.clone().unwrap_or_else(|| self.evidence())
    }

    /// What is known now.
    pub fn evidence(&self) -> Evidence {
        let count = self.labels.max(1) as f64;
        let (log_wealth, needed) = match self.guard.standing(0) {
            Some(Why::Unproven { log_wealth, needed }) => (Some(log_wealth), Some(needed)),
            _ => (None, None),
        };
        Evidence {
            from: self.from,
            offset: self.offset,
            labels: self.labels,
            champion_loss: self.losses[0] / count,
            challenger_loss: self.losses[1] / count,
            log_wealth,
            needed,
            alpha: self.guard.settings().alpha,
        }
    }

    /// What is lacking, in words.
    pub fn why(&self) -> Option<String> {
        let why = self.suffers.map(|slice| Why::SliceWorse { slice }).or_else(|| self.guard.standing(0));
        why.map(|why| words(&why))
    }

    /// What was known when it was decided last.
    pub fn decided(&self) -> Option<&Evidence> {
        self.decided.as_ref()
    }

    /// What a person said of it, and who.
    pub fn word(&self) -> Option<&str> {
        self.word.as_deref()
    }

    /// Why it was decided, in words.
    pub fn reason(&self) -> String {
        let Evidence { from, offset, labels, champion_loss, challenger_loss, alpha, .. } = self.evidence();
        let (challenger, champion) = (self.challenger, self.champion);
        format!(
            "over {labels} labels (joined log {from} to {offset}) version {challenger} lost {challenger_loss:.4} a label and \
             version {champion} {champion_loss:.4}; guarded at alpha {alpha:.4}, attempt {}",
            self.attempt
        )
    }
}

/// What an answer lost, 0 … 1: half of the Brier score (Brier 1950) of probabilities; of a number its error e, as e / (e + s)
/// with s the `scale`, 1 where that is 0. Nothing where it does not fit the truth, or is not finite.
pub fn loss(answer: &Answer, truth: Truth, scale: f64) -> Option<f64> {
    match (answer, truth) {
        (Answer::Probabilities(said), Truth::Class(class)) => {
            let of = |(place, said): (usize, &f64)| (said - f64::from(u8::from(place == class))).powi(2);
            let loss: f64 = said.iter().enumerate().map(of).sum::<f64>() / 2.0;
            loss.is_finite().then(|| loss.clamp(0.0, 1.0))
        }
        (Answer::Value(value), Truth::Number(number)) => {
            let error = (value - number).abs();
            let scale = if scale > 0.0 { scale } else { 1.0 };
            error.is_finite().then(|| error / (error + scale))
        }
        _ => None,
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1e3
}

/// How things stand, in words.
fn words(why: &Why) -> String {
    match why {
        Why::TooFew { labels, least } => format!("{labels} labels of {least} that it needs at least"),
        Why::Unproven { log_wealth, needed } => {
            format!("not proven: evidence of e^{log_wealth:.2}, e^{needed:.2} is needed")
        }
        Why::MidSeason { until } => format!("it is looked at again when its season ends, at {until:.0}"),
        Why::SliceWorse { slice } => format!("proven to be better, but worse in slice {slice}"),
        Why::Proven => "proven to be better".into(),
        Why::Acting => "it answers, and nothing speaks against it".into(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests;
