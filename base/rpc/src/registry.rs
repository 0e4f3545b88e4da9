//! The registry's trait: bundles, callers, credentials, and the ledger's sequence.

use access::TokenRecord;
use serde::{Deserialize, Serialize};
use types::{
    CallerName, Digest, KeyKind, Manifest, ModelName, Namespace, Role, SecretName, Timestamp, Version, quota::Quota,
};
use zeroize::Zeroizing;

use crate::{Changes, Since};

/// A change is acknowledged only when the ledger holds its record: wait for this number with `sealed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Receipt(pub u64);

/// Registers an uploaded model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deploy {
    /// Who asks, as the ledger names them.
    pub actor: String,
    /// The namespace it goes to.
    pub namespace: Namespace,
    /// Its manifest.
    pub manifest: Manifest,
    /// The id of the upload in staging; nothing for a model that another server holds. Of a model that learns, the state that
    /// its manifest tells of (`spec.source.online.start`): the trainer's to say, and not a caller's.
    #[serde(default)]
    pub staged: Option<String>,
    /// A publisher's signature over it, in the Model Signing format.
    #[serde(default)]
    pub signature: Option<String>,
}

/// A registered version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployed {
    /// The version.
    pub version: VersionRecord,
    /// Whether this call made it; the same bundle again is the same version.
    pub created: bool,
    /// What to wait for.
    pub receipt: Receipt,
}

/// What is known of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionRecord {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its model.
    pub model: ModelName,
    /// Its number.
    pub version: Version,
    /// Its bundle.
    pub digest: Digest,
    /// Bytes of its model file.
    pub size: u64,
    /// Its manifest, with inputs read from the graph where they were left out.
    pub manifest: Manifest,
    /// Who deployed it.
    pub author: String,
    /// The fingerprint of the publisher that signed it, where the namespace has publishers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<String>,
    /// When.
    pub created: Timestamp,
}

/// Names a model, or all of a namespace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Select {
    /// The namespace.
    pub namespace: Namespace,
    /// The model; all when left out.
    pub model: Option<ModelName>,
}

/// Removes a model with all its versions.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Remove {
    /// Who asks.
    pub actor: String,
    /// The namespace.
    pub namespace: Namespace,
    /// The model.
    pub model: ModelName,
}

/// Adds a caller with its first token, or gives an existing one a new token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddCaller {
    /// Who asks.
    pub actor: String,
    /// The caller's namespace.
    pub namespace: Namespace,
    /// The caller's name.
    pub caller: CallerName,
    /// What it may be.
    pub roles: Vec<Role>,
    /// Whether it may act in any namespace.
    #[serde(default)]
    pub node_wide: bool,
    /// When its token stops working.
    #[serde(default)]
    pub expires: Option<Timestamp>,
}

/// Names a caller.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NameCaller {
    /// Who asks.
    pub actor: String,
    /// The caller's namespace.
    pub namespace: Namespace,
    /// The caller's name.
    pub caller: CallerName,
}

/// A new token; its text is shown this once.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewToken {
    /// The token's text.
    pub token: String,
    /// What to wait for.
    pub receipt: Receipt,
}

/// A caller, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallerRecord {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub caller: CallerName,
    /// What it may be.
    pub roles: Vec<Role>,
    /// Whether it may act in any namespace.
    #[serde(default)]
    pub node_wide: bool,
    /// The public part of its token.
    pub token: String,
    /// When it was added.
    pub created: Timestamp,
    /// When its token stops working.
    #[serde(default)]
    pub expires: Option<Timestamp>,
    /// When its token was used last, to the minute.
    #[serde(default)]
    pub used: Option<Timestamp>,
}

/// Asks for ledger records.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadLedger {
    /// From this position on.
    pub from: u64,
    /// At most this many.
    pub limit: u32,
    /// Only those of this namespace; all when left out.
    #[serde(default)]
    pub namespace: Option<Namespace>,
}

/// Ledger records with the newest checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LedgerPage {
    /// Records, each one line.
    pub records: Vec<String>,
    /// Where the next page begins; nothing follows when it is `size`.
    #[serde(default)]
    pub next: u64,
    /// The newest checkpoint, signed by `key` alone.
    pub checkpoint: String,
    /// The same, signed by every key of the log that is not retired.
    pub signed: String,
    /// How many records it covers.
    pub size: u64,
    /// The log's public key.
    pub key: String,
}

