//! Replicas for the load that comes before more of them could be there.

use online::{
    Error, Snapshot,
    forecast::{Forecast, Settings},
};
use serde::{Deserialize, Serialize};

use super::{Greatest, PRICE, Scaler, Seen, Terms, Window, staffing::Queue, trend::Trend};

/// Seconds between decisions.
const EVERY: u64 = 15;
/// Seconds between looks at whether the load climbs.
const CLIMB: u64 = 5;
/// The share of requests that may be late in what is forecast, and the share of the time in which more may come: at the price of [`PRICE`].
/// Tails are nearly exponential, so at twice the price twice as much is worth a replica less.
const LATE: f64 = 0.01;
/// Between which the share of late requests is, whatever the price.
const LATEST: (f64, f64) = (1e-4, 0.2);
/// Seconds that fewer must have been enough before replicas are taken away, and the share that goes at a time.
const DOWN: u64 = 300;
const STEP: f64 = 0.25;
/// Weight of 15 new seconds in what is known of how seconds vary.
const FRESH: f64 = 0.02;
/// Seconds over which what comes now is a mean.
const NOW: usize = 3;
/// The share of the promised time for which requests wait where the greatest of these seconds counts instead: there is no time
/// to be sure.
const SOON: f64 = 0.5;
/// The part of a start in which what waits by then is to be worked off, and how many seconds that is at least; replicas for it stay
/// so long after they answer.
const WORK_OFF: (f64, f64) = (0.15, 3.0);
const STAY: u64 = 30;
/// Decisions in which no day was seen yet: whatever is forecast beyond what came lately is fear, not knowledge.
const YOUNG: u64 = 5_760;
/// Seconds of what came lately, and starts beside them: the longer one takes, the dearer it is to be wrong. And how many times as much
/// as the most of it is staffed for by one that is young.
const LATELY: u64 = 300;
const LONGER: f64 = 30.0;
const FEAR: f64 = 2.0;

/// Forecast and queueing: each 15 s, the quantile of the load at the time at which a new replica could answer
/// ([`Forecast`]), or where a line through the last minute is by then, if it climbs for sure; staffed so that one request in a hundred is late ([`Queue::servers`]); each second, whatever is needed for what comes and waits
/// right now. More is never held back; fewer are wanted only after five minutes in which fewer were enough, a quarter at a time.
/// With a higher [`price`](Terms::price) more may be late. On its first day it staffs for no more than twice what came lately: after a burst
/// it can't know yet how rare those are.
///
/// A second costs O(1), a decision O(replicas) and a forecast of some 5 µs. What it learnt is saved with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ahead {
    terms: Terms,
    forecast: Forecast,
    /// What is wanted; what is there, until there was a decision.
    wanted: Option<u32>,
    /// Requests of these 15 seconds, their squares, and how many were counted.
    block: (f64, f64, f64),
    /// Variance of a second's requests by their mean: 1 of a Poisson process.
    dispersion: f64,
    now: Window,
    trend: Trend,
    service: f64,
    down: Greatest,
    stay: Greatest,
    /// What came lately, and decisions that something was learnt for.
    lately: Greatest,
    learnt: u64,
    /// What the forecast asks for.
    staffed: f64,
    urgent: bool,
}

impl Ahead {
    /// One that knows nothing yet; nothing for terms that no forecast can be made for.
    ///
    /// # Errors
    /// [`online::Error`] for a time to start beyond a week.
    pub fn new(terms: Terms) -> online::Result<Self> {
        let settings = Settings { horizons: vec![horizon(terms)], ..Settings::every(EVERY as f64) };
        Ok(Self {
            terms,
            forecast: Forecast::new(settings)?,
            wanted: None,
            block: (0.0, 0.0, 0.0),
            dispersion: 1.0,
            now: Window::new(NOW),
            trend: Trend::default(),
            service: 0.0,
            down: Greatest::new(DOWN),
            stay: Greatest::new(STAY + terms.cold.max(0.0) as u64),
            lately: Greatest::new(LATELY + (LONGER * terms.cold.max(0.0)) as u64),
            learnt: 0,
            staffed: 0.0,
            urgent: false,
        })
    }

    /// Takes other terms from now on; what was learnt stays, but for the forecast where it has to look further ahead or less far.
    ///
    /// # Errors
    /// [`online::Error`] for a time to start beyond a week; then nothing has changed.
    pub fn set(&mut self, terms: Terms) -> online::Result<()> {
        let fresh = Self::new(terms)?;
        if horizon(terms) != horizon(self.terms) {
            self.forecast = fresh.forecast;
        }
        self.stay.length = fresh.stay.length;
        self.lately.length = fresh.lately.length;
        self.terms = terms;
        Ok(())
    }

    /// Replicas that the forecast asks for, before bounds and rounding.
    pub fn staffed(&self) -> f64 {
        self.staffed
    }

