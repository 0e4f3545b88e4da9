//! Secrets: what models of other servers are asked with, and webhooks are signed with. They are set, replaced and taken away, and never shown.

use rpc::registry::{Receipt, Secret, SecretInfo, SetSecret};
use store::{Collection, Expect, Write, read_all};
use types::{Code, Digest, Namespace, Refusal};

use crate::Registry;

/// Secrets of a namespace, at most.
const MOST: usize = 256;
/// Bytes of a secret, at most: longer than any token, shorter than what a server takes as a header.
const LONGEST: usize = 8 << 10;

impl Registry {
    pub(crate) async fn secrets_of(&self, namespace: &Namespace) -> Result<Vec<SecretInfo>, Refusal> {
        let documents = read_all(&*self.catalog, Collection::Secret, &format!("{namespace}/")).await?;
        let secrets = documents.iter().map(|document| {
            let Secret { name, author, set, .. } = document.read()?;
            Ok(SecretInfo { name, author, set })
        });
        secrets.collect()
    }

    pub(crate) async fn keep_secret(&self, request: SetSecret) -> Result<Receipt, Refusal> {
        let SetSecret { actor, namespace, name, value } = request;
        let (key, subject) = (format!("{namespace}/{name}"), format!("secret:{namespace}/{name}"));
        let _writing = self.writing.lock().await;
        let Some(value) = value else {
            let known = self.catalog.get(Collection::Secret, &key).await?;
            known.ok_or_else(|| Refusal::new(Code::SecretNotFound, format!("`{namespace}` has no secret `{name}`")))?;
            let write = Write::remove(Collection::Secret, key, Expect::Any);
            let nothing = serde_json::Value::Null;
            return self.commit(vec![write], "secret.remove", Some(&namespace), &actor, &subject, nothing).await;
        };
        let fits =
            !value.is_empty() && value.len() <= LONGEST && value.bytes().all(|byte| (0x21..0x7f).contains(&byte));
        if !fits {
            return Err(Refusal::new(Code::RequestMalformed, format!("the secret `{name}` is no token"))
                .hint(format!("a token has 1 to {LONGEST} visible ASCII characters, and no space or line break")));
        }
        if self.secrets_of(&namespace).await?.len() >= MOST {
            return Err(Refusal::new(Code::QuotaExceeded, format!("`{namespace}` has {MOST} secrets"))
                .hint("take away those that nothing uses: `mantlet secrets remove NAME`"));
        }
        let set = self.clock.now();
        // Its digest tells auditors which one it was, and nothing else: a token is too long to be guessed.
        let detail = serde_json::json!({ "digest": Digest::of(value.as_bytes()) });
        let secret = Secret { namespace: namespace.clone(), name, value, author: actor.clone(), set };
        let write = Write::put(Collection::Secret, key, Expect::Any, &secret)?;
        self.commit(vec![write], "secret.set", Some(&namespace), &actor, &subject, detail).await
    }
}
