//! `heph`, built together with the tests, so that they never meet an old one.

fn main() -> std::process::ExitCode {
    heph_client::main()
}
