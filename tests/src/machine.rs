//! What this machine has.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// A program that was built with the tests.
pub(crate) fn program_beside_tests(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the path of this program");
    // target/debug/deps/suite-0123 lies one directory below the programs.
    let directory = own.ancestors().nth(2).expect("a target directory");
    directory.join(name)
}

/// Where a program of this machine is.
pub fn program(name: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|directory| PathBuf::from(directory).join(name))
        .find(|path| path.is_file())
}

/// Whether the kernel allows the namespaces that strict sandboxes need.
pub fn strict_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        cfg!(target_os = "linux")
            && Command::new("unshare")
                .args([
                    "--user",
                    "--map-root-user",
                    "--mount",
                    "--pid",
                    "--fork",
                    "--mount-proc",
                    "--net",
                    "--ipc",
                    "true",
                ])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    })
}

/// Says aloud that a test is skipped where something is missing. The line escapes the capturing of test output, so that it is
/// seen, and counted, also when all is well.
pub fn needs(test: &str, what: &str, there: bool) -> bool {
    if !there {
        let _ = writeln!(std::io::stderr().lock(), "SKIPPED: {test}: {what}");
    }
    there
}
