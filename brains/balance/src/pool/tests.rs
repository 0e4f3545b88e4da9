//! The pool: whatever happens, counts stay right; who is avoided, and how it comes back.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn pool(replicas: usize) -> Pool<usize> {
    let mut pool = Pool::new(Duration::ZERO);
    pool.set(&(0..replicas).collect::<Vec<_>>(), Duration::ZERO);
    pool
}

/// What may happen to a pool.
#[derive(Debug, Clone)]
enum Event {
    Pass(u64),
    Claim(Vec<usize>),
    End(prop::sample::Index, Outcome),
    Set(Vec<usize>),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let outcome = prop::sample::select(vec![Outcome::Answered, Outcome::Failed, Outcome::Cancelled]);
    let some = || prop::collection::vec(0..6_usize, 0..6);
    prop::collection::vec(
        prop_oneof![
            3 => (0..20_000_u64).prop_map(Event::Pass),
            8 => some().prop_map(Event::Claim),
            6 => (any::<prop::sample::Index>(), outcome).prop_map(|(at, outcome)| Event::End(at, outcome)),
            1 => some().prop_map(Event::Set),
        ],
        1..300,
    )
}

proptest! {
    #[test]
    fn whatever_happens_a_claim_is_one_of_those_asked_for_and_counts_stay_right(events in events(), seed: u64) {
        let (mut pool, mut rng, mut now) = (pool(3), rng(seed), Duration::ZERO);
        let mut there = vec![0, 1, 2];
        let mut open: Vec<(usize, Duration)> = Vec::new();
        for event in events {
            match event {
                Event::Pass(millis) => now += Duration::from_millis(millis),
                Event::Claim(tried) => {
                    let claimed = pool.claim(&tried, now, &mut rng);
                    let possible = there.iter().any(|key| !tried.contains(key));
                    prop_assert_eq!(claimed.is_some(), possible);
                    if let Some(key) = claimed {
                        prop_assert!(there.contains(&key) && !tried.contains(&key));
                        open.push((key, now));
                    }
                }
                Event::End(at, outcome) if !open.is_empty() => {
                    let (key, began) = open.swap_remove(at.index(open.len()));
                    pool.ended(&key, began, now, outcome);
                }
                Event::End(..) => {}
                Event::Set(keys) => {
                    pool.set(&keys, now);
                    open.retain(|(key, _)| keys.contains(key));
                    there = keys;
                    there.sort_unstable();
                    there.dedup();
                }
            }
            prop_assert_eq!(pool.len(), there.len());
            prop_assert_eq!(pool.in_flight() as usize, open.len());
        }
    }

    #[test]
    fn the_single_worst_is_never_claimed_while_there_is_another(
        latencies in prop::collection::vec(1..1_000_u64, 2..12),
        claims in prop::collection::vec(0..12_usize, 0..40),
        seed: u64,
    ) {
        let mut pool = pool(latencies.len());
        let mut rng = rng(seed);
        for (key, millis) in latencies.iter().enumerate() {
            pool.replicas[key].latency.observe(MS * u32::try_from(*millis).unwrap(), Duration::ZERO);
        }
        claims.iter().for_each(|key| pool.replicas[key % latencies.len()].in_flight += 1);
        pool.look(Duration::ZERO);
        let scores: Vec<f64> = pool.view.glances.iter().map(|glance| glance.score).collect();
        let worst = scores.iter().copied().fold(0.0, f64::max);
        let claimed = pool.claim(&[], Duration::ZERO, &mut rng).unwrap();
        let alone = scores.iter().filter(|score| **score == worst).count() == 1;
        prop_assert!(!alone || scores[claimed] < worst, "{claimed} of {scores:?}");
    }

    #[test]
    fn the_same_seed_claims_the_same(replicas in 0..8_usize, tried in prop::collection::vec(0..8_usize, 0..4), seed: u64) {
        let once = pool(replicas).claim(&tried, MS, &mut rng(seed));
        prop_assert_eq!(once, pool(replicas).claim(&tried, MS, &mut rng(seed)));
    }
}

