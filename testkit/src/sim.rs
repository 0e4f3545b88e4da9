//! Discrete-event simulation: hours of load on many replicas in a second, the same every time.
//!
//! [`Events`] is the clock: what was put in comes out in order of time. [`Station`] is a replica: workers behind one
//! queue. [`Load`] draws arrivals and sizes. Policies that are compared get the same load (same seed), so that their ratio
//! is theirs and not the draw's (METHODS: common random numbers).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::Duration,
};

use rand::{Rng, RngExt as _};

/// Events to come, and the time of the last one that came. O(log n) each.
#[derive(Debug)]
pub struct Events<E> {
    now: Duration,
    heap: BinaryHeap<Reverse<(Duration, u64)>>,
    waiting: BTreeMap<u64, E>,
    next: u64,
}

impl<E> Default for Events<E> {
    fn default() -> Self {
        Self { now: Duration::ZERO, heap: BinaryHeap::new(), waiting: BTreeMap::new(), next: 0 }
    }
}

impl<E> Events<E> {
    /// The simulated time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Lets this happen after so long; of two at the same time the one put in first comes first.
    pub fn after(&mut self, delay: Duration, event: E) {
        self.heap.push(Reverse((self.now + delay, self.next)));
        self.waiting.insert(self.next, event);
        self.next += 1;
    }

    /// The next event; the time becomes its own.
    pub fn pop(&mut self) -> Option<E> {
        let Reverse((at, id)) = self.heap.pop()?;
        self.now = at;
        self.waiting.remove(&id)
    }
}

/// A job at a station.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// Its work, in seconds on a worker of speed 1.
    pub work: f64,
}

/// A replica: some workers, one queue, first come first served.
#[derive(Debug, Clone)]
pub struct Station {
    workers: usize,
    busy: usize,
    queue: VecDeque<Job>,
    /// How fast its workers are.
    pub speed: f64,
}

impl Station {
    /// An idle one.
    pub fn new(workers: usize, speed: f64) -> Self {
        Self { workers, busy: 0, queue: VecDeque::new(), speed }
    }

    /// A job comes; how long until it is done, if it begins at once.
    pub fn arrive(&mut self, job: Job) -> Option<Duration> {
        if self.busy == self.workers {
            self.queue.push_back(job);
            return None;
        }
        self.busy += 1;
        Some(self.takes(job))
    }

    /// A job is done; the next one, and how long until that is done.
    pub fn done(&mut self) -> Option<(Job, Duration)> {
        self.busy -= 1;
        let job = self.queue.pop_front()?;
        self.busy += 1;
        Some((job, self.takes(job)))
    }

    /// Jobs here.
    pub fn jobs(&self) -> usize {
        self.busy + self.queue.len()
    }

    fn takes(&self, job: Job) -> Duration {
        Duration::from_secs_f64(job.work / self.speed)
    }
}

/// How jobs arrive, and how large they are.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Jobs a second, at moments of their own (Poisson).
    pub rate: f64,
    /// Mean work of a job, in seconds.
    pub work: f64,
    /// Standard deviation of the logarithm of its work; 0 makes all jobs alike.
    pub spread: f64,
}

impl Load {
    /// The time until the next job, and its work.
    pub fn draw(&self, rng: &mut impl Rng) -> (Duration, f64) {
        let pause = -(1.0 - rng.random::<f64>()).ln() / self.rate;
        // Box and Muller's normal deviate; the mean of a log-normal is exp(mu + sigma²/2).
        let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
        let work = self.work * (self.spread * normal - self.spread * self.spread / 2.0).exp();
        (Duration::from_secs_f64(pause), work)
    }
}

/// The value that this share of the readings does not exceed; nothing of nothing.
pub fn quantile(readings: &mut [Duration], share: f64) -> Duration {
    if readings.is_empty() {
        return Duration::ZERO;
    }
    readings.sort_unstable();
    let place = (readings.len() as f64 * share).ceil() as usize;
    readings[place.clamp(1, readings.len()) - 1]
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn events_come_in_order_and_equals_as_they_were_put_in() {
        let mut events = Events::default();
        for (millis, name) in [(5, "c"), (1, "a"), (5, "d"), (2, "b")] {
            events.after(Duration::from_millis(millis), name);
        }
        let order: Vec<_> = std::iter::from_fn(|| events.pop()).collect();
        assert_eq!((order.concat().as_str(), events.now()), ("abcd", Duration::from_millis(5)));
    }

    /// The mean wait of a queue with Poisson arrivals and equal jobs is known: ρ/(2(1 − ρ)) of a job (Pollaczek and
    /// Khinchine).
    #[test]
    fn one_worker_s_queue_is_as_long_as_the_formula_says() {
        let load = Load { rate: 80.0, work: 0.01, spread: 0.0 };
        let (mut events, mut station) = (Events::default(), Station::new(1, 1.0));
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (mut began, mut waited) = (BTreeMap::new(), Vec::new());
        events.after(Duration::ZERO, None);
        while waited.len() < 200_000 {
            let Some(event) = events.pop() else { break };
            let now = events.now();
            let started = match event {
                None => {
                    let (pause, work) = load.draw(&mut rng);
                    events.after(pause, None);
                    let job = Job { id: began.len() as u64, work };
                    began.insert(job.id, now);
                    station.arrive(job).map(|takes| (job, takes))
                }
                Some(_) => station.done(),
            };
            if let Some((job, takes)) = started {
                waited.push((now - began[&job.id]).as_secs_f64());
                events.after(takes, Some(job.id));
            }
        }
        let mean = waited.iter().sum::<f64>() / waited.len() as f64;
        assert!((mean / 0.02 - 1.0).abs() < 0.05, "{mean}");
    }

    #[test]
    fn sizes_have_the_mean_that_is_asked_for() {
        let load = Load { rate: 10.0, work: 0.02, spread: 1.0 };
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let draws: Vec<_> = (0..100_000).map(|_| load.draw(&mut rng)).collect();
        let mean = |of: &dyn Fn(&(Duration, f64)) -> f64| draws.iter().map(of).sum::<f64>() / draws.len() as f64;
        assert!((mean(&|draw| draw.0.as_secs_f64()) / 0.1 - 1.0).abs() < 0.02);
        assert!((mean(&|draw| draw.1) / 0.02 - 1.0).abs() < 0.02);
    }

    #[test]
    fn a_quantile_is_one_of_the_readings() {
        let mut readings: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&mut readings, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&mut readings, 0.0), Duration::from_millis(1));
        assert_eq!(quantile(&mut [], 0.5), Duration::ZERO);
    }
}
