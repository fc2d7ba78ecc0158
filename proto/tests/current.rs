//! The committed code is what the `.proto` files say.

#![expect(clippy::expect_used, reason = "a test: a failure may end it")]

use std::path::Path;

include!("generate/mod.rs");

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fresh = tempfile::tempdir().unwrap();
    generate(root, fresh.path());
    let name = "heph.v1.rs";
    let expected = std::fs::read_to_string(fresh.path().join(name)).unwrap();
    let committed = std::fs::read_to_string(root.join("src/generated").join(name)).unwrap();
    assert!(
        expected == committed,
        "run `cargo run -p heph-proto --example generate` and commit the result"
    );
}
