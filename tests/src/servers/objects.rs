//! Servers that keep objects in buckets.

use std::path::PathBuf;
use std::sync::OnceLock;

use super::{Server, directory, free_port, http_status, installed, started, wheel_program};
use crate::machine::program;

/// SeaweedFS, as an S3 server that knows conditional writes.
#[derive(Debug)]
pub struct SeaweedFs {
    _server: Server,
    /// Port of S3.
    pub port: u16,
    filer: u16,
}

/// Who may do everything, who may read, and who needs no key.
const IDENTITIES: &str = r#"{"identities":[
 {"name":"heph","credentials":[{"accessKey":"hephkey","secretKey":"hephsecret"}],"actions":["Admin","Read","Write","List","Tagging"]},
 {"name":"reader","credentials":[{"accessKey":"rokey","secretKey":"rosecret"}],"actions":["Read","List"]},
 {"name":"main","credentials":[{"accessKey":"mainkey","secretKey":"mainsecret"}],"actions":["Read:scopes","List:scopes","Write:scopes/heph-cache/v1/main/*"]},
 {"name":"pull","credentials":[{"accessKey":"pullkey","secretKey":"pullsecret"}],"actions":["Read:scopes","List:scopes","Write:scopes/heph-cache/v1/pull~2F*"]},
 {"name":"main-by-policy","credentials":[{"accessKey":"mainpolicykey","secretKey":"mainpolicysecret"}],"actions":[]},
 {"name":"pull-by-policy","credentials":[{"accessKey":"pullpolicykey","secretKey":"pullpolicysecret"}],"actions":[]},
 {"name":"anonymous","actions":["Read:google","Write:google","List:google"]}]}"#;

impl SeaweedFs {
    /// Key id and secret of who may do everything.
    pub const KEY: (&'static str, &'static str) = ("hephkey", "hephsecret");
    /// Key id and secret of who may only read.
    pub const READER: (&'static str, &'static str) = ("rokey", "rosecret");

    /// Key id and secret of who may read the bucket `scopes`, and write in the scope `main` of a cache in it.
    pub const MAIN: (&'static str, &'static str) = ("mainkey", "mainsecret");
    /// The same for scopes that begin with `pull/`.
    pub const PULL: (&'static str, &'static str) = ("pullkey", "pullsecret");