/// A batch of recorded events, of which the ledger holds the root alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordBatch {
    /// The gateway that recorded them.
    pub actor: String,
    /// How many.
    pub count: u64,
    /// The root over their commitments.
    pub root: Digest,
}

/// Events that were lost.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordGap {
    /// The gateway that lost them.
    pub actor: String,
    /// How many; unknown when left out.
    pub lost: Option<u64>,
    /// Why.
    pub reason: String,
}

/// Events that were erased.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordErasure {
    /// Who asked.
    pub actor: String,
    /// In which namespace.
    pub namespace: Namespace,
    /// Whose events, or which one.
    pub subject: String,
    /// How many went.
    pub erased: u64,
}

/// One record with its way to the root under the newest checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeafProof {
    /// The record, one line.
    pub record: String,
    /// Its position.
    pub index: u64,
    /// How many records the checkpoint covers.
    pub size: u64,
    /// The hashes beside the way, from the leaf up.
    pub path: Vec<Digest>,
    /// The checkpoint.
    pub checkpoint: String,
}

/// Asks how the tree over the first `old` records became the one under the newest checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ProveTree {
    /// How many records the earlier tree has.
    pub old: u64,
}

/// That an earlier tree is the start of the newest one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TreeProof {
    /// How many records the earlier tree has.
    pub old: u64,
    /// How many the checkpoint covers.
    pub size: u64,
    /// The proof of RFC 6962.
    pub path: Vec<Digest>,
    /// The checkpoint.
    pub checkpoint: String,
}

/// Names a tile: 256 hashes of a level, or fewer at its end.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReadTile {
    /// The level, from 0; none for records (an entry bundle).
    pub level: Option<u8>,
    /// The tile's number at its level.
    pub number: u64,
    /// How many entries it has, 1 to 256.
    pub width: u16,
}

/// A tile's bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TileData {
    /// Hashes or records, as C2SP `tlog-tiles` lays them out; in base64.
    pub data: String,
}

/// Gives a namespace its own policies, or takes them back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetPolicy {
    /// Who asks.
    pub actor: String,
    /// The namespace.
    pub namespace: Namespace,
    /// Its policies in Cedar; none: the default ones alone.
    pub text: Option<String>,
}

/// Notes that a caller got a certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NoteCertificate {
    /// Who asks.
    pub actor: String,
    /// The caller's namespace.
    pub namespace: Namespace,
    /// The caller.
    pub caller: CallerName,
    /// SHA-256 of the certificate.
    pub digest: Digest,
    /// Until when it holds.
    pub until: Timestamp,
}

/// Replaces one of the node's keys, or retires the one before it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangeKey {
    /// Who asks.
    pub actor: String,
    /// Which.
    pub key: KeyKind,
    /// Whether the one before is retired, instead of a new one made.
    pub retire: bool,
}

/// A key whose signature lets a model into a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publisher {
    /// Its namespace.
    pub namespace: Namespace,
    /// SHA-256 of its public key in PEM, as signatures name it.
    pub fingerprint: String,
    /// Its public key, PEM.
    pub key: String,
    /// When it was trusted.
    pub added: Timestamp,
    /// When it was revoked.
    #[serde(default)]
    pub revoked: Option<Timestamp>,
}

/// A secret of a namespace, which models of other servers are asked with, or webhooks are signed with.
#[derive(Clone, Serialize, Deserialize)]
pub struct Secret {
    /// Whose.
    pub namespace: Namespace,
    /// What it is called.
    pub name: SecretName,
    /// What nobody is shown again.
    pub value: Zeroizing<String>,
    /// Who set it.
    pub author: String,
    /// When.
    pub set: Timestamp,
}

/// A secret as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretInfo {
    /// What it is called.
    pub name: SecretName,
    /// Who set it.
    pub author: String,
    /// When.
    pub set: Timestamp,
}

