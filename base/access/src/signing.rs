//! Bundle signatures in the OpenSSF Model Signing format, so that other people's verifiers agree.
//!
//! A signature is a Sigstore bundle (JSON): a DSSE envelope around an in-toto statement that lists every file
//! with its SHA-256, signed with ECDSA P-256. Verified are, in this order, the signature over the bytes as
//! received, the root digest, and that the files are exactly those listed. Only the method `files` with
//! `sha256` is accepted, and a signed list of ignored paths is not honoured: it could hide unsigned files.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p256::{
    ecdsa::{
        DerSignature, SigningKey, VerifyingKey,
        signature::{Signer as _, Verifier as _},
    },
    pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _, LineEnding},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use types::Digest;
use zeroize::Zeroizing;

/// The model's file name inside a bundle, also what its manifest calls it.
pub const MODEL_FILE: &str = "model.onnx";
/// The state of a streaming model in a bundle.
pub const STATE_FILE: &str = "model.state";
/// The manifest's file name inside a bundle.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The signature's file name inside a bundle.
pub const SIGNATURE_FILE: &str = "model.sig";

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";
/// Paths the format leaves out by default.
const IGNORED: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// Why a bundle is not trusted, or a key is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum Error {
    #[error("the key can't be read: {0}")]
    Key(String),
    #[error("the signature file can't be read: {0}")]
    Malformed(String),
    #[error("the bundle is signed by a key that is not trusted")]
    UnknownKey,
    #[error("the signature does not fit the signed statement")]
    Signature,
    #[error("the signed statement is of another kind: {0}")]
    Statement(String),
    #[error("file `{0}` is not the one that was signed")]
    Changed(String),
    #[error("file `{0}` is missing")]
    Missing(String),
    #[error("file `{0}` is not part of the signed bundle")]
    Extra(String),
}

/// The key that signs bundles (ECDSA P-256).
pub struct Key {
    signing: SigningKey,
    pem: Zeroizing<String>,
}

impl Key {
    /// Makes a new key from the system's randomness.
    ///
    /// # Errors
    /// When the system has none.
    pub fn generate() -> Result<Self, Error> {
        let pair =
            rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|e| Error::Key(e.to_string()))?;
        Self::parse(&Zeroizing::new(pair.serialize_pem()))
    }

    /// Reads a key from PKCS#8 PEM.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(pem: &str) -> Result<Self, Error> {
        let signing = SigningKey::from_pkcs8_pem(pem).map_err(|e| Error::Key(e.to_string()))?;
        Ok(Self { signing, pem: Zeroizing::new(pem.to_owned()) })
    }

    /// The private key, PEM, for a file that only its owner may read.
    pub fn secret(&self) -> &str {
        &self.pem
    }

    /// The public key.
    ///
    /// # Errors
    /// None that can happen with a key that was read.
    pub fn public(&self) -> Result<PublicKey, Error> {
        let pem = self
            .signing
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|error| Error::Key(error.to_string()))?;
        PublicKey::parse(&pem)
    }

    /// Signs a folder, given the digest of each of its files; returns the signature file.
    ///
    /// # Errors
    /// None that can happen with a key that was read.
    pub fn sign(&self, name: &str, files: &BTreeMap<String, Digest>) -> Result<Vec<u8>, Error> {
        let resources: Vec<Resource> = in_order(files)
            .into_iter()
            .map(|(name, digest)| Resource {
                name: name.clone(),
                algorithm: "sha256".into(),
                digest: digest.to_string(),
            })
            .collect();
        let statement = Statement {
            kind: STATEMENT.into(),
            subject: vec![Subject {
                name: name.to_owned(),
                digest: BTreeMap::from([("sha256".into(), root(files).to_string())]),
            }],
            predicate_type: PREDICATE.into(),
            predicate: Predicate {
                resources,
                serialization: Serialization {
                    method: "files".into(),
                    hash_type: "sha256".into(),
                    allow_symlinks: false,
                    ignore_paths: IGNORED.iter().map(|s| (*s).to_owned()).chain([SIGNATURE_FILE.to_owned()]).collect(),
                },
            },
        };
        let payload = serde_json::to_vec(&statement).map_err(|e| Error::Malformed(e.to_string()))?;
        let signature: DerSignature = self.signing.sign(&encoding(&payload));
        let bundle = Bundle {
            media_type: MEDIA_TYPE.into(),
            verification_material: Material {
                public_key: Some(KeyHint { hint: self.public()?.hint }),
                tlog_entries: Vec::new(),
            },
            dsse_envelope: Envelope {
                payload: STANDARD.encode(&payload),
                payload_type: PAYLOAD_TYPE.into(),
                signatures: vec![EnvelopeSignature {
                    sig: STANDARD.encode(signature.as_bytes()),
                    keyid: String::new(),
                }],
            },
        };
        serde_json::to_vec_pretty(&bundle).map_err(|e| Error::Malformed(e.to_string()))
    }
}

