//! Signed bundles, versions, callers, and the ledger's sequence.
//!
//! Every change is one catalog transaction that carries its ledger record (the outbox); [`sequencer`] moves
//! records into the ledger, each once, and a change is acknowledged when its leaf is durable. [`deploy`] turns an
//! upload into a version, [`callers`] keeps callers and tokens, [`onnx`] reads graphs without running them.
//!
//! Does not know about: HTTP, replicas, which version answers.

mod callers;
mod deploy;
mod keys;
#[doc(hidden)]
pub mod onnx;
mod policies;
mod publishers;
mod quotas;
mod secrets;
pub mod sequencer;
mod snapshots;
mod sweep;

use std::sync::Arc;

use access::{Renewable, TokenRecord};
use async_trait::async_trait;
use keys::Signing;
use ledger::{Record, batch};
use rpc::{
    Clock, Feed, Since, Supervisor,
    registry::{
        AddCaller, AddPublisher, CallerRecord, ChangeKey, ChangedPublisher, Credentials, Deploy, Deployed, Heads,
        KeyRecord, LeafProof, LedgerPage, NameCaller, NamespacePolicies, NewToken, NoteCertificate, ProveTree,
        Publisher, Quotas, ReadLedger, ReadTile, Receipt, RecordBatch, RecordErasure, RecordGap, RecordWord, Remove,
        RevokePublisher, SecretInfo, Select, SetPolicy, SetQuota, SetSecret, Snapshot, TakeSnapshot, TileData,
        TreeProof, Used, VersionKey, VersionRecord,
    },
};
use sequencer::Sequencer;
use store::{Artefacts, Catalog, Collection, Log, Write, read_all};
use tokio::sync::Mutex;
use types::{ModelName, Namespace, Refusal, Version, quota::Quota};

/// The registry of a node.
pub struct Registry {
    catalog: Arc<dyn Catalog>,
    artefacts: Arc<dyn Artefacts>,
    sequencer: Sequencer,
    supervisor: Arc<dyn Supervisor>,
    signing: Renewable<Signing>,
    clock: Clock,
    credentials: Feed<String, TokenRecord>,
    policies: Feed<Namespace, String>,
    quotas: Feed<Namespace, Quota>,
    /// The newest snapshots of streaming versions.
    heads: Feed<VersionKey, Snapshot>,
    /// Changes of models and callers are read-then-write; one at a time keeps compare-and-swap from failing.
    writing: Mutex<()>,
}

/// What a registry is made of.
pub struct Parts {
    /// Where models, versions, callers and tokens are kept.
    pub catalog: Arc<dyn Catalog>,
    /// Where bundles are kept.
    pub artefacts: Arc<dyn Artefacts>,
    /// Where the ledger is kept.
    pub log: Arc<dyn Log>,
    /// Who keeps the keys that sign bundles and checkpoints.
    pub supervisor: Arc<dyn Supervisor>,
    /// The clock.
    pub clock: Clock,
}

impl Registry {
    /// Opens the registry: seals what an earlier process left in the outbox, and learns the credentials.
    ///
    /// # Errors
    /// When a store can't be read, or the ledger is not whole.
    pub async fn open(parts: Parts) -> Result<Self, Refusal> {
        let Parts { catalog, artefacts, log, supervisor, clock } = parts;
        let keyring = supervisor.keyring(()).await?;
        let sequencer = Sequencer::open(catalog.clone(), log, keys::log(&keyring)?).await?;
        let registry = Self {
            catalog,
            artefacts,
            sequencer,
            supervisor,
            signing: Renewable::new(keys::signing(&keyring)?),
            clock,
            credentials: Feed::new(),
            policies: Feed::new(),
            quotas: Feed::new(),
            heads: Feed::new(),
            writing: Mutex::new(()),
        };
        registry.note_keys("node", &keyring).await?;
        registry.sign_again().await?;
        registry.load_policies().await?;
        registry.load_quotas().await?;
        registry.load_heads().await?;
        for document in read_all(&*registry.catalog, Collection::Token, "").await? {
            registry.credentials.set(document.key.clone(), Some(document.read()?));
        }
        Ok(registry)
    }

