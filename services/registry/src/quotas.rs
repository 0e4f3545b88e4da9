//! Quotas of namespaces: kept and followed, and held against each deploy.

use rpc::registry::{Receipt, SetQuota, VersionRecord};
use store::{Collection, Document, Expect, Write, read_all};
use types::{Code, Manifest, ModelName, Namespace, Refusal, quantity::ByteCount, quota::Quota};

use crate::Registry;

impl Registry {
    /// Learns the quotas of every namespace.
    pub(crate) async fn load_quotas(&self) -> Result<(), Refusal> {
        for document in read_all(&*self.catalog, Collection::Quota, "").await? {
            self.quotas.set(document.key.parse()?, Some(Document::read(&document)?));
        }
        Ok(())
    }

    pub(crate) async fn bound(&self, request: SetQuota) -> Result<Receipt, Refusal> {
        let SetQuota { actor, namespace, quota } = request;
        let write = match &quota {
            Some(quota) => Write::put(Collection::Quota, namespace.as_str(), Expect::Any, quota)?,
            None => Write::remove(Collection::Quota, namespace.as_str(), Expect::Any),
        };
        let subject = format!("namespace:{namespace}");
        let detail = serde_json::json!({ "quota": quota });
        let receipt = self.commit(vec![write], "namespace.quota", Some(&namespace), &actor, &subject, detail).await?;
        self.quotas.set(namespace, quota);
        Ok(receipt)
    }

    /// Whether one more version of this size fits into the namespace.
    ///
    /// # Errors
    /// `quota_exceeded` with what is used and what is allowed.
    pub(crate) async fn fits(
        &self,
        namespace: &Namespace,
        model: &ModelName,
        size: u64,
        manifest: &Manifest,
    ) -> Result<(), Refusal> {
        let Some(document) = self.catalog.get(Collection::Quota, namespace.as_str()).await? else { return Ok(()) };
        let quota: Quota = document.read()?;
        let documents = read_all(&*self.catalog, Collection::Version, &format!("{namespace}/")).await?;
        let versions: Vec<VersionRecord> = documents.iter().map(Document::read).collect::<Result<_, _>>()?;
        // Versions come in order: the last of each model is its newest.
        let newest: std::collections::BTreeMap<&ModelName, &Manifest> =
            versions.iter().map(|version| (&version.model, &version.manifest)).collect();
        let others = newest.iter().filter(|(name, _)| **name != model);
        let models = others.clone().count() as u64 + 1;
        let replicas =
            |manifest: &Manifest| manifest.spec.resources.memory.0.saturating_mul(manifest.replicas().into());
        let memory = others.fold(replicas(manifest), |sum, (_, manifest)| sum.saturating_add(replicas(manifest)));
        let storage = versions.iter().fold(size, |sum, version| sum.saturating_add(version.size));
        let bytes = |value: u64| ByteCount(value).to_string();
        for (what, used, allowed, shown) in [
            ("models", models, quota.models.map(u64::from), None),
            ("memory of replicas", memory, quota.memory.map(|bytes| bytes.0), Some(bytes(memory))),
            ("bytes of model files", storage, quota.storage.map(|bytes| bytes.0), Some(bytes(storage))),
        ] {
            if let Some(allowed) = allowed.filter(|allowed| used > *allowed) {
                let (used, allowed) = match shown {
                    Some(used) => (used, bytes(allowed)),
                    None => (used.to_string(), allowed.to_string()),
                };
                return Err(Refusal::new(
                    Code::QuotaExceeded,
                    format!("namespace `{namespace}` would have {used} {what}; its quota is {allowed}"),
                )
                .hint("delete what is not needed, or ask a node-wide admin for more: `mantlet namespaces set`"));
            }
        }
        Ok(())
    }
}
