//! Certificates of the node's own services and of its port: made at start, renewed while they are in use.

use std::{sync::Arc, time::Duration};

use access::{
    Authority, Identity, Renewable,
    authority::caller_path,
    tls::{self, ServiceTls},
};
use async_trait::async_trait;
use gateway::listen::PublicTls;
use rpc::{
    Clock, Supervisor,
    door::Badge,
    supervisor::{Certified, Certify},
};
use types::{Code, Refusal};

use super::data::DataDir;
use crate::output;

/// How often the port's certificate is renewed; it lasts much longer.
const PUBLIC: Duration = Duration::from_secs(86_400);

/// What each of them shows now.
pub(super) struct Certificates {
    authority: Arc<Authority>,
    names: Vec<String>,
    life: Duration,
    clock: Clock,
    pub(super) public: PublicTls,
    pub(super) gateway: Badge,
    pub(super) orchestrator: Badge,
}

impl Certificates {
    /// Makes the first ones; those of services last `life`.
    ///
    /// # Errors
    /// When one can't be made.
    pub(super) fn new(data: &DataDir, names: Vec<String>, life: Duration, clock: Clock) -> Result<Self, Refusal> {
        let authority = data.authority.clone();
        let port = authority.server(&names, clock.now()).map_err(|error| output::internal(&error))?;
        let public = Renewable::new(
            tls::public_server(&port, authority.certificate()).map_err(|error| output::internal(&error))?,
        );
        let service = |path| Ok::<_, Refusal>(Badge::new(made(&authority, path, life, &clock)?));
        let (gateway, orchestrator) = (service("gateway")?, service("orchestrator")?);
        Ok(Self { authority, names, life, clock, public, gateway, orchestrator })
    }

    /// Renews them until `stop` resolves.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) {
        let renew = async {
            let mut public = tokio::time::Instant::now();
            loop {
                tokio::time::sleep(self.life / 3).await;
                if let Err(refusal) = self.renew(public.elapsed() >= PUBLIC) {
                    tracing::error!(%refusal, "certificates could not be renewed; the next round tries again");
                    continue;
                }
                if public.elapsed() >= PUBLIC {
                    public = tokio::time::Instant::now();
                }
                tracing::debug!("certificates of services renewed");
            }
        };
        tokio::select! {
            () = renew => {}
            () = stop => {}
        }
    }

    fn renew(&self, public: bool) -> Result<(), Refusal> {
        self.gateway.replace(made(&self.authority, "gateway", self.life, &self.clock)?);
        self.orchestrator.replace(made(&self.authority, "orchestrator", self.life, &self.clock)?);
        if public {
            let port =
                self.authority.server(&self.names, self.clock.now()).map_err(|error| output::internal(&error))?;
            self.public.replace(
                tls::public_server(&port, self.authority.certificate()).map_err(|error| output::internal(&error))?,
            );
        }
        Ok(())
    }
}

/// The CA of the node, for those who may ask it.
pub(super) struct Issuing {
    pub(super) authority: Arc<Authority>,
    pub(super) clock: Clock,
}

#[async_trait]
impl Supervisor for Issuing {
    async fn certify(&self, request: Certify) -> Result<Certified, Refusal> {
        let Certify { namespace, caller, token, request, until } = request;
        let now = self.clock.now();
        let made = self.authority.caller(&request, (&caller_path(&namespace, &caller), &token), now, until.since(now));
        let certificate = made.map_err(|error| {
            Refusal::new(Code::RequestMalformed, format!("the certificate request can't be used: {error}"))
                .hint("`mantlet callers certificate NAME` makes a key and a request for it")
        })?;
        Ok(Certified { certificate })
    }
}

fn made(authority: &Authority, path: &str, life: Duration, clock: &Clock) -> Result<ServiceTls, Refusal> {
    let identity: Identity = authority.service(path, clock.now(), life).map_err(|error| output::internal(&error))?;
    ServiceTls::new(&identity, authority.certificate()).map_err(|error| output::internal(&error))
}
