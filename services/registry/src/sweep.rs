//! Where the disk is short: what nobody needs goes. Uploads that nobody published, and bundles that no version and no snapshot names;
//! everything that somebody was told is there stays.

use std::{collections::BTreeSet, time::Duration};

use rpc::registry::{Snapshot, VersionRecord};
use store::{Collection, read_all};
use types::{Digest, Refusal};

use crate::Registry;

/// How long an upload may wait to be published.
const WAITED: Duration = Duration::from_secs(3_600);

impl Registry {
    /// Looks whether the disk is short, and lets go of what nobody needs until it is not; how many uploads and bundles went.
    ///
    /// # Errors
    /// When a store can't be used.
    pub async fn sweep(&self) -> Result<u64, Refusal> {
        if !self.artefacts.is_short().await {
            return Ok(0);
        }
        let mut gone = self.artefacts.forget_staged(WAITED).await?;
        // Nobody publishes meanwhile: a bundle is there before its version is.
        let _writing = self.writing.lock().await;
        let named = self.named().await?;
        for bundle in self.artefacts.bundles().await?.into_iter().filter(|bundle| !named.contains(bundle)) {
            if !self.artefacts.is_short().await {
                break;
            }
            self.artefacts.remove(bundle).await?;
            gone += 1;
        }
        if gone > 0 {
            tracing::warn!(gone, "the disk is short: uploads and bundles that nobody needs went");
        }
        Ok(gone)
    }

    /// Every bundle that a version or a snapshot names.
    async fn named(&self) -> Result<BTreeSet<Digest>, Refusal> {
        let mut named = BTreeSet::new();
        for document in read_all(&*self.catalog, Collection::Version, "").await? {
            named.insert(document.read::<VersionRecord>()?.digest);
        }
        for document in read_all(&*self.catalog, Collection::Snapshot, "").await? {
            named.insert(document.read::<Snapshot>()?.digest);
        }
        Ok(named)
    }
}
