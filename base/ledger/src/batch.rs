//! Events under one record: a batch's Merkle root stands in the log, its events stay outside.
//!
//! An event is kept as `nonce ‖ event`; its commitment is the SHA-256 of that, and the batch is a tree over the
//! commitments. The log shows the root alone: without the nonce (256 random bits) nobody can test a guess of an
//! event, and once the nonce is erased the event is forgotten while its neighbours can still be proved.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tlog_tiles::{Error, Hash, record_hash};

use crate::{Record, TrustedKey, checkpoint, export::Tree, proof::Inclusion};

/// Bytes of a nonce.
pub const NONCE: usize = 32;
/// The action of a batch's record.
pub const ACTION: &str = "predictions.batch";

/// An event with its nonce, as it is kept.
pub fn envelope(nonce: [u8; NONCE], event: &[u8]) -> Vec<u8> {
    [&nonce[..], event].concat()
}

/// The event in an envelope; `None` for one that was erased.
pub fn event(envelope: &[u8]) -> Option<&[u8]> {
    envelope.get(NONCE..).filter(|event| !event.is_empty())
}

/// What stands for an envelope in its batch.
pub fn commitment(envelope: &[u8]) -> Hash {
    Hash(Sha256::digest(envelope).into())
}

/// A batch: the tree over its commitments.
#[derive(Debug)]
pub struct Batch(Tree);

impl Batch {
    /// The batch over these commitments, in order.
    ///
    /// # Errors
    /// None that can happen.
    pub fn over(commitments: &[Hash]) -> Result<Self, Error> {
        Tree::over(commitments.iter().map(|hash| &hash.0[..])).map(Self)
    }

    /// Its root.
    ///
    /// # Errors
    /// None that can happen.
    pub fn root(&self) -> Result<Hash, Error> {
        self.0.root_at(self.0.size())
    }

    /// The way of one event up to the root.
    ///
    /// # Errors
    /// When there is no such event.
    pub fn prove(&self, index: u64) -> Result<Inclusion, Error> {
        self.0.prove(index, self.0.size())
    }
}

/// What a batch's record says in its detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// How many events.
    pub count: u64,
    /// The root over their commitments, in base64.
    pub root: String,
}

/// All it takes to check that an event was recorded: offline, against the log's key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventProof {
    /// The event, byte for byte.
    pub event: String,
    /// Its nonce, in hex.
    pub nonce: String,
    /// Its way to the root of its batch.
    pub batch: Inclusion,
    /// The batch's record, byte for byte.
    pub record: String,
    /// The record's way to the root of the log.
    pub log: Inclusion,
    /// The signed checkpoint that covers it.
    pub checkpoint: String,
}

impl EventProof {
    /// Checks every link, from the event to the signature.
    ///
    /// # Errors
    /// A sentence that says which link breaks.
    pub fn check(&self, trusted: &TrustedKey) -> Result<(), String> {
        let nonce: [u8; NONCE] = hex::decode(&self.nonce)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| format!("the nonce is not {NONCE} bytes in hex"))?;
        let record: Record = serde_json::from_str(&self.record).map_err(|error| format!("the record: {error}"))?;
        if record.action != ACTION {
            return Err(format!("the record is of `{}`, not of a batch", record.action));
        }
        let detail: Detail = serde_json::from_value(record.detail).map_err(|error| format!("the record: {error}"))?;
        let root = Hash::parse_hash(&detail.root).map_err(|_| "the record's root is no hash".to_owned())?;
        let leaf = record_hash(&commitment(&envelope(nonce, self.event.as_bytes())).0);
        if self.batch.size != detail.count || !self.batch.leads(leaf, root) {
            return Err("the event does not lead to the root of its batch".into());
        }
        let (size, root) = checkpoint::open(self.checkpoint.as_bytes(), trusted)?;
        if self.log.size != size || !self.log.leads(record_hash(self.record.as_bytes()), root) {
            return Err("the batch's record does not lead to the signed root of the log".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    /// A log of three records whose second is a batch of five events, and the proof of the fourth.
    fn proof() -> (EventProof, TrustedKey) {
        let events: Vec<Vec<u8>> = (0..5_u8).map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect();
        let envelopes: Vec<Vec<u8>> = events.iter().map(|event| envelope([7; NONCE], event)).collect();
        let batch = Batch::over(&envelopes.iter().map(|e| commitment(e)).collect::<Vec<_>>()).unwrap();
        let detail = Detail { count: 5, root: batch.root().unwrap().to_string() };
        let record = Record {
            v: 1,
            at: 1,
            action: ACTION.into(),
            namespace: None,
            actor: "gateway".into(),
            subject: "predictions".into(),
            detail: serde_json::to_value(detail).unwrap(),
        };
        let lines = [b"first".to_vec(), record.to_line(), b"third".to_vec()];
        let tree = Tree::over(lines.iter().map(Vec::as_slice)).unwrap();
        let key = Key::generate("mantlet.dev/test").unwrap();
        let proof = EventProof {
            event: String::from_utf8(events[3].clone()).unwrap(),
            nonce: hex::encode([7; NONCE]),
            batch: batch.prove(3).unwrap(),
            record: String::from_utf8(lines[1].clone()).unwrap(),
            log: tree.prove(1, 3).unwrap(),
            checkpoint: String::from_utf8(key.sign(3, tree.root_at(3).unwrap()).unwrap()).unwrap(),
        };
        (proof, TrustedKey::parse(key.public()).unwrap())
    }

    #[test]
    fn a_proof_holds_and_survives_json() {
        let (proof, key) = proof();
        proof.check(&key).unwrap();
        let text = serde_json::to_string(&proof).unwrap();
        serde_json::from_str::<EventProof>(&text).unwrap().check(&key).unwrap();
    }

    #[test]
    fn every_broken_link_is_named() {
        let (proof, key) = proof();
        let broken = |edit: &dyn Fn(&mut EventProof)| {
            let mut edited = proof.clone();
            edit(&mut edited);
            edited.check(&key).unwrap_err()
        };
        assert!(broken(&|p| p.event.push(' ')).contains("its batch"));
        assert!(broken(&|p| p.nonce = hex::encode([8; NONCE])).contains("its batch"));
        assert!(broken(&|p| p.nonce.clear()).contains("nonce"));
        assert!(broken(&|p| p.batch.index = 2).contains("its batch"));
        assert!(broken(&|p| p.batch.size = 6).contains("its batch"));
        assert!(broken(&|p| p.log.index = 0).contains("signed root"));
        assert!(broken(&|p| p.record = p.record.replace("gateway", "gateways")).contains("signed root"));
        assert!(broken(&|p| p.record = p.record.replace("predictions.batch", "caller.add")).contains("caller.add"));
        assert!(broken(&|p| p.checkpoint = p.checkpoint.replace("\n3\n", "\n4\n")).contains("checkpoint"));
        let other = Key::generate("mantlet.dev/test").unwrap();
        assert!(proof.check(&TrustedKey::parse(other.public()).unwrap()).is_err());
    }
}
