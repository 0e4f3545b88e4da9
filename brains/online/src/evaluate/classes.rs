//! Classifiers: how often they are right, how sure they are, and whether that fits.

use serde::{Deserialize, Serialize};

use super::{Faded, LEAST, Settings, recent::Recent};
use crate::{
    Error, Result, Snapshot,
    error::within,
    learner::{check_classes, greatest},
};

/// Bins of a score, for the area under the receiver's curve: off by at most 1/1,024.
const SCORES: usize = 1_024;
/// Bins of confidence, for calibration.
const CONFIDENCES: usize = 20;
/// Probabilities count as at least this in the log loss, so that one that was sure and wrong does not hide all others.
const LEAST_PROBABILITY: f64 = 1e-6;

/// What a classifier answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer<'a> {
    /// The probability of each class.
    Probabilities(&'a [f64]),
    /// A class alone: log loss, areas and calibration can't be told.
    Class(usize),
}

/// A judged row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Row {
    class: u32,
    said: u32,
    /// Of the answer, where there was a probability; all three are NaN else.
    confidence: f32,
    /// What was said of the true class.
    truth: f32,
    /// What was said of the positive class.
    score: f32,
}

/// Sums over rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Tally {
    /// Rows of each class, answers of each class, and those that were right.
    actual: Vec<u64>,
    said: Vec<u64>,
    right: Vec<u64>,
    /// Rows with probabilities, their log loss, and squared distance of the truth's probability from 1.
    sure: u64,
    log_loss: f64,
    /// By score: rows that were positive, and that were not.
    scores: Vec<[u64; 2]>,
    /// By confidence: rows, sum of confidence, right ones.
    confidences: Vec<(u64, f64, u64)>,
}

impl Tally {
    fn new(classes: usize) -> Self {
        Self {
            actual: vec![0; classes],
            said: vec![0; classes],
            right: vec![0; classes],
            sure: 0,
            log_loss: 0.0,
            scores: Vec::new(),
            confidences: vec![(0, 0.0, 0); CONFIDENCES],
        }
    }

    fn add(&mut self, row: &Row, positive: Option<u32>) {
        let right = row.class == row.said;
        let count = |counts: &mut Vec<u64>, class: u32| {
            if let Some(count) = counts.get_mut(class as usize) {
                *count += 1;
            }
        };
        count(&mut self.actual, row.class);
        count(&mut self.said, row.said);
        if right {
            count(&mut self.right, row.class);
        }
        if row.confidence.is_nan() {
            return;
        }
        self.sure += 1;
        self.log_loss -= f64::from(row.truth).clamp(LEAST_PROBABILITY, 1.0).ln();
        if let Some(bin) = self.confidences.get_mut(bin(row.confidence, CONFIDENCES)) {
            bin.0 += 1;
            bin.1 += f64::from(row.confidence);
            bin.2 += u64::from(right);
        }
        if let Some(positive) = positive {
            self.scores.resize(SCORES, [0; 2]);
            if let Some(bin) = self.scores.get_mut(bin(row.score, SCORES)) {
                let [yes, no] = bin;
                *(if row.class == positive { yes } else { no }) += 1;
            }
        }
    }

    fn figures(&self, positive: Option<u32>) -> ClassFigures {
        let rows: u64 = self.actual.iter().sum();
        let right: u64 = self.right.iter().sum();
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        let accuracy = share(right, rows);
        let by_chance = |rows: f64| -> f64 {
            self.actual.iter().zip(&self.said).map(|(a, b)| (*a as f64 / rows) * (*b as f64 / rows)).sum()
        };
        let kappa = accuracy.and_then(|accuracy| {
            let chance = by_chance(rows as f64);
            (chance < 1.0).then(|| (accuracy - chance) / (1.0 - chance))
        });
        let recalls: Vec<f64> =
            self.actual.iter().zip(&self.right).filter_map(|(actual, right)| share(*right, *actual)).collect();
        let of = |counts: &[u64]| positive.and_then(|class| counts.get(class as usize).copied());
        let pair = |whole: &[u64]| of(&self.right).zip(of(whole)).and_then(|(part, whole)| share(part, whole));
        let off = |(count, sum, right): &(u64, f64, u64)| (sum - *right as f64).abs() * f64::from(u8::from(*count > 0));
        ClassFigures {
            rows,
            accuracy,
            balanced_accuracy: (!recalls.is_empty()).then(|| recalls.iter().sum::<f64>() / recalls.len() as f64),
            kappa,
            log_loss: (self.sure > 0).then(|| self.log_loss / self.sure as f64),
            auc: self.auc(),
            precision: pair(&self.said),
            recall: pair(&self.actual),
            calibration_error: (self.sure > 0)
                .then(|| self.confidences.iter().map(off).sum::<f64>() / self.sure as f64),
        }
    }

