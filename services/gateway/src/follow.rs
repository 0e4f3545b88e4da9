//! Follows the registry's policies and credentials and the orchestrator's routes: a change is here within a moment.

use std::{sync::Arc, time::Duration};

use rpc::{Since, registry::Used};
use types::Refusal;

use crate::Ring;

/// How long to wait after a follower's call failed.
const AGAIN: Duration = Duration::from_millis(200);
/// How often it is told which tokens were used.
const TELL: Duration = Duration::from_secs(5);

/// Follows until `stop` resolves. `ready` is told once both were read for the first time.
pub async fn run(ring: Arc<Ring>, ready: tokio::sync::oneshot::Sender<()>, stop: impl Future<Output = ()>) {
    let follow = async {
        let (mut people, mut rules, mut bounds, mut routes) =
            (Since::default(), Since::default(), Since::default(), Since::default());
        // Policies first: nobody is let in under others than those in force.
        for outcome in [
            policies(&ring, &mut rules).await,
            quotas(&ring, &mut bounds).await,
            credentials(&ring, &mut people).await,
            self::routes(&ring, &mut routes).await,
        ] {
            if let Err(refusal) = outcome {
                tracing::warn!(%refusal, "policies, quotas, credentials or routes can't be read yet");
            }
        }
        // Whoever waited may be gone: then nobody needs to know.
        let _ = ready.send(());
        let people = async {
            loop {
                pause(credentials(&ring, &mut people).await).await;
            }
        };
        let rules = async {
            loop {
                pause(policies(&ring, &mut rules).await).await;
            }
        };
        let bounds = async {
            loop {
                pause(quotas(&ring, &mut bounds).await).await;
            }
        };
        let routes = async {
            loop {
                pause(self::routes(&ring, &mut routes).await).await;
            }
        };
        let uses = async {
            loop {
                tokio::time::sleep(TELL).await;
                pause(tell_uses(&ring).await).await;
            }
        };
        tokio::join!(people, rules, bounds, routes, uses)
    };
    tokio::select! {
        ((), (), (), (), ()) = follow => {}
        () = stop => {}
    }
}

/// After a failed call, a moment's rest.
async fn pause(outcome: Result<(), Refusal>) {
    if let Err(refusal) = outcome {
        tracing::warn!(%refusal, "a follower lost its source; it tries again");
        tokio::time::sleep(AGAIN).await;
    }
}

/// Tells the registry which tokens were used, so that those nobody uses can be seen.
async fn tell_uses(ring: &Ring) -> Result<(), Refusal> {
    let used = ring.identifier.used();
    if used.is_empty() {
        return Ok(());
    }
    let used = used.into_iter().map(|(token, at)| Used { token: token.to_string(), at }).collect();
    ring.registry.note_use(used).await
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
    ring.note_change();
    *since = changes.since;
    Ok(())
}

async fn policies(ring: &Ring, since: &mut Since) -> Result<(), Refusal> {
    let changes = ring.registry.policies(*since).await?;
    if changes.restart {
        ring.clear_policies();
    }
    for change in changes.changes {
        ring.set_policy(change.key, change.value);
    }
    ring.note_change();
    *since = changes.since;
    Ok(())
}

async fn quotas(ring: &Ring, since: &mut Since) -> Result<(), Refusal> {
    let changes = ring.registry.quotas(*since).await?;
    let mut gone: Vec<_> = if changes.restart { ring.quotas.list() } else { Vec::new() };
    for change in changes.changes {
        gone.retain(|(namespace, _)| *namespace != change.key);
        ring.quotas.set(change.key, change.value);
    }
    // A source that started over has said all it knows; what it did not name is gone.
    for (namespace, _) in gone {
        ring.quotas.set(namespace, None);
    }
    ring.note_change();
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
