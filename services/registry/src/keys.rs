//! The node's keys: the registry signs with them, changes them, and notes in the ledger which are in force.
//!
//! The supervisor keeps the files. A new key of bundles signs every published bundle again, so that the one before can
//! be retired; during the overlap both are trusted. Checkpoints are signed by both keys of the log meanwhile.

use access::signing::{self, SIGNATURE_FILE};
use rpc::{
    registry::{ChangeKey, KeyRecord, Receipt, Snapshot, VersionRecord},
    supervisor::{self, Keyring},
};
use store::{Collection, Document, Expect, Write, read_all};
use types::{Code, Digest, KeyKind, Refusal};

use crate::Registry;

/// The key that signs bundles, and those that may have signed them.
pub(crate) struct Signing {
    key: signing::Key,
    trusted: Vec<signing::PublicKey>,
}

impl Signing {
    pub(crate) fn key(&self) -> &signing::Key {
        &self.key
    }

    pub(crate) fn trusted(&self) -> &[signing::PublicKey] {
        &self.trusted
    }

    /// The public half of the key that signs, PEM.
    pub(crate) fn newest(&self) -> &str {
        self.trusted.first().map_or("", signing::PublicKey::pem)
    }
}

fn unreadable(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::DataDirUnusable, format!("a key can't be read: {error}"))
}

/// The keys of bundles in a ring.
pub(crate) fn signing(ring: &Keyring) -> Result<Signing, Refusal> {
    let trusted = ring.bundles.iter().map(|pem| signing::PublicKey::parse(pem)).collect::<Result<_, _>>();
    Ok(Signing { key: signing::Key::parse(&ring.bundle).map_err(unreadable)?, trusted: trusted.map_err(unreadable)? })
}

/// The keys of checkpoints in a ring, newest first.
pub(crate) fn log(ring: &Keyring) -> Result<Vec<ledger::Key>, Refusal> {
    ring.log.iter().map(|text| ledger::Key::parse(text).map_err(unreadable)).collect()
}

/// How keys are named where people compare them: a log's public key as it is, SHA-256 of the PEM of others.
fn public(ring: &Keyring, kind: KeyKind) -> Result<Vec<String>, Refusal> {
    let digest = |pem: &String| Digest::of(pem.as_bytes()).to_string();
    Ok(match kind {
        KeyKind::Ca => ring.ca.iter().map(digest).collect(),
        KeyKind::Bundle => ring.bundles.iter().map(digest).collect(),
        KeyKind::Log => log(ring)?.iter().map(|key| key.public().to_owned()).collect(),
    })
}

impl Registry {
    /// Replaces a key, or retires the one before; one transaction notes what is in force from now on.
    pub(crate) async fn change(&self, request: ChangeKey) -> Result<Receipt, Refusal> {
        let ChangeKey { actor, key, retire } = request;
        let _writing = self.writing.lock().await;
        if retire {
            // Nothing is left that the key before alone has signed: the newest checkpoint, or a bundle that could not be
            // signed again when its key was made.
            self.sequencer.drain().await?;
            self.sign_again().await?;
        }
        let ring = self.supervisor.change_key(supervisor::ChangeKey { key, retire }).await?;
        self.signing.replace(signing(&ring)?);
        self.sequencer.replace(log(&ring)?).await;
        let receipt = self.note_keys(&actor, &ring).await?;
        if !retire {
            self.sign_again().await?;
        }
        Ok(receipt)
    }

    /// Records the keys in force where they are others than those recorded last; so a change that was cut short between
    /// the keys' files and the catalog has its record too.
    pub(crate) async fn note_keys(&self, actor: &str, ring: &Keyring) -> Result<Receipt, Refusal> {
        let mut receipt = self.sequencer.newest();
        for kind in KeyKind::ALL {
            let now = KeyRecord { key: kind, public: public(ring, kind)?, since: self.clock.now() };
            let known = self.catalog.get(Collection::Key, kind.as_str()).await?;
            let known = known.as_ref().map(Document::read::<KeyRecord>).transpose()?;
            if known.is_some_and(|known| known.public == now.public) {
                continue;
            }
            let write = Write::put(Collection::Key, kind.as_str(), Expect::Any, &now)?;
            let detail = serde_json::json!({ "public": now.public });
            receipt = self.commit(vec![write], "key.change", None, actor, &format!("key:{kind}"), detail).await?;
        }
        Ok(receipt)
    }

    /// The keys in force.
    pub(crate) async fn key_records(&self) -> Result<Vec<KeyRecord>, Refusal> {
        let documents = read_all(&*self.catalog, Collection::Key, "").await?;
        Ok(documents.iter().map(Document::read).collect::<Result<_, _>>()?)
    }

    /// Every bundle that may be loaded.
    async fn bundles(&self) -> Result<Vec<Digest>, Refusal> {
        let mut digests = Vec::new();
        for document in read_all(&*self.catalog, Collection::Version, "").await? {
            digests.push(document.read::<VersionRecord>()?.digest);
        }
        for document in read_all(&*self.catalog, Collection::Snapshot, "").await? {
            digests.push(document.read::<Snapshot>()?.digest);
        }
        Ok(digests)
    }

    /// Signs every bundle again that the newest key has not signed; there is none while there is one key alone.
    pub(crate) async fn sign_again(&self) -> Result<(), Refusal> {
        let signing = self.signing.current();
        let [newest, _, ..] = signing.trusted() else { return Ok(()) };
        for digest in self.bundles().await? {
            let signature = match self.artefacts.read(digest, SIGNATURE_FILE).await {
                Ok(signature) => signature,
                // Deployed anew, it is signed anew.
                Err(store::Error::Missing(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            if signing::signed_by(&signature, newest) {
                continue;
            }
            match signing.key().sign_again(&signature, signing.trusted(), digest) {
                Ok(signed) => self.artefacts.replace(digest, SIGNATURE_FILE, &signed).await?,
                Err(error) => {
                    tracing::warn!(%digest, %error, "a bundle was changed, and is not signed again: it can't be loaded");
                }
            }
        }
        Ok(())
    }
}
