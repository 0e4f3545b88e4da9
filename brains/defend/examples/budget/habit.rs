//! How a caller is, and what each agent makes of it.

use online::Random;
use types::defence::{AgentName, Subject};

/// Agents that have scores of callers, of which each has a shape of its own.
pub(crate) const AGENTS: [AgentName; 4] =
    [AgentName::Intruder, AgentName::Caller, AgentName::Extraction, AgentName::Evasion];

/// One caller.
pub(crate) struct Habit {
    pub(crate) subject: Subject,
    /// How high its scores are, and how often it is there.
    level: f64,
    pub(crate) share: f64,
    /// What moves all its scores for some ten windows.
    mood: f64,
}

impl Habit {
    pub(crate) fn new(name: &str, random: &mut Random) -> Self {
        let subject = format!("caller:bank/{name}").parse().unwrap_or_else(|_| Subject::Source(name.to_owned()));
        Self { subject, level: 0.8 + 0.4 * random.uniform(), share: 0.5 + random.uniform(), mood: 0.0 }
    }

    /// A window later.
    pub(crate) fn pass(&mut self, random: &mut Random) {
        self.mood = 0.9 * self.mood + 0.1 * random.normal();
    }

    /// What each agent makes of an ordinary window.
    pub(crate) fn ordinary(&self, random: &mut Random) -> [f64; AGENTS.len()] {
        let busy = self.level * self.mood.exp();
        [
            // Nats of a classifier: nearly always small, with a long tail.
            0.3 * random.exponential() * (0.5 * random.normal()).exp(),
            // Spreads above what is usual: none at all in most windows.
            (random.normal() + busy - 1.6).max(0.0),
            // A mean of two gaps between queries.
            busy * (random.exponential() + random.exponential()) / 2.0,
            // What grows by factors.
            busy * (0.6 * random.normal()).exp(),
        ]
    }
}
