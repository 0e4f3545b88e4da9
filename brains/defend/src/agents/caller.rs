//! The caller agent: whether a caller behaves as it usually does, and as others do.
//!
//! **Scanners.** Threshold random walk (Jung, Paxson, Berger, Balakrishnan, IEEE S&P 2004): each place that a caller asks for for
//! the first time is there or is not. Whoever belongs here misses one in fifty, and one in five is enough
//! to be a scanner: each miss speaks ten to one for it, each hit five to four against it, and four misses in a row are an alarm. What was
//! asked for and missed before is no new evidence, so an application that is set up wrongly and tries again is no scanner.
//!
//! **Floods and expensive inputs.** Of each caller it is known how much it asks in a window, as the mean and spread of a logarithm:
//! requests, rows, bytes, computing time, faults. The score is the greatest distance above what is usual, in spreads. A caller
//! that is new has the baseline of its namespace, wider. A window that stands out teaches little, so that a slow ramp does not
//! become the usual: a baseline moves by 5 % of itself a window at most.
//!
//! The plain twin: five times as much of something as the greatest usual window, and more than a floor that no honest batch needs; of
//! computing time that is a rule, since it is taken from others.
//!
//! Unit: a caller's window. Blind spot: who attacks no faster than it used to work, and at what it may use.
//!
//! O(1) a sighting; some 200 bytes a caller, 65,536 callers, of which those go first that were away longest.

use std::collections::HashMap;

use types::{
    Namespace, Timestamp,
    defence::{AgentName, Counts, Reading, Sighting, Subject},
};

use crate::Agent;

/// Callers that are remembered.
const CALLERS: usize = 65_536;
/// What a miss at a new place says, and a hit: ln(0.2 / 0.02) and ln(0.8 / 0.98).
const MISS: f64 = std::f64::consts::LN_10;
const HIT: f64 = -0.202_941;
/// What a walk says at most.
const WALK: f64 = 9.21;
/// The weight of a new window, and how far one may pull.
const RATE: f64 = 0.05;
const PULL: f64 = 2.0;
/// Windows after which a caller has a baseline of its own.
const OWN: f64 = 10.0;
/// The least spread, in logarithms: half as much or twice as much is nothing.
const SPREAD: f64 = 0.5;
/// The spread of a caller of whom nothing is known.
const WIDE: f64 = 1.5;
/// What is measured: its name, and below how much of it a minute is never a flood: a node has other means against what is
/// merely much, fair shares and limits, and an honest batch is as much for a while.
const MEASURES: [(&str, f64); 5] = [
    ("requests", 30_000.0),
    ("rows", 200_000.0),
    ("bytes", 640e6),
    ("milliseconds of computing", 20_000.0),
    ("faults", 100.0),
];

/// By how many times the greatest usual window is exceeded in a flood.
const TIMES: f64 = 5.0;
/// The place of computing time among them.
const COST: usize = 3;

/// The agent.
#[derive(Debug, Default)]
pub struct Caller {
    callers: HashMap<Subject, Habit>,
    /// What is usual in a namespace.
    namespaces: HashMap<Option<Namespace>, Usual>,
}

/// What is usual: of each measure the mean and the mean square distance of its logarithm.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    windows: f64,
    mean: [f64; MEASURES.len()],
    square: [f64; MEASURES.len()],
    most: [f64; MEASURES.len()],
}

#[derive(Debug, Clone)]
struct Habit {
    usual: Usual,
    /// The window that is not over, by model: what was counted so far.
    window: u64,
    now: Vec<(Option<types::ModelName>, Counts)>,
    /// The walk at the beginning of the window.
    walk: f64,
    seen: Timestamp,
}

/// Models of a caller that are told apart in a window.
const MODELS: usize = 64;

fn measured(counts: &Counts) -> [f64; MEASURES.len()] {
    let of = |count: u64| count as f64;
    [of(counts.requests), of(counts.rows), of(counts.bytes), of(counts.cost_us) / 1e3, of(counts.faults)]
}

impl Usual {
    fn learn(&mut self, counts: &Counts) {
        self.windows += 1.0;
        let rate = (1.0 / self.windows).max(RATE);
        for (place, value) in measured(counts).into_iter().enumerate() {
            let (Some(mean), Some(square), Some(most)) =
                (self.mean.get_mut(place), self.square.get_mut(place), self.most.get_mut(place))
            else {
                continue;
            };
            let spread = square.sqrt().max(SPREAD);
            let off = value.ln_1p() - *mean;
            // Few windows say little of what is usual: they are taken as they are.
            let off = if self.windows <= OWN { off } else { off.clamp(-PULL * spread, PULL * spread) };
            *square += rate * (off * off - *square);
            *mean += rate * off;
            let capped = if self.windows <= OWN { value } else { value.min(2.0 * *most) };
            *most = (*most * 0.99).max(capped);
        }
    }

