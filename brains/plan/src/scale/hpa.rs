//! What Kubernetes' horizontal pod autoscaler does, on requests in flight for each replica.

use super::{Greatest, Scaler, Seen, Terms, Window};

/// Seconds between decisions, and over which the metric is a mean.
const EVERY: u64 = 15;
/// A metric this near to its target changes nothing.
const TOLERANCE: f64 = 0.1;
/// Replicas are at most doubled in a decision, or this many are added.
const ADDED: f64 = 4.0;
/// Seconds over which the greatest recommendation counts before replicas are taken away.
const DOWN: u64 = 300;

/// The rule of Kubernetes' documentation (`autoscaling/v2`, its algorithm and default behaviour): each 15 s, replicas × metric / target,
/// a tolerance of 10 %, replicas that are not ready count as idle, no more than the larger of 100 % and four more in 15 s, and fewer only
/// by the greatest recommendation of the last five minutes. O(1) a second.
#[derive(Debug, Clone)]
pub struct Hpa {
    terms: Terms,
    /// The share of a replica's lanes that should be busy.
    target: f64,
    /// What is wanted; what is there, until there was a decision.
    wanted: Option<u32>,
    each: Window,
    down: Greatest,
}

impl Hpa {
    /// One that aims at this share of busy lanes.
    pub fn new(terms: Terms, target: f64) -> Self {
        Self { terms, target, wanted: None, each: Window::new(EVERY as usize), down: Greatest::new(DOWN) }
    }

    fn recommended(&self, seen: &Seen) -> f64 {
        let (ready, there) = (f64::from(seen.ready.max(1)), f64::from(seen.ready.max(1) + seen.starting));
        let target = self.target * f64::from(self.terms.lanes);
        let total = self.each.mean();
        let ratio = total / ready / target;
        let near = |ratio: f64| (ratio - 1.0).abs() <= TOLERANCE;
        if near(ratio) {
            return there;
        }
        if ratio < 1.0 || seen.starting == 0 {
            return (ratio * ready).ceil();
        }
        let damped = total / there / target;
        if near(damped) || damped < 1.0 { there } else { (damped * there).ceil() }
    }
}

impl Scaler for Hpa {
    fn second(&mut self, at: u64, seen: &Seen) -> u32 {
        self.each.push(seen.in_flight);
        let wanted = *self.wanted.get_or_insert(self.terms.bounded(seen.there().into()));
        if !at.is_multiple_of(EVERY) {
            return wanted;
        }
        let recommended = self.recommended(seen);
        let stable = self.down.push(at, recommended);
        let now = f64::from(wanted);
        let next = if recommended > now { recommended.min((2.0 * now).max(now + ADDED)) } else { stable.min(now) };
        *self.wanted.insert(self.terms.bounded(next))
    }
}
