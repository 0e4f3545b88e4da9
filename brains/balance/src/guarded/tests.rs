//! Off is the pool, useless predictors are handed back, and whoever is no better never acts.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;

/// What happens to a chooser: a request comes, or one of those in flight ends, after so many microseconds.
type Steps = Vec<(bool, u8, u16)>;

fn steps() -> impl Strategy<Value = Steps> {
    prop::collection::vec((any::<bool>(), any::<u8>(), any::<u16>()), 0..300)
}

/// The replicas that were claimed, in order.
fn claims(policy: &mut dyn Policy, replicas: u64, steps: &Steps, seed: u64) -> Vec<Option<u64>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    policy.set(&(0..replicas).collect::<Vec<_>>(), Duration::ZERO);
    let (mut now, mut open, mut made) = (Duration::ZERO, Vec::new(), Vec::new());
    for (comes, what, micros) in steps {
        now += Duration::from_micros(u64::from(*micros));
        if *comes || open.is_empty() {
            let ask = Ask { size: f64::from(*what), rows: 1 };
            let claim = policy.claim(&ask, now, &mut rng);
            made.push(claim.map(|claim| claim.key));
            open.extend(claim.map(|claim| (claim, ask, now)));
            continue;
        }
        let (claim, ask, began) = open.remove(usize::from(*what) % open.len());
        let outcome = match what % 16 {
            0 => Outcome::Failed,
            1 => Outcome::Cancelled,
            _ => Outcome::Answered,
        };
        let compute = (what % 3 > 0).then(|| Duration::from_micros(100 + u64::from(*what)));
        policy.ended(&End { claim, ask, began, outcome, compute, report: None }, now);
    }
    made
}

proptest! {
    #[test]
    fn off_and_in_shadow_it_is_the_pool_bit_for_bit(replicas in 0..9_u64, steps in steps(), seed in any::<u64>()) {
        let plain = claims(&mut Pool::new(Duration::ZERO), replicas, &steps, seed);
        for mode in [Mode::Off, Mode::Shadow] {
            let mut guarded = Guarded::new(mode, Duration::ZERO).unwrap();
            prop_assert_eq!(&claims(&mut guarded, replicas, &steps, seed), &plain);
            prop_assert_eq!(format!("{:?}", guarded.pool()), {
                let mut pool = Pool::new(Duration::ZERO);
                claims(&mut pool, replicas, &steps, seed);
                format!("{pool:?}")
            });
        }
    }

    #[test]
    fn whoever_acts_claims_a_replica_that_there_is_and_the_same_again(
        replicas in 0..9_u64,
        steps in steps(),
        seed in any::<u64>(),
    ) {
        let run = || {
            let mut guarded = Guarded::promoted(Box::<Ridge>::default(), Duration::ZERO).unwrap();
            claims(&mut guarded, replicas, &steps, seed)
        };
        let made = run();
        prop_assert!(made.iter().all(|key| key.map_or(replicas == 0, |key| key < replicas)));
        prop_assert_eq!(run(), made);
    }
}

/// Serves so many requests one after another at four replicas; each takes ten times as many milliseconds as its size.
fn serve(guarded: &mut Guarded, requests: u32, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    guarded.set(&[1, 2, 3, 4], Duration::ZERO);
    let mut now = Duration::ZERO;
    for _ in 0..requests {
        let size = f64::from(rng.random_range(1..20_u32));
        let (ask, began) = (Ask { size, rows: 1 }, now);
        let claim = guarded.claim(&ask, now, &mut rng).unwrap();
        let compute = Duration::from_secs_f64(size * 0.01);
        now += compute;
        let end = End { claim, ask, began, outcome: Outcome::Answered, compute: Some(compute), report: None };
        guarded.ended(&end, now);
    }
}

/// Says what is most wrong: little where there is much.
struct Wrong;

impl Predict for Wrong {
    fn predict(&self, ask: &Ask) -> f64 {
        2.0 / ask.size
    }

    fn learn(&mut self, _ask: &Ask, _seconds: f64) {}
}

#[test]
fn a_useless_predictor_is_handed_back() {
    let mut guarded = Guarded::promoted(Box::new(Wrong), Duration::ZERO).unwrap();
    assert!(guarded.acts());
    serve(&mut guarded, 1_000, 3);
    assert!(!guarded.acts());
    assert!(guarded.handed_back().is_some_and(|requests| requests < 300), "{:?}", guarded.handed_back());
}

#[test]
fn a_good_predictor_is_not() {
    let mut guarded = Guarded::promoted(Box::<Ridge>::default(), Duration::ZERO).unwrap();
    serve(&mut guarded, 5_000, 3);
    assert!(guarded.acts());
    assert_eq!(guarded.handed_back(), None);
}

