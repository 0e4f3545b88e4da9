//! How many requests a model may have in flight: as many as do not merely queue.

use std::time::Duration;

/// What a limit begins with.
const FIRST: f64 = 32.0;
/// The least and the most there can be.
const RANGE: (f64, f64) = (2.0, 4_096.0);
/// How many times the unqueued latency is taken without complaint, and beside it what others may have in
/// flight before it.
const TOLERATED: (f64, f64) = (2.0, crate::gate::ROOM);
/// Share of a new reading in the mean.
const FRESH: f64 = 0.1;
/// Share of a new limit in the old one.
const SMOOTH: f64 = 0.2;
/// Time between two changes.
const STEP: Duration = Duration::from_millis(50);
/// How long the lowest overhead is believed.
const MEMORY: Duration = Duration::from_secs(30);
/// What is let in while the overhead is looked at anew, how long, and how many times the mean latency beside it: those
/// in flight must be gone first.
const PROBE: (f64, Duration, u32) = (2.0, Duration::from_millis(100), 2);

/// How a request went at its replica.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Served {
    /// From sending to the answer.
    pub latency: Duration,
    /// The model's own time, for the whole batch; nothing where it is not told.
    pub compute: Duration,
    /// How long it waited at its replica, where that is told.
    pub queued: Option<Duration>,
    /// Rows of the batch.
    pub batch: u64,
    /// What of the model's time was this machine's; nothing where another one computes.
    pub cost: Duration,
}

/// An adaptive concurrency limit by latency gradient (Gradient2 of Netflix' concurrency-limits), with one difference: the
/// unqueued latency is not the past's, which would be queued too under lasting load, but the model's own time and the
/// lowest overhead seen; while the limit is reached, a short probe every 30 s sees it without a queue. O(1).
#[derive(Debug, Clone)]
pub struct Limit {
    limit: f64,
    latency: Option<f64>,
    /// Its mean deviation.
    deviation: f64,
    compute: f64,
    /// The mean of what a replica's queue does to a request: waiting and computing, or the whole latency.
    inside: f64,
    /// The overhead that is believed, and the lowest since it was last looked at.
    overhead: (f64, f64),
    turned: Duration,
    probe: Option<Duration>,
    /// Whether the limit was reached since the last look.
    reached: bool,
    stepped: Duration,
    busiest: u32,
}

impl Default for Limit {
    fn default() -> Self {
        Self {
            limit: FIRST,
            latency: None,
            deviation: 0.0,
            compute: 0.0,
            inside: 0.0,
            overhead: (f64::INFINITY, f64::INFINITY),
            turned: Duration::ZERO,
            probe: None,
            reached: false,
            stepped: Duration::ZERO,
            busiest: 0,
        }
    }
}

impl Limit {
    /// Requests that may be in flight.
    pub fn current(&self) -> u32 {
        if self.probe.is_some() { PROBE.0 as u32 } else { self.limit as u32 }
    }

    /// The mean latency of late; nothing before the first answer.
    pub fn latency(&self) -> Duration {
        Duration::from_secs_f64(self.latency.unwrap_or(0.0))
    }

    /// What few answers take longer than: the mean and three mean deviations (Jacobson, SIGCOMM 1988).
    pub fn at_most(&self) -> Duration {
        Duration::from_secs_f64(self.latency.unwrap_or(0.0) + 3.0 * self.deviation)
    }

    /// Takes in how a request went while this many were in flight.
    pub fn observe(&mut self, served: Served, in_flight: u32, now: Duration) {
        let (latency, compute) = (served.latency.as_secs_f64(), served.compute.as_secs_f64());
        let compute = compute.min(latency);
        let mean = self.latency.unwrap_or(latency);
        self.latency = Some(mean + FRESH * (latency - mean));
        self.deviation += FRESH * ((latency - mean).abs() - self.deviation);
        self.compute += FRESH * (compute - self.compute);
        // A slow network is no queue: who is told what waiting took looks at nothing else.
        let inside = served.queued.map_or(latency, |queued| queued.as_secs_f64() + compute);
        self.inside += FRESH * (inside - self.inside);
        self.overhead.1 = self.overhead.1.min(inside - compute);
        self.busiest = self.busiest.max(in_flight);
        match self.probe {
            Some(until) if now >= until => self.look(now),
            Some(_) => {}
            None if now.saturating_sub(self.stepped) >= STEP => self.step(now),
            None => {}
        }
    }