impl Key {
    /// Signs again what a trusted key has signed, if it is the folder of this digest.
    ///
    /// # Errors
    /// As [`verify`], for the signature there is.
    pub fn sign_again(&self, signature: &[u8], trusted: &[PublicKey], digest: Digest) -> Result<Vec<u8>, Error> {
        let (name, files) = signed_files(signature, trusted)?;
        if root(&files) != digest {
            return Err(Error::Statement("it is of another bundle".into()));
        }
        self.sign(&name, &files)
    }
}

/// A key that bundles may be signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    pem: String,
    hint: String,
    verifying: VerifyingKey,
}

impl PublicKey {
    /// Reads a key from SPKI PEM.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(pem: &str) -> Result<Self, Error> {
        let verifying = VerifyingKey::from_public_key_pem(pem).map_err(|e| Error::Key(e.to_string()))?;
        let pem = verifying.to_public_key_pem(LineEnding::LF).map_err(|e| Error::Key(e.to_string()))?;
        let hint = hex::encode(Sha256::digest(pem.as_bytes()));
        Ok(Self { pem, hint, verifying })
    }

    /// SHA-256 of the key in PEM, as signatures name it.
    pub fn fingerprint(&self) -> &str {
        &self.hint
    }

    /// The key in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

/// The digest of a folder: SHA-256 over its files' raw digests, in the order of their paths' components.
pub fn root(files: &BTreeMap<String, Digest>) -> Digest {
    let mut hasher = Sha256::new();
    for (_, digest) in in_order(files) {
        hasher.update(digest.0);
    }
    Digest(hasher.finalize().into())
}

/// The format sorts by path components, not by text: `a/z` comes before `a-b/c`.
fn in_order(files: &BTreeMap<String, Digest>) -> Vec<(&String, &Digest)> {
    let mut files: Vec<_> = files.iter().collect();
    files.sort_by(|(a, _), (b, _)| a.split('/').cmp(b.split('/')));
    files
}

/// Verifies a signature file against trusted keys and the digests of the files that are really there.
///
/// `files` must not hold the signature file itself. Returns the folder's digest.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(signature: &[u8], trusted: &[PublicKey], files: &BTreeMap<String, Digest>) -> Result<Digest, Error> {
    let (_, listed) = signed_files(signature, trusted)?;
    let ignored = |path: &str| IGNORED.contains(&path.split('/').next().unwrap_or_default());
    for (path, digest) in files {
        match listed.get(path) {
            None if ignored(path) => {}
            None => return Err(Error::Extra(path.clone())),
            Some(signed) if signed != digest => return Err(Error::Changed(path.clone())),
            Some(_) => {}
        }
    }
    match listed.keys().find(|path| !files.contains_key(*path)) {
        Some(path) => Err(Error::Missing(path.clone())),
        None => Ok(root(&listed)),
    }
}

