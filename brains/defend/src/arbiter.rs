//! The arbiter: who stands on which rung, what is proposed to people, and when the detector is the suspect.
//!
//! It takes what agents read, one subject at a time, and gives acts. Nothing it does lasts: every answer has an end, is taken back
//! by a word, and climbs again only on evidence that is new.
//!
//! - **Autonomy**: of the model that it is about, else of the namespace. `observe` notes, `recommend` and `approve` propose, `act` acts.
//! - **Blast cap**: in ten minutes no more callers are answered than a share of those there are, and one at least; five times as
//!   many stand restricted at a time. What is beyond becomes a proposal, and what was learnt by the agent that speaks loudest is the
//!   suspect: for ten minutes its plain rule acts alone in that namespace. Rules of certainty are not capped.
//! - An **admin** is never answered above `throttle` without a person, nor a **source** that has shown no credential: anybody can
//!   send what looks like somebody else.
//! - A person's **undo** or reject is believed: for a day nothing but certainty counts against that subject. It is a label, too, as is
//!   an approval: what an agent learnt is handed back to its rule where people say that it is the worse of both ([`crate::trust`]).

mod standing;
mod town;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use types::{
    ModelName, Namespace, Timestamp,
    defence::{AgentName, Reading, Rung, Sighting, Subject},
    manifest::Autonomy,
};

use crate::{
    belief::{Belief, Reason, Sum, Word},
    judges::Worth,
    ladder::{self, DWELL, Known},
    trust::{self, Trust, Turn},
};
use standing::Standing;
use town::Town;

/// Subjects of which something is believed, at most; of more, those go of whom least is.
const SUBJECTS: usize = 65_536;
/// Log-odds from which on somebody is told of: one in a hundred.
const NOTE: f64 = -4.6;
/// How long a person's word for a subject holds.
const PARDON: std::time::Duration = std::time::Duration::from_secs(86_400);
/// How long the suspect agent's plain rule acts alone.
const SUSPECT: std::time::Duration = std::time::Duration::from_secs(600);

/// How far an agent's learnt part goes; its plain rule acts in both of the latter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Nobody looks.
    Off,
    /// It is watched, and acts on nothing.
    Shadow,
    /// It acts.
    #[default]
    On,
}

/// How it is decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The share of a namespace's callers that may be answered in ten minutes without a person.
    pub blast: f64,
    /// How far agents may go where no model says.
    pub autonomy: Autonomy,
    /// Agents that are not on.
    pub modes: BTreeMap<AgentName, Mode>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { blast: 0.01, autonomy: Autonomy::Recommend, modes: BTreeMap::new() }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Act {
    /// About whom.
    pub subject: Subject,
    /// At which model; at all where none is named.
    pub model: Option<ModelName>,
    /// What.
    pub kind: Kind,
    /// When it was decided.
    pub at: Timestamp,
    /// What is known.
    pub known: Known,
    /// Who speaks against it, the strongest first.
    pub reasons: Vec<Reason>,
}

/// What an act is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// To be told.
    Note,
    /// A person is to be asked.
    Propose {
        /// What for.
        rung: Rung,
        /// Why not without.
        why: &'static str,
    },
    /// The subject stands on a rung now.
    Set {
        /// Which.
        rung: Rung,
        /// Until when; until it is taken back where nothing is said.
        until: Option<Timestamp>,
    },
    /// It is free again.
    End {
        /// Why.
        why: &'static str,
    },
    /// Too many are suspicious at once: the agent is, more likely.
    Suspect {
        /// Which.
        agent: AgentName,
        /// Until when its plain rule acts alone.
        until: Timestamp,
    },
    /// People say that what an agent learnt is worse than its rule, which acts alone from now on; or that it acts again.
    Guard {
        /// Which.
        agent: AgentName,
        /// Where.
        namespace: Namespace,
        /// Which of both.
        turn: Turn,
    },
}

impl Act {
    /// The namespace that it is about, if any.
    pub fn namespace(&self) -> Option<&Namespace> {
        match &self.kind {
            Kind::Guard { namespace, .. } => Some(namespace),
            _ => self.subject.namespace(),
        }
    }
}

