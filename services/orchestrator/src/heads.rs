//! Follows the newest states of streaming versions.

use std::{sync::Arc, time::Duration};

use futures::future::BoxFuture;
use plan::{ModelId, Replica};
use rpc::{Since, registry::Heads};
use types::Refusal;

use crate::Shared;

/// Waits for newer states of streaming versions than one has seen: the registry's [`heads`](rpc::Registry::heads).
pub type AskHeads = Box<dyn Fn(Since) -> BoxFuture<'static, Result<Heads, Refusal>> + Send + Sync>;

/// The wait after the registry did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Notes which state of each streaming version is the newest, as long as it runs.
pub(crate) async fn follow(shared: Arc<Shared>, ask: AskHeads) {
    let mut since = Since::default();
    loop {
        match ask(since).await {
            Ok(heads) => {
                since = heads.since;
                if heads.restart || !heads.changes.is_empty() {
                    note(&shared, heads);
                    shared.changed.notify_one();
                }
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "the newest states of streaming models are not known; they are asked for again");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

fn note(shared: &Shared, heads: Heads) {
    let mut world = shared.world.lock();
    if heads.restart {
        world.heads.clear();
    }
    for change in heads.changes {
        let (namespace, name, version) = change.key;
        let replica = Replica { model: ModelId { namespace, name }, version };
        match change.value {
            Some(snapshot) => world.heads.insert(replica, snapshot.digest),
            None => world.heads.remove(&replica),
        };
    }
}