    /// Key id, secret and name of who may do what the policy of a bucket says, for builds of the main branch.
    pub const MAIN_BY_POLICY: ((&'static str, &'static str), &'static str) =
        (("mainpolicykey", "mainpolicysecret"), "main-by-policy");
    /// The same for pull requests.
    pub const PULL_BY_POLICY: ((&'static str, &'static str), &'static str) =
        (("pullpolicykey", "pullpolicysecret"), "pull-by-policy");

    /// Whether it is installed.
    pub fn available() -> bool {
        wheel_program("weed").is_some()
    }

    /// The one of this test process: it takes seconds to start. Use buckets of your own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<SeaweedFs> = OnceLock::new();
        SHARED.get_or_init(|| started(Self::start))
    }

    fn start() -> Result<Self, String> {
        let weed = wheel_program("weed").expect("installed by tests/setup");
        let place = directory();
        std::fs::create_dir(place.path().join("data")).expect("create a directory");
        std::fs::write(place.path().join("s3.json"), IDENTITIES).expect("write identities");
        // It listens 10000 above each port, too.
        let [master, volume, filer, port] = [(); 4].map(|()| free_port(10_000));
        // Its sockets lie there whatever the temporary directory is.
        let socket = |name: &str, port: u16| format!("/tmp/seaweedfs-{name}-{port}.sock\n");
        let named = [("filer", filer), ("s3", port)].map(|(name, port)| socket(name, port));
        let numbered = [
            ("filer", filer),
            ("s3", port),
            ("master", master),
            ("volume", volume),
        ];
        let numbered = numbered.map(|(name, port)| socket(&format!("{name}-grpc"), port + 10_000));
        let sockets = named.concat() + &numbered.concat();
        std::fs::write(place.path().join("also"), sockets).expect("write what is to be removed");
        let arguments = format!(
            "server -dir=data -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false -master.port={master} -volume.port={volume} \
             -volume.preStopSeconds=0 -volume.minFreeSpace=16MiB -volume.max=300 -master.volumeSizeLimitMB=64 -filer -filer.port={filer} -s3 -s3.port={port} \
             -s3.config=s3.json -s3.iam=false -s3.port.iceberg=0 -s3.port.lance=0"
        );
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        let ready = || http_status(port, "GET", "/healthz") == Some(200);
        let server = Server::start(place, &weed, &arguments, ready)?;
        Ok(Self {
            _server: server,
            port,
            filer,
        })
    }

    /// Makes a bucket, unless another test has made it.
    pub fn make_bucket(&self, name: &str) {
        let path = format!("/buckets/{name}/");
        let is = |method: &str| http_status(self.filer, method, &path).is_some_and(|status| status < 300);
        let made = || is("POST") || is("GET");
        crate::wait_until("SeaweedFS makes a bucket", made);
    }

    /// Puts the policy of a bucket, a document as of AWS.
    pub fn put_policy(&self, bucket: &str, policy: &str) {
        let status = super::policy::put(self.port, Self::KEY, bucket, policy);
        assert!(
            matches!(status, Ok(200..=299)),
            "the policy is refused: {status:?}"
        );
    }

    /// Where it is, as an endpoint.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// `rclone serve s3`: an S3 server that ignores conditional writes.
#[derive(Debug)]
pub struct RcloneS3 {
    _server: Server,
    /// Where it is.
    pub endpoint: String,
}

impl RcloneS3 {
    /// Whether it is installed.
    pub fn available() -> bool {
        wheel_program("rclone").is_some()
    }

    /// A server with one bucket; key id and secret are those of [`SeaweedFs::KEY`].
    pub fn new(bucket: &str) -> Self {
        started(|| {
            let rclone = wheel_program("rclone").expect("installed by tests/setup");
            let place = directory();
            std::fs::create_dir_all(place.path().join("data").join(bucket)).expect("create a bucket");
            let port = free_port(0);
            let (key, secret) = SeaweedFs::KEY;
            let arguments =
                format!("serve s3 --config= --addr 127.0.0.1:{port} --auth-key {key},{secret} data");
            let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
            let server = Server::start(place, &rclone, &arguments, || {
                http_status(port, "GET", "/").is_some()
            })?;
            Ok(Self {
                _server: server,
                endpoint: format!("http://127.0.0.1:{port}"),
            })
        })
    }
}

/// Azurite, Microsoft's own emulator of Azure Blob Storage.
#[derive(Debug)]
pub struct Azurite {
    _server: Server,
    /// Where its only account is.
    pub endpoint: String,
}

impl Azurite {
    /// Name and key of the account that every Azurite has.
    pub const ACCOUNT: (&'static str, &'static str) = (
        "devstoreaccount1",
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    );

    fn program() -> Option<PathBuf> {
        let path = installed()?.join("node/node_modules/.bin/azurite-blob");
        path.is_file().then_some(path)
    }

    /// Whether it is installed.
    pub fn available() -> bool {
        Self::program().is_some()
    }

    /// A server that keeps everything in memory.
    pub fn new() -> Self {
        started(|| {
            let program = Self::program().expect("installed by tests/setup-deep");
            let port = free_port(0);
            let arguments = format!(
                "--silent --blobHost 127.0.0.1 --blobPort {port} --inMemoryPersistence --disableTelemetry --skipApiVersionCheck"
            );
            let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
            let server = Server::start(directory(), &program, &arguments, || {
                http_status(port, "GET", "/").is_some()
            })?;
            Ok(Self {
                _server: server,
                endpoint: format!("http://127.0.0.1:{port}/{}", Self::ACCOUNT.0),
            })
        })
    }
}

impl Azurite {
    /// Makes a container, with a request that the account's key signs.
    pub fn make_container(&self, name: &str) {
        let (account, key) = Self::ACCOUNT;
        let python = wheel_program("python3").expect("installed by tests/setup");
        let output = std::process::Command::new(python)
            .args(["-c", MAKE_CONTAINER, &self.endpoint, account, key, name])
            .output()
            .expect("start Python");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// <https://learn.microsoft.com/en-us/rest/api/storageservices/authorize-with-shared-key>
const MAKE_CONTAINER: &str = r#"
import base64, email.utils, hashlib, hmac, sys, urllib.request
endpoint, account, key, name = sys.argv[1:]
headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-08-06"}
lines = ["PUT"] + [""] * 11 + [f"{header}:{headers[header]}" for header in sorted(headers)]
lines += [f"/{account}/{account}/{name}", "restype:container"]
signature = base64.b64encode(hmac.new(base64.b64decode(key), "\n".join(lines).encode(), hashlib.sha256).digest()).decode()
headers["Authorization"] = f"SharedKey {account}:{signature}"
url = f"{endpoint}/{name}?restype=container"
urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers)).read()
"#;

impl Default for Azurite {
    fn default() -> Self {
        Self::new()
    }
}

/// nginx in front of SeaweedFS, which makes it speak as Google's XML API does.
#[derive(Debug)]
pub struct GoogleFront {
    _server: Server,
    /// Where it is.
    pub endpoint: String,
}

impl GoogleFront {
    /// Whether both are installed.
    pub fn available() -> bool {
        SeaweedFs::available() && program("nginx").is_some()
    }

    /// A front with the bucket `google`, for which no key is needed.
    pub fn new() -> Self {
        let behind = SeaweedFs::shared();
        behind.make_bucket("google");
        started(|| {
            let place = directory();
            let port = free_port(0);
            let http = format!(
                "map $http_x_goog_if_generation_match $absent {{ default \"\"; \"0\" \"*\"; }}
                 server {{ listen 127.0.0.1:{port}; client_max_body_size 0;
                   location / {{ proxy_pass {}; proxy_http_version 1.1; proxy_request_buffering off; proxy_set_header Host $http_host;
                     proxy_set_header Authorization \"\"; proxy_set_header If-None-Match $absent; add_header x-goog-generation 1 always; }} }}",
                behind.endpoint()
            );
            let server = super::http::nginx(place, &http, || http_status(port, "GET", "/").is_some())?;
            Ok(Self {
                _server: server,
                endpoint: format!("http://127.0.0.1:{port}"),
            })
        })
    }
}

impl Default for GoogleFront {
    fn default() -> Self {
        Self::new()
    }
}
