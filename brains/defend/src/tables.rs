//! Attacks among rows of numbers and words: connections, sensors, records.
//!
//! A learner knows the attacks that it was shown. What is new it takes for whatever is nearest; so four scores of how
//! strange a row is beside ordinary ones stand by it, and each may raise the alarm within its own share of the false ones.

use online::{
    Classifier as _, Ensemble, Error, Kind, Random, Result, Schema, Scorer as _, Snapshot, anomaly, ensemble,
};
use serde::{Deserialize, Serialize};

/// Ordinary rows that strangeness is measured against.
const ROWS: usize = 2_048;
/// Of the ordinary rows nearest to a row, whose distance counts.
const NEAR: usize = 3;
/// Who judges: the learner, the ensemble, rarity, distance, the furthest cell.
const JUDGES: usize = 5;
/// Shares of all false alarms that are each judge's: where attacks were shown, and where none were.
const SHARES: [f64; JUDGES] = [0.3, 0.05, 0.15, 0.4, 0.1];
const WITHOUT: [f64; JUDGES] = [0.0, 0.1, 0.4, 0.25, 0.25];
/// Calibrated rows below which false alarms are one judge's alone.
const FEW: usize = 500;
/// Scores that are kept of each judge: the least p-value is one in so many.
const SCORES: usize = 10_000;

/// How a [`Tables`] is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Trees of the learner. Default 20.
    pub trees: usize,
    /// The seed of all chance. Default 0.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { trees: 20, seed: 0 }
    }
}

/// A forest that was shown attacks, and four judges that know only ordinary rows: an anomaly ensemble, how rare each cell is
/// in its column, how far the nearest ordinary rows are, and how far out the furthest cell. Each score becomes a p-value
/// among ordinary rows that nobody learnt from; the least of them, each divided by its judge's share, is ranked among
/// theirs in turn, and that rank is the row's conformal p-value (Bates et al., "Testing for outliers with conformal
/// p-values", Annals of Statistics 2023): among rows like those it is below α for about α of them.
///
/// Columns as [`Schema`] says; NaN is a missing value. A judgement costs about 100 µs at 40 columns, mostly for the nearest
/// rows; some 3 MB at 40 columns. Blind spot: an attack that is in every column and together as ordinary rows are.
///
/// ```
/// use defend::tables::{Settings, Tables};
/// use online::{Random, Schema};
///
/// let mut tables = Tables::new(Schema::numeric(2)?, Settings::default())?;
/// let mut random = Random::new(1);
/// for _ in 0..1_000 {
///     tables.learn(&[random.normal(), random.normal()], false)?;
///     tables.learn(&[9.0 + random.normal(), random.normal()], true)?;
/// }
/// for _ in 0..1_000 {
///     tables.calibrate(&[random.normal(), random.normal()])?;
/// }
/// tables.calibrated();
/// assert!(tables.p_value(&[9.0, 0.0])? < 0.01, "as it was shown");
/// assert!(tables.p_value(&[0.0, -12.0])? < 0.01, "as nothing was");
/// assert!(tables.p_value(&[0.1, 0.2])? > 0.01);
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tables {
    schema: Schema,
    forest: Ensemble,
    strange: anomaly::Ensemble,
    /// Ordinary rows, by chance of all that were learnt.
    rows: Vec<Vec<f64>>,
    columns: Vec<Column>,
    /// The rows' places in their columns, one row after the other.
    ranks: Vec<f32>,
    settled: bool,
    random: Random,
    ordinary: u64,
    hostile: u64,
    /// Scores of ordinary rows that nobody learnt from, by judge; sorted.
    scores: [Vec<f64>; JUDGES],
    /// The same by row, and how suspicious each row is among the others by its worst judge; sorted.
    judged: Vec<[f64; JUDGES]>,
    worst: Vec<f64>,
}

/// One column of the ordinary rows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Column {
    sorted: Vec<f64>,
    missing: usize,
    /// Values this near to one another are alike.
    near: f64,
    /// The middle, and how far quarters lie apart.
    middle: f64,
    spread: f64,
}

