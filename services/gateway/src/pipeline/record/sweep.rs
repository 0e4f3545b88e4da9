//! The task that lets old events go: by age and bytes of the whole stream, and sooner where a model says so.

use std::time::Duration;

use store::{Entry, Retention};
use tokio::{sync::mpsc, time::sleep};
use types::{
    Refusal, Timestamp,
    event::{Prediction, feedback},
};

use super::{
    millis,
    seal::{batches, predictions},
    writer::{self, Stores},
};
use crate::history;

/// How often what is too old for the whole stream goes.
const SWEEP: Duration = Duration::from_secs(60);
/// Every how many sweeps what its model wants to go sooner is looked for.
const EACH: u64 = 30;

/// Sweeps until the recorder is gone.
pub(super) async fn run(stores: Stores, recorder: mpsc::WeakSender<writer::Entry>) {
    for round in 0.. {
        if let Err(refusal) = sweep(&stores, round % EACH == 0).await {
            tracing::warn!(%refusal, "old events could not be dropped");
        }
        sleep(SWEEP).await;
        if recorder.upgrade().is_none() {
            return;
        }
    }
}

async fn sweep(stores: &Stores, each: bool) -> Result<(), Refusal> {
    let (age, bytes) = stores.keep;
    let not_before = Timestamp(stores.clock.steady().0.saturating_sub(millis(age)));
    for stream in [predictions(&stores.gateway), batches(&stores.gateway), feedback(&stores.gateway)] {
        stores.streams.retain(&stream, Retention { not_before, bytes }).await?;
    }
    if each { erase(stores).await } else { Ok(()) }
}

/// Erases what has outlived its model's own time.
async fn erase(stores: &Stores) -> Result<(), Refusal> {
    let now = stores.clock.steady();
    let over = |entry: &Entry, prediction: &Prediction| {
        prediction.keep.is_some_and(|keep| entry.at.plus(Duration::from_millis(keep)) <= now)
    };
    let erased = history::erase(&*stores.streams, &predictions(&stores.gateway), over).await?;
    history::erase_labels(&*stores.streams, &erased.into_iter().collect()).await
}
