//! Keeps the keys of the configured issuer of JSON Web Tokens: read at start, every few minutes, and when a token names
//! one that is not known.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use types::{Code, Refusal};

use crate::Ring;

/// How often the keys are read again.
const EVERY: Duration = Duration::from_secs(300);
/// How often at most, whatever tokens name.
const NOT_BEFORE: Duration = Duration::from_secs(5);
/// How often it is looked whether a token named an unknown key.
const LOOK: Duration = Duration::from_millis(500);
/// How long the issuer may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The largest key set, in bytes.
const LARGEST: u64 = 1 << 20;

/// Where an issuer's key set (RFC 7517) is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySet {
    /// In a file.
    File(PathBuf),
    /// At an address.
    Url(String),
}

impl std::fmt::Display for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => f.write_str(url),
        }
    }
}

impl std::str::FromStr for KeySet {
    type Err = Refusal;

    /// A path, or an address; plain HTTP is for loopback alone.
    fn from_str(text: &str) -> Result<Self, Refusal> {
        let loopback = ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"];
        if text.starts_with("https://") || loopback.iter().any(|prefix| text.starts_with(prefix)) {
            return Ok(Self::Url(text.to_owned()));
        }
        if text.contains("://") {
            return Err(Refusal::new(Code::SettingsInvalid, format!("keys are not read from `{text}`"))
                .hint("name an https address, or a file"));
        }
        Ok(Self::File(PathBuf::from(text)))
    }
}

/// Reads the keys once; called before the port opens, so that the first caller is known.
pub async fn read(ring: &Ring) {
    let Some(keys) = &ring.keys else { return };
    match fetch(keys).await.and_then(|text| ring.identifier.set_keys(&text)) {
        Ok(count) => tracing::info!(%keys, count, "keys of the JWT issuer read"),
        Err(error) => tracing::warn!(%keys, error, "keys of the JWT issuer can't be read; those known before stay"),
    }
}

/// Keeps them until `stop` resolves.
pub async fn run(ring: Arc<Ring>, stop: impl Future<Output = ()>) {
    let keep = async {
        let mut last = Instant::now();
        loop {
            sleep(LOOK).await;
            let due = last.elapsed() >= EVERY;
            if due || (last.elapsed() >= NOT_BEFORE && ring.identifier.wants_keys()) {
                read(&ring).await;
                last = Instant::now();
            }
        }
    };
    if ring.keys.is_none() {
        return stop.await;
    }
    tokio::select! {
        () = keep => {}
        () = stop => {}
    }
}

async fn fetch(keys: &KeySet) -> Result<Vec<u8>, String> {
    match keys {
        KeySet::File(path) => {
            let size = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?.len();
            if size > LARGEST {
                return Err(format!("it has more than {LARGEST} bytes"));
            }
            tokio::fs::read(path).await.map_err(|error| error.to_string())
        }
        KeySet::Url(url) => download(url).await.map_err(|error| error.to_string()),
    }
}

async fn download(url: &str) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let client = reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build()?;
    let mut response = client.get(url).send().await?.error_for_status()?;
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        text.extend_from_slice(&chunk);
        if text.len() as u64 > LARGEST {
            return Err(format!("it has more than {LARGEST} bytes").into());
        }
    }
    Ok(text)
}
