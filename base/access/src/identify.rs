//! `identify`: from a credential to a [`Principal`].

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};
use types::{CallerName, Code, Namespace, Refusal, Role, Timestamp};

use crate::{
    authority::caller_path,
    jwt::{self, Issuer},
    tls::Peer,
    token::{Token, TokenId, TokenRecord},
};

/// Somebody whose credential was checked; made only by [`Identifier::identify`].
///
/// ```compile_fail,E0451
/// fn promote(who: access::Principal) -> access::Principal {
///     access::Principal { node_wide: true, ..who }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    namespace: Namespace,
    home: Namespace,
    caller: CallerName,
    roles: Arc<[Role]>,
    node_wide: bool,
    epoch: u64,
}

impl Principal {
    /// The namespace it acts in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The namespace its credential belongs to.
    pub fn home(&self) -> &Namespace {
        &self.home
    }

    /// Its name.
    pub fn caller(&self) -> &CallerName {
        &self.caller
    }

    /// What it may be.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Whether it may act in any namespace.
    pub fn node_wide(&self) -> bool {
        self.node_wide
    }

    /// Changes whenever its credentials or roles change.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How the ledger names it.
    pub fn subject(&self) -> String {
        format!("caller:{}/{}", self.home, self.caller)
    }
}

/// What a request shows: its `authorization` header, and the certificate of its connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Credential<'a> {
    /// The header's value.
    pub authorization: Option<&'a [u8]>,
    /// Who showed a certificate.
    pub peer: Option<&'a Peer>,
}

impl<'a> Credential<'a> {
    /// An `authorization` header alone.
    pub fn bearer(authorization: &'a [u8]) -> Self {
        Self { authorization: Some(authorization), peer: None }
    }
}

/// Knows every live credential and checks them.
///
/// Holds one small record per token; [`Identifier::insert`] and [`Identifier::remove`] follow the registry.
#[derive(Debug, Default)]
pub struct Identifier {
    tokens: RwLock<HashMap<TokenId, Known>>,
    /// Tokens by the SPIFFE path of their caller.
    paths: RwLock<HashMap<String, TokenId>>,
    epoch: AtomicU64,
    anonymous: bool,
    bearers: Option<Bearers>,
}

/// Those who come with a token of the configured issuer.
#[derive(Debug)]
struct Bearers {
    verifier: jwt::Verifier,
    /// Tokens that were verified, by their SHA-256: a signature is checked once.
    verified: RwLock<HashMap<[u8; 32], (Principal, Timestamp)>>,
    /// Epochs of those seen: the same caller with the same roles has the same.
    epochs: RwLock<HashMap<Seen, u64>>,
    /// Set when a token named a key that is not known.
    unknown_key: AtomicBool,
}

/// A caller with its roles, as a token named them.
type Seen = (Namespace, CallerName, Vec<Role>);

/// Verified tokens, and bearers, remembered before all are forgotten.
const REMEMBERED: usize = 16_384;

#[derive(Debug, Clone)]
struct Known {
    record: Arc<TokenRecord>,
    principal: Principal,
    /// When it was used last, in ms; 0 while that is told already.
    used: Arc<AtomicU64>,
}

impl Identifier {
    /// An identifier that knows nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An identifier that takes everybody for the anonymous caller of `default`: for `--security off` alone.
    pub fn anonymous() -> Self {
        Self { anonymous: true, ..Self::default() }
    }

