//! Quotas of namespaces: predictions per second and in flight at this gateway, rows per day over all of them.
//!
//! Rows are counted here and noted every few seconds in a stream of this gateway's own, so that a restart forgets at
//! most what was counted since; what other gateways have noted counts too.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use store::{Retention, Streams};
use types::{
    Code, Namespace, Refusal, Timestamp,
    quota::{AuditDuty, Quota},
};

use super::limit::Admitted;
use crate::{Ring, bucket::Bucket};

/// How often what was counted is noted.
const NOTE: Duration = Duration::from_secs(5);
/// Bytes of notes that are kept.
const KEEP: u64 = 1 << 20;
/// A day, in milliseconds.
const DAY: u64 = 86_400_000;

/// What every namespace with a quota uses.
#[derive(Default)]
pub(crate) struct Quotas {
    known: Mutex<HashMap<Namespace, State>>,
    /// Rows that other gateways have noted today.
    elsewhere: Mutex<Day>,
}

struct State {
    quota: Quota,
    in_flight: Arc<AtomicU32>,
    bucket: Bucket,
    rows: (u64, u64),
}

/// Rows of one day, by namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Day {
    day: u64,
    rows: HashMap<Namespace, u64>,
}

fn day(now: Timestamp) -> u64 {
    now.0 / DAY
}

impl Quotas {
    /// Takes a changed quota in; what was counted stays.
    pub(crate) fn set(&self, namespace: Namespace, quota: Option<Quota>) {
        let mut known = self.known.lock();
        match quota {
            None => drop(known.remove(&namespace)),
            Some(quota) => {
                let state = known.entry(namespace).or_insert_with(|| State {
                    quota,
                    in_flight: Arc::default(),
                    bucket: Bucket::full(burst(&quota)),
                    rows: (0, 0),
                });
                state.quota = quota;
            }
        }
    }

    /// The quota of a namespace.
    pub(crate) fn get(&self, namespace: &Namespace) -> Option<Quota> {
        self.known.lock().get(namespace).map(|state| state.quota)
    }

    /// Every quota there is, by namespace.
    pub(crate) fn list(&self) -> Vec<(Namespace, Quota)> {
        let mut all: Vec<_> = self.known.lock().iter().map(|(name, state)| (name.clone(), state.quota)).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// Admits one prediction, or says which bound it breaks and when to come again.
    pub(super) fn admit(&self, namespace: &Namespace) -> Result<Option<Admitted>, Refusal> {
        let mut known = self.known.lock();
        let Some(state) = known.get_mut(namespace) else { return Ok(None) };
        if let Some(most) = state.quota.concurrency.filter(|most| state.in_flight.load(Ordering::Relaxed) >= *most) {
            let what = format!("namespace `{namespace}` has {most} predictions in flight, its quota");
            return Err(exceeded(what).retry_after(Duration::from_secs(1)));
        }
        if let Some(rate) = state.quota.rate {
            state.bucket.take(rate.per_second(), burst(&state.quota)).map_err(|wait| {
                exceeded(format!("namespace `{namespace}` sends more than its quota of {rate}")).retry_after(wait)
            })?;
        }
        state.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Admitted::counted(state.in_flight.clone())))
    }

    /// Counts rows that are about to be predicted; says what becomes of them when they can't be recorded.
    pub(super) fn count(&self, namespace: &Namespace, rows: u64, now: Timestamp) -> Result<AuditDuty, Refusal> {
        let mut known = self.known.lock();
        let Some(state) = known.get_mut(namespace) else { return Ok(AuditDuty::default()) };
        let (today, duty) = (day(now), state.quota.audit);
        if state.rows.0 != today {
            state.rows = (today, 0);
        }
        let Some(most) = state.quota.rows_per_day else { return Ok(duty) };
        let elsewhere = {
            let noted = self.elsewhere.lock();
            if noted.day == today { noted.rows.get(namespace).copied().unwrap_or(0) } else { 0 }
        };
        let used = state.rows.1.saturating_add(elsewhere);
        if used.saturating_add(rows) > most {
            let left = Duration::from_millis(DAY - now.0 % DAY);
            let what =
                format!("namespace `{namespace}` has {used} of its {most} rows of today, and this asks for {rows}");
            return Err(exceeded(what).retry_after(left));
        }
        state.rows.1 += rows;
        Ok(duty)
    }

    fn today(&self, now: Timestamp) -> Day {
        let today = day(now);
        let known = self.known.lock();
        let counted = known.iter().filter(|(_, state)| state.rows.0 == today && state.rows.1 > 0);
        Day { day: today, rows: counted.map(|(name, state)| (name.clone(), state.rows.1)).collect() }
    }

    fn resume(&self, noted: &Day) {
        for (namespace, state) in self.known.lock().iter_mut() {
            if let Some(rows) = noted.rows.get(namespace).filter(|_| state.rows == (0, 0)) {
                state.rows = (noted.day, *rows);
            }
        }
    }
}

