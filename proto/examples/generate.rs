//! Writes the Rust code for `proto/` into `src/generated/`; run it after a change of a `.proto` file.

#![expect(clippy::expect_used, reason = "a developer's tool: a failure may end it")]

use std::path::Path;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    generate(root, &root.join("src/generated"));
}

include!("../tests/generate/mod.rs");
