//! Callers and their tokens: one token each, replaced by `rotate`, gone with `revoke`.

use std::time::Duration;

use access::{Token, TokenRecord};
use rpc::registry::{AddCaller, CallerRecord, NameCaller, NewToken, NoteCertificate, Receipt, Used};
use store::{Collection, Document, Expect, Write, read_all};
use types::{Code, Refusal, Role, Timestamp};

use crate::Registry;

/// How exactly it is known when a token was used.
const MINUTE: Duration = Duration::from_secs(60);

impl Registry {
    pub(crate) async fn add(&self, request: AddCaller) -> Result<NewToken, Refusal> {
        if request.roles.is_empty() {
            return Err(Refusal::new(Code::RequestMalformed, "a caller needs a role")
                .hint("name one, for example `--role caller`"));
        }
        let token = Token::generate();
        let now = self.clock.now();
        let record = TokenRecord {
            id: token.id().clone(),
            digest: token.digest(),
            namespace: request.namespace.clone(),
            caller: request.caller.clone(),
            roles: request.roles.clone(),
            node_wide: request.node_wide,
            created: now,
            expires: request.expires,
        };
        let caller = CallerRecord {
            namespace: request.namespace.clone(),
            caller: request.caller.clone(),
            roles: request.roles.clone(),
            node_wide: request.node_wide,
            token: token.id().to_string(),
            created: now,
            expires: request.expires,
            used: None,
        };
        let writes = vec![
            Write::put(Collection::Caller, key(&request.namespace, &request.caller), Expect::Absent, &caller)?,
            Write::put(Collection::Token, token.id().as_str(), Expect::Absent, &record)?,
        ];
        let detail = serde_json::json!({
            "roles": request.roles, "token": token.id(), "expires": request.expires, "nodeWide": request.node_wide,
        });
        let subject = format!("caller:{}", key(&request.namespace, &request.caller));
        let committed =
            self.commit(writes, "caller.add", Some(&request.namespace), &request.actor, &subject, detail).await;
        let receipt = committed.map_err(|refusal| match refusal.code {
            Code::Conflict => Refusal::new(
                Code::AlreadyExists,
                format!("there is a caller `{}` in namespace `{}` already", request.caller, request.namespace),
            )
            .hint(format!("choose another name, or replace its token: `mantlet callers rotate {}`", request.caller)),
            _ => refusal,
        })?;
        self.credentials.set(token.id().to_string(), Some(record));
        Ok(NewToken { token: token.expose().to_string(), receipt })
    }

    pub(crate) async fn revoke(&self, request: NameCaller) -> Result<Receipt, Refusal> {
        let _writing = self.writing.lock().await;
        let (document, caller) = self.caller(&request).await?;
        if is_node_admin(&caller) {
            self.keep_an_admin(&caller).await?;
        }
        let writes = vec![
            Write::remove(Collection::Caller, &document.key, Expect::Generation(document.generation)),
            Write::remove(Collection::Token, &caller.token, Expect::Any),
            Write::remove(Collection::Use, &caller.token, Expect::Any),
        ];
        let subject = format!("caller:{}", document.key);
        let detail = serde_json::json!({ "token": caller.token });
        let receipt =
            self.commit(writes, "caller.revoke", Some(&request.namespace), &request.actor, &subject, detail).await?;
        self.credentials.set(caller.token, None);
        Ok(receipt)
    }

    /// Notes when tokens were used, to the minute: no more writes than that.
    pub(crate) async fn used(&self, uses: Vec<Used>) -> Result<(), Refusal> {
        let _writing = self.writing.lock().await;
        let mut writes = Vec::new();
        for Used { token, at } in uses {
            let known = self.catalog.get(Collection::Use, &token).await?;
            let known = known.map(|known| known.read::<Timestamp>()).transpose()?;
            // A token that is gone meanwhile leaves no note.
            if self.credentials.get(&token).is_some() && known.is_none_or(|known| at.since(known) >= MINUTE) {
                writes.push(Write::put(Collection::Use, token, Expect::Any, &at)?);
            }
        }
        if !writes.is_empty() {
            self.catalog.commit(writes, Vec::new()).await?;
        }
        Ok(())
    }

    pub(crate) async fn rotate(&self, request: NameCaller) -> Result<NewToken, Refusal> {
        let _writing = self.writing.lock().await;
        let (document, caller) = self.caller(&request).await?;
        let token = Token::generate();
        let record = TokenRecord {
            id: token.id().clone(),
            digest: token.digest(),
            namespace: caller.namespace.clone(),
            caller: caller.caller.clone(),
            roles: caller.roles.clone(),
            node_wide: caller.node_wide,
            created: self.clock.now(),
            expires: caller.expires,
        };
        let replaced = CallerRecord { token: token.id().to_string(), ..caller.clone() };
        let writes = vec![
            Write::put(Collection::Caller, &document.key, Expect::Generation(document.generation), &replaced)?,
            Write::remove(Collection::Token, &caller.token, Expect::Any),
            Write::remove(Collection::Use, &caller.token, Expect::Any),
            Write::put(Collection::Token, token.id().as_str(), Expect::Absent, &record)?,
        ];
        let subject = format!("caller:{}", document.key);
        let detail = serde_json::json!({ "token": token.id(), "replaces": caller.token });
        let receipt =
            self.commit(writes, "caller.rotate", Some(&request.namespace), &request.actor, &subject, detail).await?;
        self.credentials.set(token.id().to_string(), Some(record));
        self.credentials.set(caller.token, None);
        Ok(NewToken { token: token.expose().to_string(), receipt })
    }

    pub(crate) async fn certified(&self, request: NoteCertificate) -> Result<Receipt, Refusal> {
        let NoteCertificate { actor, namespace, caller, digest, until } = request;
        let name = NameCaller { actor: actor.clone(), namespace: namespace.clone(), caller };
        let (document, _) = self.caller(&name).await?;
        let subject = format!("caller:{}", document.key);
        let detail = serde_json::json!({ "certificate": digest, "expires": until });
        self.commit(Vec::new(), "caller.certificate", Some(&namespace), &actor, &subject, detail).await
    }

    async fn caller(&self, request: &NameCaller) -> Result<(Document, CallerRecord), Refusal> {
        let key = key(&request.namespace, &request.caller);
        let found = self.catalog.get(Collection::Caller, &key).await?.ok_or_else(|| {
            Refusal::new(
                Code::CallerNotFound,
                format!("there is no caller `{}` in namespace `{}`", request.caller, request.namespace),
            )
            .hint("`mantlet callers list` shows the callers")
        })?;
        let caller = found.read()?;
        Ok((found, caller))
    }

    async fn keep_an_admin(&self, leaving: &CallerRecord) -> Result<(), Refusal> {
        for document in read_all(&*self.catalog, Collection::Caller, "").await? {
            let other: CallerRecord = document.read()?;
            let leaves = (&other.namespace, &other.caller) == (&leaving.namespace, &leaving.caller);
            if is_node_admin(&other) && !leaves {
                return Ok(());
            }
        }
        Err(Refusal::new(Code::LastAdmin, format!("`{}` is the last admin of this node", leaving.caller))
            .hint("add another first: `mantlet callers add NAME --role admin --node-wide`"))
    }
}

fn is_node_admin(caller: &CallerRecord) -> bool {
    caller.node_wide && caller.roles.contains(&Role::Admin) && caller.expires.is_none()
}

fn key(namespace: &types::Namespace, caller: &types::CallerName) -> String {
    format!("{namespace}/{caller}")
}
