//! Keys that are the same in every run, so that a corpus stays good. They guard nothing.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use p256::pkcs8::EncodePrivateKey as _;
use sha2::{Digest as _, Sha256};

/// The kind of a log's key, in C2SP's numbering.
pub(super) const LOG: u8 = 1;
/// The kind of a witness's key.
pub(super) const WITNESS: u8 = 4;

/// A C2SP signer key and its verifier key, made from one byte.
pub(super) fn note(kind: u8, name: &str, seed: u8) -> (String, String) {
    let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
    let public = [&[kind][..], key.verifying_key().as_bytes()].concat();
    let hashed = Sha256::digest([name.as_bytes(), b"\n", &public].concat());
    let id = hex::encode(&hashed[..4]);
    let secret = BASE64_STANDARD.encode([&[kind][..], key.as_bytes()].concat());
    let public = BASE64_STANDARD.encode(public);
    (format!("PRIVATE+KEY+{name}+{id}+{secret}"), format!("{name}+{id}+{public}"))
}

/// A P-256 key, made from one byte.
pub(super) fn p256(seed: u8) -> p256::ecdsa::SigningKey {
    p256::ecdsa::SigningKey::from_slice(&[seed; 32]).expect("small numbers are keys")
}

/// The same in PKCS#8 PEM.
pub(super) fn pem(key: &p256::ecdsa::SigningKey) -> String {
    let pem = p256::SecretKey::from(key).to_pkcs8_pem(Default::default()).expect("a key can be written");
    pem.to_string()
}
