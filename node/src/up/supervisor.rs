//! The supervisor: the node's first process keeps the keys, makes every certificate, and lets others at the stores.

use std::{sync::Arc, time::Duration};

use access::{Authority, Identity, Renewable, authority::caller_path, signing};
use async_trait::async_trait;
use rpc::{
    Clock, Supervisor,
    door::{self, Rooms},
    model_server::Renewal,
    store::{catalog_router, log_router, streams_router},
    supervisor::{Certified, Certify, ChangeKey, Keyring, supervisor_router},
};
use store::{
    Catalog, Collection, Committed, Document, Entry, Error, Keyed, Log, Retention, Streams, Write,
    sqlite::{SqliteCatalog, SqliteLog, SqliteStreams},
};
use tokio::sync::Mutex;
use types::{Code, KeyKind, Refusal, Timestamp};

use super::data::DataDir;
use crate::output;

/// Keeps the keys of a node.
pub(super) struct Keeper {
    data: Arc<DataDir>,
    authority: Renewable<Authority>,
    names: Vec<String>,
    life: Duration,
    clock: Clock,
    changing: Mutex<()>,
}

impl Keeper {
    /// Reads the keys, or makes them at the first start. Certificates of services last `life`; the port's is good for
    /// `names` too.
    ///
    /// # Errors
    /// When a key can't be read.
    pub(super) fn open(data: Arc<DataDir>, names: Vec<String>, life: Duration, clock: Clock) -> Result<Self, Refusal> {
        let authority = Renewable::new(data.authority(clock.now())?);
        data.publish()?;
        Ok(Self { data, authority, names, life, clock, changing: Mutex::new(()) })
    }

    fn shown(&self, made: Result<Identity, access::authority::Error>) -> Result<Renewal, Refusal> {
        let Identity { chain, key } = made.map_err(|error| output::internal(&error))?;
        Ok(Renewal { chain, key, ca: self.authority.current().certificate() })
    }

    fn change_ca(&self, retire: bool) -> Result<(), Refusal> {
        let (now, authority) = (self.clock.now(), self.authority.current());
        let overlap = authority.roots().len() > 1;
        let changed = if retire {
            let since = authority.since().map_err(|error| output::internal(&error))?;
            let left = since.plus(self.life).since(now);
            if !overlap {
                return Err(nothing_to_retire(KeyKind::Ca));
            }
            if left > Duration::ZERO {
                let what = "services still show certificates of the CA before this one".to_owned();
                let hint = format!("the last one ends in {} s: retire it then", left.as_secs() + 1);
                return Err(Refusal::new(Code::Conflict, what).hint(hint));
            }
            authority.retire()
        } else {
            if overlap {
                return Err(still_there(KeyKind::Ca));
            }
            authority.succeed(now)
        };
        let changed = changed.map_err(|error| output::internal(&error))?;
        self.data.keep_authority(&changed)?;
        self.authority.replace(changed);
        Ok(())
    }

    fn change_bundle(&self, retire: bool) -> Result<(), Refusal> {
        let (key, before) = self.data.bundle_keys()?;
        match (retire, before) {
            (true, None) => Err(nothing_to_retire(KeyKind::Bundle)),
            (false, Some(_)) => Err(still_there(KeyKind::Bundle)),
            (true, Some(_)) => self.data.keep_bundle_keys(&key, None),
            (false, None) => {
                let before = key.public().map_err(|error| output::internal(&error))?;
                let key = signing::Key::generate().map_err(|error| output::internal(&error))?;
                self.data.keep_bundle_keys(&key, Some(before.pem()))
            }
        }
    }

    fn change_log(&self, retire: bool) -> Result<(), Refusal> {
        let mut keys = self.data.log_keys()?;
        match (retire, keys.as_slice()) {
            (true, [_]) => return Err(nothing_to_retire(KeyKind::Log)),
            (false, [_, _, ..]) => return Err(still_there(KeyKind::Log)),
            (false, [old]) => {
                let key = ledger::Key::generate(old.origin()).map_err(|error| output::internal(&error))?;
                keys.insert(0, key);
            }
            _ => keys.truncate(1),
        }
        self.data.keep_log_keys(&keys)
    }
}

fn nothing_to_retire(kind: KeyKind) -> Refusal {
    Refusal::new(Code::Conflict, format!("there is one {kind} key alone"))
        .hint(format!("`mantlet keys rotate {kind}` makes a new one first"))
}

