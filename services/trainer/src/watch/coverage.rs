//! Which share of what was asked gets a label, and after how long.
//!
//! Accuracy is told of rows that have a label. Where some rows get theirs sooner than others, or never, it says nothing of the
//! rest: so a share of all rows is followed, labelled or not, and told by how long ago they were asked.

use std::collections::BTreeMap;

use rpc::trainer::Covered;
use serde::{Deserialize, Serialize};
use types::Timestamp;

/// Rows are told apart by how long ago they were asked: up to each of these; who is older is followed no longer.
const AGES_MS: [u64; 5] = [60_000, 600_000, 3_600_000, 86_400_000, 7 * 86_400_000];
/// Rows of each age that are followed: a share is told to some seven points (two standard errors, at worst).
const ROWS: usize = 200;

/// The rows of a version that are followed. Of each age those with the least keys stay: keys are as good as random, so that is an even
/// draw from all that were ever taken, whichever way they came.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Coverage {
    ages: [BTreeMap<u64, Row>; AGES_MS.len()],
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Row {
    at: Timestamp,
    labelled: bool,
}

impl Coverage {
    /// Takes in a row that was asked just now.
    pub(super) fn asked(&mut self, key: u64, at: Timestamp) {
        self.ages[0].insert(key, Row { at, labelled: false });
        if self.ages[0].len() > ROWS {
            self.ages[0].pop_last();
        }
    }

    /// Notes which of them have a label by now, and how old they are; to be done more often than the least age passes.
    pub(crate) fn settle(&mut self, now: Timestamp, has_label: impl Fn(u64) -> bool) {
        let all: Vec<_> = self.ages.iter_mut().flat_map(std::mem::take).collect();
        for (key, row) in all {
            let since = now.since(row.at).as_millis();
            if let Some(age) = AGES_MS.iter().position(|most| since < u128::from(*most)) {
                let labelled = row.labelled || has_label(key);
                self.ages[age].insert(key, Row { labelled, ..row });
            }
        }
        for rows in &mut self.ages {
            while rows.len() > ROWS {
                rows.pop_last();
            }
        }
    }

    /// The share that has a label, by how long ago rows were asked; the youngest first.
    pub(crate) fn report(&self) -> Vec<Covered> {
        let from = std::iter::once(0).chain(AGES_MS);
        let of = |((rows, from_ms), to_ms): ((&BTreeMap<u64, Row>, u64), u64)| Covered {
            from_ms,
            to_ms,
            rows: rows.len() as u64,
            labelled: rows.values().filter(|row| row.labelled).count() as u64,
        };
        self.ages.iter().zip(from).zip(AGES_MS).map(of).filter(|covered| covered.rows > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spread over the whole numbers, without a generator.
    fn key(n: u64) -> u64 {
        (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }

    #[test]
    fn late_labels_are_seen_coming() {
        let mut coverage = Coverage::default();
        let mut keys = BTreeMap::new();
        // A row a second for two hours; every fourth has a label five minutes after, and no other ever.
        for second in 0..7_200 {
            let at = Timestamp(second * 1_000);
            coverage.asked(key(second), at);
            keys.insert(key(second), second);
            if second % 20 == 19 {
                coverage.settle(at, |key| keys.get(&key).is_some_and(|n| n % 4 == 0 && n + 300 <= second));
            }
        }
        let report = coverage.report();
        let share = |place: usize| report[place].labelled as f64 / report[place].rows as f64;
        assert_eq!(report.iter().map(|one| one.to_ms).collect::<Vec<_>>(), [60_000, 600_000, 3_600_000, 86_400_000]);
        assert_eq!(report[0].labelled, 0, "none so soon");
        // Of those asked one to ten minutes ago, five of nine minutes have had their label.
        assert!((0.25 * 5.0 / 9.0 - share(1)).abs() < 0.07, "{report:?}");
        assert!((0.25 - share(2)).abs() < 0.09 && (0.25 - share(3)).abs() < 0.09, "{report:?}");
        assert!(report.iter().skip(1).all(|one| one.rows == ROWS as u64), "{report:?}");
        assert!(coverage.ages.iter().all(|rows| rows.len() <= ROWS));
    }

    #[test]
    fn who_is_old_is_followed_no_longer_and_clocks_may_go_back() {
        let mut coverage = Coverage::default();
        coverage.asked(1, Timestamp(9_000));
        coverage.settle(Timestamp(1_000), |_| true);
        assert_eq!(coverage.report()[0].labelled, 1);
        coverage.settle(Timestamp(8 * 86_400_000), |_| false);
        assert_eq!(coverage.report(), []);
    }
}
