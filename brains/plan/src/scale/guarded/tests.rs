//! Off and in shadow it is the rule; who is shown to cost less acts, who is not does not; what gets worse hands back.

use proptest::prelude::*;

use super::*;
use crate::scale::PRICE;

const TERMS: Terms = Terms { lanes: 1, slo: 1.0, cold: 2.0, bounds: (1, 20), price: PRICE };
/// Seconds of a block, of which the first fifth does not count.
const BLOCK: u64 = 10;

fn trial(seed: u64) -> Trial {
    Trial::new(Mode::On, Some(BLOCK), seed).unwrap()
}

/// A second of a load that keeps so many lanes busy, at so many replicas.
fn seen(busy: f64, ready: u32) -> Seen {
    let beyond = 30.0 * (busy - f64::from(ready)).max(0.0);
    Seen { requests: busy * 10.0, in_flight: busy + beyond, service: 0.1, ready, starting: 0 }
}

/// So many blocks of a load that keeps three lanes busy, with what both want, at replicas that answer at once.
fn run(trial: &mut Trial, at: &mut u64, blocks: u64, said: impl Fn(u64) -> Said) {
    let mut ready = 4;
    for _ in 0..blocks * BLOCK {
        *at += 1;
        ready = trial.second(*at, &seen(3.0, ready), &TERMS, (TARGET, said(*at))).0;
    }
}

fn said(rule: u32, forecast: u32) -> Said {
    Said { rule: (rule, false), forecast }
}

/// One in which the forecast is shown to be better.
fn promoted(at: &mut u64) -> Trial {
    let mut trial = trial(3);
    run(&mut trial, at, 400, |_| said(6, 4));
    assert!(trial.acts(), "{:?}", trial.standing());
    trial
}

#[test]
fn who_costs_less_acts_and_the_rule_keeps_a_share() {
    let mut at = 0;
    let mut trial = promoted(&mut at);
    let standing = trial.standing();
    assert_eq!((standing.promoted, standing.handed_back), (1, 0));
    assert!(standing.saved().is_some_and(|saved| (0.3..0.36).contains(&saved)), "{standing:?}");
    let before = standing.blocks;
    run(&mut trial, &mut at, 500, |_| said(6, 4));
    let (rule, forecast) = trial.standing().blocks;
    assert!((20..90).contains(&(rule - before.0)) && forecast - before.1 > 400, "{rule} and {forecast}");
    assert!(trial.acts());
}

#[test]
fn who_costs_more_hands_back_and_begins_anew() {
    let mut at = 0;
    let mut trial = promoted(&mut at);
    run(&mut trial, &mut at, 1_500, |_| said(4, 8));
    let standing = trial.standing();
    assert!(!standing.acts && standing.handed_back == 1 && standing.promoted == 1, "{standing:?}");
    assert!(standing.saved().is_some_and(|saved| saved < -0.5), "{standing:?}");
}

#[test]
fn who_lets_requests_wait_hands_back_within_the_block_and_the_rule_has_the_rest_of_it() {
    let mut at = 0;
    let mut trial = promoted(&mut at);
    let length = 10_000;
    // A block of the forecast's that is far from its end.
    trial.length = Some(length);
    while trial.second(at + 1, &seen(3.0, 4), &TERMS, (TARGET, said(6, 4))).1 == Side::Rule {
        at += 1;
    }
    at += 1;
    let late = |trial: &mut Trial, at: &mut u64, rule| {
        *at += 1;
        trial.second(*at, &Seen { in_flight: 90.0, ..seen(3.0, 2) }, &TERMS, (TARGET, said(rule, 2)))
    };
    // Where the rule would not help it is nobody's fault.
    for _ in 0..100 {
        assert_eq!(late(&mut trial, &mut at, 2), (2, Side::Forecast));
    }
    let patience = 5 + TERMS.cold as usize;
    let turns: Vec<_> = (0..patience).map(|_| late(&mut trial, &mut at, 9)).collect();
    assert!(turns[..patience - 1].iter().all(|turn| *turn == (2, Side::Forecast)), "{turns:?}");
    assert_eq!(turns.last(), Some(&(9, Side::Rule)), "at once");
    assert_eq!((trial.acts(), trial.standing().handed_back), (false, 1));
    // For the rest of the block as well, though nobody waits any more; but more than the rule wants is not held back.
    at += 1;
    assert_eq!(trial.second(at, &seen(3.0, 9), &TERMS, (TARGET, said(6, 2))), (6, Side::Rule));
    at += 1;
    assert_eq!(trial.second(at, &seen(3.0, 9), &TERMS, (TARGET, said(6, 8))), (8, Side::Forecast));
}

