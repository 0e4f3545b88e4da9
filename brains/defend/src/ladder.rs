//! The ladder of answers: from how likely a subject is hostile to what is done to it, and for how long.
//!
//! A rung is worth its harm where the expected loss of not climbing it is greater: slowing an honest caller down costs little, so
//! nine in a hundred are enough, and no less, since every caller is looked at a thousand times a day; to refuse one takes three in
//! ten, and everything takes nine in ten and two kinds of evidence.
//! It is left two nats below where it was climbed, so that nobody flaps.

use std::time::Duration;

use types::defence::{Measures, Output, Rung};

/// How likely it is before anything is known: one in ten thousand, as log-odds.
pub const PRIOR: f64 = -9.2;
/// Log-odds at which a rung is climbed.
const CLIMB: [(Rung, f64); 4] =
    [(Rung::Throttle, -2.3), (Rung::Degrade, -1.4), (Rung::Quarantine, -0.75), (Rung::Block, 2.5)];
/// How far below that it is left.
const LEAVE: f64 = 2.0;
/// How long it is stayed on a rung before a step down.
pub const DWELL: Duration = Duration::from_secs(30);
/// How long an answer lasts: the first time, and when it is needed again within a day.
const LASTS: [Duration; 4] =
    [Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(1_800), Duration::from_secs(7_200)];
/// Two answers so close to each other are one after the other.
pub const REPEAT: Duration = Duration::from_secs(86_400);

/// What is known of a subject.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Known {
    /// How likely it is hostile, as log-odds.
    pub log_odds: f64,
    /// Kinds of evidence that speak for it.
    pub kinds: usize,
    /// Whether one of them is a rule of certainty.
    pub certain: bool,
}

/// The rung for what is known, of a subject that stands on `now`. Nobody is revoked by it: that is a person's word.
pub fn rung(known: Known, now: Rung) -> Rung {
    let reached = |(rung, climb): &(Rung, f64)| {
        let least = if *rung <= now { climb - LEAVE } else { *climb };
        let allowed = *rung < Rung::Block || known.kinds >= 2 || known.certain;
        (known.log_odds >= least && allowed).then_some(*rung)
    };
    CLIMB.iter().rev().find_map(reached).unwrap_or(Rung::Observe)
}

/// The rung below.
pub fn below(rung: Rung) -> Rung {
    Rung::ALL.iter().rev().copied().find(|other| *other < rung).unwrap_or(Rung::Observe)
}

/// How long an answer lasts that is the `repeat`th within a day, from 0.
pub fn lasts(repeat: u32) -> Duration {
    let place = usize::try_from(repeat).unwrap_or(usize::MAX).min(LASTS.len() - 1);
    LASTS.get(place).copied().unwrap_or(Duration::from_secs(60))
}

/// What a rung does to each request. An answer may tell less, and never anything false.
pub fn measures(rung: Rung) -> Measures {
    let none = Measures::default();
    match rung {
        Rung::Observe => none,
        Rung::Throttle => Measures { rate: Some(2.0), ..none },
        Rung::Degrade => Measures { rate: Some(1.0), delay_ms: 500, output: Output::Label, ..none },
        Rung::Quarantine | Rung::Block | Rung::Revoke => Measures { refuse: true, ..none },
    }
}

/// Log-odds as a probability.
pub fn probability(log_odds: f64) -> f64 {
    1.0 / (1.0 + (-log_odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(log_odds: f64, kinds: usize) -> Known {
        Known { log_odds, kinds, certain: false }
    }

    #[test]
    fn a_rung_is_climbed_where_it_is_worth_it_and_left_later() {
        assert_eq!(rung(known(PRIOR, 0), Rung::Observe), Rung::Observe);
        assert_eq!(rung(known(-2.2, 1), Rung::Observe), Rung::Throttle);
        assert_eq!(rung(known(-1.3, 1), Rung::Observe), Rung::Degrade);
        assert_eq!(rung(known(-0.7, 1), Rung::Throttle), Rung::Quarantine, "steps up may skip one");
        assert_eq!(rung(known(-2.7, 1), Rung::Quarantine), Rung::Quarantine, "two nats below");
        assert_eq!(rung(known(-2.9, 1), Rung::Quarantine), Rung::Degrade);
    }

    #[test]
    fn nobody_is_blocked_on_one_kind_of_evidence_unless_it_is_certain() {
        assert_eq!(rung(known(5.0, 1), Rung::Observe), Rung::Quarantine);
        assert_eq!(rung(known(5.0, 2), Rung::Observe), Rung::Block);
        assert_eq!(rung(Known { certain: true, ..known(5.0, 1) }, Rung::Observe), Rung::Block);
    }

    #[test]
    fn rungs_get_stricter_and_times_longer() {
        assert!(LASTS.windows(2).all(|pair| pair[0] < pair[1]) && lasts(9) == LASTS[3]);
        assert_eq!((below(Rung::Throttle), below(Rung::Observe)), (Rung::Observe, Rung::Observe));
        assert!(measures(Rung::Degrade).output == Output::Label && !measures(Rung::Degrade).refuse);
        assert!(measures(Rung::Quarantine).refuse && measures(Rung::Observe) == Measures::default());
    }
}
