//! What models are asked, for who decides how many replicas they have: counted beside the requests, told each second.
//!
//! Only models whose load has a say are counted ([`Meter`]). Telling is best effort: the orchestrator takes a gateway that says
//! nothing for a few seconds for gone. Whoever waits for a model that sleeps is told of at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rpc::orchestrator::{Load, Loads, ModelKey};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::Ring;

/// How often it is told.
const TELL: Duration = Duration::from_secs(1);
/// What is told in between comes no faster than this.
const PAUSE: Duration = Duration::from_millis(20);

/// Counts what one model is asked: an atomic, and twice a lock of a few instructions, for each request; exact, however few and however
/// long they are.
#[derive(Debug)]
pub(crate) struct Meter {
    came: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When it was looked at last, and since when it counts.
    at: Instant,
    since: Instant,
    open: u32,
    /// Requests in flight, times seconds.
    area: f64,
    served: (u64, f64),
    /// Whether there was something to tell the last time.
    told: bool,
}

impl State {
    fn pass(&mut self, now: Instant) {
        self.area += f64::from(self.open) * now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
    }
}

/// A request that waits or is answered; counted until it is dropped.
pub(crate) struct Open {
    meter: Arc<Meter>,
    /// Seconds of a replica that it took, once it was answered.
    served: Option<f64>,
}

impl Open {
    /// It was answered, and took so many seconds of a replica.
    pub(crate) fn served(mut self, seconds: f64) {
        self.served = Some(seconds);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.meter.state.lock();
        state.pass(Instant::now());
        state.open -= 1;
        if let Some(seconds) = self.served {
            let (count, sum) = &mut state.served;
            *count += 1;
            *sum += seconds;
        }
    }
}

impl Meter {
    pub(crate) fn new() -> Arc<Self> {
        let now = Instant::now();
        let state = State { at: now, since: now, open: 0, area: 0.0, served: (0, 0.0), told: false };
        Arc::new(Self { came: AtomicU64::new(0), state: Mutex::new(state) })
    }

    /// A request came; whether it is answered is another matter.
    pub(crate) fn came(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
    }

    /// A request begins to wait.
    pub(crate) fn open(self: &Arc<Self>) -> Open {
        let mut state = self.state.lock();
        state.pass(Instant::now());
        state.open += 1;
        drop(state);
        Open { meter: self.clone(), served: None }
    }

    /// What was counted since the last time; nothing for a model that was idle then and now.
    fn take(&self, (namespace, model): &ModelKey) -> Option<Load> {
        let (state, now) = (&mut *self.state.lock(), Instant::now());
        state.pass(now);
        let seconds = now.saturating_duration_since(state.since).as_secs_f64();
        let requests = self.came.swap(0, Ordering::Relaxed);
        let idle = requests == 0 && state.open == 0 && state.area <= 0.0;
        let told = std::mem::replace(&mut state.told, !idle);
        let load = Load {
            namespace: namespace.clone(),
            model: model.clone(),
            seconds,
            requests,
            in_flight: if seconds > 0.0 { state.area / seconds } else { 0.0 },
            open: state.open,
            served: std::mem::take(&mut state.served),
        };
        (state.area, state.since) = (0.0, now);
        (told || !idle).then_some(load)
    }
}

/// Tells the orchestrator, until `stop` resolves.
pub async fn run(ring: Arc<Ring>, stop: impl Future<Output = ()>) {
    let work = async {
        let mut tick = interval(TELL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = ring.sleeper.notified() => {}
            }
            tell(&ring).await;
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = work => {}
        () = stop => {}
    }
}

async fn tell(ring: &Ring) {
    let metered = ring.metered();
    if metered.is_empty() {
        return;
    }
    let loads: Vec<Load> = metered.iter().filter_map(|(key, meter)| meter.take(key)).collect();
    // With nothing to tell, too: then it is known that there is nothing.
    let parts = loads.chunks(Loads::MOST).map(<[Load]>::to_vec).chain(loads.is_empty().then(Vec::new));
    for models in parts {
        let loads = Loads { gateway: ring.name.clone(), models };
        match timeout(TELL, ring.orchestrator.load(loads)).await {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => tracing::debug!(%refusal, "the load of models could not be told"),
            Err(_) => tracing::debug!("the load of models could not be told in time"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ModelKey {
        ("bank".parse().unwrap(), "fraud".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_flight_is_a_mean_over_time_and_an_idle_model_is_told_of_once() {
        let meter = Meter::new();
        assert_eq!(meter.take(&key()), None, "nobody asks");
        meter.came();
        let first = meter.open();
        tokio::time::advance(Duration::from_millis(500)).await;
        meter.came();
        let second = meter.open();
        tokio::time::advance(Duration::from_millis(500)).await;
        first.served(0.25);
        let load = meter.take(&key()).unwrap();
        assert_eq!((load.requests, load.open, load.served), (2, 1, (1, 0.25)));
        assert!((load.in_flight - 1.5).abs() < 1e-9 && (load.seconds - 1.0).abs() < 1e-9, "{load:?}");
        tokio::time::advance(Duration::from_secs(2)).await;
        let load = meter.take(&key()).unwrap();
        assert_eq!((load.requests, load.open, load.served), (0, 1, (0, 0.0)));
        assert!((load.in_flight - 1.0).abs() < 1e-9, "it waits on: {load:?}");
        drop(second);
        assert_eq!(meter.take(&key()).map(|load| load.open), Some(0), "one last word");
        assert_eq!(meter.take(&key()), None);
        // One that was refused at the door is load, too.
        meter.came();
        assert_eq!(meter.take(&key()).map(|load| load.requests), Some(1));
    }
}
