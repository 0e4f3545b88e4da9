//! When a claim about an average may be looked at: at the end of whole seasons.

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, Snapshot,
    error::{finite, within},
};

/// What a season may last, in seconds.
const LENGTHS: (f64, f64) = (1e-3, 1e10);

/// Says when a whole season has passed since the first label.
///
/// A challenger that is better by day and worse by night is better at noon of the first day, truly. Who wants to know
/// whether it is better on average looks at whole days only; [`EProcess`](super::EProcess) tells why that suffices. The
/// season begins with the first label's arrival, so labels that all come equally late shift it and do no harm. Labels
/// count alike, so the average is over labels, not over hours.
///
/// O(1); 32 bytes.
///
/// ```
/// use online::evidence::Season;
///
/// let mut season = Season::new(86_400.0)?;
/// assert!(!season.ended(1_000.0)?); // the first label
/// assert!(!season.ended(80_000.0)?);
/// assert!(season.ended(90_000.0)?); // look before this label is counted
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Season {
    length: f64,
    until: Option<f64>,
}

impl Season {
    /// A season of so many seconds, from a millisecond to 10¹⁰ seconds, which has not begun.
    ///
    /// # Errors
    /// [`Error::Range`] for another length.
    pub fn new(length: f64) -> Result<Self> {
        within("the season", length, LENGTHS, "from 0.001 to 10¹⁰ seconds")?;
        Ok(Self { length, until: None })
    }

    /// When the present one ends, once it has begun.
    pub fn until(&self) -> Option<f64> {
        self.until
    }

    /// Whether a season ended by now, seen for the first time. What is known before this label is what is to be
    /// looked at.
    ///
    /// # Errors
    /// [`Error::NotFinite`] when the time is no number; then nothing has changed.
    pub fn ended(&mut self, now: f64) -> Result<bool> {
        finite("the time", now)?;
        let Some(until) = self.until else {
            self.until = Some(now + self.length);
            return Ok(false);
        };
        if now < until {
            return Ok(false);
        }
        // Seasons without a label are passed over, in step with the first.
        self.until = Some(until + self.length * (((now - until) / self.length).floor() + 1.0));
        Ok(true)
    }

    /// Begins anew with the next label.
    pub fn reset(&mut self) {
        self.until = None;
    }
}

impl Snapshot for Season {
    const KIND: &'static str = "season";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<()> {
        Self::new(self.length).map_err(|_| Error::Snapshot("has a season out of range"))?;
        if self.until.is_none_or(f64::is_finite) { Ok(()) } else { Err(Error::Snapshot("has an endless season")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Random, evidence::EProcess};

    #[test]
    fn seasons_without_labels_are_passed_over() {
        let mut season = Season::new(10.0).unwrap();
        assert_eq!(season.ended(5.0), Ok(false));
        assert_eq!(season.ended(47.0), Ok(true));
        assert_eq!(season.until(), Some(55.0));
        assert_eq!(season.ended(54.0), Ok(false));
        assert!(season.ended(f64::NAN).is_err());
    }

    #[test]
    fn better_by_day_and_worse_by_night_is_not_better() {
        let runs = 200;
        let (mut strict, mut weak) = (0, 0);
        for seed in 0..runs {
            let (mut random, mut process) = (Random::new(seed), EProcess::default());
            let mut season = Season::new(1_000.0).unwrap();
            let (mut at_any_time, mut at_ends) = (false, false);
            for label in 0..4_000 {
                let proven = |process: &EProcess| process.may_reach(20.0) && process.log_wealth() >= 20_f64.ln();
                at_ends |= season.ended(f64::from(label)).unwrap() && proven(&process);
                let advantage = 0.15 * (f64::from(label) * std::f64::consts::TAU / 1_000.0).sin();
                let draw = random.uniform();
                let gain = if draw < 0.1 + advantage / 2.0 {
                    1.0
                } else if draw < 0.2 {
                    -1.0
                } else {
                    0.0
                };
                process.observe(gain).unwrap();
                at_any_time |= proven(&process);
            }
            strict += i32::from(at_any_time);
            weak += i32::from(at_ends);
        }
        assert!(strict > runs as i32 / 2 && weak <= 10, "{strict} at any time, {weak} at ends of seasons");
    }

    proptest! {
        #[test]
        fn it_ends_once_a_season(times in prop::collection::vec(0.0..1e4_f64, 1..50)) {
            let mut times = times;
            times.sort_by(f64::total_cmp);
            let mut season = Season::new(100.0).unwrap();
            let ends = times.iter().filter(|now| season.ended(**now).unwrap()).count();
            prop_assert!(ends <= 100);
            prop_assert!(season.until().unwrap() > times[times.len() - 1]);
            prop_assert_eq!(Season::load(&season.save()).unwrap(), season);
        }
    }
}
