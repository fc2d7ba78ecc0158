//! docs/cli.md is what the command line says of itself.

#[test]
fn the_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        page == heph_client::reference::page(),
        "docs/cli.md is not current; write it with: cargo run -p heph-client --example reference > docs/cli.md"
    );
}
