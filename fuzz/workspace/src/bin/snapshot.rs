//! The snapshot of a graph, damaged in any way under a right checksum: it is refused, or what it says can be walked.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../damage.rs"]
mod damage;

static WORKSPACE: LazyLock<damage::Saved> = LazyLock::new(damage::Saved::new);

fuzz_target!(|edits: &[u8]| {
    WORKSPACE.load_damaged(edits);
});
