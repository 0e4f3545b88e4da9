//! What a guard says, as data: who acts, and why.

use serde::{Deserialize, Serialize};

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// The plain one.
    Champion,
    /// The learned one with this number, from 0.
    Challenger(u16),
}

/// Who acts from now on, and what is most worth saying about it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Who acts.
    pub act: Act,
    /// The number of the challenger that the reason is about.
    pub challenger: u16,
    /// The reason.
    pub why: Why,
}

/// Why a challenger acts or does not.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Why {
    /// The guard is off.
    Off,
    /// The guard stands on another kind of evidence.
    OtherEvidence,
    /// This label said nothing about any challenger.
    NothingSeen,
    /// The request came before the process began.
    Late,
    /// It has to earn a shadow by simulation first.
    NoShadow,
    /// Simulation gives nothing more to whom has a shadow.
    Simulated,
    /// It has too few labels.
    TooFew {
        /// How many it has.
        labels: u64,
        /// How many it needs.
        least: u32,
    },
    /// Its wealth is too small. Where it is far too small it is not read exactly: then `log_wealth` is that of the
    /// richest bet, which is above it.
    Unproven {
        /// The logarithm of its wealth.
        log_wealth: f64,
        /// What that must reach.
        needed: f64,
    },
    /// It is looked at again when the season ends.
    MidSeason {
        /// When, in seconds.
        until: f64,
    },
    /// It is proven to be better, but does much worse on the clean set.
    Collapsed {
        /// By what share of right answers.
        fall: f64,
    },
    /// It is proven to be better, but significantly worse in a slice.
    SliceWorse {
        /// In which.
        slice: u16,
    },
    /// It is proven to be better; the mode is shadow, or another challenger acts.
    Proven,
    /// It acts, and nothing speaks against it.
    Acting,
    /// It has earned a shadow.
    EarnedShadow,
    /// It acts from now on.
    Promoted,
    /// It acted, and has become worse than the champion.
    HandedBack,
}

impl Why {
    /// How much it is worth telling, where a label says something about several challengers.
    pub(super) fn weight(&self) -> f64 {
        match self {
            Self::Off | Self::OtherEvidence | Self::NothingSeen => 0.0,
            Self::Late | Self::NoShadow | Self::Simulated => 1.0,
            Self::TooFew { .. } => 2.0,
            // From 3 to 4, by wealth.
            Self::Unproven { log_wealth, needed } => 3.0 + 1.0 / (1.0 + (needed - log_wealth).max(0.0)),
            Self::MidSeason { .. } => 3.0,
            Self::Collapsed { .. } | Self::SliceWorse { .. } => 5.0,
            Self::Proven => 6.0,
            Self::Acting => 7.0,
            Self::EarnedShadow => 8.0,
            Self::Promoted => 9.0,
            Self::HandedBack => 10.0,
        }
    }
}
