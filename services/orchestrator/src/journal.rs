//! The executor's journal: each step is written down before it is begun and closed when it is over.
//!
//! The embedded backend's model servers die with their node, so a step that an earlier process left open has
//! nothing to resume: it is closed as lost, and planning starts from what is there. Plans are made from what is wanted
//! and what answers, both of which are written before anything depends on them, so whatever a step left half done is
//! done or undone by the next plan.

use std::sync::Arc;

use plan::Planned;
use serde::{Deserialize, Serialize};
use store::{Catalog, Collection, Expect, Write, read_all};
use types::{Refusal, Timestamp};

/// Closed steps that are kept.
const KEPT: usize = 1_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(flatten)]
    pub(crate) planned: Planned,
    pub(crate) begun: Timestamp,
    pub(crate) outcome: Option<String>,
}

pub(crate) struct Journal {
    catalog: Arc<dyn Catalog>,
    next: u64,
    kept: std::collections::VecDeque<String>,
}

/// A step's place in the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    key: String,
    planned: Planned,
    begun: Timestamp,
}

impl Journal {
    pub(crate) async fn open(catalog: Arc<dyn Catalog>) -> Result<Self, Refusal> {
        let documents = read_all(&*catalog, Collection::Step, "").await?;
        let next = documents.last().and_then(|last| last.key.parse::<u64>().ok()).unwrap_or(0) + 1;
        let mut writes = Vec::new();
        for document in &documents {
            match document.read::<Entry>() {
                Ok(Entry { outcome: Some(_), .. }) => {}
                Ok(entry) => {
                    let closed = Entry { outcome: Some("lost with its process".into()), ..entry };
                    writes.push(Write::put(Collection::Step, &document.key, Expect::Any, &closed)?);
                }
                // The release before wrote steps of another form; they tell nothing that is still so.
                Err(_) => writes.push(Write::remove(Collection::Step, &document.key, Expect::Any)),
            }
        }
        if !writes.is_empty() {
            catalog.commit(writes, Vec::new()).await?;
        }
        Ok(Self { catalog, next, kept: documents.into_iter().map(|document| document.key).collect() })
    }

    /// Writes a plan's steps down, durably, before any is begun.
    pub(crate) async fn begin(&mut self, plan: &plan::Plan, now: Timestamp) -> Result<Vec<Place>, Refusal> {
        let mut writes = Vec::with_capacity(plan.steps.len());
        let mut places = Vec::with_capacity(plan.steps.len());
        for planned in &plan.steps {
            let key = format!("{:020}", self.next);
            self.next += 1;
            let entry = Entry { planned: planned.clone(), begun: now, outcome: None };
            writes.push(Write::put(Collection::Step, &key, Expect::Absent, &entry)?);
            self.kept.push_back(key.clone());
            places.push(Place { key, planned: planned.clone(), begun: now });
        }
        while self.kept.len() > KEPT.max(places.len()) {
            writes.extend(self.kept.pop_front().map(|key| Write::remove(Collection::Step, key, Expect::Any)));
        }
        self.catalog.commit(writes, Vec::new()).await?;
        Ok(places)
    }

    /// The latest steps, newest first.
    pub(crate) async fn recent(catalog: &dyn Catalog) -> Result<Vec<Entry>, Refusal> {
        let documents = read_all(catalog, Collection::Step, "").await?;
        documents.iter().rev().map(|document| Ok(document.read()?)).collect()
    }

    /// Closes a step.
    pub(crate) async fn end(&self, place: Place, outcome: &str) -> Result<(), Refusal> {
        let entry = Entry { planned: place.planned, begun: place.begun, outcome: Some(outcome.to_owned()) };
        let write = Write::put(Collection::Step, place.key, Expect::Any, &entry)?;
        self.catalog.commit(vec![write], Vec::new()).await?;
        Ok(())
    }
}