    /// Learns 15 seconds, and staffs for what is forecast.
    fn staff(&mut self, at: u64) -> f64 {
        let (sum, squares, count) = std::mem::take(&mut self.block);
        let mean = if count > 0.0 { sum / count } else { f64::NAN };
        if count > 1.0 && mean > 0.0 {
            let variance = (squares - sum * mean) / (count - 1.0);
            self.dispersion += FRESH * (variance / mean - self.dispersion);
        }
        // A clock that goes back, or a load that is no number, teaches nothing.
        let _ = self.forecast.observe(at as f64, mean);
        let most = self.lately.push(at, if mean.is_finite() { mean } else { 0.0 });
        self.learnt = self.learnt.saturating_add(u64::from(mean.is_finite()));
        let Ok(quantiles) = self.forecast.ahead(0) else { return 0.0 };
        // From the 0.99 quantile at the usual price to the 0.9 quantile at ten times that, by the logarithm of what is above.
        let dear = self.dear().log10().clamp(0.0, 1.0);
        let quantile = quantiles.highest + dear * (quantiles.high - quantiles.highest);
        self.servers(if self.learnt < YOUNG { quantile.min(FEAR * most) } else { quantile })
    }

    /// By how many times a replica is dearer than usual.
    fn dear(&self) -> f64 {
        self.terms.price / PRICE
    }

    /// Replicas for so many requests a second.
    fn servers(&self, rate: f64) -> f64 {
        let queue = Queue { rate, service: self.service, varies: (self.dispersion.max(0.1), 1.0) };
        let late = (LATE * self.dear()).clamp(LATEST.0, LATEST.1);
        f64::from(queue.servers(self.terms.slo - self.service, late)) / f64::from(self.terms.lanes.max(1))
    }

    /// Whether something waits right now that the forecast did not see coming.
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Replicas for what comes right now, and for what waits beside it by the time they answer; none where nothing waits.
    fn needed(&self, seen: &Seen) -> (f64, f64) {
        let lanes = f64::from(self.terms.lanes.max(1));
        let waiting = (seen.in_flight - f64::from(seen.ready) * lanes).max(0.0) * self.service / lanes;
        let late = waiting > f64::from(seen.ready.max(1)) * self.terms.slo * SOON;
        let busy = if late { self.now.greatest() } else { self.now.mean() } * self.service / lanes;
        if waiting <= 0.0 {
            return (0.0, 0.0);
        }
        let growing = (busy - f64::from(seen.there())).max(0.0) * self.terms.cold;
        (busy, (waiting + growing) / (WORK_OFF.0 * self.terms.cold).max(WORK_OFF.1))
    }
}

/// How many decisions a replica that is started now is ready after, and one more.
fn horizon(terms: Terms) -> u32 {
    (terms.cold / EVERY as f64).ceil().max(0.0) as u32 + 1
}

impl Snapshot for Ahead {
    const KIND: &'static str = "ahead";
    const VERSION: u16 = 2;

    fn check(&self) -> online::Result<()> {
        self.forecast.check()?;
        let numbers = [self.dispersion, self.service, self.staffed, self.terms.slo, self.terms.cold, self.terms.price];
        if numbers.iter().all(|number| number.is_finite() && *number >= 0.0) {
            Ok(())
        } else {
            Err(Error::Snapshot("has numbers that can't be"))
        }
    }
}

impl Scaler for Ahead {
    fn second(&mut self, at: u64, seen: &Seen) -> u32 {
        if seen.service > 0.0 {
            self.service = seen.service;
        }
        if seen.requests.is_finite() {
            self.now.push(seen.requests);
            self.trend.push(seen.requests);
            let (sum, squares, count) = &mut self.block;
            *sum += seen.requests;
            *squares += seen.requests * seen.requests;
            *count += 1.0;
        }
        if at.is_multiple_of(EVERY) {
            self.staffed = self.staff(at);
        }
        if at.is_multiple_of(CLIMB)
            && let Some(rate) = self.trend.ahead(self.terms.cold + CLIMB as f64)
        {
            self.staffed = self.staffed.max(self.servers(rate));
        }
        let (busy, beside) = self.needed(seen);
        self.urgent = busy > 0.0;
        let usual = self.staffed.max(busy);
        let target = usual.max(busy + beside);
        let greatest = self.down.push(at, usual).max(self.stay.push(at, target));
        let wanted = f64::from(*self.wanted.get_or_insert(self.terms.bounded(seen.there().into())));
        let next = if target > wanted {
            target
        } else if at.is_multiple_of(EVERY) && greatest < wanted {
            greatest.max((wanted * (1.0 - STEP)).floor())
        } else {
            wanted
        };
        *self.wanted.insert(self.terms.bounded(next))
    }
}
