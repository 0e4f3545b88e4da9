//! The least of many scores while single ones change.

/// A tournament of places: each node names the better of its two. Filling is O(n), a change O(log n).
#[derive(Debug, Clone, Default)]
pub(crate) struct Least {
    scores: Vec<f64>,
    /// Places that won, the root at 1, the places themselves from `scores.len()` on.
    winners: Vec<usize>,
}

impl Least {
    /// Begins again with this many places; those without a score take no part.
    pub(crate) fn fill(&mut self, places: usize, scores: impl Iterator<Item = (usize, f64)>) {
        self.scores.clear();
        self.scores.resize(places, f64::INFINITY);
        scores.for_each(|(place, score)| self.scores[place] = score);
        self.winners.clear();
        self.winners.resize(places, 0);
        self.winners.extend(0..places);
        (1..places).rev().for_each(|node| self.play(node));
    }

    /// A place has another score now, if it takes part.
    pub(crate) fn change(&mut self, place: usize, score: f64) {
        if self.scores[place] == f64::INFINITY {
            return;
        }
        self.scores[place] = score;
        let mut node = (place + self.scores.len()) / 2;
        while node > 0 {
            self.play(node);
            node /= 2;
        }
    }

    /// The place of the least score, if any takes part.
    pub(crate) fn place(&self) -> Option<usize> {
        let place = *self.winners.get(1)?;
        (self.scores[place] < f64::INFINITY).then_some(place)
    }

    fn play(&mut self, node: usize) {
        let (left, right) = (self.winners[2 * node], self.winners[2 * node + 1]);
        self.winners[node] = if self.scores[right] < self.scores[left] { right } else { left };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_least_of_all_through_every_change(
            places in 1..70_usize,
            taking_part in prop::collection::vec(any::<bool>(), 70),
            changes in prop::collection::vec((0..70_usize, 0..1_000_u32), 0..200),
        ) {
            let mut plain: Vec<Option<f64>> = (0..places).map(|place| taking_part[place].then_some(place as f64)).collect();
            let mut least = Least::default();
            least.fill(places, plain.iter().enumerate().filter_map(|(place, score)| score.map(|score| (place, score))));
            for (place, score) in changes {
                let (place, score) = (place % places, f64::from(score));
                least.change(place, score);
                plain[place] = plain[place].map(|_| score);
                let lowest = plain.iter().flatten().copied().reduce(f64::min);
                prop_assert_eq!(least.place().and_then(|place| plain[place]), lowest);
            }
        }
    }

    #[test]
    fn of_none_there_is_no_least() {
        let mut least = Least::default();
        assert_eq!(least.place(), None);
        least.fill(0, std::iter::empty());
        assert_eq!(least.place(), None);
        least.fill(1, [(0, 3.0)].into_iter());
        assert_eq!(least.place(), Some(0));
    }
}
