//! Whether a version errs more than before, by its labels.

use std::{collections::VecDeque, time::Duration};

use online::drift::{Adwin, State, adwin::Settings};
use rpc::trainer::{Alarm, AlarmKind};
use serde::{Deserialize, Serialize};
use types::Timestamp;

use crate::joined::{Example, Said};

/// Alarms that are remembered.
const ALARMS: usize = 20;
/// How soon a rise is told again.
const AGAIN: Duration = Duration::from_secs(10);
/// The share of a new error in the scale of errors.
const FRESH: f64 = 0.01;
/// How many times the usual error counts as the whole.
const WHOLE: f64 = 4.0;

/// The errors of a version: one in so many, or how far off, against the usual.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Errors {
    /// ADWIN (Bifet and Gavaldà, SDM 2007) over what each answer lost, 0 … 1; nothing before the first.
    #[serde(with = "streaming::kept::maybe")]
    adwin: Option<Adwin>,
    /// The usual error of a regression.
    scale: f64,
    taken: u64,
    /// When the last label came that changed nothing.
    well: Option<Timestamp>,
    alarms: VecDeque<Alarm>,
}

impl Errors {
    /// Takes in what an answer was worth; whether the version errs more than before.
    pub(crate) fn take(&mut self, example: &Example) -> bool {
        let Some(loss) = self.loss(example) else { return false };
        self.taken += 1;
        let adwin = match &mut self.adwin {
            Some(adwin) => adwin,
            // The settings are the published ones.
            none => match Adwin::new(Settings::default()) {
                Ok(adwin) => none.insert(adwin),
                Err(_) => return false,
            },
        };
        let before = adwin.mean();
        let rises = adwin.update_rising(loss) == Ok(State::Drift);
        // Labels come in bunches: what is told of is not told again at once.
        let told = |alarm: &Alarm| example.received.since(alarm.at) < AGAIN;
        let drifts = rises && !self.alarms.back().is_some_and(told);
        if drifts {
            let what = format!("the loss rose from {before:.3} to {:.3} a label", adwin.mean());
            let alarm =
                Alarm { at: example.received, kind: AlarmKind::Errors, what, since: self.well, moved: Vec::new() };
            self.alarms.push_back(alarm);
            if self.alarms.len() > ALARMS {
                self.alarms.pop_front();
            }
        } else if !rises {
            self.well = Some(example.received);
        }
        drifts
    }

    /// What was found, the newest first.
    pub(crate) fn alarms(&self) -> impl Iterator<Item = Alarm> + '_ {
        self.alarms.iter().rev().cloned()
    }

    fn loss(&mut self, example: &Example) -> Option<f64> {
        match (&example.answer, &example.truth) {
            (Said::Probabilities(said), Said::Class(class)) => {
                Some(f64::from(u8::from(online::learner::greatest(said) != *class)))
            }
            (Said::Class(said), Said::Class(class)) => Some(f64::from(u8::from(said != class))),
            (Said::Number(said), Said::Number(number)) => {
                let error = (said - number).abs();
                let usual = if self.taken == 0 { error } else { self.scale };
                self.scale = usual + FRESH.max(1.0 / (self.taken as f64 + 1.0)) * (error - usual);
                let whole = WHOLE * usual;
                (error.is_finite() && whole > 0.0).then(|| (error / whole).min(1.0))
            }
            _ => None,
        }
    }
}
