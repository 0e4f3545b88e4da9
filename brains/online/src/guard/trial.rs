//! What is known of one challenger: its wealth in this attempt, its slices, its contributors.

use serde::{Deserialize, Serialize};

use super::{Mode, Settings, Why, crowd::Crowd};
use crate::{
    Error, Result, Snapshot,
    evidence::{EDetector, EProcess, Season, spending},
};

/// Contributors share so many buckets. Who meets another in a bucket is capped together with it, which errs to the
/// safe side.
pub(super) const BUCKETS: usize = 64;
/// The probability, over all slices, that one is called worse that is not.
const SLICES: f64 = 0.05;

/// One challenger's part of a label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observed {
    /// The champion's loss less the challenger's, or its weighted stand-in, −1 … 1.
    pub(super) difference: f64,
    pub(super) margin: f64,
    pub(super) requested: f64,
    pub(super) now: f64,
    pub(super) slice: Option<u16>,
    pub(super) contributor: Option<u64>,
    /// Whether the challenger itself had this request; always so for paired evidence.
    pub(super) own: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Trial {
    earned: Mode,
    /// From 1.
    attempt: u32,
    /// When this attempt, or acting, began; nothing where all labels count.
    since: Option<f64>,
    labels: u64,
    process: EProcess,
    season: Option<Season>,
    /// What was gained by the labels of each bucket of contributors.
    contributors: Vec<f64>,
    /// For each slice the wealth of those who bet that it is worse there.
    slices: Vec<EProcess>,
    detector: EDetector,
    /// What contributors say against it while it acts.
    crowd: Crowd,
    /// Right answers on the clean set, the champion's share less its own.
    pub(super) fall: Option<f64>,
}

