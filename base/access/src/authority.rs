//! The embedded CA: it signs the server's certificate and the short names of services.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;
use types::{CallerName, Namespace, Timestamp};
use zeroize::Zeroizing;

/// A certificate that can't be made or read.
#[derive(Debug, thiserror::Error)]
#[error("certificate: {0}")]
pub struct Error(String);

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}

/// A certificate chain with its key, in PEM; the key is wiped from memory when dropped.
#[derive(Clone)]
pub struct Identity {
    /// The chain, leaf first.
    pub chain: String,
    /// The private key, PKCS#8.
    pub key: Zeroizing<String>,
}

/// How long the CA itself lasts.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long the server's certificate lasts; a new one is made at each start.
const SERVER_LIFE: Duration = Duration::from_secs(397 * 86_400);
/// How long a service's certificate lasts, at most; it is renewed at a third of that.
pub const SERVICE_LIFE: Duration = Duration::from_secs(3_600);
/// How far back certificates are valid, for clocks that differ.
const SKEW: Duration = Duration::from_secs(300);

/// The certificate authority of one node.
///
/// A new one can follow an old one without anybody noticing: until the old one is retired, what the new one issues
/// carries the new one's certificate by the old one too, and the old one's certificate is trusted beside the new one's.
/// The old one's key is gone as soon as it has signed that.
pub struct Authority {
    certificate: String,
    key: Zeroizing<String>,
    issuer: Issuer<'static, KeyPair>,
    /// The one before: its certificate, and this one's by it.
    before: Option<(String, String)>,
}

impl Authority {
    /// Makes a new authority (P-256).
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate(now: Timestamp) -> Result<Self, Error> {
        let (params, key) = (params(now)?, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
        let certificate = params.self_signed(&key)?.pem();
        Self::new(certificate, Zeroizing::new(key.serialize_pem()), None)
    }

    fn new(certificate: String, key: Zeroizing<String>, before: Option<(String, String)>) -> Result<Self, Error> {
        let issuer = Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key)?)?;
        Ok(Self { certificate, key, issuer, before })
    }

    /// Reads an authority from what [`Authority::secret`] gave.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let blocks = pem::parse_many(text).map_err(|error| Error(error.to_string()))?;
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let of = |tag: &str| {
            let blocks = blocks.iter().filter(|block| block.tag() == tag).collect::<Vec<_>>();
            blocks.into_iter().map(|block| pem::encode_config(block, config)).collect::<Vec<String>>()
        };
        let key = of("PRIVATE KEY").pop().map(Zeroizing::new).ok_or_else(|| Error("there is no private key".into()))?;
        let mut certificates = of("CERTIFICATE").into_iter();
        let own = certificates.next().ok_or_else(|| Error("the CA's certificate is missing".into()))?;
        Self::new(own, key, certificates.next().zip(certificates.next()))
    }

    /// All of it as PEM, for a file that only its owner may read: the private key, the certificate, and during an
    /// overlap the certificate of the one before and this one's by it.
    pub fn secret(&self) -> Zeroizing<String> {
        let (old, cross) = self.before.as_ref().map_or(("", ""), |(old, cross)| (old, cross));
        Zeroizing::new(format!("{}{}{old}{cross}", *self.key, self.certificate))
    }

    /// An authority that follows this one.
    ///
    /// # Errors
    /// When this one still follows another, or the system has no randomness.
    pub fn succeed(&self, now: Timestamp) -> Result<Self, Error> {
        if self.before.is_some() {
            return Err(Error("the CA before this one is not retired yet".into()));
        }
        let (params, key) = (params(now)?, KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
        let cross = params.signed_by(&key, &self.issuer)?.pem();
        let certificate = params.self_signed(&key)?.pem();
        Self::new(certificate, Zeroizing::new(key.serialize_pem()), Some((self.certificate.clone(), cross)))
    }

    /// This authority without the one before.
    ///
    /// # Errors
    /// Never, for one that could be made.
    pub fn retire(&self) -> Result<Self, Error> {
        Self::new(self.certificate.clone(), self.key.clone(), None)
    }

    /// The certificates that peers trust, PEM, this one's own first.
    pub fn roots(&self) -> Vec<String> {
        let old = self.before.iter().map(|(old, _)| old.clone());
        std::iter::once(self.certificate.clone()).chain(old).collect()
    }

    /// [`Authority::roots`] as one text.
    pub fn certificate(&self) -> String {
        self.roots().concat()
    }

    /// Since when this authority issues certificates.
    ///
    /// # Errors
    /// When its own certificate can't be read.
    pub fn since(&self) -> Result<Timestamp, Error> {
        let block = pem::parse(&self.certificate).map_err(|error| Error(error.to_string()))?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(block.contents()).map_err(|error| Error(error.to_string()))?;
        let seconds = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or(0);
        Ok(Timestamp(seconds.saturating_mul(1000)).plus(SKEW))
    }

    /// A certificate for the public port, valid for localhost, the loopback addresses and these names.
    ///
    /// # Errors
    /// When a name can't stand in a certificate.
    pub fn server(&self, names: &[String], now: Timestamp) -> Result<Identity, Error> {
        let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        all.extend(names.iter().filter(|name| !all.contains(name)).cloned().collect::<Vec<_>>());
        let mut params = CertificateParams::new(all)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "mantlet");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, now, SERVER_LIFE)
    }

    /// A certificate for a service: its SPIFFE id `spiffe://mantlet/<path>`, and the name that
    /// [`service_name`] gives for the same path.
    ///
    /// # Errors
    /// When the path can't stand in a certificate.
    pub fn service(&self, path: &str, now: Timestamp, life: Duration) -> Result<Identity, Error> {
        let mut params = CertificateParams::new(vec![service_name(path)])?;
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names.push(SanType::URI(spiffe_id(path).try_into()?));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, now, life)
    }

    /// A certificate for a caller, over the public key of its own request (PKCS#10, PEM): its SPIFFE id is
    /// `spiffe://mantlet/<namespace>/caller/<name>`, whatever the request asks for; its common name is the id of the
    /// caller's token, so that it holds no longer than that.
    ///
    /// # Errors
    /// When the request can't be read or is not signed by its own key.
    pub fn caller(
        &self,
        request: &str,
        (path, token): (&str, &str),
        now: Timestamp,
        life: Duration,
    ) -> Result<String, Error> {
        let mut request = CertificateSigningRequestParams::from_pem(request)?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, token);
        params.subject_alt_names.push(SanType::URI(spiffe_id(path).try_into()?));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now, life);
        request.params = params;
        Ok(request.signed_by(&self.issuer)?.pem())
    }

    fn issue(&self, mut params: CertificateParams, now: Timestamp, life: Duration) -> Result<Identity, Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now, life);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut chain = params.signed_by(&key, &self.issuer)?.pem();
        if let Some((_, cross)) = &self.before {
            chain.push_str(cross);
        }
        Ok(Identity { chain, key: Zeroizing::new(key.serialize_pem()) })
    }
}