    /// The probability that a positive row scores higher than another one; equal bins count half.
    fn auc(&self) -> Option<f64> {
        let total = |which: usize| self.scores.iter().filter_map(|bin| bin.get(which)).sum::<u64>();
        let (positives, negatives) = (total(0), total(1));
        if positives < LEAST || negatives < LEAST {
            return None;
        }
        let (mut below, mut area) = (0.0, 0.0);
        for [yes, no] in &self.scores {
            area += *yes as f64 * (below + *no as f64 / 2.0);
            below += *no as f64;
        }
        Some(area / (positives as f64 * negatives as f64))
    }

    fn is_sound(&self, classes: usize) -> bool {
        let sized = [&self.actual, &self.said, &self.right].iter().all(|counts| counts.len() == classes);
        let binned = self.confidences.len() == CONFIDENCES && (self.scores.is_empty() || self.scores.len() == SCORES);
        let few = |count: &u64| *count < 1 << 40;
        let counted =
            self.actual.iter().chain(&self.said).chain(&self.right).chain(self.scores.iter().flatten()).all(few);
        let finite =
            self.log_loss.is_finite() && self.confidences.iter().all(|(n, sum, r)| few(n) && few(r) && sum.is_finite());
        sized && binned && counted && finite && few(&self.sure)
    }
}

fn bin(value: f32, bins: usize) -> usize {
    ((f64::from(value) * bins as f64) as usize).min(bins - 1)
}

/// How right a classifier was over some rows; `None` where these rows can't say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// Rows with a label.
    pub rows: u64,
    /// Share of right answers.
    pub accuracy: Option<f64>,
    /// The mean over classes of the share of their rows that was answered right.
    pub balanced_accuracy: Option<f64>,
    /// Cohen's κ: accuracy beyond what answers as frequent as these would have by chance.
    pub kappa: Option<f64>,
    /// Mean −ln of the true class's probability, which counts as at least 10⁻⁶; in nats.
    pub log_loss: Option<f64>,
    /// Area under the receiver's curve of the positive class's probability; from [`LEAST`] rows of each kind on.
    pub auc: Option<f64>,
    /// Share of answers «positive» that were right (positive predictive value).
    pub precision: Option<f64>,
    /// Share of positive rows that were found.
    pub recall: Option<f64>,
    /// Expected calibration error: how far confidence and accuracy are apart, the mean over 20 bins by rows.
    pub calibration_error: Option<f64>,
}

/// The figures of a classifier.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Of all rows.
    pub since_start: ClassFigures,
    /// Of the last [`Settings::short`].
    pub short: ClassFigures,
    /// Of the last [`Settings::long`].
    pub long: ClassFigures,
    /// Accuracy in which a row counts half after [`Settings::half_life`] more.
    pub faded_accuracy: Option<f64>,
    /// Log loss, faded alike.
    pub faded_log_loss: Option<f64>,
}

/// Judges a classifier by its answers and the labels that came later.
///
/// A label costs O(classes), a report O(classes + window). Memory: 20 bytes a row of the long window, 16 KiB of scores where
/// a class is positive, 24 bytes a class.
///
/// ```
/// use online::evaluate::{Answer, Classes, Settings};
///
/// let mut judge = Classes::new(Settings::default(), 2, Some(1))?;
/// for n in 0..100 {
///     let positive = n % 4 == 0;
///     let score = if positive { 0.8 } else { 0.1 };
///     judge.observe(Answer::Probabilities(&[1.0 - score, score]), usize::from(positive))?;
/// }
/// let report = judge.report();
/// assert_eq!(report.since_start.accuracy, Some(1.0));
/// assert_eq!(report.short.auc, Some(1.0));
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classes {
    settings: Settings,
    classes: usize,
    positive: Option<u32>,
    all: Tally,
    recent: Recent<Row>,
    accuracy: Faded,
    log_loss: Faded,
}