impl Column {
    fn of(rows: &[Vec<f64>], place: usize, is_word: bool) -> Self {
        let mut sorted: Vec<f64> =
            rows.iter().filter_map(|row| row.get(place).copied()).filter(|x| !x.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| sorted.get((sorted.len() as f64 * share) as usize).copied().unwrap_or(0.0);
        let near = if is_word { 0.0 } else { (at(0.95) - at(0.05)) / 50.0 };
        let mean = sorted.iter().sum::<f64>() / sorted.len().max(1) as f64;
        let deviation = (sorted.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / sorted.len().max(1) as f64).sqrt();
        let quarters = at(0.75) - at(0.25);
        let spread = match is_word {
            true => f64::INFINITY,
            false if quarters > 0.0 => quarters,
            false => deviation.max(1e-9),
        };
        Self { missing: rows.len() - sorted.len(), near, middle: at(0.5), spread, sorted }
    }

    /// How far a value is from the middle, in distances of quarters; a word is never far.
    fn away(&self, value: f64) -> f64 {
        if value.is_nan() || self.sorted.is_empty() { 0.0 } else { (value - self.middle).abs() / self.spread }
    }

    /// How rare a value is, in nats.
    fn rarity(&self, value: f64) -> f64 {
        let n = (self.sorted.len() + self.missing) as f64;
        let alike = if value.is_nan() {
            self.missing
        } else {
            let from = self.sorted.partition_point(|x| *x < value - self.near);
            self.sorted.partition_point(|x| *x <= value + self.near) - from
        };
        -((alike as f64 + 0.5) / (n + 1.0)).ln()
    }

    /// Its place among the column's values, from 0 to 1; beyond them it goes on by how far it is.
    fn rank(&self, value: f64) -> f64 {
        let (Some(first), Some(last)) = (self.sorted.first(), self.sorted.last()) else { return 0.0 };
        if value.is_nan() {
            return -1.0;
        }
        let n = self.sorted.len() as f64;
        let below = self.sorted.partition_point(|x| *x < value) as f64;
        let upto = self.sorted.partition_point(|x| *x <= value) as f64;
        let beyond = (value - value.clamp(*first, *last)) / (last - first).max(self.near).max(1e-9);
        (below + upto) / 2.0 / n + beyond.signum() * beyond.abs().min(1.0)
    }
}

impl Tables {
    /// One that has learnt nothing.
    ///
    /// # Errors
    /// [`Error::Range`] for a number of trees or columns that can't be.
    pub fn new(schema: Schema, settings: Settings) -> Result<Self> {
        let mut random = Random::new(settings.seed);
        let of = ensemble::Settings { trees: settings.trees, ..ensemble::Settings::default() };
        Ok(Self {
            forest: Ensemble::new(of, schema.clone(), 2, random.bits())?,
            strange: anomaly::Ensemble::new(schema.width(), anomaly::ensemble::Settings::default())?,
            rows: Vec::new(),
            columns: Vec::new(),
            ranks: Vec::new(),
            settled: false,
            random,
            ordinary: 0,
            hostile: 0,
            scores: Default::default(),
            judged: Vec::new(),
            worst: Vec::new(),
            schema,
        })
    }

    /// Learns a row that is known to be ordinary, or hostile.
    ///
    /// # Errors
    /// [`Error::Width`], [`Error::Infinite`], [`Error::Word`].
    pub fn learn(&mut self, row: &[f64], hostile: bool) -> Result<()> {
        self.forest.learn(row, usize::from(hostile), 1.0)?;
        if hostile {
            self.hostile = self.hostile.saturating_add(1);
            return Ok(());
        }
        self.strange.learn(row)?;
        self.ordinary = self.ordinary.saturating_add(1);
        if self.rows.len() < ROWS {
            self.rows.push(row.to_vec());
        } else if self.random.uniform() < ROWS as f64 / self.ordinary as f64 {
            let place = self.random.below(ROWS as u32) as usize;
            if let Some(old) = self.rows.get_mut(place) {
                *old = row.to_vec();
            }
        }
        self.settled = false;
        Ok(())
    }

    /// Takes in an ordinary row to tell how high scores of such are. It must not have been learnt.
    ///
    /// # Errors
    /// As [`learn`](Self::learn).
    pub fn calibrate(&mut self, row: &[f64]) -> Result<()> {
        self.settle();
        let found = self.judge(row)?;
        if self.judged.len() < SCORES {
            self.judged.push(found);
            for (scores, score) in self.scores.iter_mut().zip(found) {
                let place = scores.partition_point(|other| *other < score);
                scores.insert(place, score);
            }
            self.worst.clear();
        }
        Ok(())
    }

    /// Ends a calibration: until then [`p_value`](Self::p_value) takes all rows for ordinary. O(n log n).
    pub fn calibrated(&mut self) {
        let mut worst: Vec<f64> = self.judged.iter().map(|judged| self.least(*judged)).collect();
        worst.sort_unstable_by(f64::total_cmp);
        self.worst = worst;
    }