/// Claims and ends this many one after another; `takes` says how long a replica takes and how it ends.
fn run(pool: &mut Pool<usize>, from: Duration, times: u32, takes: impl Fn(usize) -> (Duration, Outcome)) -> Vec<u32> {
    let mut rng = rng(7);
    let mut shares = vec![0; pool.len()];
    for n in 0..times {
        let now = from + MS * n;
        let key = pool.claim(&[], now, &mut rng).unwrap();
        shares[key] += 1;
        let (latency, outcome) = takes(key);
        pool.ended(&key, now, now + latency, outcome);
    }
    shares
}

#[test]
fn equal_replicas_get_equal_shares() {
    let shares = run(&mut pool(4), Duration::ZERO, 4_000, |_| (MS, Outcome::Answered));
    assert!(shares.iter().all(|share| share.abs_diff(1_000) < 100), "{shares:?}");
    // Balls into bins: what is never answered spreads all the same.
    let mut open = pool(16);
    let mut rng = rng(7);
    (0..16_000).for_each(|_| {
        open.claim(&[], Duration::ZERO, &mut rng).unwrap();
    });
    assert!(open.replicas.iter().all(|replica| replica.in_flight.abs_diff(1_000) <= 4));
}

#[test]
fn a_slow_replica_gets_little_and_is_looked_at_again() {
    let mut pool = pool(4);
    let slow = |key| (if key == 0 { MS * 50 } else { MS }, Outcome::Answered);
    let shares = run(&mut pool, Duration::ZERO, 4_000, slow);
    assert!(shares[0] <= 20, "{shares:?}");
    let later = run(&mut pool, Duration::from_secs(120), 4_000, |_| (MS, Outcome::Answered));
    assert!(later[0] > 500, "{later:?}");
}

#[test]
fn who_fails_fast_is_no_sink_and_is_tried_again_by_one_request_at_a_time() {
    let mut pool = pool(3);
    let fails = |key| if key == 0 { (Duration::ZERO, Outcome::Failed) } else { (MS * 20, Outcome::Answered) };
    let shares = run(&mut pool, Duration::ZERO, 60_000, fails);
    assert!(shares[0] <= 8, "{shares:?}");
    let out = pool.replicas[0].ejected_until;
    assert!(!pool.replicas[0].works(out - MS) && pool.replicas[0].works(out));
    assert_eq!(pool.claim(&[1, 2], out, &mut rng(1)), Some(0));
    assert!((0..64).all(|seed| pool.clone().claim(&[], out, &mut rng(seed)) != Some(0)), "the first one tells");
    pool.ended(&0, out, out + MS, Outcome::Answered);
    assert!(pool.replicas[0].works(out + MS));
}

#[test]
fn all_that_fail_are_left_out_while_one_works_and_none_when_none_does() {
    let mut pool = pool(3);
    let fail = |pool: &mut Pool<usize>, key| pool.ended(&key, Duration::ZERO, MS, Outcome::Failed);
    fail(&mut pool, 0);
    fail(&mut pool, 1);
    assert!((0..64).all(|seed| pool.clone().claim(&[], MS, &mut rng(seed)) == Some(2)));
    fail(&mut pool, 2);
    let claimed: Vec<_> = (0..64).filter_map(|seed| pool.clone().claim(&[], MS, &mut rng(seed))).collect();
    assert!((0..3).all(|key| claimed.contains(&key)), "{claimed:?}");
}

#[test]
fn when_most_are_silent_the_best_of_all_answers_until_it_is_as_busy() {
    let mut pool = pool(3);
    run(&mut pool, Duration::ZERO, 300, |_| (MS, Outcome::Answered));
    pool.replicas[0].in_flight = 1;
    pool.replicas[1].in_flight = 1;
    let late = Duration::from_secs(29);
    let first: Vec<usize> = (0..1_000).filter_map(|_| pool.claim(&[], late, &mut rng(1))).collect();
    assert!(first.iter().all(|key| *key == 2));
    pool.replicas[2].in_flight = 10_000_000;
    let mut claims: Vec<usize> = (0..100_000).filter_map(|_| pool.claim(&[], late, &mut rng(1))).collect();
    claims.sort_unstable();
    claims.dedup();
    assert!(claims.starts_with(&[0, 1]), "{claims:?}");
}