#[test]
fn nobody_acts_who_is_no_better() {
    // One at a time: whoever chooses, each takes as long.
    let mut guarded = Guarded::new(Mode::On, Duration::ZERO).unwrap();
    serve(&mut guarded, 5_000, 5);
    assert!(!guarded.acts());
}

#[test]
fn others_that_are_not_heard_of_any_more_are_gone() {
    let mut guarded = Guarded::new(Mode::On, Duration::ZERO).unwrap();
    serve(&mut guarded, 100, 5);
    assert_eq!(guarded.listening(), Listening::default());
    let (at, mut rng) = (Duration::from_secs(1_000), ChaCha8Rng::seed_from_u64(1));
    guarded.heard(1, &crate::report::Report { in_flight: 3, ..Default::default() }, at);
    assert!(guarded.listening().every.is_some());
    for (seconds, others) in [(9, true), (11, false)] {
        let (ask, now) = (Ask { size: 1.0, rows: 1 }, at + Duration::from_secs(seconds));
        let claim = guarded.claim(&ask, now, &mut rng).unwrap();
        let end = End { claim, ask, began: now, outcome: Outcome::Answered, compute: None, report: None };
        guarded.ended(&end, now);
        assert_eq!(guarded.listening().every.is_some(), others);
    }
}

/// One request to this replica, or to any where it is none; answered after a millisecond.
fn ask_once(guarded: &mut Guarded, now: Duration, rng: &mut ChaCha8Rng) -> u64 {
    let ask = Ask { size: 1.0, rows: 1 };
    let claim = guarded.claim(&ask, now, rng).unwrap();
    let end = End { claim, ask, began: now, outcome: Outcome::Answered, compute: None, report: None };
    guarded.ended(&end, now + Duration::from_millis(1));
    claim.key
}

#[test]
fn who_was_not_heard_for_a_second_is_asked_once_a_second_while_requests_come() {
    const MS: fn(u64) -> Duration = Duration::from_millis;
    let (mut guarded, mut rng) = (Guarded::new(Mode::Shadow, Duration::ZERO).unwrap(), ChaCha8Rng::seed_from_u64(1));
    guarded.set(&[1, 2, 3], Duration::ZERO);
    assert!(guarded.silent(MS(5_000)).is_empty(), "nobody asks the version");
    let answered = ask_once(&mut guarded, MS(10_000), &mut rng);
    let mut others: Vec<u64> = [1, 2, 3].into_iter().filter(|key| *key != answered).collect();
    assert_eq!(guarded.silent(MS(10_500)), others, "an answer is heard, too");
    assert!(guarded.silent(MS(11_000)).is_empty(), "an answer says enough for a second, and so does a question");
    // Who has said something of itself is not asked.
    guarded.heard(others[0], &crate::report::Report::default(), MS(11_200));
    let silent = guarded.silent(MS(11_600));
    assert_eq!(silent.len(), 2, "{silent:?}");
    assert!(!silent.contains(&others.remove(0)));
    assert!(!guarded.silent(MS(15_000)).is_empty());
    assert!(
        guarded.silent(MS(15_002)).is_empty() && guarded.silent(MS(16_001)).is_empty(),
        "five seconds after the last"
    );
    // With nothing to choose there is nothing to ask; off, nothing is learnt.
    ask_once(&mut guarded, MS(20_000), &mut rng);
    guarded.set(&[1], MS(20_000));
    assert!(guarded.silent(MS(22_000)).is_empty());
    let mut off = Guarded::new(Mode::Off, Duration::ZERO).unwrap();
    off.set(&[1, 2], Duration::ZERO);
    ask_once(&mut off, MS(1), &mut rng);
    assert!(off.silent(MS(2_000)).is_empty());
}

#[test]
fn what_others_send_is_reckoned_with_though_no_request_of_ours_went_there() {
    let mut guarded = Guarded::promoted(Box::<Ridge>::default(), Duration::ZERO).unwrap();
    serve(&mut guarded, 200, 7);
    assert!(guarded.acts() && !guarded.standing().shared);
    let (mut rng, mut now) = (ChaCha8Rng::seed_from_u64(2), Duration::from_secs(1_000));
    let busy = crate::report::Report { in_flight: 50, waiting: 10.0, ..Default::default() };
    let mut chosen = Vec::new();
    for _ in 0..50 {
        now += Duration::from_millis(20);
        // Three are asked and say that others have much there; the fourth is idle.
        (1..4).for_each(|key| guarded.heard(key, &busy, now));
        guarded.heard(4, &crate::report::Report::default(), now);
        chosen.push(ask_once(&mut guarded, now, &mut rng));
    }
    assert!(guarded.standing().shared);
    // A block in two hundred is the pool's; all of these fit into two blocks.
    let idle = chosen.iter().filter(|key| **key == 4).count();
    assert!(idle >= 45, "{chosen:?}");
}

