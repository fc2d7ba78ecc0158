//! Words that both sides of heph use: digests, addresses, keys, configuration, paths, exit codes.
//!
//! Nothing here reads the environment, prints, or touches the network; callers pass values in.
#![deny(unsafe_code)]

pub mod address;
pub mod build;
mod causes;
pub mod clock;
pub mod config;
pub mod digest;
pub mod duration;
pub mod exit;
pub mod home;
pub mod ignore;
pub mod key;
pub mod nearest;
pub mod package;
pub mod query;
mod quote;
pub mod selector;
pub mod size;

pub use address::Address;
pub use build::Build;
pub use causes::causes;
pub use digest::Digest;
pub use exit::Exit;
pub use home::Home;
pub use key::{KeyBuilder, KeyPart};
pub use nearest::nearest;
pub use query::{Pattern, Query};
pub use size::ByteSize;