impl Classes {
    /// A judge of so many classes, one of which may be the positive one.
    ///
    /// # Errors
    /// [`Error::Range`] for a setting or a number of classes that can't be; [`Error::Class`] for a positive class that is
    /// none of them.
    pub fn new(settings: Settings, classes: usize, positive: Option<usize>) -> Result<Self> {
        settings.check()?;
        check_classes(classes)?;
        if let Some(class) = positive.filter(|class| *class >= classes) {
            return Err(Error::Class { class, classes });
        }
        Ok(Self {
            settings,
            classes,
            positive: positive.map(|class| class as u32),
            all: Tally::new(classes),
            recent: Recent::default(),
            accuracy: Faded::default(),
            log_loss: Faded::default(),
        })
    }

    /// One of the same kind that has seen nothing.
    ///
    /// # Errors
    /// As [`Classes::new`].
    pub fn fresh(&self) -> Result<Self> {
        Self::new(self.settings.clone(), self.classes, self.positive.map(|class| class as usize))
    }

    /// How many classes it tells apart.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Takes in what was answered, and the class that it was. Probabilities are taken as they are; they need not sum to 1.
    ///
    /// # Errors
    /// [`Error::Class`] for a class that is none; [`Error::Width`] for other probabilities than classes;
    /// [`Error::Range`] for one outside 0 … 1. Then nothing has changed.
    pub fn observe(&mut self, answer: Answer<'_>, class: usize) -> Result<()> {
        let row = self.row(answer, class)?;
        self.all.add(&row, self.positive);
        let stays = self.settings.stays();
        self.accuracy.add(f64::from(u8::from(row.class == row.said)), stays);
        if !row.truth.is_nan() {
            self.log_loss.add(-f64::from(row.truth).clamp(LEAST_PROBABILITY, 1.0).ln(), stays);
        }
        self.recent.push(row, self.settings.long);
        Ok(())
    }

    fn row(&self, answer: Answer<'_>, class: usize) -> Result<Row> {
        let known = |class: usize| {
            if class < self.classes { Ok(class as u32) } else { Err(Error::Class { class, classes: self.classes }) }
        };
        let class = known(class)?;
        let probabilities = match answer {
            Answer::Class(said) => {
                return Ok(Row { class, said: known(said)?, confidence: f32::NAN, truth: f32::NAN, score: f32::NAN });
            }
            Answer::Probabilities(probabilities) => probabilities,
        };
        if probabilities.len() != self.classes {
            return Err(Error::Width { wanted: self.classes, found: probabilities.len() });
        }
        for probability in probabilities {
            within("a probability", *probability, (0.0, 1.0), "from 0 to 1")?;
        }
        let of = |class: u32| probabilities.get(class as usize).map_or(0.0, |probability| *probability as f32);
        let said = greatest(probabilities) as u32;
        Ok(Row { class, said, confidence: of(said), truth: of(class), score: self.positive.map_or(f32::NAN, of) })
    }

    /// How right it was.
    pub fn report(&self) -> ClassReport {
        let window = |rows: usize| {
            let mut tally = Tally::new(self.classes);
            self.recent.last(rows).for_each(|row| tally.add(row, self.positive));
            tally.figures(self.positive)
        };
        ClassReport {
            since_start: self.all.figures(self.positive),
            short: window(self.settings.short),
            long: window(self.settings.long),
            faded_accuracy: self.accuracy.mean(),
            faded_log_loss: self.log_loss.mean(),
        }
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        let bins = self.all.scores.len() * 16 + CONFIDENCES * 24;
        size_of::<Self>() + self.recent.memory() + self.classes * 24 + bins
    }
}

impl Snapshot for Classes {
    const KIND: &'static str = "evaluate classes";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.settings.check()?;
        check_classes(self.classes)?;
        let below = |class: u32| (class as usize) < self.classes;
        let probable = |value: f32| value.is_nan() || (0.0..=1.0).contains(&value);
        let sound = |row: &Row| {
            below(row.class) && below(row.said) && [row.confidence, row.truth, row.score].into_iter().all(probable)
        };
        let whole = self.positive.is_none_or(below)
            && self.all.is_sound(self.classes)
            && self.recent.is_sound(self.settings.long, sound)
            && self.accuracy.is_sound()
            && self.log_loss.is_sound();
        if whole { Ok(()) } else { Err(Error::Snapshot("has sums that do not fit its classes")) }
    }
}
