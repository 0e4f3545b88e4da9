//! Decides whether a learned challenger may act in place of a plain champion, and when it must hand back.
//!
//! The champion is safe; the challenger has to prove that it is better, and hands back on far weaker evidence. One
//! guard serves models, detectors, balancers and controllers, with three kinds of [`Evidence`]. It decides and says
//! why ([`Decision`]); who carries it out, and where labels come from, is others' business.
//!
//! # What holds
//!
//! Each line has its property tests beside this module.
//!
//! 1. *Off is the champion*: nothing acts and no bit of the state changes, whatever is observed.
//! 2. *Shadow never acts*, whatever is proven.
//! 3. *Simulated evidence earns a shadow, never more.*
//! 4. *Nobody acts unproven*: whoever acts had at least [`Settings::least`] labels and wealth of `challengers / α_k`,
//!    where `α_k = α · 6 / (π² k²)` in the `k`th attempt.
//! 5. *Attempts are paid for*: the wealth that is needed never falls. A fresh process counts as an attempt if the one
//!    before could have been promoted.
//! 6. *One contributor convinces nobody*: beyond a share of the gain, what one contributor's labels bring counts for
//!    nothing.
//! 7. *A slice that suffers vetoes*, as does a collapse on the clean set, unless a drift alarm stands.
//! 8. *Whoever got worse hands back*: constant harm of 1 does it within 30 labels.
//! 9. *One contributor hands nobody back*: while others give labels too, what one contributor says against who acts counts
//!    no further than a share of what the others say against it.
//! 10. *Old labels do not count*: a label whose request came before the process began is ignored.
//! 11. *Bad input changes nothing*: losses outside 0 … 1, times that go back, unknown slices are errors.
//! 12. *Saved and loaded it goes on alike*, and hostile bytes give an error or a state that keeps all of this.
//!
//! # What the caller must see to
//!
//! Labels are given in the order in which they arrive, with losses of predictions that were frozen at request time.
//! Labels of quarantined contributors are left out. Where the champion's decision prevents a label (what is blocked
//! is never found to be harmless), a randomised share must be let through, or both are compared on what the champion
//! chose.
//!
//! Evidence: [`crate::evidence`]. Controllers that need time to settle: [`Switchback`].

mod crowd;
mod decision;
mod settings;
mod switchback;
mod trial;

use serde::{Deserialize, Serialize};

pub use decision::{Act, Decision, Why};
pub use settings::{Evidence, Mode, Settings};
pub use switchback::{Block, Switchback};

use crate::{
    Error, Result, Snapshot,
    error::{finite, within},
    evidence::split::{self, Side},
};
use trial::{Observed, Trial};

/// Share of a new loss in the champion's running loss.
const FRESH: f64 = 0.01;

/// A label, with what both sides lost on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Label<'a> {
    /// When the request came and the predictions were frozen, in seconds on the clock of `now`.
    pub requested: f64,
    /// The champion's loss, 0 … 1.
    pub champion: f64,
    /// Each challenger's loss, 0 … 1; NaN for one that predicted nothing.
    pub challengers: &'a [f64],
    /// The slice it belongs to, below [`Settings::slices`].
    pub slice: Option<u16>,
    /// Who gave the label; nothing for those who are trusted without a cap.
    pub contributor: Option<u64>,
}

/// To whom a request goes, by lot, and with what odds; kept with the request until its outcome is known.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Lot {
    arm: Act,
    acting: Act,
    share: f64,
}

impl Lot {
    /// Who is to act on this request.
    pub fn arm(&self) -> Act {
        self.arm
    }

    /// The probability with which this one was to act, among so many challengers.
    fn probability(&self, of: Act, challengers: usize) -> f64 {
        if of == self.acting { 1.0 - self.share } else { self.share / challengers as f64 }
    }
}

/// What came of a request, or of a block of time, that went to one side by lot.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The lot it had.
    pub lot: Lot,
    /// When it came, in seconds on the clock of `now`.
    pub requested: f64,
    /// What it lost, 0 … 1.
    pub loss: f64,
    /// The slice it belongs to, below [`Settings::slices`].
    pub slice: Option<u16>,
}

/// Whether inputs or labels are said to have drifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// They have; what was proven before is about the past.
    Raised,
    /// They no longer do.
    Cleared,
}

