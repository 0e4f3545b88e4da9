//! An issuer of JSON Web Tokens: a P-256 key, the tokens it signs, and the set that holds its public half.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::KeyPair;
use serde_json::{Value, json};

/// An issuer with one key.
pub struct Issuer {
    id: String,
    pair: KeyPair,
}

impl Issuer {
    /// An issuer whose key has this id.
    pub fn new(id: &str) -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key can be made");
        Self { id: id.to_owned(), pair }
    }

    /// The public half, as an entry of a key set.
    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key_raw();
        let half = |range: std::ops::Range<usize>| BASE64_URL_SAFE_NO_PAD.encode(&point[range]);
        json!({ "kty": "EC", "crv": "P-256", "kid": self.id, "use": "sig", "alg": "ES256", "x": half(1..33), "y": half(33..65) })
    }

    /// A token that says this.
    pub fn token(&self, claims: &Value) -> String {
        access::tls::install_provider();
        let header = Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        encode(&header, claims, &key).expect("claims can be signed")
    }
}
