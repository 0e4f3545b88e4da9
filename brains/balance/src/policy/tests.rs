//! Each chooser claims one of those that there are, and the one that its rule says.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::*;

fn all() -> [Box<dyn Policy>; 4] {
    let pool = Pool::new(Duration::ZERO);
    [Box::new(RoundRobin::default()), Box::new(LeastRequest::default()), Box::new(Prequal::default()), Box::new(pool)]
}

fn report(in_flight: u32, latency: f64) -> Report {
    Report { in_flight, latency, ..Report::default() }
}

proptest! {
    #[test]
    fn each_claims_one_of_those_that_there_are(replicas in 0..40_u64, claims in 1..60_usize, seed in any::<u64>()) {
        for mut policy in all() {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            policy.set(&(0..replicas).collect::<Vec<_>>(), Duration::ZERO);
            for _ in 0..claims {
                let claim = policy.claim(&Ask::default(), Duration::ZERO, &mut rng);
                prop_assert!(claim.map_or(replicas == 0, |claim| claim.key < replicas));
            }
        }
    }
}

#[test]
fn the_least_busy_is_chosen_and_in_turn_all() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for mut policy in [Box::new(RoundRobin::default()) as Box<dyn Policy>, Box::new(LeastRequest::default())] {
        policy.set(&[7, 8, 9], Duration::ZERO);
        let mut keys: Vec<u64> =
            (0..3).filter_map(|_| policy.claim(&Ask::default(), Duration::ZERO, &mut rng)).map(|c| c.key).collect();
        keys.sort_unstable();
        assert_eq!(keys, [7, 8, 9]);
    }
}

#[test]
fn prequal_takes_the_quickest_of_those_that_are_not_hot() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut prequal = Prequal::default();
    prequal.set(&[1, 2, 3], Duration::ZERO);
    let at = Duration::from_millis(10);
    for _ in 0..20 {
        prequal.heard(1, &report(1, 0.5), at);
        prequal.heard(2, &report(2, 0.1), at);
        // The quickest is hot: most have less in flight.
        prequal.heard(3, &report(if rng.random_range(0..4) == 0 { 30 } else { 2 }, 0.2), at);
    }
    prequal.heard(3, &report(30, 0.01), at);
    assert_eq!(prequal.claim(&Ask::default(), at, &mut rng).map(|claim| claim.key), Some(2));
}
