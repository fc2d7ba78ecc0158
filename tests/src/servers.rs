//! Real servers, each with its own ports of 127.0.0.1 and its own directory, gone with the test that started it.
//!
//! `tests/setup` installs their programs, `tests/setup-deep` those that take longer. What is not there is `None`, and its tests are
//! skipped.

mod http;
mod keyvalue;
mod objects;
mod policy;
mod slow;
mod tls;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::machine::program_beside_tests;
pub use http::{Nginx, WebDav};
pub use keyvalue::{Memcached, Redis};
pub use objects::{Azurite, GoogleFront, RcloneS3, SeaweedFs};
pub use slow::Slow;
pub use tls::Authority;

/// Time that a server may take until it answers, on a busy machine.
const START: Duration = Duration::from_secs(60);
/// How often a server is started on other ports when others were quicker to take them.
const TRIES: usize = 4;

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    keeper: Child,
    directory: PathBuf,
}

impl Server {
    /// Starts `program` in `directory` and waits until it is `ready`.
    fn start(
        directory: TempDir,
        program: &Path,
        arguments: &[String],
        ready: impl Fn() -> bool,
    ) -> Result<Self, String> {
        let directory = directory.keep();
        let keeper = Command::new(program_beside_tests("keeper"))
            .arg(&directory)
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("start the keeper: {error}"))?;
        let server = Self { keeper, directory };
        let started = Instant::now();
        while !ready() {
            if started.elapsed() > START || server.has_failed() {
                let log = std::fs::read_to_string(server.directory.join("log")).unwrap_or_default();
                return Err(format!("{} does not answer:\n{log}", program.display()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Whether it says that somebody else has its port.
    fn has_failed(&self) -> bool {
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        log.to_ascii_lowercase().contains("address already in use")
    }

    /// Where it keeps what it keeps.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

/// A server from one of several attempts on other ports.
fn started<T>(start: impl Fn() -> Result<T, String>) -> T {
    let mut last = String::new();
    for _ in 0..TRIES {
        match start() {
            Ok(server) => return server,
            Err(problem) => last = problem,
        }
    }
    panic!("{last}")
}

/// A port that is free now, and the one that lies `other` above it, too.
fn free_port(other: u16) -> u16 {
    for _ in 0..1000 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("find a port");
        let port = listener.local_addr().expect("the port that was found").port();
        let above = port.checked_add(other);
        if other == 0 || above.is_some_and(|above| TcpListener::bind(("127.0.0.1", above)).is_ok()) {
            return port;
        }
    }
    panic!("no ports are free");
}

/// Status of the answer to a plain request.
fn http_status(port: u16, method: &str, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

/// Whether somebody listens.
fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// A program that `tests/setup` puts beside Python.
fn wheel_program(name: &str) -> Option<PathBuf> {
    installed()
        .map(|directory| directory.join("python/bin").join(name))
        .filter(|path| path.is_file())
}

/// Where `tests/setup` installs servers.
fn installed() -> Option<PathBuf> {
    match std::env::var_os("HEPH_TEST_SERVERS") {
        Some(directory) => Some(PathBuf::from(directory)),
        None => Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/heph-test-servers")),
    }
}

fn directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("heph-server-")
        .tempdir()
        .expect("a directory for a server")
}
