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
pub struct Authority {
    certificate: String,
    key: Zeroizing<String>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority (P-256).
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate(now: Timestamp) -> Result<Self, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Mantlet CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        validity(&mut params, now, CA_LIFE);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?.pem();
        let text = Zeroizing::new(key.serialize_pem());
        Self::parse(&certificate, &text)
    }

    /// Reads an authority from its certificate and key, both PEM.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn parse(certificate: &str, key: &str) -> Result<Self, Error> {
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?;
        Ok(Self { certificate: certificate.to_owned(), key: Zeroizing::new(key.to_owned()), issuer })
    }

    /// The CA certificate that clients trust, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The CA's private key, PEM, for a file that only its owner may read.
    pub fn key(&self) -> &str {
        &self.key
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
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Identity { chain: certificate.pem(), key: Zeroizing::new(key.serialize_pem()) })
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
        let again = Authority::parse(authority.certificate(), authority.key()).unwrap();
        let identity = again.service("default/model-server/m1", now, Duration::from_secs(3600)).unwrap();
        assert!(identity.chain.starts_with("-----BEGIN CERTIFICATE-----"));
        assert_eq!(service_name("default/model-server/m1"), "m1.model-server.default.mantlet");
    }
}
