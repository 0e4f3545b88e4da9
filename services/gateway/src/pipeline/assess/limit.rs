//! Static limits per caller and model: requests per second, and requests in flight.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rpc::orchestrator::ModelKey;
use types::{CallerName, Code, Namespace, Refusal, manifest::Limits};

use crate::bucket::Bucket;

/// Callers × models remembered; beyond it, those that are idle are forgotten.
const REMEMBERED: usize = 65_536;
/// Idle after this long: a bucket of one second's burst is full again by then.
const IDLE: Duration = Duration::from_secs(60);

type Key = (Namespace, CallerName, ModelKey);

/// Counts what each caller asks of each model.
#[derive(Default)]
pub(crate) struct Limiter {
    known: Mutex<HashMap<Key, State>>,
}

struct State {
    in_flight: Arc<AtomicU32>,
    bucket: Bucket,
}

/// A caller's place, given back when dropped.
pub(crate) struct Admitted(Arc<AtomicU32>);

impl Admitted {
    /// A place that was counted already.
    pub(super) fn counted(in_flight: Arc<AtomicU32>) -> Self {
        Self(in_flight)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Limiter {
    /// Admits one request, or says which limit it breaks and when to come again.
    pub(crate) fn admit(
        &self,
        (namespace, caller): (&Namespace, &CallerName),
        model: &ModelKey,
        limits: &Limits,
    ) -> Result<Admitted, Refusal> {
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED {
            known.retain(|_, state| state.in_flight.load(Ordering::Relaxed) > 0 || state.bucket.idle() < IDLE);
        }
        let burst = limits.rate.map_or(f64::INFINITY, |rate| rate.per_second().max(1.0));
        let key = (namespace.clone(), caller.clone(), model.clone());
        let state =
            known.entry(key).or_insert_with(|| State { in_flight: Arc::default(), bucket: Bucket::full(burst) });
        if state.in_flight.load(Ordering::Relaxed) >= limits.concurrency {
            return Err(Refusal::new(
                Code::ConcurrencyLimited,
                format!("`{caller}` has {} requests to `{}` in flight, its limit", limits.concurrency, model.1),
            )
            .hint("wait for an answer, or raise spec.limits.concurrency")
            .retry_after(Duration::from_secs(1)));
        }
        match limits.rate {
            None => state.bucket.touch(),
            Some(rate) => state.bucket.take(rate.per_second(), burst).map_err(|wait| {
                Refusal::new(Code::RateLimited, format!("`{caller}` sends more than {rate} to `{}`", model.1))
                    .hint("send less, or raise spec.limits.rate")
                    .retry_after(wait)
            })?,
        }
        state.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Admitted(state.in_flight.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who() -> (Namespace, CallerName, ModelKey) {
        ("bank".parse().unwrap(), "teller".parse().unwrap(), ("bank".parse().unwrap(), "fraud".parse().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_allows_its_burst_and_then_its_pace() {
        let (limiter, (namespace, caller, model)) = (Limiter::default(), who());
        let limits = Limits { rate: Some("10/s".parse().unwrap()), ..Limits::default() };
        let admit = || limiter.admit((&namespace, &caller), &model, &limits);
        for _ in 0..10 {
            admit().unwrap();
        }
        let Err(refusal) = admit() else { panic!("over the burst") };
        assert_eq!(refusal.code, Code::RateLimited);
        assert_eq!(refusal.retry_after_ms, Some(100));
        tokio::time::advance(Duration::from_millis(101)).await;
        admit().unwrap();
        assert!(admit().is_err());
    }

    #[tokio::test]
    async fn a_place_in_flight_comes_back() {
        let (limiter, (namespace, caller, model)) = (Limiter::default(), who());
        let limits = Limits { concurrency: 2, ..Limits::default() };
        let admit = || limiter.admit((&namespace, &caller), &model, &limits);
        let (first, _second) = (admit().unwrap(), admit().unwrap());
        assert_eq!(admit().err().unwrap().code, Code::ConcurrencyLimited);
        let other: CallerName = "other".parse().unwrap();
        assert!(limiter.admit((&namespace, &other), &model, &limits).is_ok(), "callers are counted apart");
        drop(first);
        assert!(admit().is_ok());
    }
}
