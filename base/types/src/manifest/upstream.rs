//! A model that another server holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::SecretName;

/// A model of another server that speaks the Open Inference Protocol by REST; its address alone, or this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Address", deny_unknown_fields)]
pub struct Upstream {
    /// Where it is: `https://host:port`, with a path where it has one.
    pub url: String,
    /// What the model is called there; as here when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Its version there; whichever the server chooses when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The secret of the namespace that is sent as a bearer token; none when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<SecretName>,
    /// Certificates that its own must come from, PEM; the system's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

impl Upstream {
    /// Scheme, host and port.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub fn origin(&self) -> Result<String, String> {
        origin(&self.url)
    }
}

/// Scheme, host and port of an address that a node may call.
///
/// # Errors
/// What is wrong with it.
pub fn origin(address: &str) -> Result<String, String> {
    let url = url::Url::parse(address).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("`{}` is no scheme for it: http or https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a password has no place in an address: name a secret of the namespace".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it has a query or a fragment".into());
    }
    Ok(url.origin().ascii_serialization())
}

/// The same of an address to which nobody else may listen: by `https`, or on this machine.
///
/// # Errors
/// What is wrong with it.
pub fn secure_origin(address: &str) -> Result<String, String> {
    let origin = origin(address)?;
    let url = url::Url::parse(address).map_err(|error| error.to_string())?;
    let here = match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    if url.scheme() == "https" || here { Ok(origin) } else { Err("beyond this machine it is https".into()) }
}

/// As people write it.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, expecting = "an address, or url with model, version, credential, ca")]
enum Address {
    /// The address alone.
    Url(String),
    /// All of it.
    Whole(Whole),
}

/// The fields of [`Upstream`], without its short form.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Whole {
    url: String,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    credential: Option<SecretName>,
    #[serde(default)]
    ca: Option<String>,
}

impl From<Address> for Upstream {
    fn from(address: Address) -> Self {
        match address {
            Address::Url(url) => Self { url, model: None, version: None, credential: None, ca: None },
            Address::Whole(Whole { url, model, version, credential, ca }) => {
                Self { url, model, version, credential, ca }
            }
        }
    }
}
