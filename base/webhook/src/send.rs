//! A webhook as the [Standard Webhooks](https://www.standardwebhooks.com) specification has it: `webhook-id`, `webhook-timestamp`,
//! and `webhook-signature`, an HMAC-SHA256 over both and the body.
//!
//! Redirects are not followed, no proxy is used, and of the answer the status alone is read.

use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::{Certificate, Client, StatusCode, redirect::Policy};
use serde_json::json;
use sha2::Sha256;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use types::{Timestamp, refusal};
use zeroize::Zeroizing;

use crate::{About, Answer, Note};

/// How long an attempt may take, from the name's look-up to the answer's status.
const PATIENCE: Duration = Duration::from_secs(10);
/// How a secret begins that holds its key in base64.
const PREFIX: &str = "whsec_";
/// Bytes of a key, at least.
const LEAST: usize = 24;

/// What webhooks are signed with.
pub struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// The key in a secret: what follows `whsec_` in base64, or the text's own bytes.
    ///
    /// # Errors
    /// What is wrong with the secret, without telling it.
    pub fn read(secret: &str) -> Result<Self, String> {
        let key = match secret.strip_prefix(PREFIX) {
            Some(text) => BASE64_STANDARD.decode(text).map_err(|_| format!("is no base64 after `{PREFIX}`"))?,
            None => secret.as_bytes().to_vec(),
        };
        let key = Zeroizing::new(key);
        if key.len() < LEAST {
            return Err(format!("is a key of {} bytes; {LEAST} are the least", key.len()));
        }
        Ok(Self(key))
    }

    /// What `webhook-signature` holds.
    fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> Option<String> {
        // HMAC takes keys of every length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        mac.update(format!("{id}.{seconds}.").as_bytes());
        mac.update(body);
        Some(format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes())))
    }
}

/// What is sent; the same each time.
fn body(about: &impl About) -> String {
    json!({ "type": about.kind(), "timestamp": date(about.at()), "data": about.data() }).to_string()
}

/// A time as RFC 3339 writes it; nothing beyond the year 9999.
pub fn date(at: Timestamp) -> Option<String> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000).ok()?.format(&Rfc3339).ok()
}

/// Where messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiver<'a> {
    /// Its address.
    pub url: &'a str,
    /// Certificates that its own must come from, PEM; the system's where there are none.
    pub ca: Option<&'a str>,
}

impl Receiver<'_> {
    /// Whether there is a way to it; nothing is sent.
    ///
    /// # Errors
    /// What is wrong with its certificates.
    pub fn check(&self) -> Result<(), String> {
        client(self).map(drop)
    }
}

fn client(receiver: &Receiver<'_>) -> Result<Client, String> {
    let agent = concat!("mantlet/", env!("CARGO_PKG_VERSION"));
    let mut builder = Client::builder().redirect(Policy::none()).no_proxy().timeout(PATIENCE).user_agent(agent);
    if let Some(pem) = receiver.ca {
        let certificates = Certificate::from_pem_bundle(pem.as_bytes());
        let certificates = certificates.map_err(|error| format!("ca is no certificate: {error}"))?;
        if certificates.is_empty() {
            return Err("ca holds no certificate".into());
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| format!("url: a client can't be made: {error}"))
}

/// Sends a note once; it takes 10 s at most.
pub async fn send<A: About>(receiver: &Receiver<'_>, key: &Key, note: &Note<A>, now: Timestamp) -> Answer {
    let (body, seconds) = (body(&note.about), now.0 / 1_000);
    let Some(signature) = key.sign(&note.id, seconds, body.as_bytes()) else {
        return Answer::Not("it can't be signed".into());
    };
    let client = match client(receiver) {
        Ok(client) => client,
        Err(why) => return Answer::Not(why),
    };
    let request = client
        .post(receiver.url)
        .header("content-type", "application/json")
        .header("webhook-id", &note.id)
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", signature)
        .body(body);
    match request.send().await.map(|response| response.status()) {
        Ok(status) if status.is_success() => Answer::Taken,
        Ok(StatusCode::GONE) => Answer::Gone("the receiver said 410 Gone".into()),
        Ok(status) if status.is_redirection() => {
            Answer::Not(format!("the receiver said {status}, and redirects are not followed"))
        }
        Ok(status) => Answer::Not(format!("the receiver said {status}")),
        Err(error) => Answer::Not(format!("the receiver does not answer: {}", refusal::cause(&error.without_url()))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use testkit::receiver;
    use types::Namespace;

    use super::*;

    struct Thing;

    impl About for Thing {
        fn at(&self) -> Timestamp {
            Timestamp(1_700_000_000_250)
        }

        fn owner(&self) -> Option<&Namespace> {
            None
        }

        fn kind(&self) -> &'static str {
            "thing"
        }

        fn data(&self) -> Value {
            json!({ "what": "it", "a": 1 })
        }
    }

    #[tokio::test]
    async fn of_an_answer_the_status_says_what_becomes_of_it() {
        let key = Key::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let receiver = receiver::Receiver::start(204).await;
        let note = Note { id: "thing_1".into(), about: Thing, told: None };
        let url = format!("{}/a/b", receiver.url());
        let there = Receiver { url: &url, ca: None };
        for (says, answer) in [
            (204, Answer::Taken),
            (410, Answer::Gone("the receiver said 410 Gone".into())),
            (500, Answer::Not("the receiver said 500 Internal Server Error".into())),
            (302, Answer::Not("the receiver said 302 Found, and redirects are not followed".into())),
        ] {
            receiver.say(says);
            assert_eq!(send(&there, &key, &note, Timestamp(1_000)).await, answer);
        }
        let all = receiver.received(4).await;
        let first = all.first().unwrap();
        assert_eq!((first.header("webhook-id"), first.header("webhook-timestamp")), ("thing_1", "1"));
        assert_eq!(first.header("content-type"), "application/json");
        let body = r#"{"type":"thing","timestamp":"2023-11-14T22:13:20.25Z","data":{"what":"it","a":1}}"#;
        assert!(all.iter().all(|one| one.body == body), "{first:?}");
        // A port on which nobody listens: its receiver is gone.
        let url = receiver::Receiver::start(204).await.url();
        let gone = Receiver { url: &url, ca: None };
        let Answer::Not(why) = send(&gone, &key, &note, Timestamp(1_000)).await else { panic!("nobody is there") };
        assert!(why.starts_with("the receiver does not answer"), "{why}");
        let wrong = Receiver { ca: Some("no certificate"), ..gone };
        assert!(wrong.check().unwrap_err().contains("ca holds no certificate"));
    }

    /// The example of the specification's own libraries.
    #[test]
    fn a_signature_is_that_of_the_published_example() {
        let key = Key::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_key_is_base64_or_a_text_and_long_enough() {
        for (secret, why) in [
            ("whsec_####", "is no base64"),
            ("whsec_c2hvcnQ=", "a key of 5 bytes"),
            ("a-text-that-is-too-short", ""),
            ("a-text-that-is-to-short", "a key of 23 bytes"),
        ] {
            let read = Key::read(secret).err().unwrap_or_default();
            assert!(read.contains(why) && read.is_empty() == why.is_empty(), "{secret}: {read}");
        }
    }
}