    /// The greatest distance above what is usual, in spreads, and of what; the same of what is `wider` where little is known.
    fn distance(&self, counts: &Counts, wider: Option<&Self>, minutes: f64) -> (f64, usize) {
        let own = (self.windows / OWN).min(1.0);
        let mut greatest = (0.0, 0);
        for (place, value) in measured(counts).into_iter().enumerate() {
            let at = |of: &[f64; MEASURES.len()]| of.get(place).copied().unwrap_or(0.0);
            let (mean, spread) = (at(&self.mean), at(&self.square).sqrt().max(SPREAD));
            let (mean, spread) = match wider {
                Some(others) if own < 1.0 => {
                    let (theirs, wide) = (at(&others.mean), at(&others.square).sqrt().max(WIDE));
                    (own * mean + (1.0 - own) * theirs.max(mean), own * spread + (1.0 - own) * wide)
                }
                _ => (mean, spread),
            };
            // Below its floor nothing is a flood, however unusual.
            let floor = MEASURES.get(place).map_or(0.0, |(_, floor)| minutes * floor / 100.0);
            let distance = if value < floor { 0.0 } else { ((value.ln_1p() - mean) / spread).max(0.0) };
            if distance > greatest.0 {
                greatest = (distance, place);
            }
        }
        greatest
    }

    /// By how many times the greatest usual window is exceeded, where it is more than a floor.
    fn times(&self, counts: &Counts, wider: Option<&Self>, minutes: f64) -> (f64, usize) {
        let mut greatest = (0.0, 0);
        for (place, value) in measured(counts).into_iter().enumerate() {
            let floor = MEASURES.get(place).map_or(f64::INFINITY, |(_, floor)| minutes * floor);
            // Who is new is held against what others do: its own first windows may be the flood.
            let of = if self.windows <= OWN { wider.unwrap_or(self) } else { self };
            let most = of.most.get(place).copied().unwrap_or(0.0).max(floor / 10.0);
            if value >= floor && value / most > greatest.0 {
                greatest = (value / most, place);
            }
        }
        greatest
    }
}

impl Habit {
    fn counts(&self) -> Counts {
        self.now.iter().fold(Counts::default(), |sum, (_, counts)| sum.with(*counts))
    }
}

impl Caller {
    fn make_room(&mut self) {
        if self.callers.len() >= CALLERS {
            let mut seen: Vec<Timestamp> = self.callers.values().map(|habit| habit.seen).collect();
            let middle = seen.len() / 8;
            let (_, oldest, _) = seen.select_nth_unstable(middle);
            let oldest = *oldest;
            self.callers.retain(|_, habit| habit.seen > oldest);
        }
    }
}

/// What the walk of a window says: misses at new places, against one hit.
fn walked(before: f64, counts: &Counts) -> f64 {
    let hits = counts.requests.saturating_sub(counts.misses + counts.kept_out).min(4);
    (before + MISS * counts.places as f64 + HIT * hits as f64).clamp(0.0, WALK)
}

impl Agent for Caller {
    fn name(&self) -> AgentName {
        AgentName::Caller
    }