    /// Looks at the ordinary rows by column, if it has not since the last was learnt.
    fn settle(&mut self) {
        if self.settled {
            return;
        }
        let is_word = |kind: &Kind| matches!(kind, Kind::Word(_));
        let columns = self.schema.features().iter().enumerate();
        self.columns = columns.map(|(place, column)| Column::of(&self.rows, place, is_word(&column.kind))).collect();
        let rows = std::mem::take(&mut self.rows);
        self.ranks = rows.iter().flat_map(|row| self.ranked(row)).collect();
        self.rows = rows;
        self.settled = true;
    }

    /// A row's places in its columns; a word is its code, a thousand apart: another word counts as 2.
    fn ranked(&self, row: &[f64]) -> Vec<f32> {
        let kinds = self.schema.features().iter().map(|feature| matches!(feature.kind, Kind::Word(_)));
        let place = |(is_word, (column, value)): (bool, (&Column, &f64))| match is_word {
            true if value.is_nan() => -1_000.0,
            true => *value as f32 * 1_000.0,
            false => column.rank(*value) as f32,
        };
        kinds.zip(self.columns.iter().zip(row)).map(place).collect()
    }

    /// What each judge says of a row; higher is worse.
    fn judge(&self, row: &[f64]) -> Result<[f64; JUDGES]> {
        let mut chances = [0.0; 2];
        self.forest.predict(row, &mut chances)?;
        let [_, hostile] = chances;
        let rarity: f64 = self.columns.iter().zip(row).map(|(column, value)| column.rarity(*value)).sum();
        let furthest = self.columns.iter().zip(row).map(|(column, value)| column.away(*value)).fold(0.0, f64::max);
        let learner = if self.hostile > 0 { hostile } else { 0.0 };
        Ok([learner, self.strange.score(row)?, rarity, self.distance(row), furthest])
    }

    /// How far the nearest ordinary rows are: the sum over columns of the difference in rank, 2 for another word.
    fn distance(&self, row: &[f64]) -> f64 {
        let ranked = self.ranked(row);
        let mut nearest = [f32::INFINITY; NEAR];
        for other in self.ranks.chunks_exact(ranked.len().max(1)) {
            let sum: f32 = ranked.iter().zip(other).map(|(a, b)| (a - b).abs().min(2.0)).sum();
            if let Some(place) = nearest.iter().position(|near| sum < *near) {
                nearest.get_mut(place..).into_iter().for_each(|rest| rest.rotate_right(1));
                nearest.get_mut(place).into_iter().for_each(|near| *near = sum);
            }
        }
        let found: Vec<f64> = nearest.into_iter().filter(|near| near.is_finite()).map(f64::from).collect();
        found.iter().sum::<f64>() / found.len().max(1) as f64
    }

    /// How likely an ordinary row is to be as suspicious as this one, from 0 to 1; 1 before anything was calibrated.
    ///
    /// # Errors
    /// As [`learn`](Self::learn).
    pub fn p_value(&self, row: &[f64]) -> Result<f64> {
        if self.worst.is_empty() {
            return Ok(1.0);
        }
        let judged = self.judge(row)?;
        let below = self.worst.partition_point(|other| *other <= self.least(judged));
        let rank = (below as f64 + 1.0) / (self.worst.len() as f64 + 1.0);
        // Few rows can't say how rare it is to be above them all: a normal tail does.
        let alone = self.shares().iter().position(|share| *share == 1.0);
        Ok(alone.map_or(rank, |judge| if below == 0 { self.tail(judge, judged).min(1.0) } else { rank }))
    }

    /// What a normal distribution of one judge's scores, of the learner's log-odds or of another's logarithm, has beyond this: e^(−0.717 z − 0.416 z²) / 2, which
    /// is within a hundredth of it.
    fn tail(&self, judge: usize, judged: [f64; JUDGES]) -> f64 {
        let log_odds = |score: f64| {
            let share = score.clamp(1e-3, 1.0 - 1e-3);
            if judge == 0 { (share / (1.0 - share)).ln() } else { score.max(1e-9).ln() }
        };
        let scores: Vec<f64> = self.scores.get(judge).into_iter().flatten().map(|score| log_odds(*score)).collect();
        let n = scores.len().max(1) as f64;
        let mean = scores.iter().sum::<f64>() / n;
        let deviation = (scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / n).sqrt().max(1e-6);
        let z = (log_odds(judged.get(judge).copied().unwrap_or(0.0)) - mean) / deviation;
        // Mean and deviation are of few: Student's tail, brought to a normal one (Abramowitz and Stegun, 26.7.8).
        let z = z * (1.0 - 0.25 / n) / (1.0 + z * z / (2.0 * n)).sqrt();
        if z <= 0.0 { 1.0 } else { 0.5 * (-0.717 * z - 0.416 * z * z).exp() }
    }