/// Whether a signature file holds a signature of this key over its own list; what is listed is not looked at.
pub fn signed_by(signature: &[u8], key: &PublicKey) -> bool {
    signed_files(signature, std::slice::from_ref(key)).is_ok()
}

/// The one of these keys that made a signature, and the files it is over.
///
/// # Errors
/// As [`verify`], as far as the signature itself goes.
pub fn signed_by_one<'a>(
    signature: &[u8],
    keys: &'a [PublicKey],
) -> Result<(&'a PublicKey, BTreeMap<String, Digest>), Error> {
    let mut first = Err(Error::UnknownKey);
    for key in keys {
        match signed_files(signature, std::slice::from_ref(key)) {
            Ok((_, files)) => return Ok((key, files)),
            Err(Error::UnknownKey) => {}
            Err(error) => first = Err(error),
        }
    }
    first
}

/// What a trusted key has signed: the folder's name, and its files.
fn signed_files(signature: &[u8], trusted: &[PublicKey]) -> Result<(String, BTreeMap<String, Digest>), Error> {
    let malformed = |error: &dyn std::fmt::Display| Error::Malformed(error.to_string());
    let bundle: Bundle = serde_json::from_slice(signature).map_err(|e| malformed(&e))?;
    if bundle.media_type != MEDIA_TYPE || bundle.dsse_envelope.payload_type != PAYLOAD_TYPE {
        return Err(Error::Malformed("it is no Model Signing bundle v0.3 with a key".into()));
    }
    let hint = bundle.verification_material.public_key.ok_or(Error::UnknownKey)?.hint;
    let key = trusted.iter().find(|key| key.hint == hint).ok_or(Error::UnknownKey)?;
    let [signed] = bundle.dsse_envelope.signatures.as_slice() else {
        return Err(Error::Malformed("it has not exactly one signature".into()));
    };
    let payload = STANDARD.decode(&bundle.dsse_envelope.payload).map_err(|e| malformed(&e))?;
    let der = STANDARD.decode(&signed.sig).map_err(|e| malformed(&e))?;
    let der = DerSignature::from_bytes(&der).map_err(|e| malformed(&e))?;
    key.verifying.verify(&encoding(&payload), &der).map_err(|_| Error::Signature)?;

    let mut statement: Statement = serde_json::from_slice(&payload).map_err(|e| malformed(&e))?;
    let listed = listed_files(&statement)?;
    let (Some(subject), []) = (statement.subject.pop(), statement.subject.as_slice()) else {
        return Err(Error::Statement("it has not exactly one subject".into()));
    };
    if subject.digest.get("sha256") != Some(&root(&listed).to_string()) {
        return Err(Error::Statement("its root digest is not that of its list".into()));
    }
    Ok((subject.name, listed))
}

fn listed_files(statement: &Statement) -> Result<BTreeMap<String, Digest>, Error> {
    let wrong = |what: &str| Err(Error::Statement(what.to_owned()));
    let Predicate { resources, serialization } = &statement.predicate;
    if statement.kind != STATEMENT || statement.predicate_type != PREDICATE {
        return wrong("it is no model signature v1.0");
    }
    if serialization.method != "files" || serialization.hash_type != "sha256" || serialization.allow_symlinks {
        return wrong("only the method `files` with `sha256` and without symlinks is accepted");
    }
    let mut listed = BTreeMap::new();
    let mut previous: Option<Vec<&str>> = None;
    for resource in resources {
        let components: Vec<&str> = resource.name.split('/').collect();
        if previous.as_ref().is_some_and(|p| *p >= components) {
            return wrong("its files are not in order");
        }
        let Ok(digest) = resource.digest.parse() else { return wrong("a digest can't be read") };
        if resource.algorithm != "sha256" || components.iter().any(|c| matches!(*c, "" | "..")) {
            return wrong("a resource has another algorithm or a path that leaves the folder");
        }
        listed.insert(resource.name.clone(), digest);
        previous = Some(components);
    }
    Ok(listed)
}

