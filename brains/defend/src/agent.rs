//! An agent: a small loop that looks at what was seen of a subject, and says how unusual that is.
//!
//! An agent decides nothing. It gives a score, which is made comparable in each namespace ([`crate::judges`]), and what its plain
//! twin says, which acts in the place of what was learnt while the agent is in shadow, and when the guard has taken the learnt part
//! back. Beside that stand rules that nobody ordinary breaks: they are a floor, what was learnt may add suspicion, and never
//! forgives one. While there is too little to compare with, the floor alone acts.
//!
//! To make one: a file in [`crate::agents`], a name in [`types::defence::AgentName`], and a line in [`agents`].

use types::defence::{AgentName, Reading, Sighting};

use crate::agents::{caller::Caller, passed::Passed};

/// Looks at sightings.
pub trait Agent: Send {
    /// Which one it is.
    fn name(&self) -> AgentName;

    /// What to make of a subject's window so far; nothing where it is not about this agent.
    fn look(&mut self, sighting: &Sighting) -> Option<Reading>;
}

/// How to make an agent.
pub type Make = fn() -> Box<dyn Agent>;

/// Which sightings an agent is shown.
pub type Wants = fn(&Sighting) -> bool;

/// An agent, how to make it, and what it is shown.
#[derive(Debug, Clone, Copy)]
pub struct Seat {
    /// Which.
    pub agent: AgentName,
    /// How to make it.
    pub make: Make,
    /// What it is shown.
    pub wants: Wants,
}

fn has(sighting: &Sighting, agent: AgentName) -> bool {
    sighting.readings.iter().any(|reading| reading.agent == agent)
}

/// Every agent there is.
pub fn agents() -> Vec<Seat> {
    macro_rules! passed {
        ($name:ident) => {
            Seat {
                agent: AgentName::$name,
                make: || Box::new(Passed(AgentName::$name)),
                wants: |sighting| has(sighting, AgentName::$name),
            }
        };
    }
    vec![
        passed!(Intruder),
        Seat { agent: AgentName::Caller, make: || Box::new(Caller::default()), wants: |_| true },
        passed!(Extraction),
        passed!(Evasion),
        passed!(Poisoner),
        passed!(Supply),
    ]
}

/// How such attacks are called by MITRE ATLAS (release 5): ids and names.
pub fn techniques(agent: AgentName) -> &'static [(&'static str, &'static str)] {
    match agent {
        AgentName::Intruder => &[("AML.T0049", "Exploit Public-Facing Application")],
        AgentName::Caller => &[("AML.T0029", "Denial of ML Service"), ("AML.T0006", "Active Scanning")],
        AgentName::Extraction => &[("AML.T0024", "Exfiltration via ML Inference API")],
        AgentName::Evasion => &[("AML.T0015", "Evade ML Model"), ("AML.T0043", "Craft Adversarial Data")],
        AgentName::Poisoner => &[("AML.T0020", "Poison Training Data")],
        AgentName::Supply => &[("AML.T0010", "ML Supply Chain Compromise")],
    }
}