    /// Moves whatever waits in the outbox into the ledger; the node calls it now and then, so that records of
    /// calls that were cut short don't wait for the next change.
    ///
    /// # Errors
    /// When a store can't be used.
    pub async fn drain(&self) -> Result<(), Refusal> {
        self.sequencer.drain().await
    }

    /// One transaction: the writes, and the record of what they are.
    async fn commit(
        &self,
        writes: Vec<Write>,
        action: &str,
        namespace: Option<&Namespace>,
        actor: &str,
        subject: &str,
        detail: serde_json::Value,
    ) -> Result<Receipt, Refusal> {
        let record = Record {
            v: 1,
            at: self.clock.now().0,
            action: action.to_owned(),
            namespace: namespace.map(ToString::to_string),
            actor: actor.to_owned(),
            subject: subject.to_owned(),
            detail,
        };
        let committed = self.catalog.commit(writes, vec![record.to_line()]).await?;
        Ok(self.sequencer.note(committed.outbox))
    }
}

/// The key of a model.
fn model_key(namespace: &Namespace, model: &ModelName) -> String {
    format!("{namespace}/{model}")
}

/// The key of a version; zero-padded, so that keys sort by number.
fn version_key(namespace: &Namespace, model: &ModelName, version: Version) -> String {
    format!("{namespace}/{model}/{:010}", version.0)
}

#[async_trait]
impl rpc::Registry for Registry {
    async fn deploy(&self, request: Deploy) -> Result<Deployed, Refusal> {
        self.deploy_model(request).await
    }

    async fn versions(&self, request: Select) -> Result<Vec<VersionRecord>, Refusal> {
        let prefix = match &request.model {
            Some(model) => format!("{}/{model}/", request.namespace),
            None => format!("{}/", request.namespace),
        };
        let documents = read_all(&*self.catalog, Collection::Version, &prefix).await?;
        let versions: Vec<VersionRecord> = documents.iter().map(store::Document::read).collect::<Result<_, _>>()?;
        match &request.model {
            Some(model) if versions.is_empty() => Err(Refusal::unknown_model(&request.namespace, model)),
            _ => Ok(versions),
        }
    }

    async fn remove(&self, request: Remove) -> Result<Receipt, Refusal> {
        self.remove_model(request).await
    }

    async fn add_caller(&self, request: AddCaller) -> Result<NewToken, Refusal> {
        self.add(request).await
    }

    async fn revoke_caller(&self, request: NameCaller) -> Result<Receipt, Refusal> {
        self.revoke(request).await
    }

    async fn rotate_caller(&self, request: NameCaller) -> Result<NewToken, Refusal> {
        self.rotate(request).await
    }

    async fn note_certificate(&self, request: NoteCertificate) -> Result<Receipt, Refusal> {
        self.certified(request).await
    }

    async fn callers(&self, request: Select) -> Result<Vec<CallerRecord>, Refusal> {
        let documents = read_all(&*self.catalog, Collection::Caller, &format!("{}/", request.namespace)).await?;
        let mut callers: Vec<CallerRecord> = documents.iter().map(store::Document::read).collect::<Result<_, _>>()?;
        for caller in &mut callers {
            let used = self.catalog.get(Collection::Use, &caller.token).await?;
            caller.used = used.map(|used| used.read()).transpose()?;
        }
        Ok(callers)
    }

    async fn note_use(&self, request: Vec<Used>) -> Result<(), Refusal> {
        self.used(request).await
    }

    async fn may_answer(&self, request: VersionRecord) -> Result<(), Refusal> {
        self.check_publisher(&request).await
    }

    async fn secrets(&self, request: Namespace) -> Result<Vec<SecretInfo>, Refusal> {
        self.secrets_of(&request).await
    }

    async fn set_secret(&self, request: SetSecret) -> Result<Receipt, Refusal> {
        self.keep_secret(request).await
    }