    /// The least p-value of a judge, by its share of false alarms; what is beyond all that were calibrated goes on below.
    fn least(&self, judged: [f64; JUDGES]) -> f64 {
        let found = self.shares().into_iter().zip(self.values(judged)).filter(|(share, _)| *share > 0.0);
        found.map(|(share, p)| p / share).fold(f64::INFINITY, f64::min)
    }

    /// How suspicious a row is, all judges together: a rank, for sorting. 0 and more; it promises nothing of false alarms.
    ///
    /// # Errors
    /// As [`learn`](Self::learn).
    pub fn suspicion(&self, row: &[f64]) -> Result<f64> {
        let judged = self.judge(row)?;
        // What is beyond all that was calibrated still differs by how far.
        let beyond = judged.map(|score| 1e-3 * score / (1.0 + score.abs()));
        let all = self.shares().into_iter().zip(self.values(judged)).zip(beyond);
        Ok(all.map(|((share, p), beyond)| share * (beyond - p.ln())).sum())
    }

    /// Each judge's score as a p-value among those calibrated; 1 where there are none.
    fn values(&self, judged: [f64; JUDGES]) -> [f64; JUDGES] {
        let mut values = [1.0; JUDGES];
        for ((value, scores), score) in values.iter_mut().zip(&self.scores).zip(judged) {
            let above = scores.len() - scores.partition_point(|other| *other < score);
            *value = (above as f64 + 1.0) / (scores.len() as f64 + 1.0);
        }
        values
    }

    /// The judges' shares of false alarms; the learner has none where it was shown no attack, and all where too few rows
    /// were calibrated to divide.
    fn shares(&self) -> [f64; JUDGES] {
        let few = self.scores.iter().any(|scores| scores.len() < FEW);
        match (self.hostile > 0, few) {
            (true, false) => SHARES,
            (true, true) => [1.0, 0.0, 0.0, 0.0, 0.0],
            (false, true) => [0.0, 0.0, 0.0, 1.0, 0.0],
            (false, false) => WITHOUT,
        }
    }
}

impl Snapshot for Tables {
    const KIND: &'static str = "attacks in tables";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.forest.check()?;
        self.strange.check()?;
        let width = self.schema.width();
        let rows = self.rows.iter().all(|row| row.len() == width) && self.rows.len() <= ROWS;
        let columns = self.columns.is_empty() || self.columns.len() == width;
        let judged = self.judged.len() <= SCORES && self.worst.len() <= self.judged.len() && self.worst.is_sorted();
        let ranks = self.ranks.len() <= ROWS * width;
        let scores = self.scores.iter().all(|scores| scores.is_sorted() && scores.len() <= SCORES);
        match rows && columns && scores && ranks && judged && self.strange.width() == width {
            true => Ok(()),
            false => Err(Error::Snapshot("has parts that do not fit together")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn false_alarms_stay_within_what_was_asked_for() {
        let mut tables = Tables::new(Schema::numeric(3).unwrap(), Settings { trees: 5, seed: 3 }).unwrap();
        let mut random = Random::new(7);
        let mut row = |shift: f64| [shift + random.normal(), random.normal(), random.exponential()];
        for n in 0..1_500 {
            tables.learn(&row(0.0), false).unwrap();
            if n % 3 == 0 {
                tables.learn(&row(6.0), true).unwrap();
            }
        }
        (0..1_000).for_each(|_| tables.calibrate(&row(0.0)).unwrap());
        tables.calibrated();
        let mut share = |shift: f64| (0..400).filter(|_| tables.p_value(&row(shift)).unwrap() <= 0.05).count();
        assert!(share(0.0) <= 36, "{}", share(0.0));
        assert!(share(6.0) > 380);
        assert!(share(-8.0) > 380, "another kind");
    }

    #[test]
    fn it_goes_on_where_it_was_saved() {
        let mut tables = Tables::new(Schema::numeric(1).unwrap(), Settings { trees: 2, seed: 0 }).unwrap();
        (0..300).for_each(|n| tables.learn(&[f64::from(n % 7)], n % 5 == 0).unwrap());
        (0..50).for_each(|n| tables.calibrate(&[f64::from(n % 7)]).unwrap());
        tables.calibrated();
        let loaded = Tables::load(&tables.save()).unwrap();
        assert_eq!(loaded.p_value(&[3.0]), tables.p_value(&[3.0]));
        assert!(tables.p_value(&[f64::NAN]).unwrap() <= 1.0);
        assert!(tables.p_value(&[f64::INFINITY]).is_err());
        assert!(tables.learn(&[1.0, 2.0], true).is_err());
    }
}
