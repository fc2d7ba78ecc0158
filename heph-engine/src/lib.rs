//! Targets, from BUILD files to results.
//!
//! Two halves meet here and share nothing but the messages of `heph-proto`: the graph (evaluation, keys, scheduling),
//! which decides, and the executor, which the client runs.

#![deny(unsafe_code)]

mod branch;
pub mod build_file;
mod changes;
pub mod definition;
pub mod driver;
pub mod engine;
pub mod executor;
pub mod file_table;
mod flight;
pub mod gather;
pub mod graph;
pub mod inspect;
pub mod keying;
mod leaf;
pub mod maintain;
pub mod miss;
pub mod plan;
pub mod platform;
pub mod problem;
pub mod product;
pub mod run;
pub mod select;
mod slots;
pub mod spec;
pub mod stalled;
pub mod stat;
pub mod surroundings;
pub mod tool;
pub mod tree;
mod warm;
pub mod watch;
pub mod workspace;
