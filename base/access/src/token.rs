//! API tokens: `mnt_<id>_<secret>`, 256 random bits kept as SHA-256.

use std::{fmt, str::FromStr};

use rand::Rng as _;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use types::{CallerName, Digest, Namespace, Role, Timestamp};
use zeroize::Zeroizing;

/// The public part of a token, by which its record is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(String);

impl TokenId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for TokenId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;

/// Text that has not the form of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token looks like mnt_<{} hex digits>_<{} hex digits>", ID_BYTES * 2, SECRET_BYTES * 2)]
pub struct Malformed;

/// A whole token; its secret is wiped from memory when dropped and never printed by `Debug`.
#[derive(Clone)]
pub struct Token {
    id: TokenId,
    secret: Zeroizing<String>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mnt_{}_…", self.id)
    }
}

/// 256 random bits from the system, for whatever must not be guessed.
#[expect(clippy::disallowed_methods, reason = "secrets come from the system's randomness and nowhere else")]
pub fn random() -> Zeroizing<[u8; SECRET_BYTES]> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    rand::rng().fill_bytes(secret.as_mut());
    secret
}

impl Token {
    /// Makes a new token from the system's randomness.
    pub fn generate() -> Self {
        let (id, secret) = (random(), random());
        Self { id: TokenId(hex::encode(&id[..ID_BYTES])), secret: Zeroizing::new(hex::encode(secret.as_ref())) }
    }

    /// The public part.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// What is kept of the secret.
    pub fn digest(&self) -> Digest {
        Digest::of(self.secret.as_bytes())
    }

    /// The token as its holder sends it.
    pub fn expose(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("mnt_{}_{}", self.id, *self.secret))
    }
}

impl FromStr for Token {
    type Err = Malformed;
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (id, secret) = text.strip_prefix("mnt_").and_then(|rest| rest.split_once('_')).ok_or(Malformed)?;
        let hex = |part: &str, bytes: usize| {
            part.len() == bytes * 2 && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !hex(id, ID_BYTES) || !hex(secret, SECRET_BYTES) {
            return Err(Malformed);
        }
        Ok(Self { id: TokenId(id.to_owned()), secret: Zeroizing::new(secret.to_owned()) })
    }
}

/// What is known of a token: everything but its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// By which it is found.
    pub id: TokenId,
    /// SHA-256 of the secret's text.
    pub digest: Digest,
    /// Whose it is.
    pub namespace: Namespace,
    /// Whose it is, inside the namespace.
    pub caller: CallerName,
    /// What its holder may be.
    pub roles: Vec<Role>,
    /// Whether it may act in any namespace by naming it.
    #[serde(default)]
    pub node_wide: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it stops working.
    #[serde(default)]
    pub expires: Option<Timestamp>,
}

impl TokenRecord {
    /// Whether this is the record of that token; takes the same time for every wrong secret.
    pub fn fits(&self, token: &Token) -> bool {
        self.digest.0.ct_eq(&token.digest().0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_hides_its_secret() {
        let token = Token::generate();
        let text = token.expose();
        let again: Token = text.parse().unwrap();
        assert_eq!(again.digest(), token.digest());
        assert!(!format!("{token:?}").contains(text.rsplit('_').next().unwrap()));
    }

    #[test]
    fn other_texts_are_no_tokens() {
        let token = Token::generate().expose();
        for bad in
            ["", "mnt_", "mnt__", "Bearer x", &token[..token.len() - 1], &token.to_uppercase(), &format!("{}0", *token)]
        {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}
