//! The cache coordinator: the local store of results, and the locks that keep equal work from being done twice.
//!
//! [`Store`] keeps what actions produced: a [`Manifest`] under the action's key, and the bytes that it names as blobs.
//! Several processes use one home at once. A write is complete or absent, whatever happens at whatever moment, and
//! nothing is ever served that differs from what was published: damage is a miss. `docs/formats.md` describes what
//! is on the disk.
#![deny(unsafe_code)]

mod apply;
pub mod blob;
mod clock;
pub mod error;
pub mod eviction;
mod gate;
mod generation;
pub mod history;
pub mod home;
pub mod index;
pub mod live;
pub mod lock;
pub mod manifest;
pub mod memory;
mod operation;
pub mod options;
pub mod origin;
mod pending;
mod queue;
mod recent;
pub mod remote;
pub mod restore;
pub mod row;
mod schema;
mod shared;
pub mod state;
pub mod store;
mod unique;
mod writer;

pub use blob::Blob;
pub use error::StoreError;
pub use eviction::GcReport;
pub use heph_common::KeyPart;
pub use history::{History, HistoryError};
pub use index::RecordedRevision;
pub use live::LiveRun;
pub use lock::{Guard, Holder, Locks};
pub use manifest::{Content, Entry, Manifest, ManifestError, Output, SandboxMode};
pub use memory::MemoryOptions;
pub use options::{LockBackend, StoreOptions};
pub use origin::{Origin, OriginFilter};
pub use restore::{PlaceError, Placed, Placement, place};
pub use store::{
    BlobSource, Leased, Lessee, NewBlob, PresenceToken, Publication, Revision, Store, StoreStats, Upload,
    UploadSum,
};
