//! How likely a subject is hostile, from what all agents say of it.
//!
//! Evidence is counted as e-values: how much likelier an observation is of an attacker than of an ordinary caller, at most 1 on
//! average for the latter. What agents of one group say is averaged, since they look at the same, and an average of e-values is one
//! whatever they have to do with each other (Vovk and Wang, Annals of Statistics 2021); groups are multiplied. So an agent that
//! is there twice changes nothing. Of an agent's windows the strongest counts, and no product of them: a caller that is always a
//! little unusual is one caller, however long it is. What was learnt is worth a tenth then, since there are some ten windows before
//! it fades by half, and the mean of ten e-values of which nine are nothing is one. That somebody does not do one thing says nothing
//! for him when he does another: a group says nothing below 1.
//!
//! What learnt parts say together, over windows and groups, is one more score, the [`sum`](Belief::sum), and what that is worth is
//! read off the sums of ordinary callers like any other ([`crate::judges`]): among them are those who are always a little unusual, and
//! those of whom several agents think so in the same minute. Once it is known it takes the place of the product of groups.
//! Rules know what they see, and are multiplied with it.
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
/// What an ordinary window is worth on average: the mean of ln ½ p^(−½) over p from 0 to 1, of which upper bounds in steps of √2 are
/// known, so a quarter of ln 2 less a half of it.
const MEAN: f64 = -0.28;
/// What the strongest of ten windows is worth less: ln 10.
const LOOKS: f64 = std::f64::consts::LN_10;
/// Windows in which a sum fades by half, and of which the greatest is learnt.
const SPAN: u64 = 10;
/// From which on it is worth a look alone: twenty to one.
const KIND: f64 = 3.0;

/// What is believed of one subject.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Belief {
    tracks: Vec<Track>,
    /// What the sum of what was learnt is worth, and when that was said.
    #[serde(default)]
    together: Option<(f64, Timestamp)>,
    /// The greatest sum of these ten windows.
    #[serde(default)]
    peak: Option<(u64, f64)>,
}

/// What all that was learnt of a subject comes to, in nats: about nought of ordinary callers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sum {
    /// Now.
    pub now: f64,
    /// The greatest of ten windows that are over, told once: sums of windows next to each other are nearly the same.
    pub over: Option<f64>,
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
    /// Whether the strongest is a rule's word.
    #[serde(default)]
    ruled: bool,
    /// The sum of what was learnt in the windows before, each above its mean, and of this one.
    #[serde(default)]
    summed: f64,
    #[serde(default)]
    learnt: Option<f64>,
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
    /// What its plain rule says, as the logarithm of an e-value; 0 for nothing.
    pub rule: f64,
    /// The logarithm of the e-value of what it learnt, where that is known and may count.
    pub learnt: Option<f64>,
    /// Whether the rule is one of certainty.
    pub certain: bool,
    /// When.
    pub at: Timestamp,
    /// At which model.
    pub model: Option<ModelName>,
    /// What was seen, in words.
    pub what: String,
}

/// What is left of evidence.
fn faded(at: Timestamp, now: Timestamp) -> f64 {
    0.5_f64.powf(now.since(at).as_secs_f64() / HALF_LIFE)
}

/// The logarithm of the mean of e-values that are given as logarithms.
fn mean(evidence: &[f64]) -> f64 {
    let most = evidence.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + (evidence.iter().map(|one| (one - most).exp()).sum::<f64>() / evidence.len() as f64).ln()
}

impl Word {
    /// What it comes to alone.
    pub fn evidence(&self) -> f64 {
        let learnt = self.learnt.map_or(0.0, |learnt| learnt - LOOKS);
        if self.rule > 0.0 { self.rule.max(learnt) } else { learnt }
    }
}

impl Track {
    fn fade(&mut self, now: Timestamp) {
        let share = faded(self.at, now);
        self.carried *= share;
        self.current *= share;
        self.at = self.at.max(now);
        self.certain &= self.strongest() > MOST / 2.0;
        self.ruled &= self.strongest() > 0.0;
    }

