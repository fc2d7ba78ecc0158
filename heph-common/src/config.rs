//! `.hephconfig`: what can be set, where it comes from, and what is wrong with it.
//!
//! Every file is read to a tree of values with places, then each section is decoded, and everything that is wrong
//! is collected: unknown keys, keys given twice, wrong types and values. Files are layers over each other: the
//! user's, the workspace's, then its profiles. What comes out is [`Config`], with all defaults filled in.
//!
//! Sections are merged field by field and lists are replaced; `caches` are merged by name, `plugins` by identifier.

mod caches;
mod daemon;
mod decode;
mod layer;
mod load;
mod local;
mod plugins;
mod problem;
mod reach;
mod sandbox;
mod uri;
mod value;
mod workspace;
mod yaml;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use layer::{Named, section};

pub use caches::{Credentials, DEFAULT_SCOPE, RemoteCache, Signing};
pub use daemon::{Daemon, Uploads};
pub use decode::{Decode, Fields};
pub use layer::{Origin, Source};
pub use load::{FILE_NAME, LoadOptions, Loaded, find_root, load, load_and_check, parse, profile_names};
pub use local::{Cache, Link, MemCache};
pub use plugins::{Plugin, PluginSource};
pub use problem::{Base, ConfigErrors, Place, Problem, Problems};
pub use reach::{REACHES, SettingReach, reach};
pub use sandbox::{Fuse, FuseMode, Lock, LockBackend, Sandbox, SandboxMode};
pub use uri::{CacheUri, ParseUriError, Scheme};
pub use value::{Data, Entry, Value};
pub use workspace::{Fs, Telemetry, Version};

section! {
    /// A whole configuration. Serialized with the names that the file has.
    Config from ConfigLayer {
        /// `version`: the release that this workspace is built with.
        version: Option<Version> = "version", None;
        /// `homeDir`: the home, resolved to an absolute path.
        home_dir: Option<PathBuf> = "homeDir", None;
        /// `cacheEpoch`: part of every key; another one disowns all earlier results.
        cache_epoch: Option<String> = "cacheEpoch", None;
        @sections {
            /// `plugins`, in order.
            plugins: Vec<Plugin> = "plugins", plugins::PluginsLayer;
            /// `fs`
            fs: Fs = "fs", workspace::FsLayer;
            /// `memCache`
            mem_cache: MemCache = "memCache", local::MemCacheLayer;
            /// `cache`
            cache: Cache = "cache", local::CacheLayer;
            /// `caches`, by name.
            caches: BTreeMap<String, RemoteCache> = "caches", Named<caches::RemoteCacheLayer>;
            /// `sandbox`
            sandbox: Sandbox = "sandbox", sandbox::SandboxLayer;
            /// `daemon`
            daemon: Daemon = "daemon", daemon::DaemonLayer;
            /// `uploads`
            uploads: Uploads = "uploads", daemon::UploadsLayer;
            /// `fuse`
            fuse: Fuse = "fuse", sandbox::FuseLayer;
            /// `lock`
            lock: Lock = "lock", sandbox::LockLayer;
            /// `telemetry`
            telemetry: Telemetry = "telemetry", workspace::TelemetryLayer;
        }
    }
}

/// The settings that hold for everyone who shares a home.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct HomeSettings {
    /// `cache`
    pub cache: Cache,
    /// `memCache`
    pub mem_cache: MemCache,
    /// `daemon`
    pub daemon: Daemon,
    /// `uploads`
    pub uploads: Uploads,
}

impl HomeSettings {
    /// The settings of the home within a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            cache: config.cache.clone(),
            mem_cache: config.mem_cache.clone(),
            daemon: config.daemon.clone(),
            uploads: config.uploads.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
