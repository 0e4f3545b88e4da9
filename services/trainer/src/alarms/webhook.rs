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
use types::{Timestamp, manifest::Webhook, refusal};
use zeroize::Zeroizing;

use super::outbox::{Answer, Note};

/// How long an attempt may take, from the name's look-up to the answer's status.
const PATIENCE: Duration = Duration::from_secs(10);
/// How a secret begins that holds its key in base64.
const PREFIX: &str = "whsec_";
/// Bytes of a key, at least.
const LEAST: usize = 24;

/// What webhooks are signed with.
pub(super) struct Key(Zeroizing<Vec<u8>>);

impl Key {
    /// The key in a secret: what follows `whsec_` in base64, or the text's own bytes.
    ///
    /// # Errors
    /// What is wrong with the secret, without telling it.
    pub(super) fn read(secret: &str) -> Result<Self, String> {
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
fn body(note: &Note) -> String {
    let (namespace, model, version) = &note.version;
    let alarm = &note.alarm;
    let data = json!({
        "namespace": namespace, "model": model, "version": version, "kind": alarm.kind, "what": alarm.what,
        "since": alarm.since.map(date), "moved": alarm.moved,
    });
    json!({ "type": "drift", "timestamp": date(alarm.at), "data": data }).to_string()
}

/// As RFC 3339 writes it; nothing beyond the year 9999.
fn date(at: Timestamp) -> Option<String> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000).ok()?.format(&Rfc3339).ok()
}

/// The way to a receiver, not gone yet.
///
/// # Errors
/// What is wrong with its certificates.
pub(super) fn client(webhook: &Webhook) -> Result<Client, String> {
    let agent = concat!("mantlet/", env!("CARGO_PKG_VERSION"));
    let mut builder = Client::builder().redirect(Policy::none()).no_proxy().timeout(PATIENCE).user_agent(agent);
    if let Some(pem) = &webhook.ca {
        let certificates = Certificate::from_pem_bundle(pem.as_bytes());
        let certificates = certificates.map_err(|error| format!("ca is no certificate: {error}"))?;
        if certificates.is_empty() {
            return Err("ca holds no certificate".into());
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| format!("url: a client can't be made: {error}"))
}

/// Sends a note once.
pub(super) async fn send(webhook: &Webhook, key: &Key, note: &Note, now: Timestamp) -> Answer {
    let (body, seconds) = (body(note), now.0 / 1_000);
    let Some(signature) = key.sign(&note.id, seconds, body.as_bytes()) else {
        return Answer::Not("it can't be signed".into());
    };
    let client = match client(webhook) {
        Ok(client) => client,
        Err(why) => return Answer::Not(why),
    };
    let request = client
        .post(&webhook.url)
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
    use rpc::trainer::{Alarm, Shift};
    use testkit::receiver::Receiver;
    use types::manifest::AlarmKind;

    use super::*;

    fn note() -> Note {
        let moved = vec![Shift { column: "amount".into(), effect: 0.5, evidence: 4e6 }];
        let alarm = Alarm {
            at: Timestamp(1_700_000_000_250),
            kind: AlarmKind::Inputs,
            what: "amount by 0.50".into(),
            since: Some(Timestamp(1_699_999_999_000)),
            moved,
        };
        let version = ("bank".parse().unwrap(), "fraud".parse().unwrap(), types::Version(3));
        Note { id: "drift_1".into(), version, alarm, told: None }
    }

    #[tokio::test]
    async fn of_an_answer_the_status_says_what_becomes_of_it() {
        access::tls::install_provider();
        let (receiver, key) =
            (Receiver::start(204).await, Key::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap());
        let webhook = |url: String| Webhook { url, secret: "s".parse().unwrap(), of: Vec::new(), ca: None };
        let there = webhook(format!("{}/a/b", receiver.url()));
        for (says, answer) in [
            (204, Answer::Taken),
            (410, Answer::Gone("the receiver said 410 Gone".into())),
            (500, Answer::Not("the receiver said 500 Internal Server Error".into())),
            (302, Answer::Not("the receiver said 302 Found, and redirects are not followed".into())),
        ] {
            receiver.say(says);
            assert_eq!(send(&there, &key, &note(), Timestamp(1_000)).await, answer);
        }
        let all = receiver.received(4).await;
        let first = all.first().unwrap();
        assert_eq!((first.header("webhook-id"), first.header("webhook-timestamp")), ("drift_1", "1"));
        assert_eq!(first.header("content-type"), "application/json");
        // A port on which nobody listens: its receiver is gone.
        let gone = webhook(Receiver::start(204).await.url());
        let Answer::Not(why) = send(&gone, &key, &note(), Timestamp(1_000)).await else { panic!("nobody is there") };
        assert!(why.starts_with("the receiver does not answer"), "{why}");
        let ca = Some("no certificate".to_owned());
        assert!(client(&Webhook { ca, ..gone }).unwrap_err().contains("ca holds no certificate"));
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

    #[test]
    fn what_is_sent_says_what_moved_how_far_and_since_when() {
        assert_eq!(
            body(&note()),
            r#"{"type":"drift","timestamp":"2023-11-14T22:13:20.25Z","data":{"namespace":"bank","model":"fraud","version":3,"#
                .to_owned()
                + r#""kind":"inputs","what":"amount by 0.50","since":"2023-11-14T22:13:19Z","#
                + r#""moved":[{"column":"amount","effect":0.5,"evidence":4000000.0}]}}"#
        );
    }
}
