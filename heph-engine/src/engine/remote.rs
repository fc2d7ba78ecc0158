//! What an engine does with remote caches apart from runs.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use heph_cache::remote::provenance::{Seen, Source};
use heph_cache::remote::purge::Purged;
use heph_cache::remote::remotes::{Condition, Measured};
use heph_cache::remote::uploads::Waiting;
use heph_cache::remote::{Caller, Warning};
use heph_cache::{OriginFilter, StoreError, UploadSum};
use heph_common::Digest;
use heph_common::config::Config;

use super::{Asked, Engine};
use crate::branch::branch;

impl Engine {
    /// Sends what waits for the caches of a configuration, for so long; what is left then.
    pub fn flush_uploads(
        &self,
        config: &Config,
        environment: &BTreeMap<String, String>,
        root: &Path,
        patience: Duration,
    ) -> Waiting {
        let caller = Caller {
            config,
            environment,
            branch: &|| branch(root, environment),
            platform: "",
        };
        let remotes = &self.services.remotes;
        match remotes.session(&caller) {
            Some(_) => remotes.drain(patience, || false),
            None => remotes.waiting(),
        }
    }

    /// Measures what the caches of a configuration take to answer.
    ///
    /// # Errors
    /// When the system has no threads.
    pub fn measure_latency(
        &self,
        config: &Config,
        environment: &BTreeMap<String, String>,
        root: &Path,
    ) -> std::io::Result<(Vec<Measured>, Vec<Warning>)> {
        self.services.remotes.measure(&Caller {
            config,
            environment,
            branch: &|| branch(root, environment),
            platform: "",
        })
    }

    /// Removes all results of these keys that there are now, here and in the caches of a configuration that are written.
    ///
    /// # Errors
    /// [`StoreError`] where the store cannot be written.
    pub fn purge(
        &self,
        config: &Config,
        environment: &BTreeMap<String, String>,
        root: &Path,
        keys: &[Digest],
    ) -> Result<(Purged, Vec<Warning>), StoreError> {
        let caller = Caller {
            config,
            environment,
            branch: &|| branch(root, environment),
            platform: "",
        };
        self.services.remotes.purge(&caller, keys)
    }

    /// Where results come from that a request may use.
    pub fn origins(&self, asked: &Asked) -> OriginFilter {
        self.services.remotes.origins(&Caller {
            config: &asked.config,
            environment: &asked.environment,
            branch: &|| branch(&asked.root, &asked.environment),
            platform: "",
        })
    }

    /// Where results of the caches of a configuration come from, by origin, and what they have for a key.
    ///
    /// # Errors
    /// When the system has no threads.
    pub fn provenance(
        &self,
        config: &Config,
        environment: &BTreeMap<String, String>,
        root: &Path,
        key: &Digest,
    ) -> std::io::Result<(HashMap<Digest, Source>, Vec<Seen>)> {
        let caller = Caller {
            config,
            environment,
            branch: &|| branch(root, environment),
            platform: "",
        };
        self.services.remotes.provenance(&caller, key)
    }

    /// Whether results wait for caches that are known here.
    pub fn has_uploads(&self) -> bool {
        self.services.remotes.waiting().known > 0
    }

    /// What waits to be uploaded for each cache, and whether it can be sent by this coordinator.
    pub fn upload_sums(&self) -> Vec<(UploadSum, bool)> {
        let remotes = &self.services.remotes;
        let sums = self.services.store.upload_sums().unwrap_or_else(|error| {
            tracing::warn!("the queue of uploads cannot be read: {error}");
            Vec::new()
        });
        let known = |sum: UploadSum| {
            let is_known = remotes.knows(&sum.cache);
            (sum, is_known)
        };
        sums.into_iter().map(known).collect()
    }

    /// How the remote caches are that were used.
    pub fn cache_conditions(&self) -> Vec<Condition> {
        self.services.remotes.conditions()
    }
}
