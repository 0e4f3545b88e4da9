//! The keys of a node that exists in memory alone.

use access::{Authority, Identity, signing};
use async_trait::async_trait;
use parking_lot::Mutex;
use rpc::{
    Clock, Supervisor,
    model_server::Renewal,
    supervisor::{Certified, Certify, ChangeKey, Keyring},
};
use types::{KeyKind, Refusal};
use zeroize::Zeroizing;

/// A supervisor without files; certificates of callers are not its business.
pub struct Keys {
    authority: Authority,
    ring: Mutex<Keyring>,
}

impl Default for Keys {
    fn default() -> Self {
        let authority = Authority::generate(Clock::System.now()).unwrap();
        let (bundle, log) = (signing::Key::generate().unwrap(), ledger::Key::generate("test.example/log").unwrap());
        let ring = Keyring {
            bundle: Zeroizing::new(bundle.secret().to_owned()),
            bundles: vec![bundle.public().unwrap().pem().to_owned()],
            log: vec![Zeroizing::new(log.secret().to_owned())],
            ca: authority.roots(),
        };
        Self { authority, ring: Mutex::new(ring) }
    }
}

#[async_trait]
impl Supervisor for Keys {
    async fn certify(&self, _: Certify) -> Result<Certified, Refusal> {
        panic!("no test of a registry or orchestrator asks for it")
    }
    async fn identity(&self, path: String) -> Result<Renewal, Refusal> {
        let life = std::time::Duration::from_secs(3_600);
        let Identity { chain, key } = self.authority.service(&path, Clock::System.now(), life).unwrap();
        Ok(Renewal { chain, key, ca: self.authority.certificate() })
    }
    async fn port(&self, (): ()) -> Result<Renewal, Refusal> {
        panic!("no test of a registry or orchestrator asks for it")
    }
    async fn bundle_keys(&self, (): ()) -> Result<Vec<String>, Refusal> {
        Ok(self.ring.lock().bundles.clone())
    }
    async fn keyring(&self, (): ()) -> Result<Keyring, Refusal> {
        Ok(self.ring.lock().clone())
    }
    async fn change_key(&self, ChangeKey { key, retire }: ChangeKey) -> Result<Keyring, Refusal> {
        let mut ring = self.ring.lock();
        match (key, retire) {
            (KeyKind::Bundle, false) => {
                let new = signing::Key::generate().unwrap();
                ring.bundle = Zeroizing::new(new.secret().to_owned());
                ring.bundles.insert(0, new.public().unwrap().pem().to_owned());
            }
            (KeyKind::Bundle, true) => ring.bundles.truncate(1),
            (KeyKind::Log, false) => {
                let new = ledger::Key::generate("test.example/log").unwrap();
                ring.log.insert(0, Zeroizing::new(new.secret().to_owned()));
            }
            (KeyKind::Log, true) => ring.log.truncate(1),
            (KeyKind::Ca, _) => {}
        }
        Ok(ring.clone())
    }
}