fn still_there(kind: KeyKind) -> Refusal {
    Refusal::new(Code::Conflict, format!("the {kind} key before this one is not retired yet"))
        .hint(format!("`mantlet keys retire {kind}` ends its time, then rotate again"))
}

#[async_trait]
impl Supervisor for Keeper {
    async fn certify(&self, request: Certify) -> Result<Certified, Refusal> {
        let Certify { namespace, caller, token, request, until } = request;
        let (now, path) = (self.clock.now(), caller_path(&namespace, &caller));
        let made = self.authority.current().caller(&request, (&path, &token), now, until.since(now));
        let certificate = made.map_err(|error| {
            Refusal::new(Code::RequestMalformed, format!("the certificate request can't be used: {error}"))
                .hint("`mantlet callers certificate NAME` makes a key and a request for it")
        })?;
        Ok(Certified { certificate })
    }

    async fn identity(&self, path: String) -> Result<Renewal, Refusal> {
        self.shown(self.authority.current().service(&path, self.clock.now(), self.life))
    }

    async fn port(&self, (): ()) -> Result<Renewal, Refusal> {
        self.shown(self.authority.current().server(&self.names, self.clock.now()))
    }

    async fn bundle_keys(&self, (): ()) -> Result<Vec<String>, Refusal> {
        let _changing = self.changing.lock().await;
        self.data.trusted_bundle_keys()
    }

    async fn keyring(&self, (): ()) -> Result<Keyring, Refusal> {
        let _changing = self.changing.lock().await;
        self.data.keyring(&self.authority.current())
    }

    async fn change_key(&self, request: ChangeKey) -> Result<Keyring, Refusal> {
        let _changing = self.changing.lock().await;
        match request.key {
            KeyKind::Ca => self.change_ca(request.retire)?,
            KeyKind::Bundle => self.change_bundle(request.retire)?,
            KeyKind::Log => self.change_log(request.retire)?,
        }
        self.data.keyring(&self.authority.current())
    }
}

/// The node's stores.
pub(super) struct Stores {
    pub(super) catalog: Arc<SqliteCatalog>,
    pub(super) streams: Arc<SqliteStreams>,
    pub(super) log: Arc<SqliteLog>,
}

impl Stores {
    /// Opens the three files.
    ///
    /// # Errors
    /// When one can't be opened.
    pub(super) async fn open(data: &DataDir) -> Result<Self, Refusal> {
        Ok(Self {
            catalog: Arc::new(SqliteCatalog::open(&data.path("catalog.db")).await?),
            streams: Arc::new(SqliteStreams::open(&data.path("events.db")).await?),
            log: Arc::new(SqliteLog::open(&data.path("ledger.db")).await?),
        })
    }

    pub(super) async fn close(&self) {
        self.catalog.close().await;
        self.streams.close().await;
        self.log.close().await;
    }
}

/// What services in other processes find behind the supervisor's door: each its own.
pub(super) fn rooms(keeper: Arc<Keeper>, stores: Arc<Stores>) -> Rooms {
    Arc::new(move |peer| {
        let is = |service| door::is_service(peer, service);
        let visitor = Visitor { keeper: keeper.clone(), peer: peer.to_owned() };
        let certificates = supervisor_router(Arc::new(visitor));
        let catalog = |service| catalog_router(Arc::new(Owned { catalog: stores.catalog.clone(), service }));
        let streams = |own| streams_router(Arc::new(Own { streams: stores.streams.clone(), own }));
        if is("registry") {
            let log: Arc<dyn Log> = stores.log.clone();
            Some(certificates.merge(catalog("registry")).merge(log_router(log)))
        } else if is("orchestrator") {
            Some(certificates.merge(catalog("orchestrator")))
        } else if is("sentinel") {
            Some(certificates.merge(catalog("sentinel")))
        } else if is("trainer") {
            Some(certificates.merge(catalog("trainer")).merge(streams(".trainer".to_owned())))
        } else if is("gateway") {
            Some(certificates.merge(streams(format!(".{}", peer.rsplit('/').next().unwrap_or_default()))))
        } else {
            None
        }
    })
}

fn not_yours(what: &str, peer: &str) -> Refusal {
    Refusal::new(Code::NotAllowed, format!("{what} is not for `{peer}`"))
}

/// The keeper as one service sees it.
struct Visitor {
    keeper: Arc<Keeper>,
    peer: String,
}

impl Visitor {
    fn must_be(&self, service: &str, what: &str) -> Result<(), Refusal> {
        if door::is_service(&self.peer, service) { Ok(()) } else { Err(not_yours(what, &self.peer)) }
    }
}