/// The guard of one champion and its challengers.
///
/// O(challengers) a label, some 50 ns each, nothing allocated; exact wealth, which costs exponentials, is read only
/// where a promotion is near. Memory: 1,300 bytes a challenger, and 104 bytes a slice of each.
///
/// ```
/// use online::guard::{Act, Guard, Label, Mode, Settings, Why};
///
/// let mut guard = Guard::new(Settings { mode: Mode::On, season: None, ..Settings::default() })?;
/// let mut promoted = None;
/// for label in 0..1_000 {
///     let now = f64::from(label);
///     // The challenger is right where the champion errs, one time in five.
///     let champion = if label % 5 == 0 { 1.0 } else { 0.0 };
///     let seen = Label { requested: now, champion, challengers: &[0.0], slice: None, contributor: None };
///     let decision = guard.paired(&seen, now)?;
///     if decision.why == Why::Promoted {
///         promoted = Some(label);
///     }
/// }
/// assert_eq!(guard.acting(), Act::Challenger(0));
/// assert!(promoted.is_some_and(|label| label < 200));
/// # Ok::<(), online::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    settings: Settings,
    trials: Vec<Trial>,
    acting: Option<u16>,
    alarm: bool,
    now: Option<f64>,
    /// The champion's mean loss on requests that it got by lot, and how many those were.
    baseline: (f64, u64),
}

impl Guard {
    /// A guard whose champion acts.
    ///
    /// # Errors
    /// [`Error::Range`] for settings out of their ranges.
    pub fn new(settings: Settings) -> Result<Self> {
        settings.check()?;
        let trials = (0..settings.challengers).map(|_| Trial::new(&settings)).collect::<Result<_>>()?;
        Ok(Self { settings, trials, acting: None, alarm: false, now: None, baseline: (0.5, 0) })
    }

    /// What it was made with, and the mode it is in.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who acts now.
    pub fn acting(&self) -> Act {
        self.acting.map_or(Act::Champion, Act::Challenger)
    }

    /// What a challenger has earned so far; nothing for one that does not exist. `On` while it acts.
    pub fn earned(&self, challenger: u16) -> Option<Mode> {
        let trial = self.trials.get(usize::from(challenger))?;
        Some(if self.acting == Some(challenger) { Mode::On } else { trial.earned() })
    }

    /// How things stand with a challenger: its labels, the logarithm of its wealth, and what that must reach. Exact,
    /// hence slower than a label.
    pub fn standing(&self, challenger: u16) -> Option<Why> {
        let trial = self.trials.get(usize::from(challenger))?;
        Some(trial.standing(&self.settings))
    }

    /// Permits more, or less. Whoever acts and no longer may hands back, and has to prove itself anew.
    pub fn permit(&mut self, mode: Mode) {
        if mode < Mode::On
            && let Some(trial) = self.acting.take().and_then(|acting| self.trials.get_mut(usize::from(acting)))
        {
            trial.begin(self.now, &self.settings);
        }
        self.settings.mode = mode;
    }

    /// Takes in a label for which all predictions are known: evidence of the kind `Paired`.
    ///
    /// # Errors
    /// [`Error::Range`] for a loss outside 0 … 1 or an unknown slice, [`Error::Width`] when there are not as many
    /// losses as challengers, [`Error::Time`] when time went back or the request comes after now. Then nothing has
    /// changed.
    pub fn paired(&mut self, label: &Label<'_>, now: f64) -> Result<Decision> {
        if let Some(decision) = self.idle(Evidence::Paired) {
            return Ok(decision);
        }
        self.check_label(label, now)?;
        self.now = Some(now);
        let mut told = None;
        for challenger in 0..self.settings.challengers {
            let Some(loss) = label.challengers.get(usize::from(challenger)).filter(|loss| !loss.is_nan()) else {
                continue;
            };
            let difference = label.champion - loss;
            let observed = Observed {
                difference,
                margin: self.settings.margin,
                requested: label.requested,
                now,
                slice: label.slice,
                contributor: label.contributor,
                own: true,
            };
            self.observe(challenger, &observed, &mut told)?;
        }
        Ok(self.tell(told))
    }

    /// Draws who is to act on a request: who acts anyway, or, for this share of requests, one of the others. `draw`
    /// is a random number from 0 to below 1.
    ///
    /// # Errors
    /// [`Error::Range`] for a share outside 0.001 … 0.99, or another draw.
    pub fn lot(&self, share: f64, draw: f64) -> Result<Lot> {
        within("the share", share, (0.001, 0.99), "from 0.001 to 0.99")?;
        within("the draw", draw, (0.0, 1.0), "from 0 to 1")?;
        let acting = self.acting();
        // Those who do not act are numbered without the one who does; the champion comes first.
        let others = f64::from(self.settings.challengers);
        let place = ((draw / share * others) as u16).min(self.settings.challengers - 1);
        let arm = match (draw < share, acting) {
            (false, _) => acting,
            (true, Act::Challenger(_)) if place == 0 => Act::Champion,
            (true, Act::Challenger(acting)) if place <= acting => Act::Challenger(place - 1),
            (true, _) => Act::Challenger(place),
        };
        Ok(Lot { arm, acting, share })
    }