/// Sets a secret, or takes it away.
#[derive(Clone, Serialize, Deserialize)]
pub struct SetSecret {
    /// Who asks.
    pub actor: String,
    /// Whose.
    pub namespace: Namespace,
    /// What it is called.
    pub name: SecretName,
    /// Its value; `None` takes it away.
    pub value: Option<Zeroizing<String>>,
}

/// Trusts a publisher.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddPublisher {
    /// Who asks.
    pub actor: String,
    /// The namespace.
    pub namespace: Namespace,
    /// The public key, PEM (P-256).
    pub key: String,
}

/// Revokes a publisher.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RevokePublisher {
    /// Who asks.
    pub actor: String,
    /// The namespace.
    pub namespace: Namespace,
    /// Which.
    pub fingerprint: String,
}

/// A changed publisher.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChangedPublisher {
    /// As it is now.
    pub publisher: Publisher,
    /// Versions that it has signed.
    pub versions: Vec<(ModelName, Version)>,
    /// What to wait for.
    pub receipt: Receipt,
}

/// When a token was used last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Used {
    /// The token's id.
    pub token: String,
    /// When.
    pub at: Timestamp,
}

/// A key of the node, as the ledger knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Which.
    pub key: KeyKind,
    /// The public key of the log; SHA-256 of the PEM of others. Newest first; a second one is not retired yet.
    pub public: Vec<String>,
    /// Since when these are in force.
    pub since: Timestamp,
}

/// Bounds a namespace, or takes its bounds away.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetQuota {
    /// Who asks.
    pub actor: String,
    /// The namespace.
    pub namespace: Namespace,
    /// Its quota; none: no bounds.
    pub quota: Option<Quota>,
}

/// Changes of namespaces' quotas.
pub type Quotas = Changes<Namespace, Quota>;

/// Changes of namespaces' policies.
pub type NamespacePolicies = Changes<Namespace, String>;

/// Changes of credentials, by token id.
pub type Credentials = Changes<String, TokenRecord>;

/// What a person decided, where nothing of the registry's changes by it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordWord {
    /// Who.
    pub actor: String,
    /// In which namespace.
    pub namespace: Namespace,
    /// What the ledger calls it, for example `labels.trust`.
    pub action: String,
    /// About what.
    pub subject: String,
    /// Why.
    pub reason: String,
}

/// A version of a model.
pub type VersionKey = (Namespace, ModelName, Version);

/// Asks that a streaming version's new state be signed and served.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TakeSnapshot {
    /// Who asks.
    pub actor: String,
    /// The version.
    pub version: VersionKey,
    /// The id of the state in staging.
    pub staged: String,
}

/// A signed state of a streaming version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counted from 1 for each version; the bundle that was deployed is none.
    pub number: u64,
    /// Its bundle.
    pub digest: Digest,
    /// Bytes of its state.
    pub size: u64,
    /// The next entry of the joined log that it learns from.
    pub offset: u64,
    /// Examples that it has learnt.
    pub learnt: u64,
    /// When it was signed.
    pub at: Timestamp,
}

/// Changes of the newest snapshots, by version.
pub type Heads = Changes<VersionKey, Snapshot>;