#[async_trait]
impl Supervisor for Visitor {
    async fn certify(&self, request: Certify) -> Result<Certified, Refusal> {
        self.must_be("gateway", "a caller's certificate")?;
        self.keeper.certify(request).await
    }
    async fn identity(&self, path: String) -> Result<Renewal, Refusal> {
        let parts: Vec<&str> = path.split('/').collect();
        let model_server = matches!(*parts, [_, "model-server", _]);
        if path != self.peer && !(model_server && door::is_service(&self.peer, "orchestrator")) {
            return Err(not_yours(&format!("a certificate of `{path}`"), &self.peer));
        }
        self.keeper.identity(path).await
    }
    async fn port(&self, (): ()) -> Result<Renewal, Refusal> {
        self.must_be("gateway", "the port's certificate")?;
        self.keeper.port(()).await
    }
    async fn bundle_keys(&self, (): ()) -> Result<Vec<String>, Refusal> {
        self.keeper.bundle_keys(()).await
    }
    async fn keyring(&self, (): ()) -> Result<Keyring, Refusal> {
        self.must_be("registry", "the keys that sign")?;
        self.keeper.keyring(()).await
    }
    async fn change_key(&self, request: ChangeKey) -> Result<Keyring, Refusal> {
        self.must_be("registry", "a change of keys")?;
        self.keeper.change_key(request).await
    }
}

fn foreign(what: String) -> Error {
    Error::unavailable(what, "another service writes it")
}

/// The catalog, of which a service writes its own collections alone.
struct Owned {
    catalog: Arc<SqliteCatalog>,
    service: &'static str,
}

#[async_trait]
impl Catalog for Owned {
    async fn get(&self, collection: Collection, key: &str) -> Result<Option<Document>, Error> {
        self.catalog.get(collection, key).await
    }
    async fn list(
        &self,
        collection: Collection,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Document>, Error> {
        self.catalog.list(collection, prefix, after, limit).await
    }
    async fn commit(&self, writes: Vec<Write>, records: Vec<Vec<u8>>) -> Result<Committed, Error> {
        if let Some(write) = writes.iter().find(|write| write.collection.writer() != self.service) {
            return Err(foreign(format!("collection `{}`", write.collection.as_str())));
        }
        self.catalog.commit(writes, records).await
    }
    async fn outbox(&self, after: u64, limit: u32) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        self.catalog.outbox(after, limit).await
    }
    async fn forget_outbox(&self, upto: u64) -> Result<(), Error> {
        if self.service == "registry" { self.catalog.forget_outbox(upto).await } else { Err(foreign("outbox".into())) }
    }
    async fn given(&self) -> Result<u64, Error> {
        self.catalog.given().await
    }
}

/// The streams, of which a service writes its own alone; it reads all, and erases what somebody wants forgotten.
struct Own {
    streams: Arc<SqliteStreams>,
    /// How the names of its own streams end.
    own: String,
}

impl Own {
    fn check(&self, stream: &str) -> Result<(), Error> {
        if stream.ends_with(&self.own) { Ok(()) } else { Err(foreign(format!("stream `{stream}`"))) }
    }
}

