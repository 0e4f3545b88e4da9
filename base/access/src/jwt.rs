//! JSON Web Tokens of one configured issuer: from a signed token to a caller's namespace, name and roles.
//!
//! Only asymmetric signatures count, and only by a key of the issuer's key set whose kind fits the algorithm: a token
//! that names `none`, an HMAC, or another kind of key is refused before anything in it is believed. Issuer, audience
//! and expiry are required; clocks may differ by a minute. The roles a token may give are named by the settings, so an
//! issuer can't make admins unless somebody here has said so.

use std::{collections::HashMap, sync::Arc};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header,
    jwk::{JwkSet, KeyAlgorithm, PublicKeyUse},
};
use parking_lot::RwLock;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use types::{CallerName, Code, Namespace, Refusal, Role, Timestamp};

/// How far clocks may differ, in milliseconds.
const SKEW: u64 = 60_000;
/// The longest token that is looked at, in bytes.
const LONGEST: usize = 8 << 10;
/// Keys of a set that are used, at most.
const KEYS: usize = 64;

/// What tokens must say, and where in them stands what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// The `iss` of every token.
    pub issuer: String,
    /// The `aud` of every token, or one of them.
    pub audience: String,
    /// The claim that names the namespace.
    pub namespace_claim: String,
    /// The claim that names the roles: an array, or words separated by spaces.
    pub roles_claim: String,
    /// The roles a token may give; others in it are passed over.
    pub roles: Vec<Role>,
}

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The caller's namespace.
    pub namespace: Namespace,
    /// The caller: `jwt.` and the token's subject; of a subject that is no name, its digest.
    pub caller: CallerName,
    /// What the caller may be.
    pub roles: Vec<Role>,
    /// When the token stops working.
    pub expires: Timestamp,
}

/// Checks tokens of one issuer by its newest key set.
pub struct Verifier {
    issuer: Issuer,
    keys: RwLock<Arc<HashMap<String, Key>>>,
}

struct Key {
    key: DecodingKey,
    family: AlgorithmFamily,
    only: Option<Algorithm>,
}

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unbelieved {
    /// Its key is not in the set; a newer set may have it.
    UnknownKey,
    /// It is refused, whatever keys there are.
    Refused(Refusal),
}

fn invalid(why: impl std::fmt::Display) -> Unbelieved {
    let refusal = Refusal::new(Code::CredentialInvalid, format!("the JWT is not accepted: {why}"));
    Unbelieved::Refused(refusal.hint("get a new one from the issuer that `mantlet config show` names"))
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "verifier of {} with {} keys", self.issuer.issuer, self.keys.read().len())
    }
}

impl Verifier {
    /// A verifier that knows no keys yet.
    pub fn new(issuer: Issuer) -> Self {
        Self { issuer, keys: RwLock::default() }
    }

    /// Takes the issuer's key set (RFC 7517) in; returns how many keys of it can be used.
    ///
    /// # Errors
    /// When it can't be read, or has no key that can be used; the keys known before stay.
    pub fn set_keys(&self, text: &[u8]) -> Result<usize, String> {
        let set: JwkSet = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let usable = set.keys.iter().filter_map(|jwk| {
            let signs = jwk.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
            let key = DecodingKey::from_jwk(jwk).ok().filter(|key| signs && key.family() != AlgorithmFamily::Hmac)?;
            let only = match jwk.common.key_algorithm {
                None => None,
                Some(named) => Some(signature(named)?),
            };
            let family = key.family();
            Some((jwk.common.key_id.clone()?, Key { key, family, only }))
        });
        let keys: HashMap<String, Key> = usable.take(KEYS).collect();
        if keys.is_empty() {
            return Err("it has no key with a `kid` for RSA, EC or Ed25519 signatures".into());
        }
        let count = keys.len();
        *self.keys.write() = Arc::new(keys);
        Ok(count)
    }

