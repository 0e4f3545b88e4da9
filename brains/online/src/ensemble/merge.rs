//! One forest of several workers' trees: those that are right on rows that nobody could tamper with.

use crate::{
    Classifier as _, Ensemble, Error, Random, Result,
    error::within,
    learner::{check_example, greatest},
    robust::median,
};

/// What became of a worker's trees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerTrees {
    /// Trees that it sent.
    pub sent: usize,
    /// Those that were too often wrong on the clean set.
    pub refused: usize,
    /// Those that are in the merged forest.
    pub kept: usize,
}

/// How trees were chosen.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct MergeReport {
    /// The median accuracy of all trees on the clean set.
    pub median: f64,
    /// The accuracy below which trees were refused.
    pub least: f64,
    /// By worker, in their order.
    pub workers: Vec<WorkerTrees>,
}

/// A tree of a worker, and how right it is.
struct Offer {
    worker: usize,
    place: usize,
    accuracy: f64,
}

/// Merges forests that workers grew on their shards into one of at most as many trees as the first has. A tree is taken
/// only if its accuracy on the clean set is at least the median of all trees' less three median absolute deviations; each
/// worker gives at most its share of the trees, its best first; a tree's vote counts by its accuracy on the clean set.
///
/// Where all trees are nearly alike their deviations are nearly 0, and three of them would refuse half of the honest: a
/// deviation counts as no less than the standard error of the median accuracy. Trees in the background stay behind, and
/// each tree's watch goes with it. Where workers send few good trees there are fewer in the end than the first has, never
/// none: the median tree is always taken.
///
/// `clean` are rows with their classes whose labels are trusted, a few hundred or more. O(trees · clean rows) answers.
///
/// ```
/// use online::{Classifier, Ensemble, Schema, ensemble::Settings, robust::merge_forests};
///
/// let grown = |seed: u64, flip: usize| {
///     let mut forest = Ensemble::new(Settings::adaptive_random_forest(4), Schema::numeric(1)?, 2, seed)?;
///     for n in 0..500 {
///         forest.learn(&[f64::from(n % 10)], usize::from(n % 10 > 4) ^ flip, 1.0)?;
///     }
///     Ok::<_, online::Error>(forest)
/// };
/// let (honest, liar) = ([grown(1, 0)?, grown(2, 0)?], grown(3, 1)?);
/// let rows: Vec<[f64; 1]> = (0..100).map(|n| [f64::from(n % 10)]).collect();
/// let clean: Vec<(&[f64], usize)> = rows.iter().map(|row| (&row[..], usize::from(row[0] > 4.0))).collect();
/// let (merged, report) = merge_forests(&[&honest[0], &honest[1], &liar], &clean, 7)?;
/// assert_eq!(report.workers[2].refused, 4);
/// let mut probabilities = [0.0; 2];
/// merged.predict(&[9.0], &mut probabilities)?;
/// assert!(probabilities[1] > 0.9);
/// # Ok::<(), online::Error>(())
/// ```
///
/// # Errors
/// [`Error::Range`] for no forest or no clean row; [`Error::Snapshot`] for forests of other settings, columns or classes than
/// the first's; what is wrong with a clean row.
pub fn merge_forests(forests: &[&Ensemble], clean: &[(&[f64], usize)], seed: u64) -> Result<(Ensemble, MergeReport)> {
    let first = check(forests, clean)?;
    let offers = offers(forests, clean);
    let accuracies: Vec<f64> = offers.iter().map(|offer| offer.accuracy).collect();
    let (middle, least) = least(&accuracies, clean.len());
    let mut workers: Vec<WorkerTrees> =
        forests.iter().map(|forest| WorkerTrees { sent: forest.members.len(), ..WorkerTrees::default() }).collect();
    let share = first.settings.trees.div_ceil(forests.len());
    let mut members = Vec::new();
    for offer in offers {
        let (Some(told), Some(forest)) = (workers.get_mut(offer.worker), forests.get(offer.worker)) else { continue };
        if offer.accuracy < least {
            told.refused += 1;
        } else if told.kept < share
            && members.len() < first.settings.trees
            && let Some(member) = forest.members.get(offer.place)
        {
            told.kept += 1;
            members.push(member.judged(offer.accuracy, clean.len()));
        }
    }
    let mut settings = first.settings.clone();
    settings.trees = members.len();
    let (schema, plan, poisson) = (first.schema.clone(), first.plan.clone(), first.poisson.clone());
    let merged = Ensemble { schema, settings, plan, members, poisson, random: Random::new(seed), drifts: 0 };
    Ok((merged, MergeReport { median: middle, least, workers }))
}

impl Ensemble {
    /// Whether another one was made likewise: of the same columns, classes and settings, but for how many trees there are.
    pub fn is_like(&self, other: &Self) -> bool {
        let settings = super::Settings { trees: self.settings.trees, ..other.settings.clone() };
        other.schema == self.schema && other.plan == self.plan && settings == self.settings
    }

    /// How many trees it has.
    pub fn trees(&self) -> usize {
        self.members.len()
    }
}

/// The first forest, where the others are like it.
fn check<'a>(forests: &[&'a Ensemble], clean: &[(&[f64], usize)]) -> Result<&'a Ensemble> {
    within("the number of clean rows", clean.len() as f64, (1.0, f64::INFINITY), "at least 1")?;
    let none = Error::Range { what: "the number of forests", value: 0.0, range: "at least 1" };
    let first = *forests.first().ok_or(none)?;
    if !forests.iter().all(|forest| first.is_like(forest)) {
        return Err(Error::Snapshot("is of a forest that was made otherwise than the first"));
    }
    clean.iter().try_for_each(|(row, class)| check_example(&first.schema, first.classes(), row, *class, 1.0))?;
    Ok(first)
}

