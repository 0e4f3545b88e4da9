//! A series that is watched: scores by [`online::anomaly::Series`], and a threshold that keeps up with them.

use online::{
    Error, Result, Snapshot,
    anomaly::{Scorer as _, Series, series},
};
use serde::{Deserialize, Serialize};

/// Scores that the threshold is among.
const SCORES: usize = 2_000;
/// Below so many none is an alarm.
const FIRST: usize = 200;
/// Weight of the newest score in the smoothed one: what is strange stays so for some rows.
const FRESH: f64 = 0.3;

/// Rows after an alarm that are part of it.
const QUIET: u32 = 20;
/// As far out as this counts for half of what is possible, and nothing counts as further than that.
const FAR: f64 = 8.0;
const FURTHEST: f64 = 1e9;

/// What is said of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    /// How strange it is, from 0 to 1.
    pub score: f64,
    /// Whether it is above what this share of the last 2,000 rows was.
    pub alarm: bool,
}

/// Two scores, each with a threshold: how strange the moment and its shape are, and how far out a value is among the last
/// 2,000 of its channel, in distances of quarters. Each threshold is a quantile of the score's last 2,000 values, alarms
/// among them: one that leaves out what it called strange calls more and more so; one that keeps all holds its rate through
/// any drift. After an alarm the next 20 rows neither raise another nor count, so that one strange stretch does not use up
/// what there is for all (declustering, as for extremes: Ferro and Segers, JRSS B 2003).
///
/// Some 15 µs a row of one channel, and 1 for each more; 400 KB and 100 KB a channel. Blind spot: what is strange for thousands of rows.
///
/// ```
/// use defend::watch::Watch;
/// use online::Random;
///
/// let mut watch = Watch::new(1, 0.01)?;
/// let mut random = Random::new(1);
/// let alarms = (0..3_000).filter(|_| watch.see(&[random.normal()]).is_ok_and(|seen| seen.alarm)).count();
/// assert!(alarms < 60);
/// assert!((0..5).any(|_| watch.see(&[40.0]).is_ok_and(|seen| seen.alarm)));
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Watch {
    series: Series,
    alarms: f64,
    smooth: f64,
    channels: Vec<Recent>,
    /// Scores of the shape, and of the furthest value.
    scores: [Recent; 2],
    /// Rows that are still part of what raised the last alarm.
    quiet: u32,
}

/// The last values of something, sorted as well.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Recent {
    values: Vec<f64>,
    next: usize,
    sorted: Vec<f64>,
}

impl Recent {
    /// Puts a value in the place of the oldest. O(values), by moving what lies between.
    fn keep(&mut self, value: f64) {
        if self.values.len() < SCORES {
            self.values.push(value);
        } else if let Some(old) = self.values.get_mut(self.next) {
            let place = self.sorted.partition_point(|other| other.total_cmp(old).is_lt());
            if place < self.sorted.len() {
                self.sorted.remove(place);
            }
            *old = value;
        }
        self.next = (self.next + 1) % SCORES;
        let place = self.sorted.partition_point(|other| other.total_cmp(&value).is_lt());
        self.sorted.insert(place, value);
    }

    fn quantile(&self, share: f64) -> Option<f64> {
        self.sorted.get((self.sorted.len() as f64 * share) as usize).copied()
    }

    /// How far out a value is.
    fn away(&self, value: f64) -> f64 {
        let [Some(low), Some(middle), Some(high)] = [0.25, 0.5, 0.75].map(|share| self.quantile(share)) else {
            return 0.0;
        };
        let spread = if high > low { high - low } else { (middle.abs() * 1e-3).max(1e-9) };
        if value.is_nan() { 0.0 } else { ((value - middle).abs() / spread).min(FURTHEST) }
    }

    fn sound(&self) -> bool {
        self.values.len() == self.sorted.len()
            && self.values.len() <= SCORES
            && self.next < SCORES
            && self.sorted.is_sorted()
    }
}

impl Watch {
    /// One for so many channels, that may call so large a share of rows strange.
    ///
    /// # Errors
    /// [`Error::Range`] for channels or a share that can't be.
    pub fn new(channels: usize, alarms: f64) -> Result<Self> {
        if !(alarms > 0.0 && alarms < 1.0) {
            return Err(Error::Range { what: "the share of alarms", value: alarms, range: "between 0 and 1" });
        }
        let series = Series::new(channels, series::Settings::default())?;
        let channels = vec![Recent::default(); channels];
        Ok(Self { series, alarms, smooth: 0.0, channels, scores: Default::default(), quiet: 0 })
    }

    /// Scores the next row, and learns it.
    ///
    /// # Errors
    /// [`Error::Width`] and [`Error::Infinite`].
    pub fn see(&mut self, row: &[f64]) -> Result<Seen> {
        let raw = self.series.score_and_learn(row)?;
        self.smooth += FRESH * (raw - self.smooth);
        let shape = self.smooth.max(0.5 * raw);
        let away = self.channels.iter().zip(row).map(|(channel, value)| channel.away(*value)).fold(0.0, f64::max);
        for (channel, value) in self.channels.iter_mut().zip(row).filter(|(_, value)| !value.is_nan()) {
            channel.keep(*value);
        }
        let score = shape.max(away / (away + FAR));
        self.quiet = self.quiet.saturating_sub(1);
        if self.quiet > 0 {
            return Ok(Seen { score, alarm: false });
        }
        let mut alarm = false;
        for (scores, score) in self.scores.iter_mut().zip([shape, away]) {
            let threshold = scores.quantile(1.0 - self.alarms / 2.0).unwrap_or(f64::INFINITY);
            alarm |= scores.values.len() >= FIRST && score > threshold;
            scores.keep(score);
        }
        if alarm {
            self.quiet = QUIET;
        }
        Ok(Seen { score, alarm })
    }

    /// Channels of a row.
    pub fn width(&self) -> usize {
        self.series.width()
    }
}

impl Snapshot for Watch {
    const KIND: &'static str = "watched series";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        self.series.check()?;
        let scores = self.channels.iter().chain(&self.scores).all(Recent::sound);
        let fits = self.channels.len() == self.series.width() && self.quiet <= QUIET;
        match scores && fits && self.alarms > 0.0 && self.alarms < 1.0 && self.smooth.is_finite() {
            true => Ok(()),
            false => Err(Error::Snapshot("has parts that do not fit together")),
        }
    }
}

#[cfg(test)]
mod tests {
    use online::Random;

    use super::*;

    #[test]
    fn the_rate_of_alarms_is_held_through_a_drift_and_a_jump_is_found() {
        let mut watch = Watch::new(1, 0.01).unwrap();
        let mut random = Random::new(2);
        let mut alarms = 0;
        for n in 0..6_000 {
            let level = f64::from(n) / 500.0;
            alarms += usize::from(watch.see(&[level + random.normal()]).unwrap().alarm);
        }
        assert!(alarms < 100, "{alarms}");
        while watch.quiet > 0 {
            watch.see(&[12.0]).unwrap();
        }
        let mut loaded = Watch::load(&watch.save()).unwrap();
        let seen = loaded.see(&[70.0]).unwrap();
        assert!(seen.alarm);
        assert_eq!(watch.see(&[70.0]).unwrap(), seen);
        assert!(!watch.see(&[70.0]).unwrap().alarm, "it is still the same stretch");
        assert!(watch.see(&[]).is_err() && Watch::new(1, 1.0).is_err());
    }
}
