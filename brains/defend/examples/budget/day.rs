//! A simulated day. It has a shape, each agent's scores another one, their median rises by a fifth, new callers come, and one window in
//! a hundred is hostile. Nothing is known at its beginning.

use defend::{
    Arbiter,
    arbiter::{Kind, Settings},
    judges::{Judges, Worth},
};
use online::Random;
use types::{
    Timestamp,
    defence::{AgentName, Counts, Reading, Rung, Sighting},
    manifest::Autonomy,
};

use crate::habit::{AGENTS, Habit};

/// Windows of a day, and milliseconds of one.
const WINDOWS: u64 = 1_440;
const WINDOW: u64 = 60_000;
/// Hostile callers.
const FOES: u32 = 8;
/// Windows from which on the rate of a single caller says something.
const ENOUGH: u32 = 200;

/// How a day is.
#[derive(Clone, Copy)]
pub(crate) struct Day {
    pub(crate) callers: u32,
    pub(crate) budget: f64,
    /// The share of windows that are hostile, and by how many times what is typical of the agent that sees them they score higher.
    pub(crate) hostile: (f64, f64),
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Ordinary windows of which at least one agent had a verdict, those with an alarm, and by agent.
    pub(crate) decisions: u32,
    pub(crate) alarms: u32,
    pub(crate) by_agent: [u32; AGENTS.len()],
    pub(crate) by_hour: [(u32, u32); 24],
    /// The greatest rate of one ordinary caller.
    pub(crate) worst: f64,
    /// Ordinary callers, those that were ever restricted, and that were refused.
    pub(crate) callers: u32,
    pub(crate) restricted: u32,
    pub(crate) refused: u32,
    /// Hostile callers, and those that were ever restricted; their windows, and those with an alarm.
    pub(crate) foes: u32,
    pub(crate) found: u32,
    pub(crate) hostile: u32,
    pub(crate) caught: u32,
}

struct Caller {
    place: u64,
    habit: Habit,
    /// The agent that sees what it does, of a hostile one.
    attack: Option<usize>,
    windows: u32,
    alarms: u32,
    rung: Rung,
}

impl Caller {
    fn new(n: u32, attack: Option<usize>, random: &mut Random) -> Self {
        let name = if attack.is_some() { format!("eve-{n}") } else { format!("app-{n}") };
        let place = u64::from(n) + if attack.is_some() { 1 << 32 } else { 0 };
        Self { place, habit: Habit::new(&name, random), attack, windows: 0, alarms: 0, rung: Rung::Observe }
    }
}

impl Day {
    /// The budget of one agent.
    pub(crate) fn alpha(&self) -> f64 {
        self.budget / AgentName::ALL.len() as f64
    }

    pub(crate) fn run(&self, seed: u64) -> Outcome {
        let mut random = Random::new(seed);
        let mut outcome = Outcome::default();
        let mut judges = Judges::new(self.budget);
        let mut arbiter = Arbiter::new(Settings { autonomy: Autonomy::Act, ..Settings::default() });
        let foes = if self.hostile.0 > 0.0 { FOES } else { 0 };
        let mut callers: Vec<Caller> = (0..self.callers).map(|n| Caller::new(n, None, &mut random)).collect();
        callers.extend((0..foes).map(|n| Caller::new(n, Some(n as usize % AGENTS.len()), &mut random)));
        // As many windows of theirs as are to be hostile.
        let often = self.hostile.0 * 0.6 * 0.875 * f64::from(self.callers) / f64::from(FOES);
        for window in 0..WINDOWS {
            let day = window as f64 / WINDOWS as f64;
            let shape = 1.0 + 0.3 * (day * std::f64::consts::TAU).sin();
            let level = shape * 1.2_f64.powf(day);
            let known = (f64::from(self.callers) * (0.75 + 0.25 * day)) as usize;
            let at = Timestamp(1_000_000_000 + (window + 1) * WINDOW - 1);
            let mut over = Vec::new();
            for (place, caller) in callers.iter_mut().enumerate() {
                caller.habit.pass(&mut random);
                let draw = random.uniform();
                let there = match caller.attack {
                    None => place < known && draw < 0.6 * shape * caller.habit.share,
                    Some(_) => draw < often,
                };
                if there {
                    let scores = self.scores(caller, level, &mut random);
                    look(caller, &scores, (window, at), (&mut judges, &mut arbiter), &mut outcome);
                    over.push((place, scores));
                }
            }
            // The window is over: what was said is learnt, and time ends what it ends.
            for (place, scores) in over {
                let Some(caller) = callers.get(place) else { continue };
                for (agent, score) in AGENTS.iter().zip(scores) {
                    judges.learn(caller.habit.subject.namespace(), *agent, caller.place, score, at.0 as f64 / 1e3);
                }
            }
            for quarter in 1..=4 {
                arbiter.tick(Timestamp(at.0 + quarter * WINDOW / 4));
            }
        }
        callers.iter().for_each(|caller| outcome.count(caller));
        outcome
    }

