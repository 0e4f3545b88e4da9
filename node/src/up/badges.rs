//! What services and the port show to others: made at start, renewed while they are in use.

use std::{sync::Arc, time::Duration};

use access::{Identity, tls};
use gateway::listen::PublicTls;
use rpc::{Clock, Supervisor, clock::Jumps, door::Badge, model_server::Renewal};
use tokio::time::Instant;
use types::Refusal;

use crate::output;

/// How often it is looked whether the system's clock was set: certificates are judged by it.
const LOOK: Duration = Duration::from_secs(1);
/// How long to wait after a renewal failed.
const AGAIN: Duration = Duration::from_millis(500);

fn port(renewal: Renewal) -> Result<rustls::ServerConfig, Refusal> {
    let Renewal { chain, key, ca } = renewal;
    tls::public_server(&Identity { chain, key }, &ca).map_err(|error| output::internal(&error))
}

/// The badges of one process.
pub(super) struct Badges {
    supervisor: Arc<dyn Supervisor>,
    services: Vec<(String, Badge)>,
    port: Option<PublicTls>,
    life: Duration,
    clock: Clock,
}

impl Badges {
    /// None yet; each that is made later is renewed at a third of `life`.
    pub(super) fn new(supervisor: Arc<dyn Supervisor>, life: Duration, clock: Clock) -> Self {
        Self { supervisor, services: Vec::new(), port: None, life, clock }
    }

    /// Takes in a badge that is shown already.
    pub(super) fn add(&mut self, path: &str, badge: Badge) {
        self.services.push((path.to_owned(), badge));
    }

    /// A badge for the service with this SPIFFE path.
    ///
    /// # Errors
    /// When none can be made.
    pub(super) async fn service(&mut self, path: &str) -> Result<Badge, Refusal> {
        let badge = Badge::new(self.supervisor.identity(path.to_owned()).await?.tls()?);
        self.add(path, badge.clone());
        Ok(badge)
    }

    /// The public port's.
    ///
    /// # Errors
    /// When none can be made.
    pub(super) async fn port(&mut self) -> Result<PublicTls, Refusal> {
        let shown = PublicTls::new(port(self.supervisor.port(()).await?)?);
        self.port = Some(shown.clone());
        Ok(shown)
    }

    /// Renews them until `stop` resolves.
    pub(super) async fn run(self, stop: impl Future<Output = ()>) {
        let renew = async {
            let mut jumps = Jumps::of(&self.clock);
            loop {
                let (began, third) = (Instant::now(), self.life / 3);
                while began.elapsed() < third && !jumps.jumped(&self.clock) {
                    tokio::time::sleep(LOOK.min(third)).await;
                }
                while let Err(refusal) = self.renew().await {
                    tracing::error!(%refusal, "certificates could not be renewed; it is tried again");
                    tokio::time::sleep(AGAIN).await;
                }
                tracing::debug!("certificates of services renewed");
            }
        };
        tokio::select! {
            () = renew => {}
            () = stop => {}
        }
    }

    async fn renew(&self) -> Result<(), Refusal> {
        for (path, badge) in &self.services {
            badge.replace(self.supervisor.identity(path.clone()).await?.tls()?);
        }
        if let Some(shown) = &self.port {
            shown.replace(port(self.supervisor.port(()).await?)?);
        }
        Ok(())
    }
}
