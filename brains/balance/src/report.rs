//! What a replica says of itself: with each answer, and when it is asked.
//!
//! A gateway knows what it has in flight itself. What others have there, and how quick the replica is, only the replica
//! knows: [`Reporter`] is its part, [`Report`] is what goes into a response header.

use std::{collections::VecDeque, time::Duration};

use crate::pace::Pace;

/// Requests in flight whose latencies are kept apart.
const LEVELS: usize = 16;
/// What a new latency counts for.
const FRESH: f64 = 0.25;
/// Requests in flight that are kept one by one; more are only counted.
const MOST: usize = 4_096;

/// How a replica stands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Report {
    /// Requests here.
    pub in_flight: u32,
    /// Predicted work of those that wait, in seconds on a usual replica.
    pub waiting: f64,
    /// Predicted work of the one that has been worked on longest.
    pub running: f64,
    /// For how long, in seconds.
    pub running_for: f64,
    /// How long work takes here, beside what was predicted.
    pub pace: Pace,
    /// Latency at about as many requests in flight, in seconds; 0 as long as nothing is known.
    pub latency: f64,
}

/// A request that is here.
#[derive(Debug, Clone, Copy)]
struct Here {
    id: u64,
    came: Duration,
    predicted: f64,
    in_flight: u32,
    began: Option<Duration>,
}

/// Counts in the replica what [`Report`] tells. O(requests in flight) an event, at most 4,096 of them; no allocation once
/// it has grown.
#[derive(Debug, Clone, Default)]
pub struct Reporter {
    here: VecDeque<Here>,
    beyond: u32,
    latencies: [f64; LEVELS],
    pace: Pace,
}

impl Reporter {
    /// A request has come, with its predicted work.
    pub fn came(&mut self, id: u64, predicted: f64, now: Duration) {
        if self.here.len() >= MOST {
            self.beyond += 1;
            return;
        }
        let in_flight = self.here.len() as u32;
        let predicted = if predicted.is_finite() { predicted.max(0.0) } else { 0.0 };
        self.here.push_back(Here { id, came: now, predicted, in_flight, began: None });
    }

    /// Work on it has begun.
    pub fn began(&mut self, id: u64, now: Duration) {
        if let Some(here) = self.here.iter_mut().find(|here| here.id == id) {
            here.began = Some(now);
        }
    }

    /// It is done, or was given up; how long was worked on it.
    pub fn done(&mut self, id: u64, now: Duration) -> Option<Duration> {
        let Some(place) = self.here.iter().position(|here| here.id == id) else {
            self.beyond = self.beyond.saturating_sub(1);
            return None;
        };
        let here = self.here.remove(place)?;
        let latency = now.saturating_sub(here.came).as_secs_f64();
        let level = (here.in_flight as usize).min(LEVELS - 1);
        let known = &mut self.latencies[level];
        *known = if *known == 0.0 { latency } else { *known + FRESH * (latency - *known) };
        let compute = now.saturating_sub(here.began?);
        self.pace.observe(compute.as_secs_f64(), here.predicted, now);
        Some(compute)
    }

    /// How it stands now.
    pub fn report(&self, now: Duration) -> Report {
        let in_flight = self.here.len() as u32 + self.beyond;
        let waits = self.here.iter().filter(|here| here.began.is_none());
        let oldest = self.here.iter().filter(|here| here.began.is_some()).min_by_key(|here| here.began);
        let running_for = oldest.and_then(|here| here.began).map_or(0.0, |at| now.saturating_sub(at).as_secs_f64());
        Report {
            in_flight,
            waiting: waits.map(|here| here.predicted).sum(),
            running: oldest.map_or(0.0, |here| here.predicted),
            running_for,
            pace: self.pace,
            latency: self.latency(in_flight as usize),
        }
    }

    /// The latency at as many in flight, or at the nearest number of which one is known.
    fn latency(&self, in_flight: usize) -> f64 {
        let level = in_flight.min(LEVELS - 1);
        let known = (0..LEVELS).filter(|other| self.latencies[*other] > 0.0);
        known.min_by_key(|other| other.abs_diff(level)).map_or(0.0, |other| self.latencies[other])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn it_says_what_waits_and_what_runs() {
        let mut reporter = Reporter::default();
        assert_eq!(reporter.report(ms(0)), Report::default());
        [(1, 0.5), (2, 0.25), (3, 2.0)].into_iter().for_each(|(id, work)| reporter.came(id, work, ms(0)));
        reporter.began(1, ms(100));
        let report = reporter.report(ms(300));
        assert_eq!((report.in_flight, report.waiting, report.running), (3, 2.25, 0.5));
        assert!((report.running_for - 0.2).abs() < 1e-9);
        assert_eq!(reporter.done(1, ms(600)), Some(ms(500)));
        assert_eq!(reporter.done(1, ms(600)), None);
        let report = reporter.report(ms(600));
        assert_eq!((report.in_flight, report.running, report.pace.log), (2, 0.0, 0.0));
        assert!((report.latency - 0.6).abs() < 1e-9);
    }

    #[test]
    fn what_is_in_flight_is_bounded_and_counted() {
        let mut reporter = Reporter::default();
        (0..5_000).for_each(|id| reporter.came(id, f64::NAN, ms(0)));
        let report = reporter.report(ms(1));
        assert_eq!((report.in_flight, report.waiting), (5_000, 0.0));
        (0..5_000).for_each(|id| assert_eq!(reporter.done(id, ms(2)), None));
        assert_eq!(reporter.report(ms(3)).in_flight, 0);
    }
}
