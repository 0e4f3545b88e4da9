//! How likely a subject is hostile, from what all agents say of it.
//!
//! Evidence is counted as e-values: how much likelier an observation is of an attacker than of an ordinary caller, at most 1 on
//! average for the latter. What agents of one group say is averaged, since they look at the same, and an average of e-values is one
//! whatever they have to do with each other (Vovk and Wang, Annals of Statistics 2021); groups are multiplied. So an agent that
//! is there twice changes nothing. Of an agent's windows the
//! strongest counts, and no product of them: a caller that is always a little unusual is one caller, however long it is, and what
//! adds up over time adds up in the detector that knows what it is. All of it fades, by half in ten minutes. That somebody does not do one thing says nothing for him when he does another: a group says nothing
//! below 1.
//!
//! **Blind spot:** the prior is the same for all, and whoever is slow enough that evidence fades as fast as it comes stays below.

use serde::{Deserialize, Serialize};
use types::{
    ModelName, Timestamp,
    defence::{AgentName, Group},
};

use crate::ladder::{Known, PRIOR};

/// Seconds in which evidence fades by half.
const HALF_LIFE: f64 = 600.0;
/// The most that one agent says, as a logarithm: ten thousand to one; a rule of certainty, a million to one.
pub const MOST: f64 = 9.21;
const CERTAIN: f64 = 13.8;
/// The least: one to fifty.
const LEAST: f64 = -3.9;
/// From which on it is worth a look alone: twenty to one.
const KIND: f64 = 3.0;

/// What is believed of one subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Belief {
    tracks: Vec<Track>,
}

/// What one agent has said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Track {
    agent: AgentName,
    window: u64,
    /// The strongest of the windows before, and of this one.
    carried: f64,
    current: f64,
    certain: bool,
    at: Timestamp,
    model: Option<ModelName>,
    what: String,
}

/// What an agent says of a window so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Word {
    /// Which.
    pub agent: AgentName,
    /// Of which window.
    pub window: u64,
    /// The logarithm of its e-value.
    pub evidence: f64,
    /// Whether that is a rule of certainty.
    pub certain: bool,
    /// When.
    pub at: Timestamp,
    /// At which model.
    pub model: Option<ModelName>,
    /// What was seen, in words.
    pub what: String,
}

impl Track {
    fn fade(&mut self, now: Timestamp) {
        let share = 0.5_f64.powf(now.since(self.at).as_secs_f64() / HALF_LIFE);
        self.carried *= share;
        self.current *= share;
        self.at = self.at.max(now);
        self.certain &= self.sum() > MOST / 2.0;
    }

    fn sum(&self) -> f64 {
        self.carried.max(self.current).clamp(LEAST, if self.certain { CERTAIN } else { MOST })
    }
}

impl Belief {
    /// Takes in what an agent says. In a window it only grows: a later word about it takes the place of a weaker one.
    pub fn take(&mut self, word: Word) {
        if !word.evidence.is_finite() {
            return;
        }
        let place = self.tracks.iter().position(|track| track.agent == word.agent);
        let place = place.unwrap_or_else(|| {
            self.tracks.push(Track {
                agent: word.agent,
                window: word.window,
                carried: 0.0,
                current: f64::NEG_INFINITY,
                certain: false,
                at: word.at,
                model: None,
                what: String::new(),
            });
            self.tracks.len() - 1
        });
        let Some(track) = self.tracks.get_mut(place) else { return };
        track.fade(word.at);
        if word.window > track.window {
            track.carried = track.sum();
            track.current = f64::NEG_INFINITY;
            track.window = word.window;
        }
        track.certain |= word.certain;
        if word.evidence > track.current {
            track.current = word.evidence;
            if word.evidence > 0.0 {
                (track.model, track.what) = (word.model, word.what);
            }
        }
    }

    /// What is known now.
    pub fn known(&self, now: Timestamp) -> Known {
        let mut known = Known { log_odds: PRIOR, kinds: 0, certain: false };
        for group in Group::ALL {
            let said: Vec<(f64, bool)> = self.of(*group, now).map(|track| (track.sum(), track.certain)).collect();
            if said.is_empty() {
                continue;
            }
            let mean = said.iter().map(|(sum, _)| sum.exp()).sum::<f64>() / said.len() as f64;
            let evidence = mean.ln().max(0.0);
            known.log_odds += evidence;
            known.kinds += usize::from(evidence >= KIND);
            known.certain |= said.iter().any(|(_, certain)| *certain);
        }
        known
    }

