//! Servers of plain files.

use std::path::Path;

use tempfile::TempDir;

use super::tls::Authority;
use super::{Server, directory, free_port, listens, started, wheel_program};
use crate::machine::program;

/// nginx with TLS, whose folders differ in what they let through.
#[derive(Debug)]
pub struct Nginx {
    server: Server,
    /// Port with TLS.
    pub port: u16,
    /// Port without.
    pub plain: u16,
    /// Whose certificates are to be believed.
    pub authority: Authority,
}

impl Nginx {
    /// What has to be sent as a bearer token below `/bearer/`.
    pub const TOKEN: &'static str = "token-of-the-tests";

    /// Whether it is installed.
    pub fn available() -> bool {
        program("nginx").is_some() && Authority::available()
    }

    /// A server with the folders `/open/`, `/bearer/`, `/read/` (no writing), `/busy/` (503 with Retry-After),
    /// `/broken/` (500), `/limited/` (413 above 1 KiB) and `/moved/` (307 to `/open/`).
    pub fn new() -> Self {
        started(|| {
            let place = directory();
            let authority = Authority::new(place.path());
            let (port, plain) = (free_port(0), free_port(0));
            for folder in ["open", "bearer", "read", "limited"] {
                std::fs::create_dir_all(place.path().join("data").join(folder)).expect("create a folder");
            }
            let dav = "dav_methods PUT DELETE MKCOL; create_full_put_path on;";
            let http = format!(
                "map $http_authorization $allowed {{ default 0; \"Bearer {}\" 1; }}
                 server {{ listen 127.0.0.1:{port} ssl; listen 127.0.0.1:{plain}; root {root}/data; client_max_body_size 0;
                   ssl_certificate {}; ssl_certificate_key {};
                   location /open/ {{ {dav} }}
                   location /bearer/ {{ if ($allowed = 0) {{ return 401; }} {dav} }}
                   location /read/ {{ limit_except GET {{ deny all; }} }}
                   location /busy/ {{ add_header Retry-After 7 always; return 503; }}
                   location /broken/ {{ return 500; }}
                   location /limited/ {{ client_max_body_size 1k; {dav} }}
                   location ~ ^/moved/(.*)$ {{ return 307 /open/$1; }} }}",
                Self::TOKEN,
                authority.server.display(),
                authority.key.display(),
                root = place.path().display(),
            );
            let server = nginx(place, &http, || listens(port) && listens(plain))?;
            Ok(Self {
                server,
                port,
                plain,
                authority,
            })
        })
    }

    /// The files that it serves.
    pub fn data(&self) -> std::path::PathBuf {
        self.server.directory().join("data")
    }
}

impl Default for Nginx {
    fn default() -> Self {
        Self::new()
    }
}

/// nginx with this inside of `http { }`.
pub(super) fn nginx(place: TempDir, http: &str, ready: impl Fn() -> bool) -> Result<Server, String> {
    let root = place.path().display().to_string();
    let user = match rustix::process::getuid().is_root() {
        true => "user root;",
        false => "",
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {root}/{kind};\n"))
        .collect();
    let config = format!(
        "daemon off; {user} worker_processes 2; pid {root}/pid; error_log stderr;\nevents {{ worker_connections 1024; }}\n\
         http {{ access_log off; {temporary} {http} }}\n"
    );
    std::fs::write(place.path().join("nginx.conf"), config).expect("write nginx.conf");
    let nginx = program("nginx").ok_or("nginx is not installed")?;
    let arguments = ["-p", &root, "-c", "nginx.conf", "-e", "stderr"].map(str::to_owned);
    Server::start(place, &nginx, &arguments, ready)
}

/// `rclone serve webdav` with TLS and basic authentication. It creates no folders by itself.
#[derive(Debug)]
pub struct WebDav {
    _server: Server,
    /// Port with TLS.
    pub port: u16,
    /// Whose certificates are to be believed.
    pub authority: Authority,
}

impl WebDav {
    /// Name and password.
    pub const LOGIN: (&'static str, &'static str) = ("heph", "password-of-the-tests");

    /// Whether it is installed.
    pub fn available() -> bool {
        wheel_program("rclone").is_some() && Authority::available()
    }

    /// An empty server.
    pub fn new() -> Self {
        started(|| {
            let rclone = wheel_program("rclone").ok_or("rclone is not installed")?;
            let place = directory();
            std::fs::create_dir(place.path().join("data")).expect("create a folder");
            let authority = Authority::new(place.path());
            let port = free_port(0);
            let (user, password) = Self::LOGIN;
            let shown = |path: &Path| path.display().to_string();
            let arguments = [
                "serve",
                "webdav",
                "--config=",
                "--addr",
                &format!("127.0.0.1:{port}"),
                "--user",
                user,
                "--pass",
                password,
                "--cert",
                &shown(&authority.server),
                "--key",
                &shown(&authority.key),
                "data",
            ];
            let arguments = arguments.map(str::to_owned);
            let server = Server::start(place, &rclone, &arguments, || listens(port))?;
            Ok(Self {
                _server: server,
                port,
                authority,
            })
        })
    }
}

impl Default for WebDav {
    fn default() -> Self {
        Self::new()
    }
}
