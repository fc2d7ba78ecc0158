//! Prints docs/cli.md.

fn main() {
    print!("{}", heph_client::reference::page());
}
