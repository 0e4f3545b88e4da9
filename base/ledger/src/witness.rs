//! Cosignatures: somebody else's word that they saw this checkpoint, and every earlier one as its start (C2SP
//! `tlog-cosignature`, version 1).
//!
//! A witness signs `cosignature/v1`, the time, and the checkpoint's text, with a key kept where the log's owner can't
//! reach it. It is its duty never to sign a checkpoint that does not continue the last one it signed.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use signed_note::{Note, Signature, Verifier, VerifierList, is_key_name_valid, key_id};
use tlog_tiles::Hash;
use zeroize::Zeroizing;

use crate::{
    TrustedKey,
    checkpoint::{self, KeyError},
};

/// The kind of a cosignature's key, in C2SP's numbering.
const COSIGNATURE: u8 = 4;

/// A witness's signing key; its text form stays secret.
pub struct WitnessKey {
    name: String,
    key: SigningKey,
}

impl WitnessKey {
    /// Makes a new key for the witness called `name`, from the system's randomness.
    ///
    /// # Errors
    /// When the name is empty or holds spaces or `+`.
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        if !is_key_name_valid(name) {
            return Err(KeyError::new("a witness's name has no spaces and no +"));
        }
        Ok(Self { name: name.to_owned(), key: SigningKey::generate(&mut rand_core::OsRng) })
    }

    /// Reads a key from the text that [`WitnessKey::secret`] gave.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError::new("it is no witness key");
        let rest = text.trim().strip_prefix("PRIVATE+KEY+").ok_or_else(wrong)?;
        let mut parts = rest.splitn(3, '+');
        let (name, id, key) = (parts.next(), parts.next(), parts.next());
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(key.ok_or_else(wrong)?).map_err(|_| wrong())?);
        let seed: &[u8; 32] = match bytes.split_first() {
            Some((&COSIGNATURE, seed)) => seed.try_into().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        let read = Self { name: name.ok_or_else(wrong)?.to_owned(), key: SigningKey::from_bytes(seed) };
        let fits = id.and_then(|id| u32::from_str_radix(id, 16).ok()) == Some(read.id());
        if fits && is_key_name_valid(&read.name) { Ok(read) } else { Err(wrong()) }
    }

    /// The secret text, for a file that only its owner may read.
    pub fn secret(&self) -> Zeroizing<String> {
        let bytes = Zeroizing::new([&[COSIGNATURE][..], self.key.as_bytes()].concat());
        Zeroizing::new(format!("PRIVATE+KEY+{}+{:08x}+{}", self.name, self.id(), BASE64_STANDARD.encode(&*bytes)))
    }

    /// The public text that verifiers trust.
    pub fn public(&self) -> String {
        format!("{}+{:08x}+{}", self.name, self.id(), BASE64_STANDARD.encode(encoded(&self.key.verifying_key())))
    }

    fn id(&self) -> u32 {
        key_id(&self.name, &encoded(&self.key.verifying_key()))
    }

    /// Adds this witness's cosignature to a checkpoint, in place of an older one of its own.
    ///
    /// # Errors
    /// When the checkpoint is not signed by the log's key.
    pub fn cosign(&self, checkpoint: &[u8], trusted: &TrustedKey, seconds: u64) -> Result<Vec<u8>, String> {
        checkpoint::open_seen(checkpoint, trusted)?;
        let mut note = Note::from_bytes(checkpoint).map_err(|error| error.to_string())?;
        let signature = self.key.sign(&message(seconds, note.text()));
        let bytes = [&seconds.to_be_bytes()[..], &signature.to_bytes()].concat();
        note.add_sigs(&[&Made { key: self, bytes }]).map_err(|error| error.to_string())?;
        Ok(note.to_bytes())
    }
}

/// A signature that was made already, as the note's own type takes it.
struct Made<'a> {
    key: &'a WitnessKey,
    bytes: Vec<u8>,
}

impl signed_note::Signer for Made<'_> {
    fn name(&self) -> &str {
        &self.key.name
    }

    fn key_id(&self) -> u32 {
        self.key.id()
    }

    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, ed25519_dalek::SignatureError> {
        Ok(self.bytes.clone())
    }
}

/// The key of a witness that a verifier trusts.
#[derive(Clone)]
pub struct TrustedWitness {
    name: String,
    key: VerifyingKey,
}

impl TrustedWitness {
    /// Reads a witness's public text; one trailing newline is allowed.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let wrong = || KeyError::new("it is no witness's public key");
        let mut parts = text.strip_suffix('\n').unwrap_or(text).splitn(3, '+');
        let (name, id, key) = (parts.next(), parts.next(), parts.next());
        let bytes = BASE64_STANDARD.decode(key.ok_or_else(wrong)?).map_err(|_| wrong())?;
        let name = name.filter(|name| is_key_name_valid(name)).ok_or_else(wrong)?.to_owned();
        let key = match bytes.split_first() {
            Some((&COSIGNATURE, key)) => VerifyingKey::try_from(key).map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        let fits = id.and_then(|id| u32::from_str_radix(id, 16).ok()) == Some(key_id(&name, &bytes));
        if fits { Ok(Self { name, key }) } else { Err(wrong()) }
    }