#[test]
fn a_panic_of_the_rule_is_followed_in_every_block() {
    let (mut trial, mut by) = (trial(1), [0, 0]);
    for at in 1..4_000 {
        let panic = Said { rule: (7, true), forecast: 3 };
        assert_eq!(trial.second(at, &seen(3.0, 7), &TERMS, (TARGET, panic)).0, 7);
        let calm = trial.clone().second(at, &seen(3.0, 7), &TERMS, (TARGET, said(7, 3)));
        by[usize::from(calm.1 == Side::Forecast)] += 1;
    }
    assert!(by.iter().all(|seconds| *seconds > 1_000), "{by:?}");
    assert!(!trial.acts(), "what both do alike shows nothing");
}

#[test]
fn nobody_acts_more_often_than_alpha_who_is_no_better() {
    let runs = 300;
    let mut promoted = 0;
    for seed in 0..runs {
        let (mut trial, mut random) = (trial(seed), online::Random::new(seed + 1_000));
        let (mut at, mut mood, mut ready) = (0, 1.0_f64, 3);
        for block in 0..250_u64 {
            // A load with a memory and late blocks now and then; replicas that the forecast wants once more, once fewer.
            mood = (0.9 * mood + 0.3 * random.normal()).clamp(-2.0, 3.0);
            let busy = (2.0 + mood).max(0.2) + if random.uniform() < 0.05 { 9.0 } else { 0.0 };
            let rule = 4 + (block % 3) as u32;
            let forecast = if random.uniform() < 0.5 { rule - 1 } else { rule + 1 };
            for _ in 0..BLOCK {
                at += 1;
                ready = trial.second(at, &seen(busy, ready), &TERMS, (TARGET, said(rule, forecast))).0;
            }
        }
        promoted += u64::from(trial.standing().promoted > 0);
    }
    // The 99th percentile of a binomial distribution with a probability of 0.05.
    assert!(promoted <= 24, "{promoted} of {runs}");
}

#[test]
fn what_somebody_else_decided_and_what_was_not_seen_counts_for_nothing() {
    let (mut trial, mut at) = (trial(3), 0);
    for _ in 0..100 * BLOCK {
        at += 1;
        trial.second(at, &seen(3.0, 4), &TERMS, (TARGET, said(6, 4)));
        trial.void();
    }
    assert_eq!(trial.standing().blocks, (0, 0));
    for _ in 0..100 {
        at += 7;
        trial.second(at, &seen(3.0, 4), &TERMS, (TARGET, said(6, 4)));
    }
    assert_eq!(trial.standing().blocks, (0, 0), "one second in seven");
    for _ in 0..100 * BLOCK {
        at += 1;
        trial.second(at, &seen(0.0, 1), &TERMS, (TARGET, said(1, 1)));
    }
    assert_eq!(trial.standing().blocks, (0, 0), "nobody asks");
    run(&mut trial, &mut at, 10, |_| said(6, 4));
    let (rule, forecast) = trial.standing().blocks;
    assert!(rule + forecast >= 9, "{rule} and {forecast}");
}

#[test]
fn whole_days_are_compared_where_nobody_sets_a_length() {
    let mut trial = Trial::new(Mode::On, None, 3).unwrap();
    let (mut at, mut ready) = (0, 4);
    let mut day = |trial: &mut Trial, at: &mut u64, until: u64| {
        while *at < until {
            *at += 1;
            ready = trial.second(*at, &seen(3.0, ready), &TERMS, (TARGET, said(6, 4))).0;
        }
    };
    day(&mut trial, &mut at, 80_000);
    let blocks = trial.standing().blocks;
    assert!(!trial.acts() && blocks.0 + blocks.1 > 200, "{:?}", trial.standing());
    day(&mut trial, &mut at, 90_000);
    assert!(trial.acts(), "{:?}", trial.standing());
}

