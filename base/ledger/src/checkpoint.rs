//! Signed checkpoints: a log's size and root under its key.

use signed_note::{Note, Signature, Signer, StandardSigner, StandardVerifier, Verifier as _, VerifierList};
use tlog_tiles::{Checkpoint, Hash};
use zeroize::Zeroizing;

/// A key that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("no valid log key: {0}")]
pub struct KeyError(String);

/// The log's signing key (Ed25519); its text form is a C2SP signer key and stays secret.
pub struct Key {
    signer: StandardSigner,
    secret: Zeroizing<String>,
    public: String,
}

impl Key {
    /// Makes a new key for the log called `origin`, from the system's randomness.
    ///
    /// # Errors
    /// When `origin` holds spaces or `+`.
    pub fn generate(origin: &str) -> Result<Self, KeyError> {
        let (secret, public) = signed_note::generate_key(&mut rand_core::OsRng, origin);
        Self::parse(&format!("{secret}\n{public}\n"))
    }

    /// Reads a key from the text that [`Key::secret`] gave.
    ///
    /// # Errors
    /// When the text is no signer key followed by its verifier key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut lines = text.lines();
        let (secret, public) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let signer = StandardSigner::new(secret).map_err(|error| KeyError(error.to_string()))?;
        TrustedKey::parse(public)?;
        Ok(Self { signer, secret: Zeroizing::new(text.to_owned()), public: public.to_owned() })
    }

    /// The secret text, for a file that only its owner may read.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// The public text that verifiers trust, without a newline.
    pub fn public(&self) -> &str {
        &self.public
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.signer.name()
    }

    /// Signs size and root; the bytes are a C2SP checkpoint.
    ///
    /// # Errors
    /// When the origin can't stand in a checkpoint.
    pub fn sign(&self, size: u64, root: Hash) -> Result<Vec<u8>, KeyError> {
        sign(std::slice::from_ref(self), size, root)
    }
}

/// Signs size and root with every one of these keys of one log.
///
/// # Errors
/// When there is no key, or the origin can't stand in a checkpoint.
pub fn sign(keys: &[Key], size: u64, root: Hash) -> Result<Vec<u8>, KeyError> {
    let wrong = |error: String| KeyError(error);
    let origin = keys.first().ok_or_else(|| wrong("there is none".into()))?.origin();
    let text = Checkpoint::new(origin, size, root, "").map_err(|e| wrong(e.to_string()))?.to_bytes();
    let mut note = Note::new(&text, &[]).map_err(|e| wrong(e.to_string()))?;
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| &key.signer as &dyn Signer).collect();
    note.add_sigs(&signers).map_err(|e| wrong(e.to_string()))?;
    Ok(note.to_bytes())
}

/// The same checkpoint with the signature of this key alone.
///
/// # Errors
/// A sentence that says what is wrong, as from [`open_seen`].
pub fn only(bytes: &[u8], trusted: &TrustedKey) -> Result<Vec<u8>, String> {
    open_seen(bytes, trusted)?;
    let verifier = StandardVerifier::new(&trusted.text).map_err(|error| error.to_string())?;
    let foreign = |line: &[u8]| {
        Signature::from_bytes(line.trim_ascii_end()).is_ok_and(|signature| signature.id() != verifier.key_id())
    };
    Ok(bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| !foreign(line)).flatten().copied().collect())
}

/// The key a verifier trusts.
pub struct TrustedKey {
    text: String,
    origin: String,
}

impl TrustedKey {
    /// Reads a C2SP verifier key; one trailing newline is allowed.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        StandardVerifier::new(text).map_err(|error| KeyError(error.to_string()))?;
        let origin = text.split('+').next().unwrap_or_default().to_owned();
        Ok(Self { text: text.to_owned(), origin })
    }

    /// The key as text, without a newline.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl KeyError {
    pub(crate) fn new(what: &str) -> Self {
        Self(what.to_owned())
    }
}

/// Opens a checkpoint signed by exactly this key and no other: its size and root.
///
/// Every byte counts: what parses but is not written the one right way is refused.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn open(bytes: &[u8], trusted: &TrustedKey) -> Result<(u64, Hash), String> {
    let opened = open_seen(bytes, trusted)?;
    let lines = bytes.split(|b| *b == b'\n').filter(|line| line.starts_with("\u{2014} ".as_bytes())).count();
    if lines != 1 {
        return Err("the checkpoint carries signatures of keys that are not trusted".into());
    }
    Ok(opened)
}

/// As [`open`], for a checkpoint that witnesses may have cosigned: what keys that are not known say is passed over.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn open_seen(bytes: &[u8], trusted: &TrustedKey) -> Result<(u64, Hash), String> {
    let note = Note::from_bytes(bytes).map_err(|error| format!("the checkpoint can't be read: {error}"))?;
    if note.to_bytes() != bytes {
        return Err("the checkpoint is not written in canonical form".into());
    }
    let verifier = StandardVerifier::new(&trusted.text).map_err(|error| error.to_string())?;
    note.verify(&VerifierList::new(vec![Box::new(verifier)]))
        .map_err(|error| format!("the checkpoint is not signed by the trusted key: {error}"))?;
    let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|error| error.to_string())?;
    if checkpoint.origin() != trusted.origin || checkpoint.to_bytes() != note.text() {
        return Err("the checkpoint belongs to another log".into());
    }
    Ok((checkpoint.size(), *checkpoint.hash()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_opens_with_its_key_and_with_no_other() {
        let (key, other) = (Key::generate("a.example/log").unwrap(), Key::generate("a.example/log").unwrap());
        let signed = key.sign(7, Hash([9; 32])).unwrap();
        let opened = open(&signed, &TrustedKey::parse(key.public()).unwrap()).unwrap();
        assert_eq!(opened, (7, Hash([9; 32])));
        assert!(open(&signed, &TrustedKey::parse(other.public()).unwrap()).is_err());
        let again = Key::parse(key.secret()).unwrap();
        assert_eq!(again.sign(7, Hash([9; 32])).unwrap(), signed, "Ed25519 signs the same way each time");
    }

    #[test]
    fn a_checkpoint_of_two_keys_is_seen_by_both_and_can_be_cut_to_either() {
        let (new, old) = (Key::generate("a.example/log").unwrap(), Key::generate("a.example/log").unwrap());
        let trusted = [&new, &old].map(|key| TrustedKey::parse(key.public()).unwrap());
        let alone = [&new, &old].map(|key| key.sign(7, Hash([9; 32])).unwrap());
        let both = sign(&[new, old], 7, Hash([9; 32])).unwrap();
        for (trusted, alone) in trusted.iter().zip(alone) {
            assert_eq!(open_seen(&both, trusted).unwrap(), (7, Hash([9; 32])));
            assert!(open(&both, trusted).is_err(), "a signature that can't be checked is no part of an export");
            assert_eq!(only(&both, trusted).unwrap(), alone);
        }
        assert!(sign(&[], 7, Hash([9; 32])).is_err());
    }

    #[test]
    fn no_bit_of_a_checkpoint_can_change() {
        let key = Key::generate("a.example/log").unwrap();
        let signed = key.sign(300, Hash([5; 32])).unwrap();
        let trusted = TrustedKey::parse(key.public()).unwrap();
        for bit in 0..signed.len() * 8 {
            let mut edited = signed.clone();
            edited[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&edited, &trusted).is_err(), "bit {bit}");
        }
    }
}
