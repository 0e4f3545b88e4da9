//! Snapshots of streaming versions: checked, signed, the last ones kept, the newest followed by who serves it.

use std::collections::BTreeMap;

use access::signing::{self, MANIFEST_FILE, SIGNATURE_FILE, STATE_FILE};
use rpc::registry::{Snapshot, TakeSnapshot, VersionKey, VersionRecord};
use store::{Collection, Content, Document, Expect, Write, read_all};
use types::{Code, Digest, Refusal, Version};

use crate::{Registry, version_key};

/// Snapshots of a version that are kept.
const KEPT: usize = 10;

fn prefix((namespace, model, version): &VersionKey) -> String {
    format!("{}/", version_key(namespace, model, *version))
}

fn unreadable(key: &str) -> Refusal {
    Refusal::new(Code::StorageUnavailable, format!("the snapshot `{key}` in the catalog can't be read"))
}

impl Registry {
    /// Learns the newest snapshot of each version.
    pub(crate) async fn load_heads(&self) -> Result<(), Refusal> {
        // Keys sort by number: the last one of a version is its newest.
        for document in read_all(&*self.catalog, Collection::Snapshot, "").await? {
            if let [namespace, model, version, _] = document.key.split('/').collect::<Vec<_>>()[..] {
                let version = version.parse().map_err(|_| unreadable(&document.key))?;
                let key = (namespace.parse()?, model.parse()?, Version(version));
                self.heads.set(key, Some(document.read()?));
            }
        }
        Ok(())
    }

    pub(crate) async fn snapshots_of(&self, version: &VersionKey) -> Result<Vec<Snapshot>, Refusal> {
        let documents = read_all(&*self.catalog, Collection::Snapshot, &prefix(version)).await?;
        Ok(documents.iter().rev().map(Document::read).collect::<Result<_, _>>()?)
    }

    pub(crate) async fn sign_snapshot(&self, request: TakeSnapshot) -> Result<Snapshot, Refusal> {
        let staged = request.staged.clone();
        let outcome = self.sign_state(request).await;
        let discarded = self.artefacts.discard(&staged).await;
        let snapshot = outcome?;
        discarded?;
        Ok(snapshot)
    }

    async fn sign_state(&self, TakeSnapshot { actor, version, staged }: TakeSnapshot) -> Result<Snapshot, Refusal> {
        let (namespace, model, number) = &version;
        let key = version_key(namespace, model, *number);
        let _writing = self.writing.lock().await;
        let document = self.catalog.get(Collection::Version, &key).await?;
        let document = document.ok_or_else(|| Refusal::unknown_model(namespace, model))?;
        let VersionRecord { mut manifest, .. } = document.read()?;
        manifest.metadata.namespace = Some(namespace.clone());
        let bytes = self.artefacts.read_staged(&staged).await?;
        let state = streaming::Model::load(&manifest, &bytes)?;
        let kept = self.snapshots_of(&version).await?;
        if let Some(newest) = kept.first()
            && newest.offset > state.offset()
        {
            let what = format!("the state is older than snapshot {}, which is served", newest.number);
            return Err(Refusal::new(Code::Conflict, what));
        }
        let packed =
            serde_json::to_vec_pretty(&manifest).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let files = BTreeMap::from([
            (STATE_FILE.to_owned(), Digest::of(&bytes)),
            (MANIFEST_FILE.to_owned(), Digest::of(&packed)),
        ]);
        let signature = self.signing.current().key().sign(model.as_str(), &files);
        let signature = signature.map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        let snapshot = Snapshot {
            number: kept.first().map_or(1, |newest| newest.number + 1),
            digest: signing::root(&files),
            size: bytes.len() as u64,
            offset: state.offset(),
            learnt: state.learnt(),
            at: self.clock.now(),
        };
        let contents = vec![
            (STATE_FILE.to_owned(), Content::Staged(staged)),
            (MANIFEST_FILE.to_owned(), Content::Bytes(packed)),
            (SIGNATURE_FILE.to_owned(), Content::Bytes(signature)),
        ];
        self.publish(snapshot.digest, contents, &files).await?;
        let place = |number: u64| format!("{}{number:010}", prefix(&version));
        let gone = kept.get(KEPT - 1..).unwrap_or_default();
        let mut writes = vec![Write::put(Collection::Snapshot, place(snapshot.number), Expect::Absent, &snapshot)?];
        writes.extend(gone.iter().map(|old| Write::remove(Collection::Snapshot, place(old.number), Expect::Any)));
        let detail = serde_json::json!({
            "version": number, "snapshot": snapshot.number, "digest": snapshot.digest, "offset": snapshot.offset,
            "learnt": snapshot.learnt,
        });
        let subject = format!("model:{namespace}/{model}");
        self.commit(writes, "model.snapshot", Some(namespace), &actor, &subject, detail).await?;
        self.heads.set(version.clone(), Some(snapshot.clone()));
        for old in gone {
            self.artefacts.remove(old.digest).await?;
        }
        Ok(snapshot)
    }

    /// Removes the snapshots of a version that is no more.
    pub(crate) async fn forget_snapshots(&self, version: &VersionKey) -> Result<(), Refusal> {
        let documents = read_all(&*self.catalog, Collection::Snapshot, &prefix(version)).await?;
        let writes = documents.iter().map(|old| Write::remove(Collection::Snapshot, &old.key, Expect::Any)).collect();
        self.catalog.commit(writes, Vec::new()).await?;
        self.heads.set(version.clone(), None);
        for old in documents {
            self.artefacts.remove(old.read::<Snapshot>()?.digest).await?;
        }
        Ok(())
    }
}