#[test]
fn a_mode_that_permits_less_takes_back_and_another_price_begins_anew() {
    let mut guarded = Guarded::new(Mode::On, TERMS, Some(BLOCK), 3).unwrap();
    let mut at = 0;
    guarded.trial = promoted(&mut at);
    assert!(guarded.standing().acts);
    let mut other = guarded.clone();
    let back = |guarded: &Guarded| {
        let standing = guarded.standing();
        (standing.acts, standing.promoted, standing.handed_back) == (false, 1, 1)
    };
    for mode in [Mode::Shadow, Mode::On] {
        guarded.set(mode, TERMS, Some(BLOCK)).unwrap();
        assert!(back(&guarded), "{:?}", guarded.standing());
    }
    other.set(Mode::On, Terms { bounds: (1, 9), ..TERMS }, Some(BLOCK)).unwrap();
    assert!(other.standing().acts, "other bounds are no other question");
    other.set(Mode::On, Terms { price: 1.0, ..TERMS }, Some(BLOCK)).unwrap();
    assert!(back(&other) && other.standing().blocks == (0, 0), "{:?}", other.standing());
}

/// What is wanted in each second of such a load, at replicas that answer after two seconds.
fn wanted(loads: &[u16], mut second: impl FnMut(u64, &Seen) -> u32) -> Vec<u32> {
    let (mut there, mut ready) = ([1, 1], 1);
    let each = (1_u64..).zip(loads).map(|(at, load)| {
        let busy = f64::from(*load) / 10.0;
        let now = second(at, &Seen { starting: there[1] - u32::min(there[1], ready), ..seen(busy, ready) });
        ready = now.min(there[0]).max(1);
        there = [there[1], now];
        now
    });
    each.collect()
}

proptest! {
    #[test]
    fn off_and_in_shadow_it_is_the_rule_bit_for_bit(loads in prop::collection::vec(0..200_u16, 1..400)) {
        let mut alone = Kpa::new(TERMS, TARGET);
        let plain = wanted(&loads, |at, seen| alone.second(at, seen));
        for mode in [Mode::Off, Mode::Shadow] {
            let mut guarded = Guarded::new(mode, TERMS, None, 1).unwrap();
            prop_assert_eq!(&wanted(&loads, |at, seen| guarded.second(at, seen).wanted), &plain);
            prop_assert_eq!(guarded.rule.save(), alone.save());
            prop_assert_eq!(guarded.standing(), Standing::default());
        }
    }

    #[test]
    fn it_goes_on_where_it_was_saved_and_never_wants_what_neither_does(
        loads in prop::collection::vec(0..200_u16, 2..400),
        seed in any::<u64>(),
    ) {
        let mut guarded = Guarded::new(Mode::On, TERMS, Some(BLOCK), seed).unwrap();
        let (first, second) = loads.split_at(loads.len() / 2);
        wanted(first, |at, seen| guarded.second(at, seen).wanted);
        let mut again = Guarded::load(&guarded.save()).unwrap();
        prop_assert_eq!(again.save(), guarded.save());
        let from = first.len() as u64;
        let mut plain = (guarded.rule.clone(), guarded.forecast.clone().unwrap());
        let mut verdicts = Vec::new();
        wanted(second, |at, seen| {
            let verdict = guarded.second(from + at, seen);
            let both = (plain.0.second(from + at, seen), plain.1.second(from + at, seen));
            let asked = match verdict.by {
                Side::Rule => both == (verdict.wanted, verdict.twin.unwrap()),
                Side::Forecast => both == (verdict.twin.unwrap(), verdict.wanted),
            };
            verdicts.push((*seen, verdict, asked));
            verdict.wanted
        });
        for (at, (seen, verdict, asked)) in (from + 1..).zip(verdicts) {
            prop_assert!(asked, "{verdict:?}");
            prop_assert_eq!(again.second(at, &seen), verdict);
        }
    }
}