    /// Who the token speaks for.
    ///
    /// Verifying takes some tens of microseconds (RSA, Ed25519) to a hundred (EC).
    ///
    /// # Errors
    /// What is wrong with it, as far as is safe to say.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Bearer, Unbelieved> {
        if token.len() > LONGEST {
            return Err(invalid(format!("it has more than {LONGEST} bytes")));
        }
        let header = decode_header(token).map_err(|_| invalid("it can't be read"))?;
        let id = header.kid.ok_or_else(|| invalid("it names no key (`kid`)"))?;
        let keys = self.keys.read().clone();
        let key = keys.get(&id).ok_or(Unbelieved::UnknownKey)?;
        // The key decides which algorithms count, not the token.
        if header.alg.family() != key.family || key.only.is_some_and(|only| only != header.alg) {
            return Err(invalid("its algorithm does not fit its key"));
        }
        let mut wanted = Validation::new(header.alg);
        wanted.set_issuer(&[&self.issuer.issuer]);
        wanted.set_audience(&[&self.issuer.audience]);
        wanted.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
        // The time is an argument here.
        wanted.validate_exp = false;
        wanted.validate_nbf = false;
        let claims = decode::<Map<String, Value>>(token, &key.key, &wanted);
        let claims = claims.map_err(|error| invalid(reason(error.kind())))?.claims;
        self.read(&claims, now)
    }

    fn read(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Bearer, Unbelieved> {
        let seconds = |name: &str| {
            claims.get(name).map(|value| {
                let millis = value.as_f64().filter(|value| (0.0..1e12).contains(value)).map(|value| value * 1000.0);
                millis.map(|millis| Timestamp(millis as u64)).ok_or_else(|| invalid(format!("its `{name}` is no time")))
            })
        };
        let expires = seconds("exp").ok_or_else(|| invalid("it has no expiry"))??;
        if expires.0.saturating_add(SKEW) <= now.0 {
            return Err(Unbelieved::Refused(
                Refusal::new(Code::CredentialExpired, "the JWT has expired").hint("get a new one from its issuer"),
            ));
        }
        for name in ["nbf", "iat"] {
            if seconds(name).transpose()?.is_some_and(|from| from.0 > now.0.saturating_add(SKEW)) {
                return Err(invalid("it is from the future: compare the issuer's clock with this machine's"));
            }
        }
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let namespace = text(&self.issuer.namespace_claim)
            .ok_or_else(|| invalid(format!("it has no claim `{}`", self.issuer.namespace_claim)))?;
        let namespace = namespace.parse().map_err(|_| invalid("its namespace is no name"))?;
        let subject = text("sub").filter(|subject| !subject.is_empty()).ok_or_else(|| invalid("it has no subject"))?;
        let named: Vec<&str> = match claims.get(&self.issuer.roles_claim) {
            Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(words)) => words.split_whitespace().collect(),
            _ => Vec::new(),
        };
        let roles = self.issuer.roles.iter().copied().filter(|role| named.contains(&role.as_str())).collect();
        Ok(Bearer { namespace, caller: caller(subject).map_err(Unbelieved::Refused)?, roles, expires })
    }
}

/// The name of a subject; two subjects never share one.
fn caller(subject: &str) -> Result<CallerName, Refusal> {
    match format!("jwt.{subject}").parse() {
        // What looks like a digest is not taken as it is: it might be somebody's.
        Ok(name) if !subject.starts_with("sha256-") => Ok(name),
        _ => Ok(format!("jwt.sha256-{}", &hex::encode(Sha256::digest(subject))[..40]).parse()?),
    }
}

/// The signature algorithm that a key says it is for; none for other uses.
fn signature(named: KeyAlgorithm) -> Option<Algorithm> {
    let algorithm: Algorithm = named.to_string().parse().ok()?;
    (algorithm.family() != AlgorithmFamily::Hmac).then_some(algorithm)
}