fn burst(quota: &Quota) -> f64 {
    quota.rate.map_or(f64::INFINITY, |rate| rate.per_second().max(1.0))
}

fn exceeded(what: String) -> Refusal {
    Refusal::new(Code::QuotaExceeded, what)
        .hint("send less, or ask a node-wide admin for more: `mantlet namespaces set`")
}

fn stream(gateway: &str) -> String {
    format!("usage.{gateway}")
}

async fn newest(streams: &dyn Streams, stream: &str) -> Result<Option<Day>, Refusal> {
    let entry = store::newest(streams, stream).await?;
    Ok(entry.and_then(|entry| serde_json::from_slice(&entry.data).ok()))
}

/// Takes up what this gateway noted before it was started again; called once quotas are known.
pub async fn resume(ring: &Ring) {
    match newest(&*ring.streams, &stream(&ring.name)).await {
        Ok(Some(noted)) => ring.quotas.resume(&noted),
        Ok(None) => {}
        Err(refusal) => tracing::warn!(%refusal, "rows counted before can't be read"),
    }
}

/// Notes what is counted until `stop` resolves, and once more then.
pub async fn run(ring: Arc<Ring>, stop: impl Future<Output = ()>) {
    let mut stop = std::pin::pin!(stop);
    let mut noted = Day::default();
    loop {
        let stopping = tokio::select! {
            () = tokio::time::sleep(NOTE) => false,
            () = &mut stop => true,
        };
        let counted = ring.quotas.today(ring.clock.now());
        if let Err(refusal) = note(&ring, &counted, &noted).await {
            tracing::warn!(%refusal, "counted rows can't be noted");
        } else {
            noted = counted;
        }
        if stopping {
            return;
        }
    }
}

async fn note(ring: &Ring, counted: &Day, noted: &Day) -> Result<(), Refusal> {
    let own = stream(&ring.name);
    if counted != noted && !counted.rows.is_empty() {
        let entry = serde_json::to_vec(counted).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        ring.streams.append(&own, ring.clock.now(), vec![entry]).await?;
        ring.streams.retain(&own, Retention { not_before: Timestamp(0), bytes: KEEP }).await?;
    }
    let mut elsewhere = Day { day: counted.day, rows: HashMap::new() };
    for other in ring.streams.names(&stream("")).await?.iter().filter(|name| **name != own) {
        if let Some(theirs) = newest(&*ring.streams, other).await?.filter(|theirs| theirs.day == counted.day) {
            for (namespace, rows) in theirs.rows {
                *elsewhere.rows.entry(namespace).or_default() += rows;
            }
        }
    }
    *ring.quotas.elsewhere.lock() = elsewhere;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(quota: Quota) -> (Quotas, Namespace) {
        let (quotas, bank) = (Quotas::default(), "bank".parse::<Namespace>().unwrap());
        quotas.set(bank.clone(), Some(quota));
        (quotas, bank)
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_and_places_hold_over_all_callers() {
        let (quotas, bank) =
            quotas(Quota { rate: Some("2/s".parse().unwrap()), concurrency: Some(1), ..Quota::default() });
        let first = quotas.admit(&bank).unwrap();
        assert_eq!(quotas.admit(&bank).err().unwrap().code, Code::QuotaExceeded, "one in flight");
        drop(first);
        drop(quotas.admit(&bank).unwrap());
        assert!(quotas.admit(&bank).is_err(), "two in a second");
        tokio::time::advance(Duration::from_millis(501)).await;
        assert!(quotas.admit(&bank).is_ok());
        assert!(quotas.admit(&"other".parse().unwrap()).unwrap().is_none(), "no quota, no bounds");
    }

    #[test]
    fn rows_of_a_day_are_counted_over_gateways_and_restarts() {
        let (quotas, bank) = quotas(Quota { rows_per_day: Some(10), ..Quota::default() });
        let noon = Timestamp(DAY * 20_000 + DAY / 2);
        quotas.count(&bank, 6, noon).unwrap();
        let refusal = quotas.count(&bank, 5, noon).unwrap_err();
        assert_eq!((refusal.code, refusal.retry_after_ms), (Code::QuotaExceeded, Some(DAY / 2)));
        *quotas.elsewhere.lock() = Day { day: 20_000, rows: HashMap::from([(bank.clone(), 3)]) };
        assert!(quotas.count(&bank, 2, noon).is_err(), "others have used three");
        quotas.count(&bank, 1, noon).unwrap();
        let noted = quotas.today(noon);
        let (again, _) = self::quotas(Quota { rows_per_day: Some(10), ..Quota::default() });
        again.resume(&noted);
        assert!(again.count(&bank, 4, noon).is_err(), "seven were counted before the restart");
        quotas.count(&bank, 10, Timestamp(noon.0 + DAY)).expect("a new day");
    }
}
