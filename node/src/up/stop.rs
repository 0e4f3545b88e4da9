//! The word that tells parts of a node to end.

use tokio::sync::watch;

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
