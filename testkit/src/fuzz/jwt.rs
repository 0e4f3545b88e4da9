//! JSON Web Tokens, and the key sets they are checked with.

use std::sync::LazyLock;

use access::jwt::{Bearer, Issuer, Unbelieved, Verifier};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use p256::ecdsa::{Signature, SigningKey, signature::Signer as _};
use serde_json::{Value, json};
use types::{Role, Timestamp};

use super::{dull, keys, seed, split};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const ROLES: [Role; 2] = [Role::Caller, Role::Labeller];

static KEY: LazyLock<SigningKey> = LazyLock::new(|| keys::p256(7));
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let verifier = empty();
    verifier.set_keys(key_set().to_string().as_bytes()).expect("a key set");
    verifier
});

fn empty() -> Verifier {
    access::tls::install_provider();
    Verifier::new(Issuer {
        issuer: "https://issuer.example".into(),
        audience: "mantlet".into(),
        namespace_claim: "namespace".into(),
        roles_claim: "roles".into(),
        roles: ROLES.to_vec(),
    })
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The key that signs here, one of Ed25519, and one of RSA, so that kinds can be confused.
fn key_set() -> Value {
    let point = KEY.verifying_key().to_sec1_point(false).to_bytes();
    let edwards = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
    json!({ "keys": [
        { "kty": "EC", "crv": "P-256", "kid": "k1", "use": "sig", "x": base64(&point[1..33]), "y": base64(&point[33..]) },
        { "kty": "OKP", "crv": "Ed25519", "kid": "k2", "alg": "EdDSA", "x": base64(edwards.as_bytes()) },
        { "kty": "RSA", "kid": "k3", "alg": "RS256", "n": base64([0xc3; 256]), "e": "AQAB" },
    ] })
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer.example", "aud": ["other", "mantlet"], "sub": "alice", "exp": NOW.0 / 1000 + 300,
        "iat": NOW.0 / 1000, "nbf": NOW.0 / 1000, "namespace": "bank", "roles": ["caller", "admin"],
    })
}

/// A token over any header and claims, signed with the first key by ES256.
fn sign(header: &[u8], claims: &[u8]) -> String {
    let said = format!("{}.{}", base64(header), base64(claims));
    let signature: Signature = KEY.sign(said.as_bytes());
    format!("{said}.{}", base64(signature.to_bytes()))
}

const HEADER: &[u8] = br#"{"alg":"ES256","kid":"k1"}"#;

/// A token: what is believed was signed here. A key set: what is taken of it can't make another key believed. Header and
/// claims that are signed here, whatever they say: what is believed says all that it must, of the right kind.
pub fn jwt(data: &[u8]) {
    let Some((way, rest)) = split(data, 3) else { return };
    match way {
        0 => {
            let Ok(token) = std::str::from_utf8(rest) else { return };
            if VERIFIER.verify(token, NOW).is_ok() {
                let known = good();
                let said = |token: &str| token.rsplit_once('.').map(|(said, _)| said.to_owned());
                assert_eq!(said(token), said(&known), "nobody signed this");
            }
        }
        1 => {
            let verifier = empty();
            let taken = verifier.set_keys(rest);
            assert!(taken.is_err() || taken.is_ok_and(|keys| (1..=64).contains(&keys)));
            let token = good();
            if let Ok(bearer) = verifier.verify(&token, NOW) {
                assert_eq!(bearer.caller.as_str(), "jwt.alice");
                let forged = format!("{}AAAA", &token[..token.len() - 4]);
                assert!(verifier.verify(&forged, NOW).is_err(), "a signature was changed and believed");
            }
        }
        _ => {
            let end = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            let (header, claims) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
            if dull(header) || dull(claims) {
                return;
            }
            match VERIFIER.verify(&sign(header, claims), NOW) {
                Ok(bearer) => believable(&bearer, header, claims),
                Err(Unbelieved::Refused(refusal)) => assert!(!refusal.message.is_empty()),
                Err(Unbelieved::UnknownKey) => {}
            }
        }
    }
}

fn good() -> String {
    sign(HEADER, claims().to_string().as_bytes())
}

/// The same checks as the verifier's, on the JSON itself.
fn believable(bearer: &Bearer, header: &[u8], claims: &[u8]) {
    let header: Value = serde_json::from_slice(header).expect("what is believed is JSON");
    assert_eq!((&header["alg"], &header["kid"]), (&json!("ES256"), &json!("k1")));
    let claims: Value = serde_json::from_slice(claims).expect("what is believed is JSON");
    let says = |name: &str, wanted: &str| match &claims[name] {
        Value::Array(all) => all.iter().any(|one| one == wanted),
        one => one == wanted,
    };
    assert!(says("iss", "https://issuer.example") && says("aud", "mantlet"), "{claims}");
    let seconds = |name: &str| claims[name].as_f64();
    let now = NOW.0 as f64 / 1000.0;
    assert!(seconds("exp").is_some_and(|exp| exp + 60.0 > now), "{claims}");
    for name in ["nbf", "iat"] {
        assert!(seconds(name).is_none_or(|from| from <= now + 61.0), "{claims}");
    }
    assert_eq!(claims["namespace"], bearer.namespace.as_str());
    assert!(claims["sub"].as_str().is_some_and(|subject| !subject.is_empty()), "{claims}");
    assert!(bearer.caller.as_str().starts_with("jwt."));
    for role in &bearer.roles {
        let word = role.as_str();
        let listed = claims["roles"].as_str().is_some_and(|words| words.contains(word)) || says("roles", word);
        assert!(ROLES.contains(role) && listed, "{role} of {claims}");
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let signed = |header: &[u8], claims: &Value| seed(2, [header, &[0], claims.to_string().as_bytes()].concat());
    let mut spaced = claims();
    spaced["roles"] = "caller labeller".into();
    spaced["aud"] = "mantlet".into();
    let none = format!("{}.{}.", base64(br#"{"alg":"none","kid":"k1"}"#), base64(claims().to_string()));
    let mut seeds = vec![
        seed(0, good()),
        seed(0, none),
        seed(1, key_set().to_string()),
        signed(HEADER, &claims()),
        signed(HEADER, &spaced),
    ];
    for (algorithm, key) in [("HS256", "k1"), ("ES384", "k1"), ("RS256", "k3"), ("EdDSA", "k2"), ("PS256", "k3")] {
        let header = json!({ "alg": algorithm, "kid": key, "typ": "JWT" }).to_string();
        seeds.push(signed(header.as_bytes(), &claims()));
        seeds.push(seed(0, sign(header.as_bytes(), claims().to_string().as_bytes())));
    }
    seeds
}
