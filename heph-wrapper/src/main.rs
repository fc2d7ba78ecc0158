//! hephc.
fn main() {}