    /// What was learnt, summed over windows up to this one.
    fn sum(&self, window: u64) -> f64 {
        let sum = self.summed + self.learnt.map_or(0.0, |learnt| learnt - MEAN);
        sum * 0.5_f64.powf(window.saturating_sub(self.window) as f64 / SPAN as f64)
    }

    fn strongest(&self) -> f64 {
        self.carried.max(self.current).clamp(LEAST, if self.certain { CERTAIN } else { MOST })
    }
}

impl Belief {
    /// Takes in what an agent says. In a window it only grows: a later word about it takes the place of a weaker one.
    pub fn take(&mut self, word: Word) {
        let evidence = word.evidence();
        if !evidence.is_finite() {
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
                ruled: false,
                summed: 0.0,
                learnt: None,
                at: word.at,
                model: None,
                what: String::new(),
            });
            self.tracks.len() - 1
        });
        let Some(track) = self.tracks.get_mut(place) else { return };
        track.fade(word.at);
        if word.window > track.window {
            track.carried = track.strongest();
            track.current = f64::NEG_INFINITY;
            track.summed = track.sum(word.window);
            track.learnt = None;
            track.window = word.window;
        }
        track.certain |= word.certain;
        track.learnt = track.learnt.into_iter().chain(word.learnt).reduce(f64::max);
        if evidence > track.current {
            if evidence > track.strongest() {
                track.ruled = word.rule >= evidence;
            }
            track.current = evidence;
            if evidence > 0.0 {
                (track.model, track.what) = (word.model, word.what);
            }
        }
    }

    /// The sum of what was learnt, over windows up to this one and groups: a score whose worth is to be judged, and once in ten windows
    /// one to be learnt. Nothing where nobody has learnt enough to say anything.
    pub fn sum(&mut self, window: u64) -> Option<Sum> {
        let mut sum = None;
        for group in Group::ALL {
            let learns =
                |track: &&Track| track.agent.group() == *group && (track.learnt.is_some() || track.summed != 0.0);
            let sums: Vec<f64> = self.tracks.iter().filter(learns).map(|track| track.sum(window)).collect();
            if !sums.is_empty() {
                *sum.get_or_insert(0.0) += mean(&sums);
            }
        }
        let now = sum?;
        let span = window / SPAN;
        let before = self.peak.filter(|(of, _)| *of < span);
        let greatest = self.peak.filter(|(of, _)| *of >= span).map_or(now, |(_, greatest)| greatest.max(now));
        self.peak = Some((span, greatest));
        Some(Sum { now, over: before.map(|(_, greatest)| greatest) })
    }

    /// Takes in what the sum is worth: the logarithm of its e-value.
    pub fn judged(&mut self, evidence: f64, now: Timestamp) {
        self.together = Some((evidence.clamp(LEAST, MOST), now));
    }

    /// What is known now.
    pub fn known(&self, now: Timestamp) -> Known {
        let mut known = Known { log_odds: PRIOR, kinds: 0, certain: false };
        let (mut product, mut strongest) = (0.0, 0.0_f64);
        for group in Group::ALL {
            let said: Vec<Track> = self.of(*group, now).collect();
            if said.is_empty() {
                continue;
            }
            let evidence = mean(&said.iter().map(Track::strongest).collect::<Vec<f64>>()).max(0.0);
            known.kinds += usize::from(evidence >= KIND);
            known.certain |= said.iter().any(|track| track.certain);
            if said.iter().any(|track| track.ruled) {
                known.log_odds += evidence;
            } else {
                product += evidence;
                strongest = strongest.max(evidence);
            }
        }
        known.log_odds += match self.together {
            Some((evidence, at)) => strongest.max(evidence * faded(at, now)),
            None => product,
        };
        known
    }

    /// Of each agent that said anything, whether that alone is worth a look.
    pub fn speaks(&self, now: Timestamp) -> impl Iterator<Item = (AgentName, bool)> + '_ {
        Group::ALL
            .iter()
            .flat_map(move |group| self.of(*group, now))
            .map(|track| (track.agent, track.strongest() >= KIND))
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
            .filter(|track| track.strongest() > 1.0)
            .map(|track| Reason {
                evidence: track.strongest(),
                agent: track.agent,
                model: track.model,
                what: track.what,
            })
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
            rule: evidence,
            learnt: None,
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

    fn learnt(agent: AgentName, window: u64, evidence: f64) -> Word {
        Word { rule: 0.0, learnt: Some(evidence), ..word(agent, window, 0.0) }
    }

    #[test]
    fn what_was_learnt_is_worth_a_tenth_as_the_strongest_of_ten_windows() {
        let one = known(&[learnt(AgentName::Caller, 1, 8.0)]);
        assert!((one.log_odds - PRIOR - 8.0 + 10.0_f64.ln()).abs() < 1e-9);
        let ruled = known(&[Word { learnt: Some(8.0), ..word(AgentName::Caller, 1, 6.0) }]);
        assert!((ruled.log_odds - PRIOR - 6.0).abs() < 1e-9, "a rule is a floor");
        assert!((known(&[learnt(AgentName::Caller, 1, 100.0)]).log_odds - PRIOR - MOST).abs() < 1e-9);
    }

    #[test]
    fn a_sum_takes_the_place_of_the_product_once_it_is_judged() {
        let mut belief = Belief::default();
        assert_eq!(belief.sum(1), None);
        for agent in [AgentName::Caller, AgentName::Intruder] {
            belief.take(learnt(agent, 1, 6.0));
        }
        let at = Timestamp(60_000);
        let looked = 6.0 - 10.0_f64.ln();
        assert!((belief.known(at).log_odds - PRIOR - 2.0 * looked).abs() < 1e-9);
        let sum = belief.sum(1).unwrap();
        assert!((sum.now - 2.0 * (6.0 - MEAN)).abs() < 1e-9 && sum.over.is_none());
        belief.judged(1.0, at);
        assert!((belief.known(at).log_odds - PRIOR - looked).abs() < 1e-9, "the strongest alone still counts");
        belief.judged(5.0, at);
        assert!((belief.known(at).log_odds - PRIOR - 5.0).abs() < 1e-9);
        // A rule knows what it sees.
        belief.take(word(AgentName::Supply, 1, 7.0));
        assert!((belief.known(at).log_odds - PRIOR - 12.0).abs() < 1e-9);
    }

    #[test]
    fn sums_go_over_windows_and_the_greatest_of_ten_is_told_once() {
        let mut belief = Belief::default();
        let mut over = Vec::new();
        for window in 0..30 {
            belief.take(learnt(AgentName::Extraction, window, if window < 10 { 2.0 } else { MEAN }));
            let sum = belief.sum(window).unwrap();
            over.extend(sum.over.map(|greatest| (window, greatest)));
            assert_eq!(belief.sum(window).unwrap().over, None);
        }
        let [(10, first), (20, second)] = over[..] else { panic!("{over:?}") };
        assert!(first > 15.0 && first < 10.0 * (2.0 - MEAN), "{first}");
        assert!((second - first * 0.5_f64.powf(0.1)).abs() < 1e-9, "half in ten windows");
        // A copy of an agent changes nothing.
        let mut twice = Belief::default();
        let mut once = Belief::default();
        for window in 0..5 {
            once.take(learnt(AgentName::Extraction, window, 2.0));
            for agent in [AgentName::Extraction, AgentName::Evasion] {
                twice.take(learnt(agent, window, 2.0));
            }
        }
        assert!((once.sum(4).unwrap().now - twice.sum(4).unwrap().now).abs() < 1e-9);
    }

    #[test]
    fn evidence_fades_and_innocence_in_one_thing_is_none_in_another() {
        let mut belief = Belief::default();
        belief.take(word(AgentName::Caller, 1, 8.0));
        let later = Timestamp(60_000 + 600_000);
        assert!((belief.known(later).log_odds - PRIOR - 4.0).abs() < 1e-6);
        belief.take(Word { rule: 0.0, learnt: Some(-0.5), ..word(AgentName::Intruder, 1, 0.0) });
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
