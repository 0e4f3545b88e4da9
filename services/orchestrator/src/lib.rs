//! Carries out plans: starts, probes, restarts and drains model servers.
//!
//! Wishes come in by [`rpc::Orchestrator::submit`] and are kept in the catalog. One loop ([`Executor`]) plans
//! from what is wanted and what is there, journals each step, and carries it out; a task per model server
//! ([`server`]) owns its process and reports what happens to it. [`backend::Backend`] starts processes; the
//! embedded form is [`local`].
//!
//! Does not know about: callers, payloads, how a bundle is made.

pub mod backend;
mod executor;
mod journal;
pub mod local;
mod server;
mod world;

use std::sync::Arc;

use async_trait::async_trait;
use ledger::Record;
use parking_lot::Mutex;
use rpc::{
    Clock, Feed, Since,
    orchestrator::{Desired, ModelKey, ModelRoute, Routes, Status, StatusOf, Submit, Submitted},
    registry::Receipt,
};
use store::{Catalog, Collection, Expect, Write, read_all};
use tokio::sync::Notify;
use types::{Code, Refusal};

pub use executor::Executor;
use world::{Current, World};

/// The orchestrator's door: wishes in, routes and status out.
pub struct Orchestrator {
    shared: Arc<Shared>,
}

/// What the door and the loop share.
struct Shared {
    catalog: Arc<dyn Catalog>,
    clock: Clock,
    world: Mutex<World>,
    routes: Feed<ModelKey, ModelRoute>,
    changed: Notify,
}

/// Keys of wishes and of what answers, in the catalog.
const WISH: &str = "wish/";
const CURRENT: &str = "current/";

fn key(prefix: &str, (namespace, model): (&types::Namespace, &types::ModelName)) -> String {
    format!("{prefix}{namespace}/{model}")
}

impl Orchestrator {
    /// Opens the orchestrator and its loop: wishes and what answered last come from the catalog; steps that an
    /// earlier process left open are closed, since its model servers went with it.
    ///
    /// # Errors
    /// When the catalog can't be read.
    pub async fn open(
        catalog: Arc<dyn Catalog>,
        clock: Clock,
        backend: Arc<dyn backend::Backend>,
    ) -> Result<(Self, Executor), Refusal> {
        let mut world = World::default();
        for document in read_all(&*catalog, Collection::Desired, WISH).await? {
            world.wish(document.read::<Desired>()?, document.generation);
        }
        for document in read_all(&*catalog, Collection::Desired, CURRENT).await? {
            let current: Current = document.read()?;
            world.current.insert(current.model.clone(), current);
        }
        let journal = journal::Journal::open(catalog.clone()).await?;
        let shared =
            Arc::new(Shared { catalog, clock, world: Mutex::new(world), routes: Feed::new(), changed: Notify::new() });
        shared.publish();
        let executor = Executor::new(shared.clone(), journal, backend);
        Ok((Self { shared }, executor))
    }
}

impl Shared {
    /// Publishes the routes as the world is now.
    fn publish(&self) {
        let world = self.world.lock();
        for (key, route) in world.routes() {
            self.routes.set(key, route);
        }
    }
}

#[async_trait]
impl rpc::Orchestrator for Orchestrator {
    async fn submit(&self, request: Submit) -> Result<Submitted, Refusal> {
        let Submit { desired, namespace, model, actor, expect, action } = request;
        let key = key(WISH, (&namespace, &model));
        let expect = expect.map_or(Expect::Any, Expect::Generation);
        let write = match &desired {
            Some(desired) => Write::put(Collection::Desired, &key, expect, desired)?,
            None => Write::remove(Collection::Desired, &key, expect),
        };
        let record = Record {
            v: 1,
            at: self.shared.clock.now().0,
            action,
            namespace: Some(namespace.to_string()),
            actor,
            subject: format!("model:{namespace}/{model}"),
            detail: desired.as_ref().map_or(serde_json::Value::Null, |desired| {
                serde_json::json!({ "version": desired.version, "digest": desired.digest, "reason": desired.reason })
            }),
        };
        let committed = self.shared.catalog.commit(vec![write], vec![record.to_line()]).await;
        let committed = committed.map_err(|error| match error {
            store::Error::Conflict { .. } => {
                Refusal::new(Code::Conflict, format!("somebody else changed what is wanted of `{model}` first"))
                    .hint("look at `mantlet models`, then decide again")
            }
            error => error.into(),
        })?;
        let generation = committed.generations.first().copied().unwrap_or(0);
        {
            let mut world = self.shared.world.lock();
            match desired {
                Some(desired) => world.wish(desired, generation),
                None => world.unwish(&namespace, &model),
            }
        }
        self.shared.publish();
        self.shared.changed.notify_one();
        Ok(Submitted { generation, receipt: Receipt(committed.outbox.unwrap_or(0)) })
    }

    async fn status(&self, request: StatusOf) -> Result<Vec<Status>, Refusal> {
        let statuses = self.shared.world.lock().statuses();
        let wanted = |status: &Status| {
            status.namespace == request.namespace && request.model.as_ref().is_none_or(|model| *model == status.model)
        };
        Ok(statuses.into_iter().filter(wanted).collect())
    }

    async fn routes(&self, since: Since) -> Result<Routes, Refusal> {
        Ok(self.shared.routes.wait(since).await)
    }
}
