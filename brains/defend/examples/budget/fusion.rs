//! What fusing is worth: beliefs of many subjects, of which one in a hundred is hostile and shows it to several agents, beside what each
//! agent says alone and the plain sum of what all say.

use defend::{
    belief::{Belief, Word},
    judges::{Judges, Worth},
    ladder,
};
use online::Random;
use types::{Namespace, Timestamp, defence::AgentName};

use crate::{
    habit::{AGENTS, Habit},
    measure::{Figures, Result},
};

/// Callers from whom thresholds are learnt, and windows of each.
const CALLERS: u32 = 400;
const LEARNT: u64 = 50;
/// Subjects that are judged, one in a hundred of them hostile, over so many windows.
const SUBJECTS: u32 = 20_000;
const WINDOWS: u64 = 10;
/// The share of ordinary subjects that may be above a threshold.
const SHARE: f64 = 0.001;
/// By how many times what is typical each agent sees an attack: payloads, a scan, theft of a model, a search for wrong answers. What
/// is beside the point of an attack is seen by others too, if less.
const ATTACKS: [[f64; AGENTS.len()]; 4] =
    [[2.5, 1.0, 0.0, 0.0], [1.0, 2.5, 0.5, 0.0], [0.0, 1.5, 2.5, 1.5], [0.0, 1.0, 1.5, 3.0]];
/// The share of an attacker's windows in which it attacks.
const ACTIVE: f64 = 0.6;
/// Bins of a calibration error.
const BINS: usize = 10;

/// What is said of one subject at most in its windows.
struct Said {
    hostile: bool,
    fused: f64,
    alone: [f64; AGENTS.len()],
    sum: f64,
    /// By how much a copy of an agent moves it, at most.
    copied: f64,
}

fn at(window: u64) -> Timestamp {
    Timestamp(1_000_000_000 + window * 60_000)
}

/// Takes in what the sum of what was said is worth.
fn together(belief: &mut Belief, judges: &Judges, namespace: &Namespace, window: u64) {
    if let Some(Worth::Known(evidence, _)) = belief.sum(window).map(|sum| judges.together(Some(namespace), sum.now)) {
        belief.judged(evidence, at(window));
    }
}

fn word(agent: AgentName, window: u64, evidence: f64) -> Word {
    let at = at(window);
    Word { agent, window, rule: 0.0, learnt: Some(evidence), certain: false, at, model: None, what: String::new() }
}

fn learnt(namespace: &Namespace, random: &mut Random) -> Judges {
    let mut judges = Judges::new(0.01);
    let mut callers: Vec<(Habit, Belief)> =
        (0..CALLERS).map(|n| (Habit::new(&format!("app-{n}"), random), Belief::default())).collect();
    for window in 0..LEARNT {
        let at = at(window);
        let now = at.0 as f64 / 1e3;
        for (place, (habit, belief)) in (0..).zip(&mut callers) {
            habit.pass(random);
            for (agent, score) in AGENTS.iter().zip(habit.ordinary(random)) {
                if let Worth::Known(evidence, _) = judges.judge(Some(namespace), *agent, score) {
                    belief.take(word(*agent, window, evidence));
                }
                judges.learn(Some(namespace), *agent, place, score, now);
            }
            if let Some(over) = belief.sum(window).and_then(|sum| sum.over) {
                judges.learn_together(Some(namespace), place, over, now);
            }
        }
    }
    judges
}