    /// Learns a credential, or what has changed of it.
    pub fn insert(&self, record: TokenRecord) {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed) + 1;
        let principal = Principal {
            namespace: record.namespace.clone(),
            home: record.namespace.clone(),
            caller: record.caller.clone(),
            roles: record.roles.as_slice().into(),
            node_wide: record.node_wide,
            epoch,
        };
        self.paths.write().insert(caller_path(&record.namespace, &record.caller), record.id.clone());
        let used = Arc::default();
        self.tokens.write().insert(record.id.clone(), Known { record: Arc::new(record), principal, used });
    }

    /// Believes tokens of this issuer too, once its keys are known.
    #[must_use]
    pub fn with_issuer(mut self, issuer: Issuer) -> Self {
        self.bearers = Some(Bearers {
            verifier: jwt::Verifier::new(issuer),
            verified: RwLock::default(),
            epochs: RwLock::default(),
            unknown_key: AtomicBool::new(false),
        });
        self
    }

    /// Takes the issuer's newest key set in; returns how many keys of it can be used.
    ///
    /// # Errors
    /// When it can't be used; the keys known before stay.
    pub fn set_keys(&self, text: &[u8]) -> Result<usize, String> {
        let Some(bearers) = &self.bearers else { return Ok(0) };
        let count = bearers.verifier.set_keys(text)?;
        // A key that is gone takes its tokens with it.
        bearers.verified.write().clear();
        Ok(count)
    }

    /// Whether a token named an unknown key since this was asked last: time to read the issuer's keys again.
    pub fn wants_keys(&self) -> bool {
        self.bearers.as_ref().is_some_and(|bearers| bearers.unknown_key.swap(false, Ordering::Relaxed))
    }

    /// Forgets a revoked credential, by its id.
    pub fn remove(&self, id: &str) {
        let Some(known) = self.tokens.write().remove(id) else { return };
        let path = caller_path(&known.record.namespace, &known.record.caller);
        let mut paths = self.paths.write();
        // A rotated token's path is its successor's by now.
        if paths.get(&path).is_some_and(|of| of.as_str() == id) {
            paths.remove(&path);
        }
    }

    /// Whether the credential with this id is known.
    pub fn knows(&self, id: &str) -> bool {
        self.tokens.read().contains_key(id)
    }

    /// Which tokens were used since this was asked last, and when.
    pub fn used(&self) -> Vec<(TokenId, Timestamp)> {
        let tokens = self.tokens.read();
        let used = tokens.iter().map(|(id, known)| (id.clone(), Timestamp(known.used.swap(0, Ordering::Relaxed))));
        used.filter(|(_, at)| at.0 > 0).collect()
    }

    /// Every credential that is known, by its id.
    pub fn known(&self) -> Vec<String> {
        self.tokens.read().keys().map(|id| id.as_str().to_owned()).collect()
    }

    /// Who shows this credential, acting in the namespace they name.
    ///
    /// O(1) in the number of credentials.
    ///
    /// # Errors
    /// `credential_missing`, `credential_invalid`, `credential_expired`; `path_not_found` for a namespace that
    /// is not the principal's own.
    pub fn identify(
        &self,
        credential: Credential<'_>,
        namespace: Option<&str>,
        now: Timestamp,
    ) -> Result<Principal, Refusal> {
        let known = match credential {
            _ if self.anonymous => self.anybody()?,
            // What a request says of itself counts more than what its connection does.
            Credential { authorization: None, peer: Some(peer) } => self.certified(peer, now)?,
            Credential { authorization, .. } => self.check(authorization, now)?,
        };
        let Some(wanted) = namespace else { return Ok(known) };
        let wanted: Namespace = wanted.parse()?;
        if wanted != known.home && !known.node_wide {
            return Err(Refusal::new(Code::PathNotFound, format!("there is no namespace `{wanted}` for you"))
                .hint("leave the namespace out: the token belongs to one already"));
        }
        Ok(Principal { namespace: wanted, ..known })
    }

    fn certified(&self, peer: &Peer, now: Timestamp) -> Result<Principal, Refusal> {
        let id = self.paths.read().get(&peer.path).cloned();
        let known = id.and_then(|id| self.tokens.read().get(&id).cloned());
        let known = known.ok_or_else(|| {
            Refusal::new(Code::CredentialInvalid, "the certificate is of no caller here")
                .hint("add the caller, then make it a certificate: `mantlet callers certificate NAME`")
        })?;
        if peer.name != known.record.id.as_str() {
            return Err(Refusal::new(
                Code::CredentialInvalid,
                "the certificate's caller has got other credentials since",
            )
            .hint("make a new one: `mantlet callers certificate NAME`"));
        }
        if peer.until <= now || known.record.expires.is_some_and(|at| at <= now) {
            return Err(Refusal::new(Code::CredentialExpired, "the certificate, or its caller's time, has expired")
                .hint("make a new one: `mantlet callers certificate NAME`"));
        }
        known.used.store(now.0, Ordering::Relaxed);
        Ok(known.principal)
    }

    fn check(&self, authorization: Option<&[u8]>, now: Timestamp) -> Result<Principal, Refusal> {
        let header = authorization.ok_or_else(|| {
            Refusal::new(Code::CredentialMissing, "the request carries no credential")
                .hint("send the header `authorization: Bearer mnt_…`; `mantlet callers add` makes a token")
        })?;
        let invalid = || {
            Refusal::new(Code::CredentialInvalid, "the token is unknown, malformed or revoked")
                .hint("check the token, or make a new one: `mantlet callers add NAME`")
        };
        let text = std::str::from_utf8(header).map_err(|_| invalid())?;
        let (scheme, rest) = text.split_once(' ').ok_or_else(invalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(invalid());
        }
        let rest = rest.trim();
        if let Some(bearers) = self.bearers.as_ref().filter(|_| rest.bytes().filter(|byte| *byte == b'.').count() == 2)
        {
            return bearers.check(rest, now, &self.epoch);
        }
        let token: Token = rest.parse().map_err(|_| invalid())?;
        let known = self.tokens.read().get(token.id()).cloned().ok_or_else(invalid)?;
        if !known.record.fits(&token) {
            return Err(invalid());
        }
        if known.record.expires.is_some_and(|at| at <= now) {
            return Err(Refusal::new(Code::CredentialExpired, format!("the token {} has expired", token.id()))
                .hint("make a new one: `mantlet callers rotate NAME`"));
        }
        known.used.store(now.0, Ordering::Relaxed);
        Ok(known.principal)
    }

    fn anybody(&self) -> Result<Principal, Refusal> {
        let caller: CallerName = "anonymous".parse()?;
        let home = Namespace::default();
        let roles = Role::ALL.as_slice().into();
        Ok(Principal { namespace: home.clone(), home, caller, roles, node_wide: true, epoch: 0 })
    }
}