    /// Of each agent that said anything, whether that alone is worth a look.
    pub fn speaks(&self, now: Timestamp) -> impl Iterator<Item = (AgentName, bool)> + '_ {
        Group::ALL.iter().flat_map(move |group| self.of(*group, now)).map(|track| (track.agent, track.sum() >= KIND))
    }

    fn of(&self, group: Group, now: Timestamp) -> impl Iterator<Item = Track> + '_ {
        self.tracks.iter().filter(move |track| track.agent.group() == group).map(move |track| {
            let mut track = track.clone();
            track.fade(now);
            track
        })
    }

    /// Agents that speak against the subject, with what they saw and how strongly: the strongest first.
    pub fn reasons(&self, now: Timestamp) -> Vec<Reason> {
        let mut found: Vec<Reason> = Group::ALL
            .iter()
            .flat_map(|group| self.of(*group, now))
            .filter(|track| track.sum() > 1.0)
            .map(|track| Reason { evidence: track.sum(), agent: track.agent, model: track.model, what: track.what })
            .collect();
        found.sort_by(|a, b| b.evidence.total_cmp(&a.evidence));
        found
    }

    /// When something was said last.
    pub fn last(&self) -> Option<Timestamp> {
        self.tracks.iter().map(|track| track.at).max()
    }
}

/// Why somebody is believed to be hostile.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// The logarithm of the evidence.
    pub evidence: f64,
    /// Who says so.
    pub agent: AgentName,
    /// At which model.
    pub model: Option<ModelName>,
    /// What was seen, in words.
    pub what: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(agent: AgentName, window: u64, evidence: f64) -> Word {
        Word {
            agent,
            window,
            evidence,
            certain: false,
            at: Timestamp(window * 60_000),
            model: None,
            what: String::new(),
        }
    }

    fn known(words: &[Word]) -> Known {
        let mut belief = Belief::default();
        words.iter().cloned().for_each(|word| belief.take(word));
        belief.known(words.last().unwrap().at)
    }

    #[test]
    fn agents_that_look_at_the_same_are_averaged_and_others_multiplied() {
        let one = known(&[word(AgentName::Extraction, 1, 6.0)]);
        let twice = known(&[word(AgentName::Extraction, 1, 6.0), word(AgentName::Evasion, 1, 6.0)]);
        assert!((one.log_odds - twice.log_odds).abs() < 1e-9, "a copy of an agent counts once");
        assert_eq!((one.kinds, twice.kinds), (1, 1));
        let other = known(&[word(AgentName::Extraction, 1, 6.0), word(AgentName::Intruder, 1, 6.0)]);
        assert!((other.log_odds - one.log_odds - 6.0).abs() < 1e-9 && other.kinds == 2);
    }

    #[test]
    fn within_a_window_it_only_grows_and_windows_do_not_add_up() {
        let same = known(&[word(AgentName::Caller, 1, 4.0), word(AgentName::Caller, 1, 3.0)]);
        assert!((same.log_odds - PRIOR - 4.0).abs() < 1e-9);
        let windows: Vec<Word> = (1..200).map(|window| word(AgentName::Caller, window, 3.0)).collect();
        let always = known(&windows);
        assert!((always.log_odds - PRIOR - 3.0).abs() < 1e-9, "who is always a little unusual: {always:?}");
    }

    #[test]
    fn evidence_fades_and_innocence_in_one_thing_is_none_in_another() {
        let mut belief = Belief::default();
        belief.take(word(AgentName::Caller, 1, 8.0));
        let later = Timestamp(60_000 + 600_000);
        assert!((belief.known(later).log_odds - PRIOR - 4.0).abs() < 1e-6);
        belief.take(word(AgentName::Intruder, 1, -3.0));
        assert!((belief.known(later).log_odds - PRIOR - 4.0).abs() < 1e-6);
        assert_eq!(belief.reasons(Timestamp(60_000)).len(), 1);
    }

    #[test]
    fn a_rule_of_certainty_says_more() {
        let certain = Word { certain: true, ..word(AgentName::Supply, 1, 14.0) };
        let known = known(&[certain]);
        assert!(known.certain && known.log_odds > 4.0);
    }

    #[test]
    fn it_reads_back() {
        let mut belief = Belief::default();
        belief.take(word(AgentName::Caller, 1, 8.0));
        let text = serde_json::to_string(&belief).unwrap();
        assert_eq!(serde_json::from_str::<Belief>(&text).unwrap(), belief);
    }
}
