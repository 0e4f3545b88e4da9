//! Chooses a replica: power of two choices by requests in flight.
//!
//! Two replicas are drawn at random and the less busy one answers (Mitzenmacher, "The power of two choices in
//! randomized load balancing", IEEE TPDS 2001). The gateway counts what it has in flight itself, so nothing
//! here is stale, and drawing keeps several gateways from all choosing the same replica.
//!
//! Does not know about: sockets, latencies, who asks, clocks. `README.md` beside this crate lists the wanted
//! properties; each is a property test.

use rand::{Rng, RngExt as _};

/// The place of the chosen replica in `in_flight`, which holds each replica's requests in flight.
///
/// Takes O(1) and at most three draws; `None` only for an empty list. Equally busy replicas are chosen evenly.
pub fn choose(in_flight: &[u32], rng: &mut impl Rng) -> Option<usize> {
    match in_flight.len() {
        0 => None,
        1 => Some(0),
        replicas => {
            let first = rng.random_range(0..replicas);
            let offset = rng.random_range(1..replicas);
            let second = (first + offset) % replicas;
            Some(if in_flight[second] < in_flight[first] { second } else { first })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    proptest! {
        #[test]
        fn the_choice_exists_and_is_never_the_single_busiest(in_flight in prop::collection::vec(0..100_u32, 1..20), seed: u64) {
            let choice = choose(&in_flight, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
            let busiest = *in_flight.iter().max().unwrap();
            let alone = in_flight.iter().filter(|n| **n == busiest).count() == 1;
            prop_assert!(in_flight.len() == 1 || !alone || in_flight[choice] < busiest);
        }

        #[test]
        fn the_same_seed_chooses_the_same(in_flight in prop::collection::vec(0..100_u32, 0..20), seed: u64) {
            let once = choose(&in_flight, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert_eq!(once, choose(&in_flight, &mut ChaCha8Rng::seed_from_u64(seed)));
        }
    }

    #[test]
    fn nothing_to_choose_from_is_no_choice() {
        assert_eq!(choose(&[], &mut ChaCha8Rng::seed_from_u64(1)), None);
    }

    #[test]
    fn equally_busy_replicas_share_evenly_and_the_load_stays_close() {
        // Balls into bins: with two choices the fullest bin exceeds the mean by O(log log n) only.
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut bins = [0_u32; 16];
        for _ in 0..16_000 {
            bins[choose(&bins, &mut rng).unwrap()] += 1;
        }
        assert!(bins.iter().all(|n| n.abs_diff(1_000) <= 4), "{bins:?}");
    }
}