/// DSSE's pre-authentication encoding.
fn encoding(payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    public_key: Option<KeyHint>,
    #[serde(default)]
    tlog_entries: Vec<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
struct KeyHint {
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Serialize, Deserialize)]
struct EnvelopeSignature {
    sig: String,
    #[serde(default)]
    keyid: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Predicate {
    resources: Vec<Resource>,
    serialization: Serialization,
}

#[derive(Serialize, Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> BTreeMap<String, Digest> {
        ["a/z", "a-b/c", "a.txt", "model.onnx"].into_iter().map(|n| (n.to_owned(), Digest::of(n.as_bytes()))).collect()
    }

    #[test]
    fn a_signature_verifies_with_its_key_and_files_only() {
        let (key, other) = (Key::generate().unwrap(), Key::generate().unwrap());
        let trusted = [key.public().unwrap()];
        let signature = key.sign("m", &files()).unwrap();
        assert_eq!(verify(&signature, &trusted, &files()), Ok(root(&files())));
        assert_eq!(verify(&signature, &[other.public().unwrap()], &files()), Err(Error::UnknownKey));

        let mut changed = files();
        changed.insert("a/z".into(), Digest::of(b"else"));
        assert_eq!(verify(&signature, &trusted, &changed), Err(Error::Changed("a/z".into())));
        let mut extra = files();
        extra.insert("b".into(), Digest::of(b""));
        assert_eq!(verify(&signature, &trusted, &extra), Err(Error::Extra("b".into())));
        let mut missing = files();
        missing.remove("a.txt");
        assert_eq!(verify(&signature, &trusted, &missing), Err(Error::Missing("a.txt".into())));
    }

    /// Found by fuzzing: a path that is left out by default was not compared when it was signed all the same.
    #[test]
    fn what_is_left_out_by_default_counts_once_it_is_signed() {
        let key = Key::generate().unwrap();
        let trusted = [key.public().unwrap()];
        let mut more = files();
        more.insert(".git/config".into(), Digest::of(b"one"));
        assert!(verify(&key.sign("m", &files()).unwrap(), &trusted, &more).is_ok());
        let signature = key.sign("m", &more).unwrap();
        assert_eq!(verify(&signature, &trusted, &more), Ok(root(&more)));
        more.insert(".git/config".into(), Digest::of(b"two"));
        assert_eq!(verify(&signature, &trusted, &more), Err(Error::Changed(".git/config".into())));
    }

    #[test]
    fn files_are_ordered_by_components() {
        let order: Vec<String> = in_order(&files()).into_iter().map(|(n, _)| n.clone()).collect();
        assert_eq!(order, ["a/z", "a-b/c", "a.txt", "model.onnx"]);
    }

    #[test]
    fn no_byte_of_the_payload_or_signature_can_change() {
        let key = Key::generate().unwrap();
        let trusted = [key.public().unwrap()];
        let signature = key.sign("m", &files()).unwrap();
        let bundle: serde_json::Value = serde_json::from_slice(&signature).unwrap();
        for pointer in ["/dsseEnvelope/payload", "/dsseEnvelope/signatures/0/sig"] {
            let text = bundle.pointer(pointer).and_then(|v| v.as_str()).unwrap().to_owned();
            for at in 0..text.len() {
                let mut edited = text.clone().into_bytes();
                edited[at] = if edited[at] == b'A' { b'B' } else { b'A' };
                let mut forged = bundle.clone();
                *forged.pointer_mut(pointer).unwrap() = String::from_utf8(edited).unwrap().into();
                let result = verify(&serde_json::to_vec(&forged).unwrap(), &trusted, &files());
                assert!(result.is_err(), "{pointer} at {at}");
            }
        }
    }
}
