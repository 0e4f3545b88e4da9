//! Follows the registry's credentials and the orchestrator's routes: a change is here within a moment.

use std::{sync::Arc, time::Duration};

use rpc::Since;
use types::Refusal;

use crate::Ring;

/// How long to wait after a follower's call failed.
const AGAIN: Duration = Duration::from_millis(200);

/// Follows until `stop` resolves. `ready` is told once both were read for the first time.
pub async fn run(ring: Arc<Ring>, ready: tokio::sync::oneshot::Sender<()>, stop: impl Future<Output = ()>) {
    let follow = async {
        let (mut people, mut routes) = (Since::default(), Since::default());
        let first = async {
            credentials(&ring, &mut people).await?;
            self::routes(&ring, &mut routes).await
        };
        if let Err(refusal) = first.await {
            tracing::warn!(%refusal, "credentials and routes can't be read yet");
        }
        // Whoever waited may be gone: then nobody needs to know.
        let _ = ready.send(());
        tokio::join!(
            forever(async || credentials(&ring, &mut people).await),
            forever(async || self::routes(&ring, &mut routes).await),
        );
    };
    tokio::select! {
        () = follow => {}
        () = stop => {}
    }
}

async fn forever(mut step: impl AsyncFnMut() -> Result<(), Refusal>) {
    loop {
        if let Err(refusal) = step().await {
            tracing::warn!(%refusal, "a follower lost its source; it tries again");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

async fn credentials(ring: &Ring, since: &mut Since) -> Result<(), Refusal> {
    let changes = ring.registry.credentials(*since).await?;
    if changes.restart {
        ring.identifier.clear();
    }
    for change in changes.changes {
        match change.value {
            Some(record) => ring.identifier.insert(record),
            None => ring.identifier.remove(&change.key),
        }
    }
    *since = changes.since;
    Ok(())
}

async fn routes(ring: &Ring, since: &mut Since) -> Result<(), Refusal> {
    let changes = ring.orchestrator.routes(*since).await?;
    if changes.restart {
        ring.clear_routes();
    }
    for change in changes.changes {
        ring.set_route(change.key, change.value);
    }
    *since = changes.since;
    Ok(())
}