/// Serves requests of 5 to 15 ms that come every 4 ms, the first replica so many times slower: when the last one came, and where live
/// ones and copies went.
fn explore(guarded: &mut Guarded, (from, requests): (Duration, u32), slow: u32) -> (Duration, Vec<u64>, Vec<u64>) {
    let (mut rng, mut now) = (ChaCha8Rng::seed_from_u64(11), from);
    let mut open: Vec<(Duration, Claim, Ask, Duration)> = Vec::new();
    let (mut live, mut copies) = (Vec::new(), Vec::new());
    let end = |guarded: &mut Guarded, open: &mut Vec<(Duration, Claim, Ask, Duration)>, until: Duration| {
        open.sort_by_key(|(over, ..)| *over);
        let left = open.split_off(open.partition_point(|(over, ..)| *over <= until));
        for (over, claim, ask, began) in std::mem::replace(open, left) {
            let (outcome, compute) = (Outcome::Answered, Some(over - began));
            guarded.ended(&End { claim, ask, began, outcome, compute, report: None }, over);
        }
    };
    for _ in 0..requests {
        now += Duration::from_millis(4);
        end(guarded, &mut open, now);
        let ask = Ask { size: f64::from(rng.random_range(5..15_u32)), rows: 1 };
        let took = |key: u64| Duration::from_millis(1) * ask.size as u32 * if key == 1 { slow } else { 1 };
        let claim = guarded.claim(&ask, now, &mut rng).unwrap();
        live.push(claim.key);
        open.push((now + took(claim.key), claim, ask, now));
        if let Some(copy) = guarded.copy(&ask, now) {
            assert_ne!(copy.key, claim.key);
            copies.push(copy.key);
            open.push((now + took(copy.key), copy, ask, now));
        }
        assert_eq!(guarded.copy(&ask, now), None, "one copy at the most");
    }
    end(guarded, &mut open, Duration::MAX);
    (now, live, copies)
}

#[test]
fn copies_find_out_whether_a_slow_replica_still_is_and_no_request_pays_for_it() {
    let mut guarded = Guarded::promoted(Box::<Ridge>::default(), Duration::ZERO).unwrap();
    guarded.set(&[1, 2, 3, 4], Duration::ZERO);
    guarded.explore_by_copies();
    let (now, ..) = explore(&mut guarded, (Duration::ZERO, 1_000), 5);
    let now = now + Duration::from_secs(1);
    // What is known exactly is believed for a minute: these are some.
    let (now, live, copies) = explore(&mut guarded, (now, 100_000), 5);
    let now = now + Duration::from_secs(1);
    assert!(guarded.acts());
    assert_eq!(guarded.work().explored(), 0);
    // What the pool's own blocks send there is no exploration.
    let paid = live.iter().filter(|key| **key == 1).count();
    assert!(paid < live.len() / 200, "{paid} of {}", live.len());
    assert!((3..=100).contains(&copies.len()) && copies.iter().all(|key| *key == 1), "{copies:?}");
    // Once it is quick again a copy shows it, or the pool's own block, and requests go there.
    let (_, live, copies) = explore(&mut guarded, (now, 100_000), 1);
    assert!(copies.len() <= 10, "{copies:?}");
    let there = live[50_000..].iter().filter(|key| **key == 1).count();
    assert!(there > 5_000, "{there} of 50000");
    assert_eq!(guarded.pool().in_flight(), 0);
}

#[test]
fn a_pool_that_chose_alone_goes_on_with_what_it_knows() {
    let (mut pool, mut rng) = (Pool::new(Duration::ZERO), ChaCha8Rng::seed_from_u64(1));
    Pool::set(&mut pool, &[9], Duration::ZERO);
    let before = Policy::claim(&mut pool, &Ask::default(), Duration::ZERO, &mut rng).unwrap();
    let mut guarded = Guarded::new(Mode::On, Duration::ZERO).unwrap();
    guarded.adopt(pool, Duration::ZERO);
    guarded.set(&[3, 9], Duration::ZERO);
    assert_eq!(guarded.pool().in_flight(), 1);
    let (ask, outcome) = (Ask::default(), Outcome::Answered);
    let end = End { claim: before, ask, began: Duration::ZERO, outcome, compute: None, report: None };
    guarded.ended(&end, Duration::from_millis(1));
    assert_eq!(guarded.pool().in_flight(), 0);
    // Both have the replicas in the same order: what one knows of a place is of the same replica.
    let keys: Vec<u64> = guarded.pool().keys().copied().collect();
    assert_eq!((keys, guarded.work().keys()), (vec![9, 3], vec![9, 3]));
    assert_eq!(guarded.standing(), Standing::default());
}
