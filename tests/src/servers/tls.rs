//! Certificates that only tests believe.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::machine::program;

/// A certificate authority and one server's certificate by it, for `localhost` and 127.0.0.1.
#[derive(Debug)]
pub struct Authority {
    /// The authority's certificate.
    pub certificate: PathBuf,
    /// The server's certificate.
    pub server: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    /// Another authority, which has signed nothing.
    pub other: PathBuf,
}

impl Authority {
    /// Whether certificates can be made here.
    pub fn available() -> bool {
        program("openssl").is_some()
    }

    /// A new authority, its files in `directory`.
    pub fn new(directory: &Path) -> Self {
        let file = |name: &str| directory.join(name);
        let all = Self {
            certificate: file("ca.pem"),
            server: file("server.pem"),
            key: file("server.key"),
            other: file("other.pem"),
        };
        authority(directory, "ca");
        authority(directory, "other");
        openssl(
            directory,
            "ecparam -name prime256v1 -genkey -noout -out server.key",
        );
        openssl(
            directory,
            "req -new -key server.key -subj /CN=localhost -out server.csr",
        );
        let extensions = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n";
        std::fs::write(file("extensions"), extensions).expect("write the extensions");
        openssl(
            directory,
            "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -sha256 -out server.pem -extfile extensions",
        );
        all
    }
}

fn authority(directory: &Path, name: &str) {
    openssl(
        directory,
        &format!("ecparam -name prime256v1 -genkey -noout -out {name}.key"),
    );
    openssl(
        directory,
        &format!(
            "req -x509 -new -key {name}.key -sha256 -days 30 -subj /CN=test-{name} -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -out {name}.pem"
        ),
    );
}

fn openssl(directory: &Path, arguments: &str) {
    let status = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("start openssl");
    assert!(status.success(), "openssl {arguments}: {status}");
}
