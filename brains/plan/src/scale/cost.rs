//! What a second costs: work that waits too long, and replicas at their price.

use serde::{Deserialize, Serialize};

use super::{Seen, Terms};

/// What a second costs, in seconds in which requests wait too long, and what its load alone would be charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cost {
    /// What it costs as it is.
    pub(super) paid: f64,
    /// What replicas at a share of busy lanes cost that fits the load: nothing that who decides has a say in, so what is paid beyond
    /// it can be compared between seconds of unlike load.
    pub(super) due: f64,
}

impl Cost {
    /// Of a second that was seen so, where this share of lanes should be busy.
    pub(super) fn of(seen: &Seen, terms: &Terms, target: f64) -> Self {
        let late = f64::from(u8::from(is_late(seen, terms)));
        let (least, most) = (f64::from(terms.bounds.0), f64::from(terms.bounds.1.max(terms.bounds.0)));
        let fits = seen.requests * seen.service / f64::from(terms.lanes.max(1)) / target;
        Self { paid: late + terms.price * f64::from(seen.there()), due: terms.price * fits.max(0.0).clamp(least, most) }
    }
}

/// Whether who waits now waits longer than is promised: work beyond what lanes hold, by what they get through.
pub(super) fn is_late(seen: &Seen, terms: &Terms) -> bool {
    let lanes = f64::from(seen.ready) * f64::from(terms.lanes.max(1));
    let waiting = (seen.in_flight - lanes).max(0.0);
    waiting > 0.0 && waiting * seen.service >= lanes * (terms.slo - seen.service).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::PRICE;

    const TERMS: Terms = Terms { lanes: 2, slo: 1.0, cold: 5.0, bounds: (1, 10), price: PRICE };

    #[test]
    fn who_waits_too_long_costs_and_so_does_each_replica() {
        let seen = |in_flight, ready| Seen { requests: 28.0, in_flight, service: 0.1, ready, starting: 1 };
        // Four lanes get through 40 a second: 36 wait for 0.9 s, and take 0.1 s.
        assert!(!is_late(&seen(4.0, 2), &TERMS) && !is_late(&seen(39.0, 2), &TERMS) && is_late(&seen(40.1, 2), &TERMS));
        assert!(is_late(&seen(1.0, 0), &TERMS) && !is_late(&seen(0.0, 0), &TERMS));
        let slow = Seen { service: 2.0, ..seen(4.0, 2) };
        assert!(!is_late(&slow, &TERMS), "who takes long alone does not wait");
        let cost = Cost::of(&seen(50.0, 2), &TERMS, 0.7);
        assert!((cost.paid - (1.0 + 3.0 * PRICE)).abs() < 1e-12 && (cost.due - 2.0 * PRICE).abs() < 1e-9, "{cost:?}");
        assert_eq!(Cost::of(&Seen { requests: 1e9, ..seen(0.0, 2) }, &TERMS, 0.7).due, 10.0 * PRICE);
    }
}