    /// Takes in what came of a request, or of a block of time, that went to one side by lot: evidence of the kind
    /// `Split`.
    ///
    /// # Errors
    /// As [`paired`](Self::paired).
    pub fn split(&mut self, outcome: &Outcome, now: f64) -> Result<Decision> {
        if let Some(decision) = self.idle(Evidence::Split) {
            return Ok(decision);
        }
        within("the loss", outcome.loss, (0.0, 1.0), "from 0 to 1")?;
        self.check_lot(&outcome.lot)?;
        self.check_when(outcome.requested, outcome.slice, now)?;
        self.now = Some(now);
        let mut told = None;
        for challenger in 0..self.settings.challengers {
            let own = outcome.lot.arm == Act::Challenger(challenger);
            if !own && outcome.lot.arm != Act::Champion {
                continue;
            }
            let odds = |of| outcome.lot.probability(of, self.trials.len());
            let odds = (odds(Act::Champion), odds(Act::Challenger(challenger)));
            let side = if own { Side::Second } else { Side::First };
            let weighted = split::weigh(outcome.loss, self.baseline.0, side, odds)?;
            let observed = Observed {
                difference: weighted.difference,
                margin: self.settings.margin * weighted.scale,
                requested: outcome.requested,
                now,
                slice: outcome.slice,
                contributor: None,
                own,
            };
            self.observe(challenger, &observed, &mut told)?;
        }
        if outcome.lot.arm == Act::Champion {
            self.remember(outcome.loss);
        }
        Ok(self.tell(told))
    }

    /// Takes in what a challenger and the champion lost on the same recorded load in a simulator. It earns a shadow
    /// to whom has none; afterwards it counts for nothing.
    ///
    /// # Errors
    /// As [`paired`](Self::paired); [`Error::Range`] for a challenger that does not exist.
    pub fn simulated(&mut self, challenger: u16, champion: f64, loss: f64, now: f64) -> Result<Decision> {
        if self.settings.mode == Mode::Off {
            return Ok(self.about(challenger, Why::Off));
        }
        within("the champion's loss", champion, (0.0, 1.0), "from 0 to 1")?;
        within("the challenger's loss", loss, (0.0, 1.0), "from 0 to 1")?;
        self.check_when(now, None, now)?;
        let exists = "the number of a challenger";
        let none = Error::Range { what: "the challenger", value: f64::from(challenger), range: exists };
        let trial = self.trials.get_mut(usize::from(challenger)).ok_or(none)?;
        self.now = Some(now);
        let why = trial.simulate(champion - loss, now, &self.settings)?;
        Ok(self.about(challenger, why))
    }

    /// Is told of drift. At each alarm that is raised, whoever does not act begins anew: old wins are about the past.
    /// While it stands, the clean set, which is of the past too, vetoes nobody.
    pub fn drift(&mut self, alarm: Alarm) {
        if self.settings.mode == Mode::Off {
            return;
        }
        self.alarm = alarm == Alarm::Raised;
        if self.alarm {
            let (acting, now, settings) = (self.acting.map(usize::from), self.now, &self.settings);
            let trials = self.trials.iter_mut().enumerate().filter(|(place, _)| Some(*place) != acting);
            trials.for_each(|(_, trial)| trial.begin(now, settings));
        }
    }

    /// Is told how champion and challenger do on the clean set, as shares of right answers, 0 … 1.
    ///
    /// # Errors
    /// [`Error::Range`] for other shares, or a challenger that does not exist; then nothing has changed.
    pub fn clean_set(&mut self, challenger: u16, champion: f64, share: f64) -> Result<()> {
        within("the champion's share", champion, (0.0, 1.0), "from 0 to 1")?;
        within("the challenger's share", share, (0.0, 1.0), "from 0 to 1")?;
        if self.settings.mode == Mode::Off {
            return Ok(());
        }
        let exists = "the number of a challenger";
        let none = Error::Range { what: "the challenger", value: f64::from(challenger), range: exists };
        self.trials.get_mut(usize::from(challenger)).ok_or(none)?.fall = Some(champion - share);
        Ok(())
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        let held: usize = self.trials.iter().map(Trial::held).sum();
        size_of::<Self>() + self.trials.capacity() * size_of::<Trial>() + held
    }

