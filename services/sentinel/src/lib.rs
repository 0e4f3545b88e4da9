//! The sentinel: agents look at what gateways see, an arbiter decides, and what is decided is written down.
//!
//! Reports come in at the [door](Sentinel); [`Work`] hands them to the [`team`] of agents, each in a thread of its own, and what they
//! read to the arbiter (`defend::Arbiter`). What that decides becomes part of an incident in the [`book`]: kept with its ledger record in one
//! transaction, and told to gateways, which follow what is in force. A gateway knows when a restriction ends, so one holds, and
//! ends, also while nobody is here. Somebody outside may be told of incidents, too ([`news`]).
//!
//! Does not know about: HTTP, requests, how a gateway carries out what is in force.

mod book;
mod news;
mod team;
#[cfg(test)]
mod tests;
mod work;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use defend::{Seat, arbiter};
use rpc::{
    Changes, Clock, Feed, Since,
    sentinel::{AgentState, IncidentsOf, Report, Restrict, Said, Settled},
};
use store::Catalog;
use tokio::sync::{mpsc, oneshot};
use types::{
    Code, Namespace, Refusal,
    defence::{Incident, Restriction},
};

use book::Book;
pub use news::Webhook;
pub use work::Work;

/// Reports that wait, at most; what is more is dropped.
const REPORTS: usize = 256;
/// People's words that wait, at most.
const WORDS: usize = 64;

/// What a sentinel is made of.
pub struct Parts {
    /// Where incidents are kept.
    pub catalog: Arc<dyn Catalog>,
    /// The clock.
    pub clock: Clock,
    /// How it is decided.
    pub arbiter: arbiter::Settings,
    /// Alarms per subject and window that all agents of a namespace share.
    pub budget: f64,
    /// How long a window is.
    pub window: Duration,
    /// Who is told of incidents, if anybody is.
    pub webhook: Option<Webhook>,
    /// The agents: `defend::agents()`.
    pub agents: Vec<Seat>,
}

/// The sentinel's door.
pub struct Sentinel {
    reports: mpsc::Sender<Report>,
    words: mpsc::Sender<Asked>,
    book: Arc<Book>,
    feed: Arc<Feed<String, Restriction>>,
}

/// What a person asks for, and who waits for the answer.
enum Asked {
    Say(Said, oneshot::Sender<Result<Settled, Refusal>>),
    Restrict(Restrict, oneshot::Sender<Result<Settled, Refusal>>),
    Agents(Option<Namespace>, oneshot::Sender<Vec<AgentState>>),
}

impl Sentinel {
    /// Goes on with what is kept, and returns the loop to run.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn open(parts: Parts) -> Result<(Self, Work), Refusal> {
        let book = Arc::new(Book::open(&*parts.catalog).await?);
        let feed = Arc::new(Feed::new());
        let (reports, reported) = mpsc::channel(REPORTS);
        let (words, said) = mpsc::channel(WORDS);
        let work = Work::open(parts, book.clone(), feed.clone(), (reported, said)).await?;
        Ok((Self { reports, words, book, feed }, work))
    }

    async fn ask<T>(&self, asked: impl FnOnce(oneshot::Sender<T>) -> Asked) -> Result<T, Refusal> {
        let gone = || Refusal::new(Code::ReplicaLost, "the sentinel is stopping");
        let (answer, answered) = oneshot::channel();
        self.words.send(asked(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

#[async_trait]
impl rpc::Sentinel for Sentinel {
    async fn report(&self, report: Report) -> Result<(), Refusal> {
        if self.reports.try_send(report).is_err() {
            metrics::counter!("mantlet_sentinel_reports_dropped_total").increment(1);
        }
        Ok(())
    }

    async fn restrictions(&self, since: Since) -> Result<Changes<String, Restriction>, Refusal> {
        Ok(self.feed.wait(since).await)
    }

    async fn incidents(&self, of: IncidentsOf) -> Result<Vec<Incident>, Refusal> {
        let found = self.book.list(&of);
        match (&of.id, found.is_empty()) {
            (Some(id), true) => Err(book::unknown(id)),
            _ => Ok(found),
        }
    }

    async fn say(&self, said: Said) -> Result<Settled, Refusal> {
        self.ask(|answer| Asked::Say(said, answer)).await?
    }

    async fn restrict(&self, restrict: Restrict) -> Result<Settled, Refusal> {
        self.ask(|answer| Asked::Restrict(restrict, answer)).await?
    }

    async fn agents(&self, namespace: Option<Namespace>) -> Result<Vec<AgentState>, Refusal> {
        self.ask(|answer| Asked::Agents(namespace, answer)).await
    }
}
