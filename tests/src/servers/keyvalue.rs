//! Servers that keep values in memory.

use super::tls::Authority;
use super::{Server, directory, free_port, listens, started};
use crate::machine::program;

/// Redis.
#[derive(Debug)]
pub struct Redis {
    _server: Server,
    /// Where it listens.
    pub port: u16,
    /// Whose certificates are to be believed, where it speaks TLS.
    pub authority: Option<Authority>,
}

impl Redis {
    /// What its clients have to know.
    pub const PASSWORD: &'static str = "password-of-redis";

    /// Whether it is installed.
    pub fn available() -> bool {
        program("redis-server").is_some()
    }

    /// A server that keeps nothing on the disk.
    pub fn new() -> Self {
        started(|| Self::start(None, "--maxmemory 512mb --maxmemory-policy allkeys-lru"))
    }

    /// A server with little room that drops nothing by itself.
    pub fn small() -> Self {
        started(|| Self::start(None, "--maxmemory 4mb --maxmemory-policy noeviction"))
    }

    /// A server that speaks TLS only.
    pub fn with_tls() -> Self {
        started(|| Self::start(Some(()), "--maxmemory 512mb"))
    }

    fn start(tls: Option<()>, memory: &str) -> Result<Self, String> {
        let place = directory();
        let root = place.path().display().to_string();
        let port = free_port(0);
        let authority = tls.map(|()| Authority::new(place.path()));
        let listen = match &authority {
            Some(authority) => format!(
                "--port 0 --tls-port {port} --tls-auth-clients no --tls-cert-file {} --tls-key-file {} --tls-ca-cert-file {}",
                authority.server.display(),
                authority.key.display(),
                authority.certificate.display()
            ),
            None => format!("--port {port}"),
        };
        let arguments = format!(
            "--bind 127.0.0.1 {listen} --save  --appendonly no --dir {root} --requirepass {} {memory}",
            Self::PASSWORD
        );
        // Nothing between two blanks is an empty word: no snapshots.
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let redis = program("redis-server").ok_or("redis-server is not installed")?;
        let server = Server::start(place, &redis, &arguments, || listens(port))?;
        Ok(Self {
            _server: server,
            port,
            authority,
        })
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self::new()
    }
}

/// memcached.
#[derive(Debug)]
pub struct Memcached {
    _server: Server,
    /// Where it listens.
    pub port: u16,
}

impl Memcached {
    /// Whether it is installed.
    pub fn available() -> bool {
        program("memcached").is_some()
    }

    /// A server that takes `memory` MiB of values, each of at most `item`, such as `1m`.
    pub fn new(memory: u32, item: &str) -> Self {
        started(|| {
            let port = free_port(0);
            let arguments = format!("-u root -l 127.0.0.1 -p {port} -U 0 -m {memory} -I {item}");
            let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
            let memcached = program("memcached").ok_or("memcached is not installed")?;
            let server = Server::start(directory(), &memcached, &arguments, || listens(port))?;
            Ok(Self {
                _server: server,
                port,
            })
        })
    }
}