/// Decides.
#[derive(Debug)]
pub struct Arbiter {
    settings: Settings,
    subjects: HashMap<Subject, Standing>,
    towns: HashMap<Namespace, Town>,
    suspects: HashMap<(Option<Namespace>, AgentName), Timestamp>,
    trust: Trust,
}

/// What is kept of an arbiter.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Kept {
    subjects: Vec<(Subject, Standing)>,
    #[serde(default)]
    trust: trust::Kept,
}

/// Whether whoever acts on a subject is somebody else, and all there is to do is to tell.
fn is_elsewhere(subject: &Subject) -> bool {
    matches!(subject, Subject::Contributor(..) | Subject::Bundle(..) | Subject::Agent(_))
}

impl Arbiter {
    /// One that knows nobody.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            subjects: HashMap::new(),
            towns: HashMap::new(),
            suspects: HashMap::new(),
            trust: Trust::default(),
        }
    }

    /// Goes on with what was kept.
    pub fn resume(settings: Settings, kept: Kept) -> Self {
        let (subjects, trust) = (kept.subjects.into_iter().collect(), Trust::resume(kept.trust));
        Self { subjects, trust, ..Self::new(settings) }
    }

    /// What is to be kept: subjects about whom something is done or proposed, or that somebody spoke for, and who is trusted.
    pub fn keep(&self) -> Kept {
        let worth = |standing: &Standing| {
            standing.rung > Rung::Observe
                || standing.pardoned.is_some()
                || standing.ended.is_some()
                || !standing.said.is_empty()
        };
        let of = self.subjects.iter().filter(|(_, standing)| worth(standing));
        let subjects = of.map(|(subject, standing)| (subject.clone(), standing.clone())).collect();
        Kept { subjects, trust: self.trust.keep() }
    }

    /// How far an agent's learnt part may go in a namespace now.
    pub fn mode(&self, namespace: Option<&Namespace>, agent: AgentName, now: Timestamp) -> Mode {
        let set = self.settings.modes.get(&agent).copied().unwrap_or_default();
        let suspect = self.suspects.get(&(namespace.cloned(), agent)).is_some_and(|until| now < *until);
        if set == Mode::On && (suspect || self.is_handed_back(namespace, agent)) { Mode::Shadow } else { set }
    }

    /// Whether what an agent learnt is handed back to its rule in a namespace.
    pub fn is_handed_back(&self, namespace: Option<&Namespace>, agent: AgentName) -> bool {
        namespace.is_some_and(|namespace| self.trust.is_handed_back(namespace, agent))
    }

    /// Sets how far an agent goes.
    pub fn set_mode(&mut self, agent: AgentName, mode: Mode) {
        self.settings.modes.insert(agent, mode);
    }

    /// Takes in what an agent read of a subject's window, and what that is worth there.
    pub fn take(&mut self, sighting: &Sighting, reading: &Reading, worth: Worth) -> Vec<Act> {
        let (subject, now) = (&sighting.subject, sighting.at);
        if let Subject::Caller(namespace, caller) = subject {
            self.towns.entry(namespace.clone()).or_default().see(caller, now);
        }
        let mode = self.mode(subject.namespace(), reading.agent, now);
        if mode == Mode::Off {
            return Vec::new();
        }
        let alone = match worth {
            Worth::Known(evidence, _) => Some(evidence),
            Worth::Unknown => None,
        };
        // While what was learnt does not act, its plain twin does; while there is too little to compare with, neither.
        let plain = reading.rule.max(reading.twin);
        if !self.subjects.contains_key(subject) {
            self.make_room(now);
        }
        let standing = self.subjects.entry(subject.clone()).or_insert_with(|| Standing::new(now));
        let pardoned = standing.is_pardoned(now) && !reading.certain;
        let word = |rule: f64, learnt: Option<f64>| Word {
            agent: reading.agent,
            window: sighting.window,
            rule,
            learnt,
            certain: reading.certain && rule > 0.0,
            at: now,
            model: sighting.model.clone(),
            what: reading.what.clone(),
        };
        let said = match mode {
            _ if pardoned => word(0.0, None),
            Mode::Shadow => word(plain, None),
            _ => word(reading.rule, alone),
        };
        if !pardoned && let Some(alone) = alone.filter(|alone| *alone > 0.0 || plain > 0.0) {
            standing.learnt.take(Word { certain: false, ..word(0.0, Some(alone)) });
            if plain > 0.0 {
                standing.rules.take(word(plain, None));
            }
        }
        let evidence = said.evidence();
        standing.belief.take(said);
        if is_elsewhere(subject) {
            return self.told(sighting, evidence).into_iter().collect();
        }
        // It climbs only on evidence that is new.
        if evidence > 0.0 { self.climb(sighting) } else { Vec::new() }
    }

    /// The sum of what was learnt of a subject, if anything was: what it is worth is to be handed to [`together`](Self::together).
    pub fn sum(&mut self, sighting: &Sighting) -> Option<Sum> {
        self.subjects.get_mut(&sighting.subject)?.belief.sum(sighting.window)
    }

    /// Takes in what the sum of a subject is worth.
    pub fn together(&mut self, sighting: &Sighting, worth: Worth) -> Vec<Act> {
        let (subject, now) = (&sighting.subject, sighting.at);
        let (Worth::Known(evidence, _), Some(standing)) = (worth, self.subjects.get_mut(subject)) else {
            return Vec::new();
        };
        if standing.is_pardoned(now) {
            return Vec::new();
        }
        standing.belief.judged(evidence, now);
        if evidence > 0.0 { self.climb(sighting) } else { Vec::new() }
    }

    /// Of what somebody else does something about: that it is so, once, and that it is over.
    fn told(&mut self, sighting: &Sighting, evidence: f64) -> Option<Act> {
        let now = sighting.at;
        let standing = self.subjects.get_mut(&sighting.subject)?;
        let kind = match (standing.rung, evidence > 0.0) {
            // What was refused is not there: there is nothing that stands.
            _ if matches!(sighting.subject, Subject::Bundle(..)) => {
                (evidence > 0.0 && standing.belief.known(now).log_odds >= NOTE).then_some(Kind::Note)?
            }
            (Rung::Observe, true) => {
                standing.rung = Rung::Quarantine;
                standing.since = now;
                Kind::Set { rung: Rung::Quarantine, until: None }
            }
            (Rung::Quarantine, false) => {
                standing.free(now);
                standing.belief = Belief::default();
                Kind::End { why: "it is trusted again" }
            }
            _ => return None,
        };
        Some(self.act(&sighting.subject, sighting.model.clone(), kind, now))
    }

    fn climb(&mut self, sighting: &Sighting) -> Vec<Act> {
        let (subject, now) = (&sighting.subject, sighting.at);
        let Some(standing) = self.subjects.get(subject) else { return Vec::new() };
        let known = standing.belief.known(now);
        let mut acts = Vec::new();
        let target = ladder::rung(known, standing.rung);
        let reasons = standing.belief.reasons(now);
        let scope = Standing::model(&reasons);
        if target <= standing.rung {
            // What it is about is wider than what was done, which counts as a step up.
            let wider = standing.rung > Rung::Observe && standing.scope.is_some() && scope.is_none();
            if !wider || target < standing.rung {
                if known.log_odds >= NOTE && !standing.noted {
                    acts.push(self.act(subject, scope, Kind::Note, now));
                    self.noted(subject);
                }
                return acts;
            }
        }
        let autonomy = sighting.autonomy.unwrap_or(self.settings.autonomy);
        let (standing_rung, proposed, noted) = (standing.rung, standing.proposed, standing.noted);
        let propose = |rung: Rung, why| (rung > proposed).then_some(Kind::Propose { rung, why });
        let limited = match subject {
            Subject::Source(_) => Some((Rung::Throttle, "whoever it is has shown no credential")),
            _ if sighting.admin => Some((Rung::Throttle, "it is an admin")),
            _ => None,
        };
        let kind = match autonomy {
            Autonomy::Observe => (!noted).then_some(Kind::Note),
            Autonomy::Recommend => propose(target, "agents only recommend here"),
            Autonomy::Approve => propose(target, "agents ask before they act here"),
            Autonomy::Act => match limited {
                Some((most, _)) if target > most && standing_rung < most => {
                    Some(self.put(subject, most, scope.clone(), now))
                }
                // A source is nobody, and there is nothing more to ask a person for.
                Some((most, _)) if target > most && !subject.is_known() => None,
                Some((most, why)) if target > most => propose(target, why),
                _ if known.certain || self.has_room(subject, now) => {
                    Some(self.put(subject, target, scope.clone(), now))
                }
                _ => {
                    acts.extend(self.suspect(subject, &reasons, now));
                    propose(target, "more are suspicious at once than may be answered")
                }
            },
        };
        if let Some(kind) = kind {
            if let Some(standing) = self.subjects.get_mut(subject) {
                if let Kind::Propose { rung, .. } = kind {
                    standing.proposed = rung;
                }
                standing.freeze(now);
            }
            self.noted(subject);
            acts.insert(0, self.act(subject, scope, kind, now));
        }
        acts
    }

    fn noted(&mut self, subject: &Subject) {
        if let Some(standing) = self.subjects.get_mut(subject) {
            standing.noted = true;
        }
    }

    fn put(&mut self, subject: &Subject, rung: Rung, scope: Option<ModelName>, now: Timestamp) -> Kind {
        if let Some(namespace) = subject.namespace()
            && let Some(town) = self.towns.get_mut(namespace)
        {
            town.raised(subject, now);
        }
        let until = self.subjects.get_mut(subject).and_then(|standing| standing.set(rung, scope, now));
        Kind::Set { rung, until }
    }

    /// Whether one more may be answered in its namespace; who is on a rung already is no more.
    fn has_room(&self, subject: &Subject, now: Timestamp) -> bool {
        if self.subjects.get(subject).is_some_and(|standing| standing.rung > Rung::Observe) {
            return true;
        }
        let Some(namespace) = subject.namespace() else { return true };
        let Some(town) = self.towns.get(namespace) else { return true };
        let most = ((town.callers() as f64 * self.settings.blast) as usize).max(1);
        let restricted = |(other, standing): &(&Subject, &Standing)| {
            other.namespace() == Some(namespace) && standing.rung > Rung::Observe && !is_elsewhere(other)
        };
        let standing = self.subjects.iter().filter(restricted).count();
        town.lately(subject, now) < most && standing < (5 * most).max(1)
    }

    fn suspect(&mut self, subject: &Subject, reasons: &[Reason], now: Timestamp) -> Option<Act> {
        let agent = reasons.first()?.agent;
        let key = (subject.namespace().cloned(), agent);
        if self.suspects.get(&key).is_some_and(|until| now < *until) {
            return None;
        }
        let until = now.plus(SUSPECT);
        self.suspects.retain(|_, until| now < *until);
        self.suspects.insert(key, until);
        Some(self.act(subject, None, Kind::Suspect { agent, until }, now))
    }

    fn act(&self, subject: &Subject, model: Option<ModelName>, kind: Kind, at: Timestamp) -> Act {
        let standing = self.subjects.get(subject);
        let known = standing
            .map_or(Known { log_odds: ladder::PRIOR, kinds: 0, certain: false }, |standing| standing.belief.known(at));
        let reasons = standing.map(|standing| standing.belief.reasons(at)).unwrap_or_default();
        Act { subject: subject.clone(), model, kind, at, known, reasons }
    }

    /// What time alone brings: answers that end, and steps down, one at a time.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Act> {
        let mut changed = Vec::new();
        for (subject, standing) in &mut self.subjects {
            if standing.rung == Rung::Observe || is_elsewhere(subject) {
                continue;
            }
            let target = ladder::rung(standing.belief.known(now), standing.rung);
            if standing.until.is_some_and(|until| until <= now) {
                let model = standing.scope.take();
                standing.free(now);
                changed.push((subject.clone(), model, Kind::End { why: "its time is over" }));
            } else if target < standing.rung && !standing.held && now.since(standing.since) >= DWELL {
                let (rung, model) = (ladder::below(standing.rung), standing.scope.clone());
                if rung == Rung::Observe {
                    standing.free(now);
                    changed.push((subject.clone(), model, Kind::End { why: "the evidence has faded" }));
                } else {
                    (standing.rung, standing.since) = (rung, now);
                    changed.push((subject.clone(), model, Kind::Set { rung, until: standing.until }));
                }
            }
        }
        self.towns.values_mut().for_each(|town| town.tick(now));
        changed.into_iter().map(|(subject, model, kind)| self.act(&subject, model, kind, now)).collect()
    }

    /// A person lets a proposal be done.
    pub fn approve(&mut self, subject: &Subject, rung: Rung, scope: Option<ModelName>, now: Timestamp) -> Act {
        let standing = self.subjects.entry(subject.clone()).or_insert_with(|| Standing::new(now));
        let until = standing.set(rung, scope.clone(), now);
        let until = if rung == Rung::Revoke { None } else { until };
        standing.until = until;
        self.act(subject, scope, Kind::Set { rung, until }, now)
    }

    /// A person says when a restriction ends; not by itself where nothing is said.
    pub fn until(&mut self, subject: &Subject, until: Option<Timestamp>) {
        if let Some(standing) = self.subjects.get_mut(subject) {
            (standing.until, standing.held) = (until, true);
        }
    }

    /// A person's word on what was done or proposed about a subject: whether it is hostile. Agents of whom that changes something.
    pub fn label(&mut self, subject: &Subject, hostile: bool, now: Timestamp) -> Vec<Act> {
        let said = self.subjects.get_mut(subject).map(|standing| std::mem::take(&mut standing.said));
        let (Some(said), Some(namespace)) = (said, subject.namespace()) else { return Vec::new() };
        let turns = self.trust.label(namespace, &said, hostile);
        turns.into_iter().map(|(agent, turn)| self.guard(namespace, agent, turn, now)).collect()
    }

    /// A person says that what an agent learnt is to act again; nothing where it does.
    pub fn take_up(&mut self, namespace: &Namespace, agent: AgentName, now: Timestamp) -> Option<Act> {
        self.trust.take_up(namespace, agent).then(|| self.guard(namespace, agent, Turn::TakenUp, now))
    }

    fn guard(&self, namespace: &Namespace, agent: AgentName, turn: Turn, now: Timestamp) -> Act {
        let kind = Kind::Guard { agent, namespace: namespace.clone(), turn };
        self.act(&Subject::Agent(agent), None, kind, now)
    }

    /// A person speaks for a subject: it is free, and believed for a day.
    pub fn pardon(&mut self, subject: &Subject, now: Timestamp) -> Act {
        let standing = self.subjects.entry(subject.clone()).or_insert_with(|| Standing::new(now));
        standing.free(now);
        standing.forget();
        standing.pardoned = Some(now.plus(PARDON));
        self.act(subject, None, Kind::End { why: "a person said so" }, now)
    }

    /// On which rung a subject stands.
    pub fn rung(&self, subject: &Subject) -> Rung {
        self.subjects.get(subject).map_or(Rung::Observe, |standing| standing.rung)
    }

    /// How likely a subject is hostile.
    pub fn probability(&self, subject: &Subject, now: Timestamp) -> f64 {
        let log_odds = self.subjects.get(subject).map_or(ladder::PRIOR, |standing| standing.belief.known(now).log_odds);
        ladder::probability(log_odds)
    }

    /// Room for one more: whoever is least suspect and was away longest goes, an eighth of all at once. Who is on a rung, or was
    /// spoken for, stays.
    fn make_room(&mut self, now: Timestamp) {
        if self.subjects.len() < SUBJECTS {
            return;
        }
        let worth = |standing: &Standing| {
            let away = standing.belief.last().map_or(0.0, |last| now.since(last).as_secs_f64());
            standing.belief.known(now).log_odds - away / 600.0
        };
        let stays = |standing: &Standing| standing.rung > Rung::Observe || standing.is_pardoned(now);
        let mut all: Vec<f64> = self.subjects.values().map(worth).collect();
        let (_, least, _) = all.select_nth_unstable_by(SUBJECTS / 8, f64::total_cmp);
        let least = *least;
        self.subjects.retain(|_, standing| stays(standing) || worth(standing) > least);
    }
}

#[cfg(test)]
mod tests;
