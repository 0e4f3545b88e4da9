//! Which worker learns which example.

use crate::random::mixed;

/// The worker, from 0 to below `workers`, who learns the example of this key; 0 where there is none.
///
/// All workers can read one log: who learns what is the trainer's choice, and by a hash of the example's id everybody gets
/// a like share of every class, caller and hour. The rule needs that. An honest worker whose shard is unlike the others'
/// can't be told from a liar by anybody who sees updates alone, and a liar's rows are nobody else's. Where shards must
/// stay where they are (a namespace whose rows may not leave a site), expect what a liar takes with him to be lost, and
/// some points more (`docs/benchmarks/training.md` has figures).
///
/// What the key is decides who is guarded against. By the example's id, a lying *worker* spoils his share alone; examples that
/// lie are spread over all workers then, and no rule for updates finds them. By the caller's id, a lying *caller* spoils
/// one worker's updates, and shards are alike where callers are many and none sends most.
///
/// Another salt deals anew, as for each pass. FNV-1a from the salt on, mixed at the end; each worker gets
/// `1 / workers` of the keys, off by less than 2⁻³². Who knows the salt can choose keys of one worker. The same in every
/// release.
///
/// ```
/// use online::robust::worker_of;
///
/// let mut shares = [0; 4];
/// (0..1_000_u32).for_each(|id| shares[worker_of(&id.to_le_bytes(), 4, 7)] += 1);
/// assert!(shares.iter().all(|share| (200..300).contains(share)));
/// ```
pub fn worker_of(key: &[u8], workers: usize, salt: u64) -> usize {
    let begin = 0xcbf2_9ce4_8422_2325 ^ mixed(salt);
    let hash = key.iter().fold(begin, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // Multiply and shift (Lemire 2019): the product's upper half is below `workers`.
    ((u128::from(mixed(hash)) * workers as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_class_is_spread_evenly() {
        // Rows sorted by class, as a log may be: chi squared of 4 workers and 5 classes, 12 degrees of freedom.
        let mut counts = [[0.0; 4]; 5];
        for row in 0..20_000_usize {
            counts[row / 4_000][worker_of(&(row as u64).to_le_bytes(), 4, 1)] += 1.0_f64;
        }
        let chi: f64 = counts.iter().flatten().map(|count| (count - 1_000.0).powi(2) / 1_000.0).sum();
        assert!(chi < 36.0, "{chi}: as much comes once in 3,000 times");
    }

    #[test]
    fn another_salt_deals_anew_and_this_one_never_changes() {
        let deal = |salt| (0..12_u64).map(|row| worker_of(&row.to_le_bytes(), 4, salt)).collect::<Vec<_>>();
        assert_ne!(deal(1), deal(2));
        assert_eq!(deal(0), [3, 1, 2, 3, 2, 3, 2, 2, 2, 0, 1, 0]);
    }

    proptest! {
        #[test]
        fn there_is_always_a_worker(key in prop::collection::vec(any::<u8>(), 0..40), workers in 0..300_usize, salt in any::<u64>()) {
            prop_assert!(worker_of(&key, workers, salt) < workers.max(1));
        }
    }
}
