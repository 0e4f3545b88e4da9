//! What a leaf knows of one column: sums of the target by value.

use serde::{Deserialize, Serialize};

use super::histogram::{BINS, Histogram, Sums};
use crate::{Kind, schema::GREATEST};

/// Different numbers that are told apart; more go into bins, which take as many bytes.
const NUMBERS: usize = BINS * size_of::<Sums>() / size_of::<(f64, Sums)>();
/// Different words that sums are kept for; what comes after them counts as other words.
const WORDS: usize = 64;

/// Sums of the target by value: each value by itself while they are few, so that a column of flags takes next to nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Observer {
    /// In order.
    Few(Vec<(f64, Sums)>),
    Many(Histogram),
}

impl Default for Observer {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Observer {
    /// Learns a value; says how many bytes that takes.
    pub(super) fn add(&mut self, kind: Kind, value: f64, target: f64, weight: f64) -> usize {
        let value = value.clamp(-GREATEST, GREATEST);
        let few = match self {
            Self::Few(few) => few,
            Self::Many(histogram) => {
                histogram.add(value, Sums::of(target, weight));
                return 0;
            }
        };
        match few.binary_search_by(|(known, _)| known.total_cmp(&value)) {
            Ok(place) => {
                if let Some((_, sums)) = few.get_mut(place) {
                    *sums = sums.plus(Sums::of(target, weight));
                }
                0
            }
            Err(place) if few.len() < most(kind) => {
                few.insert(place, (value, Sums::of(target, weight)));
                size_of::<(f64, Sums)>()
            }
            Err(_) if kind == Kind::Numeric => {
                let mut histogram = Histogram::of(few);
                histogram.add(value, Sums::of(target, weight));
                *self = Self::Many(histogram);
                0
            }
            Err(_) => 0,
        }
    }

    /// Calls `visit` with each cut there can be, and the sums of what passes it.
    pub(super) fn cuts(&self, kind: Kind, mut visit: impl FnMut(f64, Sums)) {
        match self {
            Self::Many(histogram) => histogram.borders(visit),
            Self::Few(words) if kind != Kind::Numeric => words.iter().for_each(|(word, sums)| visit(*word, *sums)),
            Self::Few(numbers) => {
                let mut below = Sums::default();
                for ((number, sums), (next, _)) in numbers.iter().zip(numbers.iter().skip(1)) {
                    below = below.plus(*sums);
                    visit(number + (next - number) / 2.0, below);
                }
            }
        }
    }

    pub(super) fn total(&self) -> Sums {
        match self {
            Self::Few(few) => few.iter().fold(Sums::default(), |sum, (_, sums)| sum.plus(*sums)),
            Self::Many(histogram) => histogram.total(),
        }
    }

    /// Bytes that it holds beside itself.
    pub(super) fn held(&self) -> usize {
        match self {
            Self::Few(few) => few.len() * size_of::<(f64, Sums)>(),
            Self::Many(_) => BINS * size_of::<Sums>(),
        }
    }

    pub(super) fn is_sound(&self, kind: Kind) -> bool {
        match self {
            Self::Few(few) => {
                let sorted = few.iter().zip(few.iter().skip(1)).all(|((a, _), (b, _))| a.total_cmp(b).is_lt());
                let sound = |(value, sums): &(f64, Sums)| value.abs() <= GREATEST && sums.is_sound();
                sorted && few.len() <= most(kind) && few.iter().all(sound)
            }
            Self::Many(histogram) => kind == Kind::Numeric && histogram.is_sound(),
        }
    }
}

/// Values of a column that are kept each by itself.
fn most(kind: Kind) -> usize {
    if kind == Kind::Numeric { NUMBERS } else { WORDS }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(observer: &Observer, kind: Kind) -> Vec<(f64, f64)> {
        let mut cuts = Vec::new();
        observer.cuts(kind, |value, passing| cuts.push((value, passing.weight)));
        cuts
    }

    #[test]
    fn few_numbers_are_cut_between_each_two() {
        let mut observer = Observer::default();
        let grown: usize = [3.0, 1.0, 1.0, 7.0].iter().map(|x| observer.add(Kind::Numeric, *x, 1.0, 1.0)).sum();
        assert_eq!(cuts(&observer, Kind::Numeric), [(2.0, 2.0), (5.0, 3.0)]);
        assert_eq!((grown, grown), (observer.held(), 3 * size_of::<(f64, Sums)>()));
    }

    #[test]
    fn many_numbers_go_into_bins_that_take_no_more() {
        let mut observer = Observer::default();
        let grown: usize = (0..1_000).map(|n| observer.add(Kind::Numeric, f64::from(n % 100), 1.0, 1.0)).sum();
        assert_eq!(grown, observer.held());
        assert_eq!(observer.total().weight, 1_000.0);
        let cuts = cuts(&observer, Kind::Numeric);
        assert!(cuts.len() > BINS / 2 && observer.is_sound(Kind::Numeric), "{cuts:?}");
        assert!(cuts.iter().all(|(value, passing)| (passing / 10.0 - value.ceil()).abs() < 1.5), "{cuts:?}");
    }

    #[test]
    fn a_word_is_told_from_all_others_and_too_many_are_not_kept() {
        let (kind, mut observer) = (Kind::Word(1_000), Observer::default());
        let grown: usize = (0..200).map(|n| observer.add(kind, f64::from(n % 100), 1.0, 1.0)).sum();
        assert_eq!(grown, observer.held());
        assert_eq!(cuts(&observer, kind).len(), WORDS);
        assert!(cuts(&observer, kind).iter().all(|(_, passing)| *passing == 2.0) && observer.is_sound(kind));
    }
}
