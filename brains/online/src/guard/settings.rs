//! What a guard is made with.

use serde::{Deserialize, Serialize};

use crate::{Result, error::within};

/// What a challenger may do, or has earned; each permits what those before it do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Mode {
    /// Nothing: the champion acts and nobody looks.
    Off,
    /// It is asked and judged, and does not act.
    Shadow,
    /// It acts while evidence says that it is better.
    On,
}

/// What a judgement stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Evidence {
    /// Both predicted for the same input, and what each lost is known.
    Paired,
    /// Each request, or block of time, went to one of both by lot.
    Split,
    /// Both were replayed on recorded load. It earns a shadow, never more.
    Simulated,
}

/// What a guard is made with. Each field's comment begins with its default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// `Shadow`: the most that is permitted.
    pub mode: Mode,
    /// `Paired`: the kind of evidence that lets a challenger act. With `Simulated` none ever does.
    pub evidence: Evidence,
    /// `Shadow`: what a challenger begins with. From `Off` it has to earn its shadow by simulation.
    pub begin: Mode,
    /// 1: challengers that are judged at once, 1 … 256.
    pub challengers: u16,
    /// 0.05: the probability, over all challengers and all attempts together, that one that is not better is promoted.
    pub alpha: f64,
    /// 0.002: by how much of a loss it must be better, 0 … 0.1.
    pub margin: f64,
    /// 100: labels before which nobody is promoted.
    pub least: u32,
    /// One day: seconds over which a challenger must be better on average; it is promoted at the end of one. Nothing
    /// where "better now" is enough.
    pub season: Option<f64>,
    /// 0: slices of the traffic in which it must not be worse, 0 … 256.
    pub slices: u16,
    /// 0.05: the share of labels that a slice must have to veto, 0 … 1.
    pub slice_share: f64,
    /// 0.2: how far its share of right answers on the clean set may be below the champion's, 0 … 1.
    pub collapse: f64,
    /// 0.25: the share of the whole gain, and of the whole harm, that one contributor's labels may have, 0.01 … 1; 1 for
    /// no cap.
    pub cap: f64,
    /// 100,000: labels between two false alarms after which a challenger hands back although it is no worse.
    pub run_length: f64,
    /// 0: what spreads contributors over buckets; secret where they are not trusted.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Shadow,
            evidence: Evidence::Paired,
            begin: Mode::Shadow,
            challengers: 1,
            alpha: 0.05,
            margin: 0.002,
            least: 100,
            season: Some(86_400.0),
            slices: 0,
            slice_share: 0.05,
            collapse: 0.2,
            cap: 0.25,
            run_length: 1e5,
            seed: 0,
        }
    }
}

impl Settings {
    /// # Errors
    /// [`Error::Range`](crate::Error::Range) for the first that is out of its range.
    pub(super) fn check(&self) -> Result<()> {
        within("the number of challengers", f64::from(self.challengers), (1.0, 256.0), "from 1 to 256")?;
        within("alpha", self.alpha, (1e-9, 0.5), "from 10⁻⁹ to 0.5")?;
        within("the margin", self.margin, (0.0, 0.1), "from 0 to 0.1")?;
        within("the number of slices", f64::from(self.slices), (0.0, 256.0), "from 0 to 256")?;
        within("a slice's share", self.slice_share, (0.0, 1.0), "from 0 to 1")?;
        within("the collapse", self.collapse, (0.0, 1.0), "from 0 to 1")?;
        within("the cap", self.cap, (0.01, 1.0), "from 0.01 to 1")?;
        within("the run length", self.run_length, (1.0, 1e12), "from 1 to 10¹² labels")?;
        let begin = if self.begin == Mode::On { 1.0 } else { 0.0 };
        within("what a challenger begins with", begin, (0.0, 0.0), "off or shadow")?;
        within("the season", self.season.unwrap_or(1.0), (1e-3, 1e10), "from 0.001 to 10¹⁰ seconds")?;
        Ok(())
    }
}