impl Bearers {
    fn check(&self, token: &str, now: Timestamp, epochs: &AtomicU64) -> Result<Principal, Refusal> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        let known = self.verified.read().get(&digest).cloned();
        if let Some((principal, _)) = known.filter(|(_, expires)| *expires > now) {
            return Ok(principal);
        }
        let bearer = self.verifier.verify(token, now).map_err(|unbelieved| match unbelieved {
            jwt::Unbelieved::Refused(refusal) => refusal,
            jwt::Unbelieved::UnknownKey => {
                self.unknown_key.store(true, Ordering::Relaxed);
                Refusal::new(Code::CredentialInvalid, "the JWT is signed by a key that is not known")
                    .hint("if its issuer has just changed its keys, try again in some seconds")
            }
        })?;
        let jwt::Bearer { namespace, caller, roles, expires } = bearer;
        let epoch = {
            let mut known = self.epochs.write();
            if known.len() >= REMEMBERED {
                known.clear();
            }
            let next = || epochs.fetch_add(1, Ordering::Relaxed) + 1;
            *known.entry((namespace.clone(), caller.clone(), roles.clone())).or_insert_with(next)
        };
        let roles = roles.as_slice().into();
        let principal =
            Principal { namespace: namespace.clone(), home: namespace, caller, roles, node_wide: false, epoch };
        let mut verified = self.verified.write();
        if verified.len() >= REMEMBERED {
            verified.clear();
        }
        verified.insert(digest, (principal.clone(), expires));
        Ok(principal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(node_wide: bool, expires: Option<u64>) -> (Identifier, Token) {
        let token = Token::generate();
        let identifier = Identifier::new();
        identifier.insert(TokenRecord {
            id: token.id().clone(),
            digest: token.digest(),
            namespace: "bank".parse().unwrap(),
            caller: "teller".parse().unwrap(),
            roles: vec![Role::Caller],
            node_wide,
            created: Timestamp(0),
            expires: expires.map(Timestamp),
        });
        (identifier, token)
    }

    fn code(result: Result<Principal, Refusal>) -> Code {
        result.unwrap_err().code
    }

    #[test]
    fn a_known_token_names_its_caller() {
        let (identifier, token) = known(false, None);
        let header = format!("bearer {}", *token.expose());
        let principal = identifier.identify(Credential::bearer(header.as_bytes()), None, Timestamp(1)).unwrap();
        assert_eq!(principal.subject(), "caller:bank/teller");
    }

    #[test]
    fn missing_forged_revoked_and_expired_are_told_apart_as_far_as_is_safe() {
        let (identifier, token) = known(false, Some(100));
        let header = format!("Bearer {}", *token.expose());
        let at = |now| identifier.identify(Credential::bearer(header.as_bytes()), None, Timestamp(now));
        assert_eq!(code(identifier.identify(Credential::default(), None, Timestamp(1))), Code::CredentialMissing);
        let mut forged = header.clone().into_bytes();
        let last = forged.last_mut().unwrap();
        *last = if *last == b'0' { b'1' } else { b'0' };
        assert_eq!(code(identifier.identify(Credential::bearer(&forged), None, Timestamp(1))), Code::CredentialInvalid);
        for other in [&b"Basic eDp5"[..], b"Bearer", b"Bearer \xff", &header.as_bytes()[..40]] {
            assert_eq!(
                code(identifier.identify(Credential::bearer(other), None, Timestamp(1))),
                Code::CredentialInvalid
            );
        }
        assert!(at(99).is_ok());
        assert_eq!(code(at(100)), Code::CredentialExpired);
        identifier.remove(token.id().as_str());
        assert_eq!(code(at(1)), Code::CredentialInvalid);
    }

    #[test]
    fn only_node_wide_principals_choose_their_namespace() {
        let (identifier, token) = known(false, None);
        let header = format!("Bearer {}", *token.expose());
        let other = identifier.identify(Credential::bearer(header.as_bytes()), Some("clinic"), Timestamp(1));
        assert_eq!(code(other), Code::PathNotFound);
        let (identifier, token) = known(true, None);
        let header = format!("Bearer {}", *token.expose());
        let other = identifier.identify(Credential::bearer(header.as_bytes()), Some("clinic"), Timestamp(1)).unwrap();
        assert_eq!((other.namespace().as_str(), other.home().as_str()), ("clinic", "bank"));
    }

    #[test]
    fn a_certificate_names_its_caller_while_that_is_known_and_not_renewed() {
        let (identifier, token) = known(false, None);
        let peer = |path: &str, token: &Token| Peer {
            path: path.into(),
            name: token.id().to_string(),
            until: Timestamp(9_000),
        };
        let by = |peer: &Peer, now| {
            identifier.identify(Credential { authorization: None, peer: Some(peer) }, None, Timestamp(now))
        };
        let good = peer("bank/caller/teller", &token);
        assert_eq!(by(&good, 2_000).unwrap().subject(), "caller:bank/teller");
        assert_eq!(code(by(&good, 9_000)), Code::CredentialExpired);
        for path in ["bank/caller/other", "gateway", "bank/model-server/m1", "bank/caller/teller/x", ""] {
            assert_eq!(code(by(&peer(path, &token), 2_000)), Code::CredentialInvalid, "{path}");
        }
        let both = Credential { authorization: Some(b"Bearer x"), peer: Some(&good) };
        assert_eq!(
            code(identifier.identify(both, None, Timestamp(2_000))),
            Code::CredentialInvalid,
            "its own word counts"
        );

        // Rotated: the certificate was issued beside the token before.
        let next = Token::generate();
        let record = TokenRecord {
            id: next.id().clone(),
            created: Timestamp(5_000),
            ..identifier.tokens.read()[token.id()].record.as_ref().clone()
        };
        identifier.insert(record);
        identifier.remove(token.id().as_str());
        assert_eq!(code(by(&good, 6_000)), Code::CredentialInvalid);
        by(&peer("bank/caller/teller", &next), 6_000).unwrap();
        identifier.remove(next.id().as_str());
        assert_eq!(code(by(&peer("bank/caller/teller", &next), 6_000)), Code::CredentialInvalid);
    }
}
