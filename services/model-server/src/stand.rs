//! How a replica stands: what came, what is worked on, how quick that is. Told to gateways that ask beside others.

use std::{sync::Arc, time::Duration};

use balance::report::Reporter;
use parking_lot::Mutex;
use rpc::report::{Asked, Report};
use tokio::time::Instant;

/// How long it is remembered that somebody asked. A gateway that is alone knows all of this by itself.
const REMEMBERED: Duration = Duration::from_secs(10);

/// A replica's own count. Locked for some 100 ns an event, and O(requests here).
pub(crate) struct Stand {
    epoch: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reporter: Reporter,
    next: u64,
    /// The one who asked last, and the last one who was another.
    askers: [Option<(u64, Duration)>; 2],
}

impl Default for Stand {
    fn default() -> Self {
        Self { epoch: Instant::now(), state: Mutex::default() }
    }
}

impl Stand {
    /// A request has come; it is here until it is [`done`](Here::done), or dropped.
    pub(crate) fn enter(self: &Arc<Self>, asked: Asked) -> Here {
        let now = self.epoch.elapsed();
        let mut state = self.state.lock();
        let id = state.next;
        state.next += 1;
        state.reporter.came(id, asked.predicted.as_secs_f64(), now);
        state.note(asked.sender, now);
        drop(state);
        Here { mark: Mark { stand: self.clone(), id }, sender: asked.sender, over: false }
    }

    /// How the replica stands, for who asks without a request; nothing where nobody else has sent to it lately.
    pub(crate) fn told(&self, sender: u64) -> Option<Report> {
        let now = self.epoch.elapsed();
        let state = self.state.lock();
        let report = state.others(sender, now).then(|| state.reporter.report(now))?;
        drop(state);
        Some(told(&report, now))
    }
}

impl State {
    fn note(&mut self, sender: u64, now: Duration) {
        if self.askers[0].is_some_and(|(last, _)| last != sender) {
            self.askers[1] = self.askers[0];
        }
        self.askers[0] = Some((sender, now));
    }

    /// Whether somebody else asked lately.
    fn others(&self, sender: u64, now: Duration) -> bool {
        let lately = |asker: &(u64, Duration)| asker.0 != sender && now.saturating_sub(asker.1) <= REMEMBERED;
        self.askers.iter().flatten().any(lately)
    }
}

/// Which request it is, for whoever works on it.
#[derive(Clone)]
pub(crate) struct Mark {
    stand: Arc<Stand>,
    id: u64,
}

impl Mark {
    /// Work on it begins.
    pub(crate) fn began(&self) {
        let now = self.stand.epoch.elapsed();
        self.stand.state.lock().reporter.began(self.id, now);
    }
}

/// A request that is here.
pub(crate) struct Here {
    mark: Mark,
    sender: u64,
    over: bool,
}

impl Here {
    pub(crate) fn mark(&self) -> &Mark {
        &self.mark
    }

    /// It is answered; says how the replica stands without it, where others ask it too.
    pub(crate) fn done(mut self) -> Option<Report> {
        self.over = true;
        let now = self.mark.stand.epoch.elapsed();
        let mut state = self.mark.stand.state.lock();
        state.reporter.done(self.mark.id, now);
        let report = state.others(self.sender, now).then(|| state.reporter.report(now))?;
        drop(state);
        Some(told(&report, now))
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        if !self.over {
            let now = self.mark.stand.epoch.elapsed();
            self.mark.stand.state.lock().reporter.done(self.mark.id, now);
        }
    }
}

/// With lengths in place of moments, since the reader has another clock.
fn told(report: &balance::report::Report, now: Duration) -> Report {
    let time = |seconds: f64| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::ZERO);
    Report {
        in_flight: report.in_flight,
        waiting: time(report.waiting),
        running: time(report.running),
        running_for: time(report.running_for),
        pace: report.pace.log,
        readings: report.pace.weight,
        mean: time(report.pace.seconds),
        age: now.saturating_sub(report.pace.at),
        latency: time(report.latency),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn asked(sender: u64) -> Asked {
        Asked { sender, predicted: 4 * MS }
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_alone_is_told_nothing() {
        let stand = Arc::new(Stand::default());
        let (first, second) = (stand.enter(asked(1)), stand.enter(asked(1)));
        first.mark().began();
        tokio::time::advance(8 * MS).await;
        assert_eq!(first.done(), None);
        drop(second);
        assert_eq!(stand.state.lock().reporter.report(stand.epoch.elapsed()).in_flight, 0, "dropped is done");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_without_a_request_hears_of_others_and_counts_as_nobody() {
        let stand = Arc::new(Stand::default());
        assert_eq!(stand.told(1), None, "nobody sends");
        let theirs = stand.enter(asked(2));
        assert_eq!(stand.told(2), None, "it knows of its own");
        assert_eq!(stand.told(1).map(|report| (report.in_flight, report.waiting)), Some((1, 4 * MS)));
        assert_eq!(theirs.done(), None, "who only asks sends nothing");
        assert_eq!(stand.told(1).map(|report| report.in_flight), Some(0));
        tokio::time::advance(REMEMBERED + MS).await;
        assert_eq!(stand.told(1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_beside_others_is_told_how_it_stands() {
        let stand = Arc::new(Stand::default());
        let (ours, theirs, late) = (stand.enter(asked(1)), stand.enter(asked(2)), stand.enter(asked(2)));
        ours.mark().began();
        tokio::time::advance(8 * MS).await;
        theirs.mark().began();
        tokio::time::advance(2 * MS).await;
        let report = ours.done().unwrap();
        assert_eq!((report.in_flight, report.waiting, report.running, report.running_for), (2, 4 * MS, 4 * MS, 2 * MS));
        assert!((report.pace - 2.5_f64.ln()).abs() < 1e-6 && report.age.is_zero(), "{report:?}");
        // Long after the other has gone it is as if it had never been.
        tokio::time::advance(REMEMBERED + MS).await;
        assert_eq!(late.done().map(|report| report.in_flight), None);
        let again = stand.enter(asked(1));
        assert_eq!(again.done(), None);
    }
}
