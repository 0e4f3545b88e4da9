//! The forecast beside its plain twin, Knative's rule: who says how many replicas there are, and who hands back when.

use online::{Snapshot, guard::Mode};
use serde::{Deserialize, Serialize};

use super::{
    Ahead, Kpa, Scaler as _, Seen, Terms,
    trial::{Said, Side, Standing, Trial},
};

/// The share of its lanes that the rule keeps busy: Knative's default.
pub const TARGET: f64 = 0.7;

/// What is said of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How many replicas are wanted.
    pub wanted: u32,
    /// Whose word that is.
    pub by: Side,
    /// How many the other would want, where it is asked.
    pub twin: Option<u32>,
}

/// [`Kpa`] as the champion, and beside it [`Ahead`].
///
/// - [`Mode::Off`]: the rule alone, bit for bit.
/// - [`Mode::Shadow`]: the rule, bit for bit; the forecast is asked, and told.
/// - [`Mode::On`]: blocks of time go by lot to both, half and half, until it is shown which costs less: a second in which requests wait too
///   long costs one, a replica [`Terms::price`] a second. A block lasts five minutes, and five times a start and a minute at least;
///   the first part of it, in which what acts shows the other's doing, counts for nothing. One that is shown to cost less over
///   whole days acts, and one block in ten stays the rule's, so that it is known whether it still does. It hands back when blocks say so; and at once
///   where requests wait too long for five seconds longer than a start takes, all the while that the rule would want more.
///
/// Upward nothing waits for evidence: in a panic of the rule no fewer are wanted than it wants, in any block. A second costs what both cost, and O(1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Guarded {
    terms: Terms,
    rule: Kpa,
    /// Where it is asked.
    forecast: Option<Ahead>,
    trial: Trial,
}

impl Guarded {
    /// One that knows nothing yet. `block` is the length of a block in seconds, where it is not to be found; with it evidence is looked at after
    /// each block instead of each day. Lots depend on the seed.
    ///
    /// # Errors
    /// None that its own settings do not exclude.
    pub fn new(mode: Mode, terms: Terms, block: Option<u64>, seed: u64) -> online::Result<Self> {
        let rule = Kpa::new(terms, TARGET);
        let mut made = Self { terms, rule, forecast: None, trial: Trial::new(mode, block, seed)? };
        // A start that is too long to look ahead for leaves the rule alone.
        made.forecast = (mode != Mode::Off).then(|| Ahead::new(terms).ok()).flatten();
        Ok(made)
    }

    /// Takes other terms, and permits more or less. What was learnt stays; another price, or another length of blocks, needs other evidence.
    ///
    /// # Errors
    /// [`online::Error`] where the forecast can't look as far ahead as a start takes now: it goes on looking as far as before.
    pub fn set(&mut self, mode: Mode, terms: Terms, block: Option<u64>) -> online::Result<()> {
        if block != self.trial.length || terms.price != self.terms.price {
            self.trial = self.trial.anew(block)?;
        }
        self.trial.permit(mode);
        self.terms = terms;
        self.rule.set(terms);
        if mode == Mode::Off {
            self.forecast = None;
            return Ok(());
        }
        match &mut self.forecast {
            Some(forecast) => forecast.set(terms),
            None => {
                self.forecast = Some(Ahead::new(terms)?);
                Ok(())
            }
        }
    }

    /// The block that runs counts for nothing: somebody else decides in it, or what answers is another version.
    pub fn void(&mut self) {
        self.trial.void();
    }

    /// Takes in a second and says how many are wanted from now on. `at` is in whole seconds and grows.
    pub fn second(&mut self, at: u64, seen: &Seen) -> Verdict {
        let rule = self.rule.second(at, seen);
        let Some(forecast) = self.forecast.as_mut().map(|forecast| forecast.second(at, seen)) else {
            return Verdict { wanted: rule, by: Side::Rule, twin: None };
        };
        let said = Said { rule: (rule, self.rule.panics()), forecast };
        let (wanted, by) = self.trial.second(at, seen, &self.terms, (TARGET, said));
        let twin = if by == Side::Rule { forecast } else { rule };
        Verdict { wanted, by, twin: Some(twin) }
    }

    /// Replicas that the forecast asks for, before bounds and rounding.
    pub fn staffed(&self) -> Option<f64> {
        self.forecast.as_ref().map(Ahead::staffed)
    }

    /// How the forecast stands beside the rule.
    pub fn standing(&self) -> Standing {
        self.trial.standing()
    }
}

impl Snapshot for Guarded {
    const KIND: &'static str = "autoscaler";
    const VERSION: u16 = 1;

    fn check(&self) -> online::Result<()> {
        self.rule.check()?;
        self.forecast.iter().try_for_each(Snapshot::check)?;
        self.trial.check()
    }
}

#[cfg(test)]
mod tests;