impl Trial {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        Ok(Self {
            earned: settings.begin,
            attempt: 1,
            since: None,
            labels: 0,
            process: EProcess::default(),
            season: settings.season.map(Season::new).transpose()?,
            contributors: vec![0.0; BUCKETS],
            slices: vec![EProcess::default(); usize::from(settings.slices)],
            detector: EDetector::new(settings.run_length)?,
            crowd: Crowd::new(),
            fall: None,
        })
    }

    pub(super) fn earned(&self) -> Mode {
        self.earned
    }

    /// Begins anew. It counts as an attempt if it could have been promoted before.
    pub(super) fn begin(&mut self, now: Option<f64>, settings: &Settings) {
        if self.labels >= u64::from(settings.least) {
            self.attempt = self.attempt.saturating_add(1);
        }
        self.since = now.or(self.since);
        self.labels = 0;
        self.process = EProcess::default();
        self.season.iter_mut().for_each(Season::reset);
        self.contributors.fill(0.0);
        self.slices.fill(EProcess::default());
        self.detector.reset();
        self.crowd.reset();
    }

    /// Acts from now on.
    pub(super) fn promote(&mut self, now: f64) {
        self.since = Some(now);
        self.detector.reset();
        self.crowd.reset();
    }

    /// A label while it acts: has it become worse than the champion? No margin, no gates: the champion is safe. But what
    /// one contributor says alone is not heard, not even as a label on which both did alike.
    pub(super) fn watch(&mut self, observed: &Observed, settings: &Settings) -> Result<Why> {
        if self.is_late(observed) {
            return Ok(Why::Late);
        }
        let bucket = observed.contributor.map(|contributor| bucket(contributor, settings.seed));
        let harm = -observed.difference;
        let counted = self.crowd.count(harm, bucket, settings.cap);
        let heard = counted > 0.0 || harm <= 0.0;
        if !(heard && self.detector.observe(counted)?) {
            return Ok(Why::Acting);
        }
        self.begin(Some(observed.now), settings);
        Ok(Why::HandedBack)
    }

    /// A label while it does not act.
    pub(super) fn count(&mut self, observed: &Observed, settings: &Settings, alarm: bool) -> Result<Why> {
        if self.earned == Mode::Off {
            return Ok(Why::NoShadow);
        }
        if self.is_late(observed) {
            return Ok(Why::Late);
        }
        let Some(season) = &mut self.season else {
            self.take(observed, settings)?;
            return Ok(self.judge(settings, alarm));
        };
        // What is known at the end of a season does not have the label that comes after it.
        if season.ended(observed.now)? {
            let why = self.judge(settings, alarm);
            self.take(observed, settings)?;
            return Ok(why);
        }
        let until = season.until().unwrap_or(observed.now);
        self.take(observed, settings)?;
        Ok(Why::MidSeason { until })
    }

    /// A replayed label, while it has not even a shadow.
    pub(super) fn simulate(&mut self, difference: f64, now: f64, settings: &Settings) -> Result<Why> {
        if self.earned != Mode::Off {
            return Ok(Why::Simulated);
        }
        self.process.observe(difference - settings.margin)?;
        self.labels = self.labels.saturating_add(1);
        let why = self.judge(settings, true);
        if why != Why::Proven {
            return Ok(why);
        }
        self.earned = Mode::Shadow;
        self.begin(Some(now), settings);
        // Attempts in the simulator put nobody in front of users.
        self.attempt = 1;
        Ok(Why::EarnedShadow)
    }

    /// How it stands, exactly, gates apart.
    pub(super) fn standing(&self, settings: &Settings) -> Why {
        if self.labels < u64::from(settings.least) {
            return Why::TooFew { labels: self.labels, least: settings.least };
        }
        let (log_wealth, needed) = (self.process.log_wealth_without(self.excess(settings.cap)), self.needed(settings));
        if log_wealth < needed { Why::Unproven { log_wealth, needed } } else { Why::Proven }
    }

    fn is_late(&self, observed: &Observed) -> bool {
        self.since.is_some_and(|since| observed.requested < since)
    }

    fn take(&mut self, observed: &Observed, settings: &Settings) -> Result<()> {
        let gain = observed.difference - observed.margin;
        self.process.observe(gain)?;
        self.labels = self.labels.saturating_add(u64::from(observed.own));
        let bucket = observed.contributor.map(|contributor| bucket(contributor, settings.seed));
        if let Some(gained) = bucket.and_then(|bucket| self.contributors.get_mut(usize::from(bucket))) {
            *gained += gain;
        }
        match observed.slice.and_then(|slice| self.slices.get_mut(usize::from(slice))) {
            Some(worse) => worse.observe(-observed.difference - observed.margin),
            None => Ok(()),
        }
    }

    /// Whether it may be promoted, and what stands against it.
    fn judge(&self, settings: &Settings, alarm: bool) -> Why {
        if self.labels < u64::from(settings.least) {
            return Why::TooFew { labels: self.labels, least: settings.least };
        }
        let needed = self.needed(settings);
        if !self.process.may_reach(needed.exp()) {
            return Why::Unproven { log_wealth: self.process.richest().ln(), needed };
        }
        let standing = self.standing(settings);
        if standing != Why::Proven {
            return standing;
        }
        if let Some(fall) = self.fall.filter(|fall| !alarm && *fall > settings.collapse) {
            return Why::Collapsed { fall };
        }
        self.worse(settings).map_or(Why::Proven, |slice| Why::SliceWorse { slice })
    }

    /// The logarithm of the wealth that this attempt needs.
    pub(super) fn needed(&self, settings: &Settings) -> f64 {
        let alpha = spending::retry(settings.alpha, self.attempt);
        -spending::among(alpha, usize::from(settings.challengers)).ln()
    }

    /// The first slice in which it is significantly worse.
    fn worse(&self, settings: &Settings) -> Option<u16> {
        let wealth = self.slices.len() as f64 / SLICES;
        let large = settings.slice_share * self.process.count() as f64;
        let worse = |slice: &EProcess| {
            slice.count() as f64 >= large && slice.may_reach(wealth) && slice.log_wealth() >= wealth.ln()
        };
        self.slices.iter().position(worse).and_then(|slice| u16::try_from(slice).ok())
    }

    /// What contributors gained beyond their share: none may have more than `cap` of what remains, where those
    /// without a number are not capped. `cap / (1 − cap)` times what all others gained is that share.
    fn excess(&self, cap: f64) -> f64 {
        if cap >= 1.0 {
            return 0.0;
        }
        let part = cap / (1.0 - cap);
        let beyond = |gained: &f64| {
            let others = (self.process.sum() - gained).max(0.0);
            (gained - part * others).max(0.0)
        };
        self.contributors.iter().map(beyond).sum()
    }

    /// Bytes that it holds beside itself.
    pub(super) fn held(&self) -> usize {
        let sums = self.contributors.capacity() * size_of::<f64>() + self.slices.capacity() * size_of::<EProcess>();
        sums + self.crowd.memory()
    }

    pub(super) fn check(&self, settings: &Settings) -> Result<()> {
        let sizes = self.contributors.len() == BUCKETS && self.slices.len() == usize::from(settings.slices);
        if !sizes || self.season.is_some() != settings.season.is_some() {
            return Err(Error::Snapshot("has a trial of other sizes than it says"));
        }
        self.process.check()?;
        self.slices.iter().try_for_each(Snapshot::check)?;
        self.detector.check()?;
        self.crowd.check()?;
        self.season.iter().try_for_each(Snapshot::check)?;
        let numbers = self.contributors.iter().chain(&self.since).chain(&self.fall).all(|number| number.is_finite());
        let counted = self.labels <= self.process.count() && self.attempt >= 1;
        let same =
            EDetector::new(settings.run_length).is_ok_and(|fresh| fresh.run_length() == self.detector.run_length());
        if !(numbers && counted && same && self.earned != Mode::On) {
            return Err(Error::Snapshot("has a trial that no labels give"));
        }
        if self.earned >= settings.begin { Ok(()) } else { Err(Error::Snapshot("has lost what it had")) }
    }
}

/// The bucket of a contributor: the finaliser of SplitMix64 (Steele, Lea and Flood 2014) over number and seed.
fn bucket(contributor: u64, seed: u64) -> u8 {
    let mut bits = contributor ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) % BUCKETS as u64) as u8
}
