//! The machine's gate: lets requests in, holds them, or refuses them, as `balance::Gate` says.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ::balance::gate::{Ask, Entry, Gate, Priority, Served, Ticket, Verdict, Verdicts};
use parking_lot::Mutex;
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::{Instant, timeout_at},
};
use types::{Code, Refusal};

/// Numbers of a namespace and of a model in it, this gateway's own.
pub(crate) type Place = (u64, u64);

/// Who waits for a verdict, by ticket.
type Waiting = HashMap<u64, oneshot::Sender<Verdict>>;

/// The gate with those that wait before it.
pub(crate) struct Admission {
    epoch: Instant,
    state: Mutex<(Gate<u64, Place>, Waiting)>,
}

/// A place in flight; given back when dropped.
pub(crate) struct Pass {
    admission: Arc<Admission>,
    ticket: Ticket<u64, Place>,
    served: Option<Served>,
}

impl Pass {
    /// Says how it went.
    pub(crate) fn served(mut self, served: Served) {
        self.served = Some(served);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let now = self.admission.since(Instant::now());
        let (gate, waiting) = &mut *self.admission.state.lock();
        tell(waiting, gate.leave(&self.ticket, self.served, now));
    }
}

/// A place in the queue; given up when dropped.
struct Queued<'a> {
    admission: &'a Arc<Admission>,
    ticket: Option<Ticket<u64, Place>>,
    told: oneshot::Receiver<Verdict>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let now = self.admission.since(Instant::now());
        let (gate, waiting) = &mut *self.admission.state.lock();
        let verdicts = match self.told.try_recv() {
            // It was let in, and nobody was there to hear it.
            Ok(Verdict::Admitted) => gate.leave(&ticket, None, now),
            Ok(Verdict::Shed(_)) | Err(TryRecvError::Closed) => return,
            Err(TryRecvError::Empty) => {
                waiting.remove(&ticket.id);
                gate.cancel(&ticket, now)
            }
        };
        tell(waiting, verdicts);
    }
}

impl Admission {
    pub(crate) fn new() -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self { epoch: Instant::now(), state: Mutex::new((Gate::new(cores), HashMap::new())) })
    }

    fn since(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    /// Refuses what can't be answered in time, before anything of it is read.
    ///
    /// # Errors
    /// `overloaded`, with how long to wait.
    pub(crate) fn peek(&self, (namespace, model): Place, priority: Priority, deadline: Instant) -> Result<(), Refusal> {
        let now = Instant::now();
        let (gate, _) = &*self.state.lock();
        let outcome = gate.peek(&namespace, &(namespace, model), priority, self.since(deadline), self.since(now));
        outcome.map_err(overloaded)
    }

    /// Lets a request of so many rows in, or holds it until there is room.
    ///
    /// # Errors
    /// `overloaded` when it can't be answered in time.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        (namespace, model): Place,
        rows: u64,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Pass, Refusal> {
        let model = (namespace, model);
        let ask = Ask { namespace, model, rows, priority, deadline: self.since(deadline) };
        let (ticket, told) = {
            let (gate, waiting) = &mut *self.state.lock();
            let now = self.since(Instant::now());
            let (entry, verdicts) = gate.enter(ask, now);
            let entered = match entry {
                Entry::Admitted(ticket) => (ticket, None),
                Entry::Waiting(ticket) => {
                    let (tell, told) = oneshot::channel();
                    waiting.insert(ticket.id, tell);
                    (ticket, Some(told))
                }
                Entry::Shed(wait) => return Err(overloaded(wait)),
            };
            tell(waiting, verdicts);
            entered
        };
        let Some(told) = told else { return Ok(Pass { admission: self.clone(), ticket, served: None }) };
        let mut queued = Queued { admission: self, ticket: Some(ticket), told };
        match timeout_at(deadline, &mut queued.told).await {
            Ok(Ok(Verdict::Admitted)) => match queued.ticket.take() {
                Some(ticket) => Ok(Pass { admission: self.clone(), ticket, served: None }),
                None => Err(Refusal::new(Code::Internal, "a place in the queue was given up and used")),
            },
            Ok(Ok(Verdict::Shed(wait))) => {
                queued.ticket = None;
                Err(overloaded(wait))
            }
            // The gate lives as long as the ring: what is left is the deadline.
            Ok(Err(_)) | Err(_) => Err(overloaded(Duration::from_secs(1))),
        }
    }

    /// Whether requests wait for the machine.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.state.lock().0.waiting() > 0
    }

    /// Requests of a model in flight, and those that wait.
    pub(crate) fn load(&self, place: Place) -> (u32, u32) {
        self.state.lock().0.load(&place)
    }

    /// Forgets a model that is gone.
    pub(crate) fn forget(&self, place: Place) {
        self.state.lock().0.forget(&place);
    }
}