fn reason(kind: &jsonwebtoken::errors::ErrorKind) -> String {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::InvalidSignature => "its signature is wrong".into(),
        ErrorKind::InvalidIssuer => "it is of another issuer".into(),
        ErrorKind::InvalidAudience => "it is for somebody else (`aud`)".into(),
        ErrorKind::MissingRequiredClaim(name) => format!("it has no claim `{name}`"),
        _ => "it can't be read".into(),
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use rcgen::KeyPair;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn base64url(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for place in 0..=chunk.len() {
                out.push(char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]));
            }
        }
        out
    }

    /// A P-256 key and the set that holds its public half.
    fn key(id: &str) -> (EncodingKey, Value) {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let point = pair.public_key_raw();
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "alg": "ES256",
            "x": base64url(&point[1..33]), "y": base64url(&point[33..65]),
        });
        (EncodingKey::from_ec_der(&pair.serialize_der()), jwk)
    }

    fn verifier(keys: &[&Value]) -> Verifier {
        crate::tls::install_provider();
        let verifier = Verifier::new(Issuer {
            issuer: "https://issuer.example".into(),
            audience: "mantlet".into(),
            namespace_claim: "namespace".into(),
            roles_claim: "roles".into(),
            roles: vec![Role::Caller, Role::Labeller],
        });
        verifier.set_keys(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        verifier
    }

    fn claims() -> Value {
        json!({
            "iss": "https://issuer.example", "aud": ["other", "mantlet"], "sub": "alice", "exp": NOW.0 / 1000 + 300,
            "iat": NOW.0 / 1000, "namespace": "bank", "roles": ["caller", "admin", "unheard-of"],
        })
    }

    fn token(key: &EncodingKey, id: &str, claims: &Value) -> String {
        let header = Header { kid: Some(id.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, claims, key).unwrap()
    }

    fn refused(outcome: Result<Bearer, Unbelieved>) -> (Code, String) {
        match outcome {
            Err(Unbelieved::Refused(refusal)) => (refusal.code, refusal.message.into_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_gives_namespace_name_and_no_more_roles_than_the_settings_let_it() {
        let (key, jwk) = key("k1");
        let bearer = verifier(&[&jwk]).verify(&token(&key, "k1", &claims()), NOW).unwrap();
        assert_eq!((bearer.namespace.as_str(), bearer.caller.as_str()), ("bank", "jwt.alice"));
        assert_eq!(bearer.roles, [Role::Caller]);
        assert_eq!(bearer.expires.0, NOW.0 + 300_000);
        assert_eq!(caller("auth0|123").unwrap(), caller("auth0|123").unwrap());
        assert_ne!(caller("auth0|123").unwrap(), caller("auth0/123").unwrap());
        let digest = caller("auth0|123").unwrap();
        assert_ne!(caller(digest.as_str().trim_start_matches("jwt.")).unwrap(), digest, "nobody takes another's name");
    }

    #[test]
    fn what_is_wrong_with_a_token_is_found() {
        let (key, jwk) = key("k1");
        let (verifier, good) = (verifier(&[&jwk]), claims());
        let with = |edit: &dyn Fn(&mut Value)| {
            let mut claims = good.clone();
            edit(&mut claims);
            refused(verifier.verify(&token(&key, "k1", &claims), NOW))
        };
        assert_eq!(with(&|c| c["exp"] = json!(NOW.0 / 1000 - 61)).0, Code::CredentialExpired);
        assert_eq!(with(&|c| c["exp"] = json!("soon")).0, Code::CredentialInvalid);
        assert!(with(&|c| c["nbf"] = json!(NOW.0 / 1000 + 61)).1.contains("future"));
        assert!(with(&|c| c["iat"] = json!(NOW.0 / 1000 + 9_999)).1.contains("future"));
        assert!(with(&|c| c["iss"] = json!("https://evil.example")).1.contains("issuer"));
        assert!(with(&|c| c["aud"] = json!("other")).1.contains("aud"));
        assert!(with(&|c| c["namespace"] = json!("../etc")).1.contains("namespace"));
        for missing in ["iss", "aud", "sub", "exp", "namespace"] {
            let (code, why) = with(&|c| drop(c.as_object_mut().unwrap().remove(missing)));
            assert_eq!(code, Code::CredentialInvalid, "{missing}: {why}");
        }
        assert!(verifier.verify(&token(&key, "k1", &good), Timestamp(NOW.0 + 359_000)).is_ok(), "within the skew");
    }

    #[test]
    fn only_a_key_of_the_set_signs_and_only_as_its_kind() {
        let ((key, jwk), (other, other_jwk)) = (key("k1"), self::key("k2"));
        let verifier = verifier(&[&jwk]);
        let good = token(&key, "k1", &claims());
        assert_eq!(verifier.verify(&token(&other, "k2", &claims()), NOW), Err(Unbelieved::UnknownKey));
        assert!(refused(verifier.verify(&token(&other, "k1", &claims()), NOW)).1.contains("signature"));
        let (head, rest) = good.split_once('.').unwrap();
        let (body, signature) = rest.split_once('.').unwrap();
        let header = |text: &str| base64url(text.as_bytes());
        for forged in [
            format!("{}.{body}.", header(r#"{"alg":"none","kid":"k1"}"#)),
            format!("{}.{body}.{signature}", header(r#"{"alg":"none","kid":"k1"}"#)),
            format!("{}.{body}.{signature}", header(r#"{"alg":"HS256","kid":"k1"}"#)),
            format!("{}.{body}.{signature}", header(r#"{"alg":"RS256","kid":"k1"}"#)),
            format!("{}.{body}.{signature}", header(r#"{"alg":"ES384","kid":"k1"}"#)),
            format!("{}.{body}.{signature}", header(r#"{"alg":"ES256"}"#)),
            format!("{head}.{body}"),
            format!("{head}.{body}.{}", &signature[..signature.len() - 4]),
            format!("{head}..{signature}"),
            "..".to_owned(),
            "x".repeat(9_000),
        ] {
            refused(verifier.verify(&forged, NOW));
        }
        // Key confusion: the public key's bytes as the secret of an HMAC.
        let secret = EncodingKey::from_secret(jwk["x"].as_str().unwrap().as_bytes());
        let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) };
        refused(verifier.verify(&encode(&header, &claims(), &secret).unwrap(), NOW));

        // Rotation: the new set counts at once, and a set that can't be used changes nothing.
        verifier.set_keys(json!({ "keys": [other_jwk] }).to_string().as_bytes()).unwrap();
        assert_eq!(verifier.verify(&good, NOW), Err(Unbelieved::UnknownKey));
        verifier.verify(&token(&other, "k2", &claims()), NOW).unwrap();
        let symmetric = json!({ "keys": [{ "kty": "oct", "kid": "k3", "k": "c2VjcmV0" }] });
        for bad in ["", "{}", r#"{"keys":[]}"#, &symmetric.to_string()] {
            assert!(verifier.set_keys(bad.as_bytes()).is_err(), "{bad}");
        }
        verifier.verify(&token(&other, "k2", &claims()), NOW).unwrap();
    }
}