#[test]
fn a_silent_replica_is_left_out_until_it_answers() {
    let mut pool = pool(3);
    run(&mut pool, Duration::ZERO, 100, |_| (MS, Outcome::Answered));
    let began = Duration::from_secs(1);
    while pool.claim(&[1, 2], began, &mut rng(1)).is_none() {}
    let later = began + STALLED + MS;
    assert!((0..64).all(|seed| pool.clone().claim(&[], later, &mut rng(seed)) != Some(0)));
    assert_eq!(pool.clone().claim(&[1, 2], later, &mut rng(1)), Some(0), "rather one that is left out than none");
    pool.ended(&0, began, later, Outcome::Answered);
    assert!(!pool.replicas[0].stalled(later));
}

#[test]
fn a_silence_that_somebody_gave_up_on_counts_as_a_failure_and_an_early_goodbye_does_not() {
    let mut pool = pool(2);
    run(&mut pool, Duration::ZERO, 100, |_| (MS, Outcome::Answered));
    let began = Duration::from_secs(1);
    let mut give_up = |after: Duration| {
        assert_eq!(pool.claim(&[1], began, &mut rng(1)), Some(0));
        pool.ended(&0, began, began + after, Outcome::Cancelled);
        pool.replicas[0].works(began + after)
    };
    assert!(give_up(MS * 50));
    assert!(!give_up(RESCUE.0));
}

#[test]
fn a_new_replica_begins_with_little() {
    let mut pool = pool(2);
    run(&mut pool, Duration::ZERO, 500, |_| (MS, Outcome::Answered));
    pool.set(&[0, 1, 2], Duration::from_secs(1));
    let mut shares = [0_u32; 3];
    let mut rng = rng(3);
    let mut claims = |pool: &mut Pool<usize>, now| {
        shares = [0; 3];
        for _ in 0..300 {
            shares[pool.claim(&[], now, &mut rng).unwrap()] += 1;
        }
        (0..3).for_each(|key| pool.replicas[key].in_flight = 0);
        shares[2]
    };
    let young = claims(&mut pool, Duration::from_secs(1));
    let grown = claims(&mut pool, Duration::from_secs(12));
    assert!(young < 30 && grown > 80, "{young} {grown}");
}

#[test]
fn patience_needs_a_second_replica_and_readings() {
    assert_eq!(pool(1).patience(), None);
    let mut pool = pool(2);
    assert_eq!(pool.patience(), Some(Patience::Rescue(STALLED)));
    run(&mut pool, Duration::ZERO, 100, |_| (MS * 20, Outcome::Answered));
    let Some(Patience::Hedge(after)) = pool.patience() else { panic!("{:?}", pool.patience()) };
    assert!(after >= MS * 20 && after < MS * 25, "{after:?}");
    for seed in 0..10 {
        pool.claim(&[], Duration::from_secs(1), &mut rng(seed));
    }
    let Some(Patience::Rescue(after)) = pool.patience() else { panic!("{:?}", pool.patience()) };
    assert!(after >= RESCUE.0, "{after:?}");
}

#[test]
fn who_is_asked_second_is_the_best_of_the_rest_and_not_on_trial() {
    let mut pool = pool(5);
    for key in 0..5 {
        pool.replicas[key].latency.observe(MS * (5 + u32::try_from(key).unwrap()), Duration::ZERO);
    }
    // The quickest of the rest failed, and its time is over.
    pool.ended(&1, Duration::ZERO, MS, Outcome::Failed);
    pool.replicas[1].latency = PeakEwma::default();
    let later = MS + EJECTED;
    assert!(pool.replicas[1].works(later));
    assert!((0..64).all(|seed| pool.clone().claim(&[0], later, &mut rng(seed)) == Some(2)));
    assert_eq!(pool.clone().claim(&[0, 2, 3, 4], later, &mut rng(1)), Some(1), "rather it than none");
}

#[test]
fn two_slow_ones_of_three_get_little_between_them() {
    let slow = |key| (if key == 0 { MS } else { MS * 200 }, Outcome::Answered);
    let shares = run(&mut pool(3), Duration::ZERO, 4_000, slow);
    assert!(shares[1] + shares[2] <= 40, "{shares:?}");
}