/// Hands verdicts to those who wait.
fn tell(waiting: &mut Waiting, verdicts: Verdicts) {
    for (id, verdict) in verdicts {
        if let Some(tell) = waiting.remove(&id) {
            // Whoever goes away looks for its verdict first.
            let _ = tell.send(verdict);
        }
    }
}

fn overloaded(wait: Duration) -> Refusal {
    Refusal::new(Code::Overloaded, "more is asked for than can be answered in time")
        .hint("send less, give more time, or raise spec.scale.max")
        .retry_after(Duration::from_secs(wait.as_secs() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = (0, 1);

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Takes every place that the model has.
    async fn fill(admission: &Arc<Admission>) -> Vec<Pass> {
        let mut passes = vec![admission.enter(PLACE, 1, Priority::Normal, soon()).await.unwrap()];
        let (limit, _) = admission.state.lock().0.model(&PLACE).unwrap();
        // Cost is not known yet, and supposed to be 1 ms: room for 20 a core at the most.
        for _ in 1..limit {
            match tokio::time::timeout(Duration::ZERO, admission.enter(PLACE, 1, Priority::Normal, soon())).await {
                Ok(pass) => passes.push(pass.unwrap()),
                Err(_) => break,
            }
        }
        passes
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_back_goes_to_who_waits() {
        let admission = Admission::new();
        let mut passes = fill(&admission).await;
        let waits = tokio::spawn({
            let admission = admission.clone();
            async move { admission.enter(PLACE, 1, Priority::Normal, soon()).await.is_ok() }
        });
        while admission.state.lock().0.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!waits.is_finished());
        passes.pop();
        assert!(waits.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_nothing_behind() {
        let admission = Admission::new();
        let mut passes = fill(&admission).await;
        let mut waits = Box::pin(admission.enter(PLACE, 1, Priority::Normal, soon()));
        assert!(futures::poll!(&mut waits).is_pending());
        assert_eq!(admission.state.lock().0.waiting(), 1);
        drop(waits);
        assert_eq!(admission.state.lock().0.waiting(), 0);
        // Gone after it was let in, and before it heard of it.
        let mut waits = Box::pin(admission.enter(PLACE, 1, Priority::Normal, soon()));
        assert!(futures::poll!(&mut waits).is_pending());
        passes.pop();
        drop(waits);
        let inside = u32::try_from(passes.len()).unwrap();
        assert_eq!(admission.state.lock().0.model(&PLACE).unwrap().1, inside);
        drop(passes);
        let (gate, waiting) = &*admission.state.lock();
        assert_eq!((gate.model(&PLACE).unwrap().1, gate.waiting(), waiting.len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_can_t_be_answered_in_time_hears_so_with_a_time() {
        let admission = Admission::new();
        let pass = admission.enter(PLACE, 1, Priority::Normal, soon()).await.unwrap();
        let took = Duration::from_secs(2);
        pass.served(Served { latency: took, compute: took, queued: None, batch: 1, cost: took });
        let passes = fill(&admission).await;
        let refusal =
            admission.enter(PLACE, 1, Priority::Normal, Instant::now() + Duration::from_secs(1)).await.err().unwrap();
        assert_eq!(refusal.code, Code::Overloaded);
        assert!(refusal.retry_after_ms.is_some());
        assert!(admission.peek(PLACE, Priority::Normal, Instant::now() + Duration::from_secs(1)).is_err());
        assert!(admission.peek(PLACE, Priority::Normal, soon()).is_ok());
        drop(passes);
    }
}