    /// What is said where evidence of this kind counts for nothing.
    fn idle(&self, kind: Evidence) -> Option<Decision> {
        match self.settings.mode {
            Mode::Off => Some(self.about(0, Why::Off)),
            _ if self.settings.evidence != kind => Some(self.about(0, Why::OtherEvidence)),
            _ => None,
        }
    }

    fn check_label(&self, label: &Label<'_>, now: f64) -> Result<()> {
        if label.challengers.len() != self.trials.len() {
            return Err(Error::Width { wanted: self.trials.len(), found: label.challengers.len() });
        }
        within("the champion's loss", label.champion, (0.0, 1.0), "from 0 to 1")?;
        for loss in label.challengers.iter().filter(|loss| !loss.is_nan()) {
            within("a challenger's loss", *loss, (0.0, 1.0), "from 0 to 1")?;
        }
        self.check_when(label.requested, label.slice, now)
    }

    /// A lot comes back from outside, maybe from before a restart with other challengers.
    fn check_lot(&self, lot: &Lot) -> Result<()> {
        within("the share", lot.share, (0.001, 0.99), "from 0.001 to 0.99")?;
        for act in [lot.arm, lot.acting] {
            if let Act::Challenger(number) = act {
                let most = f64::from(self.settings.challengers - 1);
                within("the challenger", f64::from(number), (0.0, most), "the number of a challenger")?;
            }
        }
        Ok(())
    }

    fn check_when(&self, requested: f64, slice: Option<u16>, now: f64) -> Result<()> {
        finite("the time", now)?;
        finite("the time of the request", requested)?;
        if let Some(before) = self.now.filter(|before| now < *before) {
            return Err(Error::Time { before, now });
        }
        if requested > now {
            return Err(Error::Time { before: requested, now });
        }
        match slice {
            Some(slice) if slice >= self.settings.slices => {
                Err(Error::Range { what: "the slice", value: f64::from(slice), range: "one of the declared slices" })
            }
            _ => Ok(()),
        }
    }

    /// One challenger's part of a label; `told` keeps what is most worth telling.
    fn observe(&mut self, challenger: u16, observed: &Observed, told: &mut Option<(u16, Why)>) -> Result<()> {
        let Some(trial) = self.trials.get_mut(usize::from(challenger)) else { return Ok(()) };
        let why = if self.acting == Some(challenger) {
            trial.watch(observed, &self.settings)?
        } else {
            trial.count(observed, &self.settings, self.alarm)?
        };
        let why = match why {
            Why::HandedBack => {
                self.acting = None;
                why
            }
            Why::Proven if self.settings.mode == Mode::On && self.acting.is_none() => {
                trial.promote(observed.now);
                self.acting = Some(challenger);
                Why::Promoted
            }
            why => why,
        };
        if told.is_none_or(|(_, before)| why.weight() > before.weight()) {
            *told = Some((challenger, why));
        }
        Ok(())
    }

    fn remember(&mut self, loss: f64) {
        let (mean, count) = &mut self.baseline;
        *count = count.saturating_add(1);
        *mean = (*mean + FRESH.max(1.0 / (*count as f64 + 1.0)) * (loss - *mean)).clamp(0.0, 1.0);
    }

    fn tell(&self, told: Option<(u16, Why)>) -> Decision {
        let (challenger, why) = told.unwrap_or((0, Why::NothingSeen));
        self.about(challenger, why)
    }

    fn about(&self, challenger: u16, why: Why) -> Decision {
        Decision { act: self.acting(), challenger, why }
    }
}

impl Snapshot for Guard {
    const KIND: &'static str = "guard";
    const VERSION: u16 = 2;

    fn check(&self) -> Result<()> {
        self.settings.check().map_err(|_| Error::Snapshot("has settings out of range"))?;
        if self.trials.len() != usize::from(self.settings.challengers) {
            return Err(Error::Snapshot("has other challengers than it says"));
        }
        self.trials.iter().try_for_each(|trial| trial.check(&self.settings))?;
        let acting = self.acting.is_none_or(|acting| acting < self.settings.challengers);
        let permitted = self.acting.is_none() || self.settings.mode == Mode::On;
        let earned = self.acting.and_then(|acting| self.trials.get(usize::from(acting)));
        let earned = earned.is_none_or(|trial| trial.earned() == Mode::Shadow);
        if !(acting && permitted && earned) {
            return Err(Error::Snapshot("has somebody act who may not"));
        }
        let time = self.now.is_none_or(f64::is_finite) && (0.0..=1.0).contains(&self.baseline.0);
        if time { Ok(()) } else { Err(Error::Snapshot("has a time or a loss that is none")) }
    }
}

#[cfg(test)]
mod tests;