fn judged(judges: &Judges, namespace: &Namespace, attack: Option<&[f64; AGENTS.len()]>, random: &mut Random) -> Said {
    let mut habit = Habit::new("somebody", random);
    let (mut fused, mut twice, mut without) = (Belief::default(), Belief::default(), Belief::default());
    let (mut alone, mut sums) = ([(); AGENTS.len()].map(|()| Belief::default()), [0.0; AGENTS.len()]);
    let least = f64::NEG_INFINITY;
    let mut said = Said { hostile: attack.is_some(), fused: least, alone: [least; 4], sum: least, copied: 0.0 };
    for window in 0..WINDOWS {
        habit.pass(random);
        let mut scores = habit.ordinary(random);
        if let Some(attack) = attack.filter(|_| random.uniform() < ACTIVE) {
            let strength = 0.5 + random.uniform();
            scores.iter_mut().zip(attack).for_each(|(score, times)| *score += times * strength);
        }
        let at = at(window);
        for (place, (agent, score)) in AGENTS.iter().zip(scores).enumerate() {
            let Worth::Known(evidence, _) = judges.judge(Some(namespace), *agent, score) else { continue };
            fused.take(word(*agent, window, evidence));
            if let (Some(belief), Some(sum)) = (alone.get_mut(place), sums.get_mut(place)) {
                belief.take(word(*agent, window, evidence));
                *sum = *sum * 0.5_f64.powf(0.1) + evidence;
            }
            if *agent != AgentName::Evasion {
                without.take(word(*agent, window, evidence));
                twice.take(word(*agent, window, evidence));
            }
            if *agent == AgentName::Extraction {
                // A copy, which looks at the same.
                twice.take(word(AgentName::Evasion, window, evidence));
            }
        }
        [&mut fused, &mut twice, &mut without]
            .into_iter()
            .for_each(|belief| together(belief, judges, namespace, window));
        said.fused = said.fused.max(fused.known(at).log_odds);
        said.sum = said.sum.max(sums.iter().sum());
        for (most, belief) in said.alone.iter_mut().zip(&alone) {
            *most = most.max(belief.known(at).log_odds);
        }
        said.copied = said.copied.max((twice.known(at).log_odds - without.known(at).log_odds).abs());
    }
    said
}

/// The share of hostile subjects above what only so few ordinary ones are. Ties are broken against it.
fn recall(said: &[Said], of: impl Fn(&Said) -> f64) -> f64 {
    let mut ordinary: Vec<f64> = said.iter().filter(|one| !one.hostile).map(&of).collect();
    ordinary.sort_unstable_by(|a, b| b.total_cmp(a));
    let threshold = ordinary.get((ordinary.len() as f64 * SHARE) as usize).copied().unwrap_or(f64::INFINITY);
    let hostile: Vec<f64> = said.iter().filter(|one| one.hostile).map(of).collect();
    hostile.iter().filter(|value| **value > threshold).count() as f64 / hostile.len().max(1) as f64
}

/// Mean square error of what is believed, and its expected calibration error.
fn errors(said: &[Said], shift: f64) -> (f64, f64) {
    let mut bins = [(0.0, 0.0, 0.0); BINS];
    let mut square = 0.0;
    for one in said {
        let (p, is) = (ladder::probability(one.fused + shift), f64::from(u8::from(one.hostile)));
        square += (p - is).powi(2);
        if let Some((count, believed, truth)) = bins.get_mut(((p * BINS as f64) as usize).min(BINS - 1)) {
            *count += 1.0;
            *believed += p;
            *truth += is;
        }
    }
    let off = bins.iter().map(|(_, believed, truth)| (believed - truth).abs()).sum::<f64>();
    (square / said.len() as f64, off / said.len() as f64)
}

/// Judges subjects of many seeds together.
pub(crate) fn run(seeds: u64, figures: &mut Figures) -> Result<()> {
    let namespace: Namespace = "bank".parse()?;
    let mut said = Vec::new();
    for seed in 0..seeds {
        let mut random = Random::new(1_000 + seed);
        let judges = learnt(&namespace, &mut random);
        for n in 0..SUBJECTS {
            let attack = (n % 100 == 0).then(|| ATTACKS.get((n / 100) as usize % ATTACKS.len())).flatten();
            said.push(judged(&judges, &namespace, attack, &mut random));
        }
    }
    let case = "fusion";
    figures.add([case, "belief", "recall_at_0.1_percent", ""], recall(&said, |one| one.fused))?;
    figures.add([case, "plain sum", "recall_at_0.1_percent", ""], recall(&said, |one| one.sum))?;
    for (place, agent) in AGENTS.iter().enumerate() {
        let of = |one: &Said| one.alone.get(place).copied().unwrap_or(f64::NEG_INFINITY);
        figures.add([case, agent.as_str(), "recall_at_0.1_percent", ""], recall(&said, of))?;
    }
    // What is believed before anything is known is one in ten thousand; here it is one in a hundred.
    let (brier, ece) = errors(&said, 0.0);
    figures.add([case, "belief", "brier", ""], brier)?;
    figures.add([case, "belief", "ece", ""], ece)?;
    let (brier, ece) = errors(&said, -ladder::PRIOR - 99.0_f64.ln());
    figures.add([case, "belief, prior of 1 %", "brier", ""], brier)?;
    figures.add([case, "belief, prior of 1 %", "ece", ""], ece)?;
    figures.add([case, "always 1 %", "brier", ""], 0.01 * 0.99)?;
    figures.add([case, "belief", "moved_by_a_copy", "nats"], said.iter().map(|one| one.copied).fold(0.0, f64::max))
}
