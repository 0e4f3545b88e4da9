//! Follows the registry's policies and credentials, the sentinel's restrictions and the orchestrator's routes: a change is here within a moment.

use std::{collections::HashSet, hash::Hash, sync::Arc, time::Duration};

use rpc::{Changes, Since, registry::Used};
use types::Refusal;

use crate::{
    Ring,
    pipeline::balance::{probe, turns::Turns},
};

/// How long to wait after a follower's call failed.
const AGAIN: Duration = Duration::from_millis(200);
/// How often it is told which tokens were used.
const TELL: Duration = Duration::from_secs(5);
/// How often it is looked which rule chooses replicas.
const LOOK: Duration = Duration::from_secs(1);

/// Follows until `stop` resolves. `ready` is told once both were read for the first time.
pub async fn run(ring: Arc<Ring>, ready: tokio::sync::oneshot::Sender<()>, stop: impl Future<Output = ()>) {
    let follow = async {
        let (mut people, mut rules, mut bounds, mut routes, mut held) =
            (Since::default(), Since::default(), Since::default(), Since::default(), Since::default());
        // Policies first: nobody is let in under others than those in force.
        for outcome in [
            policies(&ring, &mut rules).await,
            quotas(&ring, &mut bounds).await,
            restrictions(&ring, &mut held).await,
            credentials(&ring, &mut people).await,
            self::routes(&ring, &mut routes).await,
        ] {
            if let Err(refusal) = outcome {
                tracing::warn!(%refusal, "policies, quotas, restrictions, credentials or routes can't be read yet");
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
        let held = async {
            loop {
                pause(restrictions(&ring, &mut held).await).await;
            }
        };
        let uses = async {
            loop {
                tokio::time::sleep(TELL).await;
                pause(tell_uses(&ring).await).await;
            }
        };
        let turns = async {
            let mut turns = Turns::default();
            loop {
                tokio::time::sleep(LOOK).await;
                pause(turns.tell(&ring).await).await;
            }
        };
        tokio::join!(people, rules, bounds, routes, held, uses, turns, probe::run(&ring))
    };
    tokio::select! {
        ((), (), (), (), (), (), (), ()) = follow => {}
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
    *since = changes.since;
    for (key, value) in whole(changes, || ring.identifier.known()) {
        match value {
            Some(record) => ring.identifier.insert(record),
            None => ring.identifier.remove(&key),
        }
    }
    ring.note_change();
    Ok(())
}

async fn policies(ring: &Ring, since: &mut Since) -> Result<(), Refusal> {
    let changes = ring.registry.policies(*since).await?;
    *since = changes.since;
    for (namespace, text) in whole(changes, || ring.policed()) {
        ring.set_policy(namespace, text);
    }
    ring.note_change();
    Ok(())
}

async fn quotas(ring: &Ring, since: &mut Since) -> Result<(), Refusal> {
    let changes = ring.registry.quotas(*since).await?;
    *since = changes.since;
    let known = || ring.quotas.list().into_iter().map(|(namespace, _)| namespace).collect();
    for (namespace, quota) in whole(changes, known) {
        ring.quotas.set(namespace, quota);
    }
    ring.note_change();
    Ok(())
}

async fn restrictions(ring: &Ring, since: &mut Since) -> Result<(), Refusal> {
    let changes = ring.sentinel.restrictions(*since).await?;
    *since = changes.since;
    for (id, restriction) in whole(changes, || ring.restrictions.ids()) {
        let subject = restriction.as_ref().map(|restriction| restriction.subject.clone());
        ring.restrictions.set(id, restriction);
        if let Some(subject) = subject {
            ring.sense.pauses().end(&subject);
        }
    }
    ring.note_change();
    Ok(())
}

async fn routes(ring: &Ring, since: &mut Since) -> Result<(), Refusal> {
    let changes = ring.orchestrator.routes(*since).await?;
    *since = changes.since;
    for (key, route) in whole(changes, || ring.routed()) {
        ring.set_route(key, route);
    }
    Ok(())
}

/// What changed. A source that started over has said all it knows: what it did not name is gone, and comes last, so that
/// whatever stays is never away, not even for a moment.
fn whole<K: Clone + Eq + Hash, V>(
    changes: Changes<K, V>,
    known: impl FnOnce() -> Vec<K>,
) -> impl Iterator<Item = (K, Option<V>)> {
    let mut gone = if changes.restart { known() } else { Vec::new() };
    if !gone.is_empty() {
        let named: HashSet<&K> = changes.changes.iter().map(|change| &change.key).collect();
        gone.retain(|key| !named.contains(key));
    }
    let changed = changes.changes.into_iter().map(|change| (change.key, change.value));
    changed.chain(gone.into_iter().map(|key| (key, None)))
}

#[cfg(test)]
mod tests {
    use rpc::feed::Change;

    use super::*;

    fn changes(restart: bool) -> Changes<&'static str, u8> {
        let change = |key, value| Change { key, value };
        let changes = vec![change("a", Some(1)), change("b", None)];
        Changes { restart, changes, since: Since::default() }
    }

    #[test]
    fn a_source_that_started_over_takes_back_what_it_does_not_name() {
        let known = || vec!["a", "b", "c"];
        let all: Vec<_> = whole(changes(true), known).collect();
        assert_eq!(all, [("a", Some(1)), ("b", None), ("c", None)]);
        let some: Vec<_> = whole(changes(false), known).collect();
        assert_eq!(some, [("a", Some(1)), ("b", None)]);
    }
}
