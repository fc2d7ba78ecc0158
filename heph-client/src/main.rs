//! The `heph` program.

fn main() -> std::process::ExitCode {
    heph_client::main()
}