/// All trees, the most accurate first.
fn offers(forests: &[&Ensemble], clean: &[(&[f64], usize)]) -> Vec<Offer> {
    let mut offers = Vec::new();
    for (worker, forest) in forests.iter().enumerate() {
        let mut votes = vec![0.0; forest.classes()];
        for (place, member) in forest.members.iter().enumerate() {
            let right = clean.iter().filter(|(row, class)| {
                votes.fill(0.0);
                member.vote(&forest.plan, row, &mut votes);
                greatest(&votes) == *class
            });
            offers.push(Offer { worker, place, accuracy: right.count() as f64 / clean.len() as f64 });
        }
    }
    // Of equals the first worker's come first: the order of workers is the caller's.
    offers.sort_by(|a, b| b.accuracy.total_cmp(&a.accuracy));
    offers
}

/// The median accuracy, and the least that is taken.
fn least(accuracies: &[f64], rows: usize) -> (f64, f64) {
    let middle = median(accuracies);
    let apart: Vec<f64> = accuracies.iter().map(|accuracy| (accuracy - middle).abs()).collect();
    let error = (middle * (1.0 - middle) / rows as f64).sqrt();
    (middle, middle - 3.0 * median(&apart).max(error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Schema, Snapshot as _, ensemble::Settings};

    fn settings() -> Settings {
        Settings::adaptive_random_forest(6)
    }

    /// A forest of 600 rows whose class is whether the first number is above the middle, or the reverse of it.
    fn grown(seed: u64, lies: bool) -> Ensemble {
        let mut forest = Ensemble::new(settings(), Schema::numeric(2).unwrap(), 2, seed).unwrap();
        let mut random = Random::new(seed);
        for _ in 0..600 {
            let row = [random.uniform(), random.uniform()];
            forest.learn(&row, usize::from((row[0] > 0.5) != lies), 1.0).unwrap();
        }
        forest
    }

    fn clean(rows: usize) -> Vec<([f64; 2], usize)> {
        let mut random = Random::new(99);
        let row = |_| {
            let row = [random.uniform(), random.uniform()];
            (row, usize::from(row[0] > 0.5))
        };
        (0..rows).map(row).collect()
    }

    fn accuracy(forest: &Ensemble) -> f64 {
        let mut probabilities = [0.0; 2];
        let rows = clean(1_000);
        let right = rows.iter().filter(|(row, class)| {
            forest.predict(row, &mut probabilities).unwrap();
            greatest(&probabilities) == *class
        });
        right.count() as f64 / 1_000.0
    }

    #[test]
    fn a_liar_s_trees_stay_out_and_the_merged_forest_learns_on() {
        let forests = [grown(1, false), grown(2, false), grown(3, true), grown(4, false)];
        let rows = clean(300);
        let rows: Vec<(&[f64], usize)> = rows.iter().map(|(row, class)| (&row[..], *class)).collect();
        let (mut merged, report) = merge_forests(&forests.each_ref(), &rows, 7).unwrap();
        assert_eq!(report.workers[2], WorkerTrees { sent: 6, refused: 6, kept: 0 });
        assert!(report.workers.iter().all(|worker| worker.kept <= 2), "a share of 6 trees of 4 workers: {report:?}");
        assert!(accuracy(&merged) > 0.95, "{}", accuracy(&merged));
        assert_eq!(Ensemble::load(&merged.save()).as_ref(), Ok(&merged));
        merged.learn(&[0.1, 0.1], 0, 1.0).unwrap();
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let forest = grown(1, false);
        let row: &[f64] = &[0.0, 0.0];
        let other = Ensemble::new(settings(), Schema::numeric(3).unwrap(), 2, 1).unwrap();
        assert!(merge_forests(&[&forest, &other], &[(row, 0)], 1).is_err());
        let other = Ensemble::new(Settings { lambda: 1.0, ..settings() }, Schema::numeric(2).unwrap(), 2, 1).unwrap();
        assert!(merge_forests(&[&forest, &other], &[(row, 0)], 1).is_err());
        assert!(merge_forests(&[], &[(row, 0)], 1).is_err() && merge_forests(&[&forest], &[], 1).is_err());
        assert!(
            merge_forests(&[&forest], &[(row, 2)], 1).is_err() && merge_forests(&[&forest], &[(&[], 0)], 1).is_err()
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
        #[test]
        fn shares_are_kept_whatever_the_clean_set_says(classes in prop::collection::vec(0..2_usize, 1..40)) {
            let forests = [grown(1, false), grown(2, true), grown(3, false)];
            let row: &[f64] = &[0.7, 0.2];
            let clean: Vec<(&[f64], usize)> = classes.iter().map(|class| (row, *class)).collect();
            let (merged, report) = merge_forests(&forests.each_ref(), &clean, 7).unwrap();
            prop_assert!(merged.check().is_ok());
            prop_assert!(report.workers.iter().all(|worker| worker.kept <= 2 && worker.kept + worker.refused <= worker.sent));
            prop_assert!(report.workers.iter().map(|worker| worker.kept).sum::<usize>() >= 1);
        }
    }
}
