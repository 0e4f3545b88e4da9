//! Policies: the default ones are noted in the ledger, a namespace's own are checked, kept and followed.

use access::policy;
use rpc::registry::{Receipt, SetPolicy};
use serde::{Deserialize, Serialize};
use store::{Collection, Document, Expect, Write, read_all};
use types::{Code, Digest, Namespace, Refusal};

use crate::Registry;

/// A namespace's policies, as kept.
#[derive(Debug, Serialize, Deserialize)]
struct PolicyRecord {
    text: String,
}

/// Keys of namespaces' policies begin so; the digest of the default ones has the key `default`.
const OWN: &str = "namespace/";

impl Registry {
    /// Records the policies in force, when they are others than those recorded last.
    ///
    /// # Errors
    /// When the catalog can't be written.
    pub async fn note_policies(&self, text: &str) -> Result<(), Refusal> {
        let _writing = self.writing.lock().await;
        let digest = Digest::of(text.as_bytes());
        let known = self.catalog.get(Collection::Policy, "default").await?;
        if known.map(|document| document.read::<Digest>()).transpose()? == Some(digest) {
            return Ok(());
        }
        let write = Write::put(Collection::Policy, "default", Expect::Any, &digest)?;
        let detail = serde_json::json!({ "digest": digest });
        let receipt = self.commit(vec![write], "policy.load", None, "node", "policy:default", detail).await?;
        self.sequencer.seal(receipt).await
    }

    /// Learns the policies of every namespace.
    pub(crate) async fn load_policies(&self) -> Result<(), Refusal> {
        for document in read_all(&*self.catalog, Collection::Policy, OWN).await? {
            let namespace: Namespace = document.key[OWN.len()..].parse()?;
            let record: PolicyRecord = Document::read(&document)?;
            self.policies.set(namespace, Some(record.text));
        }
        Ok(())
    }

    pub(crate) async fn set(&self, request: SetPolicy) -> Result<Receipt, Refusal> {
        let SetPolicy { actor, namespace, text } = request;
        if let Some(text) = &text {
            policy::check(text).map_err(|error| {
                Refusal::new(Code::PolicyInvalid, error.to_string())
                    .hint("the policies in force stay; `mantlet policy schema` shows what a policy may speak of")
            })?;
        }
        let key = format!("{OWN}{namespace}");
        let write = match &text {
            Some(text) => {
                let record = PolicyRecord { text: text.clone() };
                Write::put(Collection::Policy, key, Expect::Any, &record)?
            }
            None => Write::remove(Collection::Policy, &key, Expect::Any),
        };
        let action = if text.is_some() { "policy.set" } else { "policy.reset" };
        let detail = text.as_ref().map_or(
            serde_json::Value::Null,
            |text| serde_json::json!({ "digest": Digest::of(text.as_bytes()), "bytes": text.len() }),
        );
        let subject = format!("policy:{namespace}");
        let receipt = self.commit(vec![write], action, Some(&namespace), &actor, &subject, detail).await?;
        self.policies.set(namespace, text);
        Ok(receipt)
    }
}