    /// Opens a checkpoint that the log's key signed and this witness cosigned: size, root, and when it was seen, in
    /// seconds since 1970.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn open(&self, bytes: &[u8], trusted: &TrustedKey) -> Result<(u64, Hash, u64), String> {
        let (size, root) = checkpoint::open_seen(bytes, trusted)?;
        let note = Note::from_bytes(bytes).map_err(|error| error.to_string())?;
        let known = VerifierList::new(vec![Box::new(self.clone())]);
        let (signatures, _) = note
            .verify(&known)
            .map_err(|error| format!("the checkpoint is not cosigned by `{}`: {error}", self.name))?;
        let seconds = signatures.first().and_then(seconds).ok_or("the cosignature has no time")?;
        Ok((size, root, seconds))
    }
}

fn seconds(signature: &Signature) -> Option<u64> {
    signature.signature().get(..8)?.try_into().ok().map(u64::from_be_bytes)
}

impl Verifier for TrustedWitness {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        key_id(&self.name, &encoded(&self.key))
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let Some((time, signature)) = signature.split_first_chunk::<8>() else { return false };
        let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return false };
        self.key.verify_strict(&message(u64::from_be_bytes(*time), text), &signature).is_ok()
    }
}

fn encoded(key: &VerifyingKey) -> Vec<u8> {
    [&[COSIGNATURE][..], key.as_bytes()].concat()
}

fn message(seconds: u64, text: &[u8]) -> Vec<u8> {
    [format!("cosignature/v1\ntime {seconds}\n").as_bytes(), text].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, export::Tree};

    #[test]
    fn a_cosigned_checkpoint_opens_with_both_keys_and_with_no_other() {
        let log = Key::generate("a.example/log").unwrap();
        let trusted = TrustedKey::parse(log.public()).unwrap();
        let root = Tree::over([&b"x"[..]]).unwrap().root_at(1).unwrap();
        let checkpoint = log.sign(1, root).unwrap();
        let key = WitnessKey::generate("witness.example").unwrap();
        let again = WitnessKey::parse(&key.secret()).unwrap();
        assert_eq!(again.public(), key.public());
        let witness = TrustedWitness::parse(&format!("{}\n", key.public())).unwrap();
        assert!(witness.open(&checkpoint, &trusted).unwrap_err().contains("not cosigned"));

        let cosigned = again.cosign(&checkpoint, &trusted, 1_700_000_000).unwrap();
        let (size, opened, seconds) = witness.open(&cosigned, &trusted).unwrap();
        assert_eq!((size, opened == root, seconds), (1, true, 1_700_000_000));
        checkpoint::open(&cosigned, &trusted).expect_err("an export's own checkpoint has one signature");
        checkpoint::open_seen(&cosigned, &trusted).unwrap();
        let newer = key.cosign(&cosigned, &trusted, 1_700_000_100).unwrap();
        assert_eq!(witness.open(&newer, &trusted).unwrap().2, 1_700_000_100);
        assert_eq!(newer.len(), cosigned.len(), "its older word is replaced");

        let other = TrustedWitness::parse(&WitnessKey::generate("witness.example").unwrap().public()).unwrap();
        assert!(other.open(&cosigned, &trusted).is_err());
        let stranger = TrustedKey::parse(Key::generate("a.example/log").unwrap().public()).unwrap();
        assert!(witness.open(&cosigned, &stranger).is_err() && key.cosign(&checkpoint, &stranger, 1).is_err());
        // A later time under the same signature.
        let text = String::from_utf8(cosigned.clone()).unwrap();
        let line = text.lines().last().unwrap();
        let (head, signature) = line.rsplit_once(' ').unwrap();
        let mut bytes = BASE64_STANDARD.decode(signature).unwrap();
        bytes[11] ^= 1;
        let forged = text.replace(line, &format!("{head} {}", BASE64_STANDARD.encode(bytes)));
        assert!(witness.open(forged.as_bytes(), &trusted).is_err());
    }

    #[test]
    fn other_texts_are_no_keys() {
        let key = WitnessKey::generate("w").unwrap();
        for bad in ["", "w", "w+00000000+AAAA", &key.secret(), &key.public()[1..]] {
            assert!(TrustedWitness::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "PRIVATE+KEY+w", &key.public()] {
            assert!(WitnessKey::parse(bad).is_err(), "{bad}");
        }
        assert!(WitnessKey::generate("a b").is_err() && WitnessKey::generate("").is_err());
    }
}
