//! Who is compared.

use std::{cell::RefCell, rc::Rc, time::Duration};

use balance::{
    Guarded, Pool,
    policy::{Ask, Claim, End, LeastRequest, Listening, Policy, Prequal, RoundRobin},
    predict::{Predict, Ridge},
    report::Report,
};
use rand::Rng;

use crate::fleet::{Chooser, Scene};

/// A predictor that says anything, from a thousandth to a thousand times the mean.
struct Garbage(u64);

impl Predict for Garbage {
    fn predict(&self, ask: &Ask) -> f64 {
        let bits = (ask.size.to_bits() ^ self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        10_f64.powf((bits >> 32) as f64 / f64::from(u32::MAX) * 6.0 - 3.0)
    }

    fn learn(&mut self, _ask: &Ask, _seconds: f64) {
        self.0 = self.0.wrapping_add(0x9e37_79b9);
    }
}

/// What is seen of a gateway's chooser.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    claims: u64,
    /// Claims after which it handed back for the first time.
    handed_back: Option<u64>,
    explored: u64,
}

/// What is watched of a subject while it chooses: of each gateway.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Rc<RefCell<Vec<Seen>>>);

impl Watch {
    /// Requests until the last gateway handed back for the first time; infinite while one did not.
    pub(crate) fn handed_back(&self) -> f64 {
        let seen = self.0.borrow();
        let first = |seen: &Seen| seen.handed_back.map_or(f64::INFINITY, |back| back as f64);
        seen.iter().map(first).reduce(f64::max).unwrap_or(f64::INFINITY) * seen.len() as f64
    }

    /// The share of requests that explored.
    pub(crate) fn explored(&self) -> f64 {
        let seen = self.0.borrow();
        let sum = |of: fn(&Seen) -> u64| seen.iter().map(of).sum::<u64>() as f64;
        sum(|seen| seen.explored) / sum(|seen| seen.claims).max(1.0)
    }
}

/// A guarded one that is watched.
struct Watched {
    inner: Guarded,
    watch: Watch,
    place: usize,
}

impl Policy for Watched {
    fn set(&mut self, keys: &[u64], now: Duration) {
        self.inner.set(keys, now);
    }

    fn claim(&mut self, ask: &Ask, now: Duration, rng: &mut dyn Rng) -> Option<Claim> {
        let claim = self.inner.claim(ask, now, rng);
        let seen = &mut self.watch.0.borrow_mut()[self.place];
        seen.claims += 1;
        seen.handed_back = seen.handed_back.or(self.inner.handed_back());
        seen.explored = self.inner.work().explored();
        claim
    }

    fn ended(&mut self, end: &End<'_>, now: Duration) {
        self.inner.ended(end, now);
    }

    fn listening(&self) -> Listening {
        self.inner.listening()
    }

    fn heard(&mut self, key: u64, report: &Report, at: Duration) {
        self.inner.heard(key, report, at);
    }
}

/// One of each gateway.
#[expect(clippy::unwrap_used, reason = "its settings are its own, and in their ranges")]
pub(crate) fn chooser(subject: &str, scene: &Scene) -> (Chooser, Watch) {
    let watch = Watch::default();
    if subject == "oracle" {
        return (Chooser::Oracle, watch);
    }
    let policies = (0..scene.gateways).map(|place| -> Box<dyn Policy> {
        let guarded = |predictor: Box<dyn Predict>| {
            watch.0.borrow_mut().push(Seen::default());
            let inner = Guarded::promoted(predictor, Duration::ZERO).unwrap();
            Box::new(Watched { inner, watch: watch.clone(), place })
        };
        match subject {
            "round robin" => Box::new(RoundRobin::default()),
            "least request" => Box::new(LeastRequest::default()),
            "prequal" => Box::new(Prequal::default()),
            "ours" => guarded(Box::<Ridge>::default()),
            "garbage" => guarded(Box::new(Garbage(scene.seed))),
            _ => Box::new(Pool::new(Duration::ZERO)),
        }
    });
    (Chooser::Policies(policies.collect()), watch)
}
