//! Publishers: keys whose signature lets a model into a namespace.
//!
//! A namespace without publishers takes every model that a deployer sends. One that has (or had) any takes only models
//! that a publisher has signed who is not revoked, in the Model Signing format, over a folder with that one file.

use access::signing::{self, PublicKey};
use rpc::registry::{AddPublisher, ChangedPublisher, Publisher, Receipt, RevokePublisher, VersionRecord};
use store::{Collection, Document, Expect, Write, read_all};
use types::{Code, Digest, Namespace, Refusal};

use crate::Registry;

/// Publishers of a namespace, at most; each deploy reads them all.
const MOST: usize = 256;

fn key(namespace: &Namespace, fingerprint: &str) -> String {
    format!("{namespace}/{fingerprint}")
}

impl Registry {
    pub(crate) async fn publishers_of(&self, namespace: &Namespace) -> Result<Vec<Publisher>, Refusal> {
        let documents = read_all(&*self.catalog, Collection::Publisher, &format!("{namespace}/")).await?;
        Ok(documents.iter().map(Document::read).collect::<Result<_, _>>()?)
    }

    pub(crate) async fn trust(&self, request: AddPublisher) -> Result<ChangedPublisher, Refusal> {
        let AddPublisher { actor, namespace, key: pem } = request;
        let parsed = PublicKey::parse(&pem).map_err(|error| {
            Refusal::new(Code::RequestMalformed, error.to_string())
                .hint("give a P-256 public key in PEM: `openssl ec -in private.pem -pubout`")
        })?;
        let _writing = self.writing.lock().await;
        let known = self.publishers_of(&namespace).await?;
        if let Some(known) = known.iter().find(|known| known.fingerprint == parsed.fingerprint()) {
            let what = if known.revoked.is_some() { "was revoked, which is for good" } else { "is trusted already" };
            return Err(Refusal::new(Code::AlreadyExists, format!("the key {what}")).hint("add another key"));
        }
        if known.len() >= MOST {
            return Err(Refusal::new(Code::QuotaExceeded, format!("`{namespace}` has {MOST} publishers"))
                .hint("sign with one of those"));
        }
        let publisher = Publisher {
            namespace,
            fingerprint: parsed.fingerprint().to_owned(),
            key: parsed.pem().to_owned(),
            added: self.clock.now(),
            revoked: None,
        };
        let receipt = self.note_publisher(&publisher, "publisher.add", &actor).await?;
        Ok(ChangedPublisher { publisher, versions: Vec::new(), receipt })
    }

    pub(crate) async fn distrust(&self, request: RevokePublisher) -> Result<ChangedPublisher, Refusal> {
        let RevokePublisher { actor, namespace, fingerprint } = request;
        let _writing = self.writing.lock().await;
        let known = self.publishers_of(&namespace).await?;
        let mut found = known.into_iter().filter(|known| known.fingerprint.starts_with(&fingerprint));
        let (Some(mut publisher), None, 8..) = (found.next(), found.next(), fingerprint.len()) else {
            let what = format!("`{namespace}` has not exactly one publisher `{fingerprint}`");
            return Err(Refusal::new(Code::PublisherNotFound, what)
                .hint("`mantlet publishers list` shows them; 8 characters or more of the fingerprint are enough"));
        };
        publisher.revoked = publisher.revoked.or(Some(self.clock.now()));
        let receipt = self.note_publisher(&publisher, "publisher.revoke", &actor).await?;
        let documents = read_all(&*self.catalog, Collection::Version, &format!("{namespace}/")).await?;
        let versions = documents.iter().map(Document::read::<VersionRecord>).collect::<Result<Vec<_>, _>>()?;
        let signed = versions.into_iter().filter(|version| version.publisher.as_ref() == Some(&publisher.fingerprint));
        let versions = signed.map(|version| (version.model, version.version)).collect();
        Ok(ChangedPublisher { publisher, versions, receipt })
    }

    async fn note_publisher(&self, publisher: &Publisher, action: &str, actor: &str) -> Result<Receipt, Refusal> {
        let Publisher { namespace, fingerprint, .. } = publisher;
        let write = Write::put(Collection::Publisher, key(namespace, fingerprint), Expect::Any, publisher)?;
        let subject = format!("publisher:{namespace}/{fingerprint}");
        self.commit(vec![write], action, Some(namespace), actor, &subject, serde_json::Value::Null).await
    }

    /// Who has signed a model that is about to be deployed.
    ///
    /// # Errors
    /// `bundle_untrusted` where the namespace has publishers, and none of them that counts has.
    pub(crate) async fn publisher(
        &self,
        namespace: &Namespace,
        signature: Option<&str>,
        model: Digest,
    ) -> Result<Option<String>, Refusal> {
        let known = self.publishers_of(namespace).await?;
        if known.is_empty() {
            return Ok(None);
        }
        let no = |why: String| {
            Refusal::new(Code::BundleUntrusted, format!("`{namespace}` takes signed models alone: {why}")).hint(
                "sign a folder with the model alone by `model_signing sign key`, then `mantlet deploy … --signature FILE`; \
                 `mantlet publishers list` shows whose signature counts",
            )
        };
        let signature = signature.ok_or_else(|| no("there is no signature".into()))?;
        let live = known.iter().filter(|publisher| publisher.revoked.is_none());
        let keys: Vec<PublicKey> =
            live.map(|publisher| PublicKey::parse(&publisher.key)).collect::<Result<_, _>>().map_err(|error| {
                Refusal::new(Code::StorageUnavailable, format!("a publisher's key can't be read: {error}"))
            })?;
        let (key, files) =
            signing::signed_by_one(signature.as_bytes(), &keys).map_err(|error| no(error.to_string()))?;
        if files.len() != 1 || !files.values().all(|digest| *digest == model) {
            return Err(no("the signature is of other files than this one model".into()));
        }
        Ok(Some(key.fingerprint().to_owned()))
    }

    /// Refuses to let a version answer whose publisher was revoked.
    pub(crate) async fn check_publisher(&self, version: &VersionRecord) -> Result<(), Refusal> {
        let Some(fingerprint) = &version.publisher else { return Ok(()) };
        let known = self.catalog.get(Collection::Publisher, &key(&version.namespace, fingerprint)).await?;
        let known: Option<Publisher> = known.map(|known| known.read()).transpose()?;
        if known.is_some_and(|known| known.revoked.is_none()) {
            return Ok(());
        }
        let what = format!("version {} was signed by a publisher who is revoked", version.version);
        Err(Refusal::new(Code::BundleUntrusted, what).hint("deploy the model anew, signed by another publisher"))
    }
}