    fn look(&mut self, sighting: &Sighting) -> Option<Reading> {
        if !matches!(sighting.subject, Subject::Caller(..) | Subject::Source(_)) {
            return None;
        }
        self.make_room();
        let namespace = sighting.subject.namespace().cloned();
        let others = self.namespaces.get(&namespace).copied();
        let habit = self.callers.entry(sighting.subject.clone()).or_insert_with(|| Habit {
            usual: Usual::default(),
            window: sighting.window,
            now: Vec::new(),
            walk: 0.0,
            seen: sighting.at,
        });
        habit.seen = sighting.at;
        if sighting.window > habit.window {
            let counts = habit.counts();
            habit.walk = walked(habit.walk, &counts);
            habit.usual.learn(&counts);
            self.namespaces.entry(namespace).or_default().learn(&counts);
            habit.now.clear();
            habit.window = sighting.window;
        }
        let known = habit.now.len();
        match habit.now.iter_mut().find(|(model, _)| *model == sighting.model) {
            Some((_, counts)) => *counts = sighting.counts,
            None if known < MODELS => habit.now.push((sighting.model.clone(), sighting.counts)),
            None => {}
        }
        let counts = habit.counts();
        let minutes = sighting.length_ms as f64 / 60_000.0;
        let (distance, place) = habit.usual.distance(&counts, others.as_ref(), minutes);
        let (times, rule_place) = habit.usual.times(&counts, others.as_ref(), minutes);
        let walk = walked(habit.walk, &counts);
        let flood = if times >= TIMES { (4.5 + times.ln()).min(WALK) } else { 0.0 };
        let what = if walk >= flood && walk > MISS {
            format!("{} places asked for that are not there, or not for it", counts.places)
        } else {
            let place = if flood > 0.0 { rule_place } else { place };
            let name = MEASURES.get(place).map_or("requests", |(name, _)| name);
            let value = measured(&counts).get(place).copied().unwrap_or(0.0);
            format!(
                "{value:.0} {name} in a window; usual are {:.0}",
                habit.usual.mean.get(place).map_or(0.0, |m| m.exp_m1())
            )
        };
        // One miss is nobody's alarm.
        let walked = if walk > MISS { walk } else { 0.0 };
        // Who takes a third of a core, five times what others take, takes it from them.
        let rule = if rule_place == COST { walked.max(flood) } else { walked };
        Some(Reading { agent: AgentName::Caller, score: distance.max(walk), rule, twin: flood, certain: false, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(caller: &str, window: u64, counts: Counts) -> Sighting {
        Sighting {
            subject: format!("caller:bank/{caller}").parse().unwrap(),
            model: None,
            autonomy: None,
            admin: false,
            length_ms: 60_000,
            window,
            at: Timestamp(window * 60_000),
            counts,
            readings: Vec::new(),
        }
    }

    fn asks(requests: u64) -> Counts {
        Counts { requests, rows: requests, bytes: requests * 200, cost_us: requests * 50, ..Counts::default() }
    }

    #[test]
    fn four_places_that_are_not_there_are_a_scanner_and_one_tried_again_is_none() {
        let mut agent = Caller::default();
        let scan = Counts { requests: 4, misses: 4, places: 4, ..Counts::default() };
        assert!(agent.look(&sighting("eve", 1, scan)).unwrap().rule >= 9.2);
        let again = Counts { requests: 400, misses: 400, places: 1, ..Counts::default() };
        let reading = agent.look(&sighting("app", 1, again)).unwrap();
        assert_eq!(reading.rule, 0.0, "{reading:?}");
    }

    #[test]
    fn a_slow_scan_is_found_over_windows() {
        let mut agent = Caller::default();
        let one = Counts { requests: 1, misses: 1, places: 1, ..Counts::default() };
        let rules: Vec<f64> = (1..=5).map(|window| agent.look(&sighting("eve", window, one)).unwrap().rule).collect();
        assert!(rules[0] == 0.0 && rules[4] >= 9.2, "{rules:?}");
    }

    #[test]
    fn a_flood_stands_out_and_the_usual_does_not() {
        let mut agent = Caller::default();
        let mut greatest: f64 = 0.0;
        for window in 1..100 {
            let reading = agent.look(&sighting("app", window, asks(300 + 40 * (window % 7)))).unwrap();
            assert_eq!((reading.rule, reading.twin), (0.0, 0.0));
            if window > 20 {
                greatest = greatest.max(reading.score);
            }
        }
        let reading = agent.look(&sighting("app", 100, asks(60_000))).unwrap();
        assert!(reading.twin > 5.0 && reading.score > 2.0 * greatest.max(1.0), "{reading:?} {greatest}");
        assert!(reading.what.contains("60000 requests"), "{}", reading.what);
    }

    #[test]
    fn a_slow_ramp_does_not_become_the_usual_at_once() {
        let mut agent = Caller::default();
        for window in 1..50 {
            agent.look(&sighting("app", window, asks(1_000)));
        }
        let usual = |agent: &Caller| agent.callers.values().next().unwrap().usual.mean[0].exp();
        let before = usual(&agent);
        agent.look(&sighting("app", 50, asks(1_000_000)));
        agent.look(&sighting("app", 51, asks(1_000)));
        assert!(usual(&agent) < 1.2 * before, "{} {before}", usual(&agent));
    }

    #[test]
    fn callers_are_bounded() {
        let mut agent = Caller::default();
        for n in 0..70_000 {
            agent.look(&sighting(&format!("c{n}"), n, asks(1)));
        }
        assert!(agent.callers.len() <= CALLERS);
        assert!(agent.callers.contains_key(&"caller:bank/c69999".parse().unwrap()), "the oldest go first");
    }
}
