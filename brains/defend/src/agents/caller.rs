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
//! **Bursts.** A flood need not wait for its window's end: of requests and of computing time it is also known how much was asked within
//! about a second. A third of a core or two thousand requests, five times what is usual for the caller, or for others where it
//! is new, is a rule; it is worth a throttle and no more, which ends it.
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
    ("milliseconds of computing", 30_000.0),
    ("faults", 100.0),
];

/// What is measured of bursts: its name, and how much of it in a second is a flood.
const BURSTS: [(&str, f64); 2] = [("requests", 2_000.0), ("milliseconds of computing", 333.0)];
/// The memory of a burst, in milliseconds.
const SECOND: f64 = 1_000.0;
/// What a burst says, at least and at most: enough to slow a caller down, and never to answer it less.
const BURST: (f64, f64) = (7.0, 7.7);

/// By how many times the greatest usual window is exceeded in a flood.
const TIMES: f64 = 5.0;
/// The place of computing time among them.
const COST: usize = 3;

/// The agent.
#[derive(Debug, Default)]
pub struct Caller {
    callers: HashMap<Subject, Habit>,
    /// What is usual in a namespace.
    namespaces: HashMap<Option<Namespace>, (Usual, Usually)>,
}

/// What is usual: of each measure the mean and the mean square distance of its logarithm.
#[derive(Debug, Clone, Copy, Default)]
struct Usual {
    windows: f64,
    mean: [f64; MEASURES.len()],
    square: [f64; MEASURES.len()],
    most: [f64; MEASURES.len()],
}

/// How much was asked within about a second: exponentially forgotten counts.
#[derive(Debug, Clone, Copy)]
struct Burst {
    level: [f64; BURSTS.len()],
    /// The greatest level in this window.
    most: [f64; BURSTS.len()],
    at: Timestamp,
    /// What was counted of the window then.
    counted: Counts,
}

/// What is usual of bursts: of each measure the mean and the mean square distance of the logarithm of a window's greatest.
#[derive(Debug, Clone, Copy, Default)]
struct Usually {
    windows: f64,
    mean: [f64; BURSTS.len()],
    square: [f64; BURSTS.len()],
}

#[derive(Debug, Clone)]
struct Habit {
    usual: Usual,
    burst: Burst,
    usually: Usually,
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

impl Burst {
    fn new(at: Timestamp) -> Self {
        Self { level: [0.0; BURSTS.len()], most: [0.0; BURSTS.len()], at, counted: Counts::default() }
    }

    /// Takes in what has been counted of the window by now.
    fn take(&mut self, counts: &Counts, now: Timestamp) {
        let of = |counts: &Counts| [counts.requests as f64, counts.cost_us as f64 / 1e3];
        let keep = (-(now.since(self.at).as_secs_f64() * 1e3) / SECOND).exp();
        let (seen, known) = (of(counts), of(&self.counted));
        for (place, (seen, known)) in seen.into_iter().zip(known).enumerate() {
            let (Some(level), Some(most)) = (self.level.get_mut(place), self.most.get_mut(place)) else { continue };
            *level = *level * keep + (seen - known).max(0.0);
            *most = most.max(*level);
        }
        (self.at, self.counted) = (now, *counts);
    }

    /// Another window begins.
    fn turn(&mut self) {
        (self.most, self.counted) = (self.level, Counts::default());
    }
}

impl Usually {
    fn learn(&mut self, most: &[f64; BURSTS.len()]) {
        self.windows += 1.0;
        let rate = (1.0 / self.windows).max(RATE);
        for ((most, mean), square) in most.iter().zip(&mut self.mean).zip(&mut self.square) {
            let off = most.ln_1p() - *mean;
            let bound = PULL * square.sqrt().max(SPREAD);
            let off = if self.windows <= OWN { off } else { off.clamp(-bound, bound) };
            *square = (1.0 - rate) * (*square + rate * off * off);
            *mean += rate * off;
        }
    }

    /// By how many times a burst exceeds what is usual, two spreads above the middle, where it is more than a floor; and of what.
    fn times(&self, level: &[f64; BURSTS.len()]) -> (f64, usize) {
        let mut greatest = (0.0, 0);
        for (place, (level, (_, floor))) in level.iter().zip(&BURSTS).enumerate() {
            let at = |of: &[f64; BURSTS.len()]| of.get(place).copied().unwrap_or(0.0);
            let usual = (at(&self.mean) + 2.0 * at(&self.square).sqrt().max(SPREAD)).exp_m1();
            let times = level / usual.max(1.0);
            if level >= floor && times > greatest.0 {
                greatest = (times, place);
            }
        }
        greatest
    }
}

impl Habit {
    fn counts(&self) -> Counts {
        self.now.iter().fold(Counts::default(), |sum, (_, counts)| sum.with(*counts))
    }

