//! Agents whose detector stands where the requests are: what it read is passed on as it is.
//!
//! The detectors: [`crate::intruder`], [`crate::queries`]; who sends lying labels is found by the trainer
//! (`online::peers`), and what is wrong with a bundle by the registry.

use types::defence::{AgentName, Reading, Sighting};

use crate::Agent;

/// Passes on what the detector of an agent read.
#[derive(Debug)]
pub struct Passed(pub AgentName);

impl Agent for Passed {
    fn name(&self) -> AgentName {
        self.0
    }

    fn look(&mut self, sighting: &Sighting) -> Option<Reading> {
        sighting.readings.iter().find(|reading| reading.agent == self.0).cloned()
    }
}

#[cfg(test)]
mod tests {
    use types::{
        Timestamp,
        defence::{Counts, Subject},
    };

    use super::*;

    #[test]
    fn an_agent_gets_its_own_reading_alone() {
        let reading = |agent| Reading { agent, score: 1.0, rule: 0.0, twin: 0.0, certain: false, what: String::new() };
        let sighting = Sighting {
            subject: Subject::Source("::1".into()),
            model: None,
            autonomy: None,
            admin: false,
            length_ms: 60_000,
            window: 1,
            at: Timestamp(1),
            counts: Counts::default(),
            readings: vec![reading(AgentName::Evasion)],
        };
        assert!(Passed(AgentName::Evasion).look(&sighting).is_some());
        assert_eq!(Passed(AgentName::Intruder).look(&sighting), None);
    }
}