/// A new key and the request for a certificate over it, both PEM.
///
/// # Errors
/// When the system has no randomness.
pub fn request() -> Result<(Zeroizing<String>, String), Error> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let request = CertificateParams::new(Vec::new())?.serialize_request(&key)?.pem()?;
    Ok((Zeroizing::new(key.serialize_pem()), request))
}

/// The path of a caller's SPIFFE id.
pub fn caller_path(namespace: &Namespace, caller: &CallerName) -> String {
    format!("{namespace}/caller/{caller}")
}

/// The SPIFFE id of a service.
pub fn spiffe_id(path: &str) -> String {
    format!("spiffe://mantlet/{path}")
}

/// The DNS name of a service, for TLS libraries that know no SPIFFE: its path, reversed, below `.mantlet`.
pub fn service_name(path: &str) -> String {
    let labels: Vec<String> = path.rsplit('/').map(|label| label.replace(['_', '.'], "-").to_lowercase()).collect();
    format!("{}.mantlet", labels.join("."))
}

/// What stands in the certificate of an authority; the name is its own, so that two can be told apart.
fn params(now: Timestamp) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = format!("Mantlet CA {}", hex::encode(&crate::token::random()[..4]));
    params.distinguished_name.push(DnType::CommonName, name);
    // One below it: the certificate of the authority that follows.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, now, CA_LIFE);
    Ok(params)
}

fn validity(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let at = |millis: u64| {
        let seconds = i64::try_from(millis / 1000).unwrap_or(0);
        OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    };
    params.not_before = at(now.0.saturating_sub(u64::try_from(SKEW.as_millis()).unwrap_or(0)));
    params.not_after = at(now.plus(life).0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_reads_back_and_issues() {
        let now = Timestamp(1_700_000_000_000);
        let authority = Authority::generate(now).unwrap();
        let again = Authority::parse(&authority.secret()).unwrap();
        assert_eq!(again.since().unwrap(), now);
        let identity = again.service("default/model-server/m1", now, Duration::from_secs(3600)).unwrap();
        assert!(identity.chain.starts_with("-----BEGIN CERTIFICATE-----"));
        assert_eq!(service_name("default/model-server/m1"), "m1.model-server.default.mantlet");
    }

    #[test]
    fn an_authority_follows_another_and_reads_back() {
        let now = Timestamp(1_700_000_000_000);
        let old = Authority::generate(now).unwrap();
        let new = Authority::parse(&old.succeed(now).unwrap().secret()).unwrap();
        assert_eq!(new.roots()[1], old.roots()[0]);
        assert!(new.succeed(now).is_err(), "one overlap at a time");
        assert!(!new.secret().contains(&*old.key), "the old key is gone");
        let retired = Authority::parse(&new.retire().unwrap().secret()).unwrap();
        assert_eq!(retired.roots(), [new.roots()[0].clone()]);
    }
}