    /// What its burst says, and what it is of: held against its own where that is known, or against others'.
    fn burst(&self, others: Option<&Usually>) -> (f64, usize) {
        let against = if self.usually.windows > OWN { Some(&self.usually) } else { others };
        let (times, place) = against.map_or((0.0, 0), |usually| usually.times(&self.burst.level));
        let says = BURST.0 + (times / TIMES).ln();
        (if times >= TIMES { says.min(BURST.1) } else { 0.0 }, place)
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
        let (others, theirs) = (others.map(|(usual, _)| usual), others.map(|(_, usually)| usually));
        let habit = self.callers.entry(sighting.subject.clone()).or_insert_with(|| Habit {
            usual: Usual::default(),
            burst: Burst::new(sighting.at),
            usually: Usually::default(),
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
            habit.usually.learn(&habit.burst.most);
            let (usual, usually) = self.namespaces.entry(namespace).or_default();
            usual.learn(&counts);
            usually.learn(&habit.burst.most);
            habit.burst.turn();
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
        habit.burst.take(&counts, sighting.at);
        let (burst, burst_place) = habit.burst(theirs.as_ref());
        let minutes = sighting.length_ms as f64 / 60_000.0;
        let (distance, place) = habit.usual.distance(&counts, others.as_ref(), minutes);
        let (times, rule_place) = habit.usual.times(&counts, others.as_ref(), minutes);
        let walk = walked(habit.walk, &counts);
        let flood = if times >= TIMES { (4.5 + times.ln()).min(WALK) } else { 0.0 };
        let what = if burst > flood.max(walk) {
            let name = BURSTS.get(burst_place).map_or("requests", |(name, _)| name);
            let value = habit.burst.level.get(burst_place).copied().unwrap_or(0.0);
            format!("{value:.0} {name} within a second")
        } else if walk >= flood && walk > MISS {
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
        let rule = if rule_place == COST { walked.max(flood) } else { walked }.max(burst);
        let twin = flood.max(burst);
        Some(Reading { agent: AgentName::Caller, score: distance.max(walk), rule, twin, certain: false, what })
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
    fn a_burst_is_slowed_down_within_a_second_and_a_batch_is_not() {
        let mut agent = Caller::default();
        for window in 1..20 {
            agent.look(&sighting("app", window, asks(300)));
        }
        // What others take is known; a new caller sends a batch at fifty requests a second, and another floods.
        let seen = |agent: &mut Caller, caller: &str, requests: u64, ms: u64| {
            agent.look(&Sighting { at: Timestamp(20 * 60_000 + ms), ..sighting(caller, 20, asks(requests)) }).unwrap()
        };
        let batch = (1..=300).map(|n| seen(&mut agent, "batch", n * 10, n * 200).rule).fold(0.0, f64::max);
        assert_eq!(batch, 0.0);
        let rules: Vec<_> = (1..=5).map(|n| seen(&mut agent, "eve", n * 2_000, n * 200)).collect();
        let (rule, what) = (rules[4].rule, &rules[4].what);
        assert!((7.0..=7.7).contains(&rule) && what.contains("requests within a second"), "{rules:?}");
        // Few requests that are expensive are one as well.
        let sponge = |n: u64| Counts { requests: n, rows: n * 5_000, cost_us: n * 30_000, ..Counts::default() };
        let rules: Vec<f64> = (1..=5)
            .map(|n| Sighting { at: Timestamp(20 * 60_000 + n * 200), ..sighting("mud", 20, sponge(n * 7)) })
            .map(|sighting| agent.look(&sighting).unwrap().rule)
            .collect();
        assert!(rules[0] == 0.0 && rules[4] >= 7.0, "{rules:?}");
    }

    #[test]
    fn who_was_always_heavy_is_no_burst() {
        let mut agent = Caller::default();
        let mut rules = Vec::new();
        for second in 0..1_800 {
            let (window, within) = (1 + second / 60, second % 60 + 1);
            let counts = Counts {
                requests: 4_000 * within,
                rows: 4_000 * within,
                cost_us: 900_000 * within,
                ..Counts::default()
            };
            let seen = Sighting { at: Timestamp(1_000 * second), ..sighting("heavy", window, counts) };
            rules.push(agent.look(&seen).unwrap().rule);
        }
        assert!(rules.iter().all(|rule| *rule < 7.0), "{:?}", rules.iter().copied().fold(0.0, f64::max));
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
