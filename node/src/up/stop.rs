//! The word that tells parts of a node to end, and the wait until they have.

use tokio::{sync::watch, task::JoinHandle};

/// Said once, heard by whoever holds a clone, also by those who ask later.
#[derive(Clone)]
pub(super) struct Stop(watch::Sender<bool>);

impl Stop {
    pub(super) fn new() -> Self {
        Self(watch::channel(false).0)
    }

    /// Says it.
    pub(super) fn say(&self) {
        self.0.send_replace(true);
    }

    /// Resolves once it is said.
    pub(super) fn told(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let mut said = self.0.subscribe();
        async move {
            // An error means that nobody is left to say it, which is a stop too.
            let _ = said.wait_for(|said| *said).await;
        }
    }
}

/// A part of a node that runs, and what it is called.
pub(super) type Part = (JoinHandle<()>, &'static str);

/// Waits until all of these have ended.
pub(super) async fn ended(parts: impl IntoIterator<Item = Part>) {
    for (part, what) in parts {
        if let Err(error) = part.await {
            tracing::error!(%error, what, "a part of the node did not end well");
        }
    }
}