#[async_trait]
impl Streams for Own {
    async fn append_keyed(&self, stream: &str, at: Timestamp, entries: Vec<Keyed>) -> Result<u64, Error> {
        self.check(stream)?;
        self.streams.append_keyed(stream, at, entries).await
    }
    async fn find(&self, prefix: &str, key: u64, limit: u32) -> Result<Vec<(String, u64)>, Error> {
        self.streams.find(prefix, key, limit).await
    }
    async fn read(&self, stream: &str, from: u64, limit: u32) -> Result<Vec<Entry>, Error> {
        self.streams.read(stream, from, limit).await
    }
    async fn names(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.streams.names(prefix).await
    }
    async fn next(&self, stream: &str) -> Result<u64, Error> {
        self.streams.next(stream).await
    }
    async fn erase(&self, stream: &str, sequences: &[u64]) -> Result<(), Error> {
        self.streams.erase(stream, sequences).await
    }
    async fn retain(&self, stream: &str, retention: Retention) -> Result<u64, Error> {
        self.check(stream)?;
        self.streams.retain(stream, retention).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn made() -> (tempfile::TempDir, Arc<Keeper>, Stores) {
        let dir = tempfile::tempdir().unwrap();
        let data = Arc::new(DataDir::open(dir.path().join("node")).unwrap());
        let stores = Stores::open(&data).await.unwrap();
        let keeper = Keeper::open(data, Vec::new(), Duration::from_secs(60), Clock::System).unwrap();
        (dir, Arc::new(keeper), stores)
    }

    #[tokio::test]
    async fn each_service_gets_its_own_certificate_and_no_other() {
        let (_dir, keeper, _) = made().await;
        let as_one = |peer: &str| Visitor { keeper: keeper.clone(), peer: peer.to_owned() };
        let allowed = async |peer: &str, path: &str| as_one(peer).identity(path.to_owned()).await.is_ok();
        assert!(allowed("gateway/g0", "gateway/g0").await);
        assert!(allowed("orchestrator", "bank/model-server/m1").await);
        for (peer, path) in [
            ("gateway/g0", "gateway/g1"),
            ("gateway/g0", "registry"),
            ("gateway/g0", "bank/model-server/m1"),
            ("registry", "bank/model-server/m1"),
            ("orchestrator", "bank/caller/teller"),
            ("orchestrator", "supervisor"),
        ] {
            assert!(!allowed(peer, path).await, "{peer} got {path}");
        }
        for peer in ["gateway/g0", "orchestrator"] {
            assert_eq!(as_one(peer).keyring(()).await.err().unwrap().code, Code::NotAllowed, "{peer}");
            let change = ChangeKey { key: KeyKind::Ca, retire: false };
            assert_eq!(as_one(peer).change_key(change).await.err().unwrap().code, Code::NotAllowed, "{peer}");
        }
        assert!(as_one("registry").keyring(()).await.is_ok());
        assert!(as_one("registry").port(()).await.is_err());
    }

    #[tokio::test]
    async fn each_service_writes_its_own_state_and_no_other() {
        let (_dir, _, stores) = made().await;
        let write = |collection| vec![Write::put(collection, "a/x", store::Expect::Any, &1).unwrap()];
        let registry = Owned { catalog: stores.catalog.clone(), service: "registry" };
        let orchestrator = Owned { catalog: stores.catalog.clone(), service: "orchestrator" };
        assert!(registry.commit(write(Collection::Token), Vec::new()).await.is_ok());
        assert!(registry.commit(write(Collection::Desired), Vec::new()).await.is_err());
        assert!(orchestrator.commit(write(Collection::Desired), Vec::new()).await.is_ok());
        assert!(orchestrator.commit(write(Collection::Token), Vec::new()).await.is_err());
        assert!(orchestrator.forget_outbox(9).await.is_err());
        let own = Own { streams: stores.streams.clone(), own: ".g0".into() };
        assert!(own.append("predictions.g0", Timestamp(1), vec![b"x".to_vec()]).await.is_ok());
        assert!(own.append("predictions.g1", Timestamp(1), vec![b"x".to_vec()]).await.is_err());
    }

    #[tokio::test]
    async fn keys_change_with_an_overlap_and_come_back_after_a_start() {
        let (dir, keeper, _) = made().await;
        let before = keeper.keyring(()).await.unwrap();
        for key in KeyKind::ALL {
            let change = |retire| keeper.change_key(ChangeKey { key, retire });
            assert_eq!(change(true).await.err().unwrap().code, Code::Conflict, "nothing to retire");
            change(false).await.unwrap();
            assert_eq!(change(false).await.err().unwrap().code, Code::Conflict, "one overlap at a time");
        }
        let ring = keeper.keyring(()).await.unwrap();
        assert_eq!((ring.bundles.len(), ring.log.len(), ring.ca.len()), (2, 2, 2));
        assert_eq!((&ring.bundles[1], &ring.ca[1]), (&before.bundles[0], &before.ca[0]));
        assert_eq!(ring.log[1].trim_end(), before.log[0].trim_end());
        // The old CA's key is gone at once; services may show its certificates for a while.
        let change = |key| keeper.change_key(ChangeKey { key, retire: true });
        assert_eq!(change(KeyKind::Ca).await.err().unwrap().code, Code::Conflict);
        change(KeyKind::Log).await.unwrap();
        drop(keeper);
        let data = Arc::new(DataDir::open(dir.path().join("node")).unwrap());
        let again = Keeper::open(data, Vec::new(), Duration::from_secs(60), Clock::System).unwrap();
        let again = again.keyring(()).await.unwrap();
        assert_eq!((again.bundles, again.ca), (ring.bundles, ring.ca));
        assert_eq!(again.log, [ring.log[0].clone()]);
    }
}