    fn scores(&self, caller: &Caller, level: f64, random: &mut Random) -> [f64; AGENTS.len()] {
        let mut scores = caller.habit.ordinary(random);
        if let Some(score) = caller.attack.and_then(|agent| scores.get_mut(agent)) {
            *score += self.hostile.1 * (0.5 + random.uniform());
        }
        scores.map(|score| score * level)
    }
}

/// Hands a window's scores to the arbiter, as the sentinel does.
fn look(
    caller: &mut Caller,
    scores: &[f64; AGENTS.len()],
    (window, at): (u64, Timestamp),
    (judges, arbiter): (&mut Judges, &mut Arbiter),
    outcome: &mut Outcome,
) {
    let subject = &caller.habit.subject;
    let sighting = Sighting {
        subject: subject.clone(),
        model: None,
        autonomy: None,
        admin: false,
        length_ms: 60_000,
        window,
        at,
        counts: Counts { requests: 1, ..Counts::default() },
        readings: Vec::new(),
    };
    let (mut known, mut alarm, mut acts) = (false, false, Vec::new());
    for (place, (agent, score)) in AGENTS.iter().zip(scores).enumerate() {
        let worth = judges.judge(subject.namespace(), *agent, *score);
        known |= worth != Worth::Unknown;
        if matches!(worth, Worth::Known(_, true)) {
            alarm = true;
            if let Some(count) = outcome.by_agent.get_mut(place).filter(|_| caller.attack.is_none()) {
                *count += 1;
            }
        }
        let reading =
            Reading { agent: *agent, score: *score, rule: 0.0, twin: 0.0, certain: false, what: String::new() };
        acts.extend(arbiter.take(&sighting, &reading, worth));
    }
    if let Some(sum) = arbiter.sum(&sighting) {
        let worth = judges.together(subject.namespace(), sum.now);
        if let Some(over) = sum.over {
            judges.learn_together(subject.namespace(), caller.place, over, at.0 as f64 / 1e3);
        }
        alarm |= matches!(worth, Worth::Known(_, true));
        acts.extend(arbiter.together(&sighting, worth));
    }
    for act in acts {
        if let Kind::Set { rung, .. } = act.kind {
            caller.rung = caller.rung.max(rung);
        }
    }
    if !known {
        return;
    }
    if caller.attack.is_some() {
        outcome.hostile += 1;
        outcome.caught += u32::from(alarm);
        return;
    }
    outcome.decisions += 1;
    outcome.alarms += u32::from(alarm);
    if let Some((decisions, alarms)) = outcome.by_hour.get_mut((window / 60) as usize) {
        *decisions += 1;
        *alarms += u32::from(alarm);
    }
    caller.windows += 1;
    caller.alarms += u32::from(alarm);
}

impl Outcome {
    fn count(&mut self, caller: &Caller) {
        let restricted = u32::from(caller.rung > Rung::Observe);
        if caller.attack.is_some() {
            self.foes += 1;
            self.found += restricted;
            return;
        }
        self.callers += 1;
        self.restricted += restricted;
        self.refused += u32::from(caller.rung >= Rung::Quarantine);
        if caller.windows >= ENOUGH {
            self.worst = self.worst.max(f64::from(caller.alarms) / f64::from(caller.windows));
        }
    }
}