service! {
    /// Signed bundles, versions, callers, and the ledger's sequence.
    pub trait Registry, client RegistryClient, router registry_router, path "mantlet.Registry" {
        /// Checks, packs, signs and registers an uploaded model.
        fn deploy(Deploy) -> Deployed;
        /// Versions of a model or of a namespace, in order.
        fn versions(Select) -> Vec<VersionRecord>;
        /// Removes a model; its numbers are never used again.
        fn remove(Remove) -> Receipt;
        /// Adds a caller.
        fn add_caller(AddCaller) -> NewToken;
        /// Revokes a caller's token and removes the caller.
        fn revoke_caller(NameCaller) -> Receipt;
        /// Replaces a caller's token.
        fn rotate_caller(NameCaller) -> NewToken;
        /// Notes a caller's new certificate.
        fn note_certificate(NoteCertificate) -> Receipt;
        /// Callers of a namespace.
        fn callers(Select) -> Vec<CallerRecord>;
        /// Follows the credentials.
        fn credentials(Since) -> Credentials;
        /// Checks and sets a namespace's policies.
        fn set_policy(SetPolicy) -> Receipt;
        /// Follows the policies of namespaces.
        fn policies(Since) -> NamespacePolicies;
        /// Sets a namespace's quota.
        fn set_quota(SetQuota) -> Receipt;
        /// Follows the quotas of namespaces.
        fn quotas(Since) -> Quotas;
        /// Returns once the ledger durably holds the record.
        fn sealed(Receipt) -> ();
        /// Records a batch of events.
        fn record_batch(RecordBatch) -> Receipt;
        /// Records that events were lost.
        fn record_gap(RecordGap) -> Receipt;
        /// Records what a person decided.
        fn record_word(RecordWord) -> Receipt;
        /// Records that events were erased.
        fn record_erasure(RecordErasure) -> Receipt;
        /// Proves the record behind a receipt; waits until the ledger holds it.
        fn prove_record(Receipt) -> LeafProof;
        /// Proves that an earlier tree is the start of the newest one.
        fn prove_tree(ProveTree) -> TreeProof;
        /// Reads a tile.
        fn tile(ReadTile) -> TileData;
        /// Reads the ledger.
        fn ledger(ReadLedger) -> LedgerPage;
        /// The public key that bundles are signed with, PEM.
        fn bundle_key(()) -> String;
        /// Changes one of the node's keys.
        fn change_key(ChangeKey) -> Receipt;
        /// Notes which tokens were used.
        fn note_use(Vec<Used>) -> ();
        /// Whether a version may answer: `bundle_untrusted` when its publisher was revoked.
        fn may_answer(VersionRecord) -> ();
        /// Publishers of a namespace.
        fn publishers(Namespace) -> Vec<Publisher>;
        /// The secrets of a namespace, without their values.
        fn secrets(Namespace) -> Vec<SecretInfo>;
        /// Sets a secret, or takes it away.
        fn set_secret(SetSecret) -> Receipt;
        /// Trusts a publisher.
        fn add_publisher(AddPublisher) -> ChangedPublisher;
        /// Revokes a publisher.
        fn revoke_publisher(RevokePublisher) -> ChangedPublisher;
        /// The node's keys in force.
        fn keys(()) -> Vec<KeyRecord>;
        /// Checks, signs and publishes a streaming version's new state, which is the one to serve from now on.
        fn take_snapshot(TakeSnapshot) -> Snapshot;
        /// The snapshots of a version that are kept, the newest first.
        fn snapshots(VersionKey) -> Vec<Snapshot>;
        /// Follows the newest snapshots of streaming versions.
        fn heads(Since) -> Heads;
    }
}

/// Serves a trainer all that it asks a registry for: versions, whether they may answer, snapshots, that new ones be
/// signed, and that what a job has made is a version, in the trainer's own name.
pub fn trainer_router(inner: std::sync::Arc<dyn Registry>) -> axum::Router {
    let (versions, snapshots, may_answer, deploy) = (inner.clone(), inner.clone(), inner.clone(), inner.clone());
    let router = axum::Router::new();
    let router = crate::remote::serve(router, "/mantlet.Registry/versions", move |request: Select| {
        let inner = versions.clone();
        async move { inner.versions(request).await }
    });
    let router = crate::remote::serve(router, "/mantlet.Registry/snapshots", move |request: VersionKey| {
        let inner = snapshots.clone();
        async move { inner.snapshots(request).await }
    });
    let router = crate::remote::serve(router, "/mantlet.Registry/may_answer", move |request: VersionRecord| {
        let inner = may_answer.clone();
        async move { inner.may_answer(request).await }
    });
    let router = crate::remote::serve(router, "/mantlet.Registry/deploy", move |request: Deploy| {
        let inner = deploy.clone();
        async move { inner.deploy(Deploy { actor: "trainer".into(), ..request }).await }
    });
    crate::remote::serve(router, "/mantlet.Registry/take_snapshot", move |request: TakeSnapshot| {
        let inner = inner.clone();
        async move { inner.take_snapshot(request).await }
    })
}

/// Serves an orchestrator all that it asks a registry for: [`Registry::heads`].
pub fn heads_router(inner: std::sync::Arc<dyn Registry>) -> axum::Router {
    crate::remote::serve(axum::Router::new(), "/mantlet.Registry/heads", move |request: Since| {
        let inner = inner.clone();
        async move { inner.heads(request).await }
    })
}
