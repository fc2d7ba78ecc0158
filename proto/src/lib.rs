//! The gRPC contract of heph and its messages.
//!
//! The `.proto` files are compiled by a developer (`cargo run -p heph-proto --example generate`) and the result is
//! committed, so that building heph, and above all the wrapper, needs no protobuf compiler. A test keeps it current.
//! The service itself (client and server) is behind the feature `grpc`.

pub use prost;

pub use generated::*;

#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated; the .proto files carry the documentation"
)]
mod generated {
    include!("generated/heph.v1.rs");
}
