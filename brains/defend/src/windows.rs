//! Windows of time that are not over: what several gateways saw of a subject put together, and the greatest score of each agent.
//!
//! A gateway tells a window's sums so far, again and again; a later sighting takes the place of the one before. Once a window is
//! over, each agent's greatest score in it is what thresholds are learnt from.

use std::collections::HashMap;

use types::{
    ModelName, Timestamp,
    defence::{AgentName, Counts, Reading, Sighting, Subject},
};

/// Subjects with an open window; more are not put together.
const SUBJECTS: usize = 65_536;
/// Gateways × models that are told apart in a window.
const PARTS: usize = 128;

/// The open windows.
#[derive(Debug, Default)]
pub struct Windows {
    open: HashMap<Subject, Span>,
}

#[derive(Debug)]
struct Span {
    window: u64,
    parts: Vec<Part>,
    scores: Vec<(AgentName, f64)>,
}

#[derive(Debug)]
struct Part {
    gateway: String,
    model: Option<ModelName>,
    counts: Counts,
    readings: Vec<Reading>,
}

/// A window that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Whose.
    pub subject: Subject,
    /// The greatest score of each agent that had one.
    pub scores: Vec<(AgentName, f64)>,
}

impl Windows {
    /// Takes in what a gateway saw; what all of them saw of the subject at that model, and the window that is over by it.
    pub fn take(&mut self, gateway: &str, sighting: &Sighting) -> (Sighting, Option<Finished>) {
        if !self.open.contains_key(&sighting.subject) && self.open.len() >= SUBJECTS {
            return (sighting.clone(), None);
        }
        let span = self.open.entry(sighting.subject.clone()).or_insert_with(|| Span::new(sighting.window));
        let mut finished = None;
        if sighting.window > span.window {
            let over = std::mem::replace(span, Span::new(sighting.window));
            finished = over.finished(sighting.subject.clone());
        }
        let here = |part: &Part| part.gateway == gateway && part.model == sighting.model;
        let part = Part {
            gateway: gateway.to_owned(),
            model: sighting.model.clone(),
            counts: sighting.counts,
            readings: sighting.readings.clone(),
        };
        match span.parts.iter().position(here) {
            Some(place) => {
                if let Some(slot) = span.parts.get_mut(place) {
                    *slot = part;
                }
            }
            None if span.parts.len() < PARTS => span.parts.push(part),
            None => {}
        }
        let mut all = Sighting { counts: Counts::default(), readings: Vec::new(), ..sighting.clone() };
        for part in span.parts.iter().filter(|part| part.model == sighting.model) {
            all.counts = all.counts.with(part.counts);
            for reading in &part.readings {
                match all.readings.iter_mut().find(|known| known.agent == reading.agent) {
                    Some(known) if worse(reading, known) => *known = reading.clone(),
                    Some(_) => {}
                    None => all.readings.push(reading.clone()),
                }
            }
        }
        (all, finished)
    }

    /// Notes a score of an agent; the greatest of a window counts.
    pub fn note(&mut self, subject: &Subject, window: u64, agent: AgentName, score: f64) {
        let Some(span) = self.open.get_mut(subject).filter(|span| span.window == window) else { return };
        match span.scores.iter_mut().find(|(known, _)| *known == agent) {
            Some((_, greatest)) => *greatest = greatest.max(score),
            None => span.scores.push((agent, score)),
        }
    }

    /// The windows that were over before `now`, where one is `length` milliseconds.
    pub fn finish(&mut self, now: Timestamp, length: u64) -> Vec<Finished> {
        // A moment longer, since gateways tell of a window after it is over.
        let current = now.0.saturating_sub(1_000) / length.max(1);
        let over: Vec<Subject> =
            self.open.iter().filter(|(_, span)| span.window < current).map(|(subject, _)| subject.clone()).collect();
        over.into_iter().filter_map(|subject| self.open.remove(&subject)?.finished(subject)).collect()
    }
}

/// Whether a reading says more than another one of the same agent.
fn worse(reading: &Reading, known: &Reading) -> bool {
    (reading.certain, reading.rule, reading.score) > (known.certain, known.rule, known.score)
}

impl Span {
    fn new(window: u64) -> Self {
        Self { window, parts: Vec::new(), scores: Vec::new() }
    }

    fn finished(self, subject: Subject) -> Option<Finished> {
        (!self.scores.is_empty()).then_some(Finished { subject, scores: self.scores })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(window: u64, requests: u64, score: f64) -> Sighting {
        Sighting {
            subject: "caller:bank/app".parse().unwrap(),
            model: None,
            autonomy: None,
            admin: false,
            length_ms: 60_000,
            window,
            at: Timestamp(window * 1_000),
            counts: Counts { requests, ..Counts::default() },
            readings: vec![Reading {
                agent: AgentName::Evasion,
                score,
                rule: 0.0,
                twin: 0.0,
                certain: false,
                what: String::new(),
            }],
        }
    }

    #[test]
    fn gateways_add_up_and_a_later_word_takes_the_place_of_the_one_before() {
        let mut windows = Windows::default();
        windows.take("g0", &sighting(1, 5, 1.0));
        windows.take("g1", &sighting(1, 7, 3.0));
        let (all, finished) = windows.take("g0", &sighting(1, 6, 2.0));
        assert_eq!((all.counts.requests, all.readings[0].score, finished), (13, 3.0, None));
    }

    #[test]
    fn a_window_is_over_when_a_later_one_begins_or_its_time_is_gone() {
        let mut windows = Windows::default();
        let subject: Subject = "caller:bank/app".parse().unwrap();
        windows.take("g0", &sighting(1, 5, 1.0));
        windows.note(&subject, 1, AgentName::Evasion, 2.0);
        windows.note(&subject, 1, AgentName::Evasion, 1.0);
        let (_, finished) = windows.take("g0", &sighting(2, 1, 1.0));
        assert_eq!(finished.unwrap().scores, [(AgentName::Evasion, 2.0)]);
        windows.note(&subject, 2, AgentName::Evasion, 4.0);
        assert_eq!(windows.finish(Timestamp(3_500), 1_000), [], "not yet: gateways may tell of it");
        assert_eq!(windows.finish(Timestamp(4_001), 1_000)[0].scores, [(AgentName::Evasion, 4.0)]);
        assert!(windows.open.is_empty());
    }
}