    fn step(&mut self, now: Duration) {
        let mean = self.inside.max(1e-6);
        let unqueued = self.compute + self.overhead.0.min(self.overhead.1);
        let gradient = ((unqueued * TOLERATED.0 + TOLERATED.1) / mean).clamp(0.5, 1.0);
        let more = if gradient < 1.0 { 0.0 } else { self.limit.sqrt() };
        let next = self.limit * gradient + more;
        // A limit that nobody reaches says nothing about a higher one.
        if next < self.limit || f64::from(self.busiest) >= self.limit / 2.0 {
            self.limit = (self.limit + SMOOTH * (next - self.limit)).clamp(RANGE.0, RANGE.1);
        }
        self.reached |= f64::from(self.busiest) >= self.limit * 0.9;
        self.stepped = now;
        self.busiest = 0;
        if now.saturating_sub(self.turned) < MEMORY {
            return;
        }
        if self.reached && self.limit > PROBE.0 {
            self.probe = Some(now + PROBE.1 + self.latency() * PROBE.2);
            self.overhead.1 = f64::INFINITY;
        } else {
            self.look(now);
        }
    }

    /// Believes the lowest overhead since the last time.
    fn look(&mut self, now: Duration) {
        if self.overhead.1.is_finite() {
            self.overhead.0 = self.overhead.1;
        }
        self.overhead.1 = f64::INFINITY;
        (self.probe, self.reached, self.turned) = (None, false, now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A server that takes `service` seconds with this many workers, always offered as much as the limit lets in.
    fn saturate(limit: &mut Limit, service: f64, workers: f64, told: bool, seconds: u32) {
        for tick in 0..seconds * 100 {
            let now = Duration::from_millis(u64::from(tick) * 10);
            let in_flight = limit.current();
            let latency = service * (f64::from(in_flight) / workers).max(1.0) + 0.000_3;
            let compute = if told { service } else { 0.0 };
            let [latency, compute] = [latency, compute].map(Duration::from_secs_f64);
            limit.observe(Served { latency, compute, queued: None, batch: 1, cost: compute }, in_flight, now);
        }
    }

    #[test]
    fn a_saturated_model_gets_what_keeps_it_busy_and_little_more() {
        for (service, workers) in [(0.005, 2.0), (0.020, 2.0), (0.1, 8.0), (1.0, 1.0)] {
            let mut limit = Limit::default();
            saturate(&mut limit, service, workers, true, 120);
            let busy = f64::from(limit.current()) / workers;
            assert!((1.0..=6.0).contains(&busy), "{busy} times {workers} of {service} s");
        }
    }

    #[test]
    fn a_slow_network_is_no_queue() {
        let mut limit = Limit::default();
        for tick in 0..10_000 {
            let latency = Duration::from_millis(tick % 200 + 1);
            let (compute, queued) = (Duration::from_micros(100), Some(Duration::from_micros(50)));
            limit.observe(
                Served { latency, compute, queued, batch: 1, cost: compute },
                limit.current(),
                Duration::from_millis(tick * 10),
            );
        }
        assert!(limit.current() > 500, "{}", limit.current());
    }

    #[test]
    fn microseconds_are_not_held_back() {
        let mut limit = Limit::default();
        saturate(&mut limit, 0.000_02, 2.0, true, 60);
        assert!(limit.current() > 500, "{}", limit.current());
    }

    #[test]
    fn whose_own_time_is_not_told_does_not_drift_away() {
        let mut limit = Limit::default();
        saturate(&mut limit, 0.02, 4.0, false, 600);
        assert!((4..64).contains(&limit.current()), "{}", limit.current());
    }

    #[test]
    fn what_nobody_reaches_does_not_grow() {
        let mut limit = Limit::default();
        for tick in 0..1_000 {
            let latency = Duration::from_millis(1);
            let served = Served { latency, compute: Duration::ZERO, queued: None, batch: 1, cost: Duration::ZERO };
            limit.observe(served, 1, Duration::from_millis(tick * 60));
        }
        assert_eq!(limit.current(), FIRST as u32);
    }

    proptest! {
        #[test]
        fn it_stays_in_its_range(readings in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>(), 0..100_000_u64), 1..200)) {
            let (mut limit, mut now) = (Limit::default(), Duration::ZERO);
            for (latency, compute, in_flight, millis) in readings {
                now += Duration::from_millis(millis);
                let [latency, compute] = [latency, compute].map(|micros| Duration::from_micros(micros.into()));
                limit.observe(Served { latency, compute, queued: None, batch: 1, cost: compute }, in_flight, now);
                prop_assert!((2..=4_096).contains(&limit.current()));
            }
        }
    }
}