    async fn publishers(&self, request: Namespace) -> Result<Vec<Publisher>, Refusal> {
        self.publishers_of(&request).await
    }

    async fn add_publisher(&self, request: AddPublisher) -> Result<ChangedPublisher, Refusal> {
        self.trust(request).await
    }

    async fn revoke_publisher(&self, request: RevokePublisher) -> Result<ChangedPublisher, Refusal> {
        self.distrust(request).await
    }

    async fn credentials(&self, since: Since) -> Result<Credentials, Refusal> {
        Ok(self.credentials.wait(since).await)
    }

    async fn set_policy(&self, request: SetPolicy) -> Result<Receipt, Refusal> {
        self.set(request).await
    }

    async fn policies(&self, since: Since) -> Result<NamespacePolicies, Refusal> {
        Ok(self.policies.wait(since).await)
    }

    async fn set_quota(&self, request: SetQuota) -> Result<Receipt, Refusal> {
        self.bound(request).await
    }

    async fn quotas(&self, since: Since) -> Result<Quotas, Refusal> {
        Ok(self.quotas.wait(since).await)
    }

    async fn sealed(&self, receipt: Receipt) -> Result<(), Refusal> {
        self.sequencer.seal(receipt).await
    }

    async fn record_batch(&self, request: RecordBatch) -> Result<Receipt, Refusal> {
        let detail = batch::Detail { count: request.count, root: ledger::Hash(request.root.0).to_string() };
        let detail = serde_json::json!(detail);
        self.commit(Vec::new(), batch::ACTION, None, &request.actor, "predictions", detail).await
    }

    async fn record_gap(&self, request: RecordGap) -> Result<Receipt, Refusal> {
        let detail = serde_json::json!({ "lost": request.lost, "reason": request.reason });
        self.commit(Vec::new(), "predictions.gap", None, &request.actor, "predictions", detail).await
    }

    async fn record_word(&self, request: RecordWord) -> Result<Receipt, Refusal> {
        let RecordWord { actor, namespace, action, subject, reason } = request;
        let detail = serde_json::json!({ "reason": reason });
        self.commit(Vec::new(), &action, Some(&namespace), &actor, &subject, detail).await
    }

    async fn record_erasure(&self, request: RecordErasure) -> Result<Receipt, Refusal> {
        let detail = serde_json::json!({ "erased": request.erased });
        let RecordErasure { actor, namespace, subject, .. } = request;
        self.commit(Vec::new(), "predictions.forget", Some(&namespace), &actor, &subject, detail).await
    }

    async fn prove_record(&self, receipt: Receipt) -> Result<LeafProof, Refusal> {
        self.sequencer.prove_record(receipt).await
    }

    async fn prove_tree(&self, request: ProveTree) -> Result<TreeProof, Refusal> {
        self.sequencer.prove_tree(request.old).await
    }

    async fn tile(&self, request: ReadTile) -> Result<TileData, Refusal> {
        self.sequencer.tile(request).await
    }

    async fn ledger(&self, request: ReadLedger) -> Result<LedgerPage, Refusal> {
        self.sequencer.read(request).await
    }

    async fn bundle_key(&self, (): ()) -> Result<String, Refusal> {
        Ok(self.signing.current().newest().to_owned())
    }

    async fn change_key(&self, request: ChangeKey) -> Result<Receipt, Refusal> {
        self.change(request).await
    }

    async fn keys(&self, (): ()) -> Result<Vec<KeyRecord>, Refusal> {
        self.key_records().await
    }

    async fn take_snapshot(&self, request: TakeSnapshot) -> Result<Snapshot, Refusal> {
        self.sign_snapshot(request).await
    }

    async fn snapshots(&self, request: VersionKey) -> Result<Vec<Snapshot>, Refusal> {
        self.snapshots_of(&request).await
    }

    async fn heads(&self, since: Since) -> Result<Heads, Refusal> {
        Ok(self.heads.wait(since).await)
    }
}
