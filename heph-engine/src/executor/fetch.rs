//! Downloads, checked against their SHA-256.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heph_common::causes;
use heph_proto::content::Content as Held;
use heph_proto::report::Outcome;
use heph_proto::{
    Completed, Content, EntryKind, FailureKind, Fetch, OutputEntry, Produced, Report, SandboxMode,
};
use sha2::Digest as _;

use super::control::Control;
use super::options::Proxies;
use super::run::Shared;
use super::stop::{Attempt, Stop, errno};
use super::{digest_bytes, relative};

/// Time to reach a server.
const CONNECT: Duration = Duration::from_secs(30);

/// Time without any byte.
const SILENCE: Duration = Duration::from_secs(60);

/// How often a request is tried that failed for reasons that may pass.
const TRIES: u32 = 3;

/// Pause before the second try; doubled before the third.
const PAUSE: Duration = Duration::from_millis(500);

/// Downloads small enough to be reported inline.
const INLINE: u64 = 64 * 1024;

/// Carries a fetch plan out.
pub(super) fn fetch(shared: &Shared, fetch: &Fetch, control: &Control) -> Report {
    let start = std::time::Instant::now();
    let result = run(shared, fetch, control);
    let outcome = match result {
        Ok(produced) => Outcome::Completed(Completed {
            outputs: vec![produced],
        }),
        Err(Stop::Failed(mut failed)) => {
            failed.command = format!("fetch {}", fetch.url);
            Outcome::Failed(*failed)
        }
        Err(stop) => stop.into_outcome(),
    };
    Report {
        outcome: Some(outcome),
        sandbox: SandboxMode::Off.into(),
        wall_us: u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
        ..Report::default()
    }
}

fn failed(message: impl Into<String>) -> Stop {
    Stop::failed(FailureKind::Fetch, message)
}

fn run(shared: &Shared, fetch: &Fetch, control: &Control) -> Attempt<Produced> {
    if !relative::is_plain(&fetch.out) {
        let message = format!(
            "out = {:?} is not a plain path below the workspace root",
            fetch.out
        );
        return Err(Stop::failed(FailureKind::Definition, message));
    }
    let wanted = fetch.sha256.trim().to_ascii_lowercase();
    let is_digest = wanted.len() == 64 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !wanted.is_empty() && !is_digest {
        let message = format!("sha256 = {:?} is not a digest of 64 hex digits", fetch.sha256);
        return Err(Stop::failed(FailureKind::Definition, message));
    }
    let target = shared.stage.join(super::unique::name());
    std::fs::create_dir_all(&shared.stage)
        .map_err(|error| Stop::staging("make", &shared.stage, errno(&error)))?;
    let remover = Remover(Some(target.clone()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Stop::internal(format!("failed to start downloading: {error}")))?;
    let found = runtime.block_on(async {
        tokio::select! {
            found = download(&shared.options.proxies, &fetch.url, &target) => found,
            () = control.cancel.cancelled() => Err(Stop::Cancelled),
        }
    })?;
    if wanted.is_empty() {
        return Err(
            failed(format!("{} has no sha256; it is {}", fetch.url, found.sha256)).hint(format!(
                "if you trust this content, add: sha256 = \"{}\"",
                found.sha256
            )),
        );
    }
    if found.sha256 != wanted {
        let message = format!("{} has the sha256 {}, not {wanted}", fetch.url, found.sha256);
        return Err(failed(message).hint("the file has changed, or was damaged on its way"));
    }
    produced(fetch, found, remover)
}

fn produced(fetch: &Fetch, found: Found, mut remover: Remover) -> Attempt<Produced> {
    let path = remover.0.clone().unwrap_or_default();
    let bytes = if found.size <= INLINE {
        let bytes = std::fs::read(&path).map_err(|error| Stop::staging("read", &path, errno(&error)))?;
        Held::Inline(bytes.into())
    } else {
        let mode = if fetch.executable { 0o755 } else { 0o644 };
        rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(mode))
            .map_err(|errno| Stop::staging("make executable", &path, errno))?;
        remover.0 = None;
        Held::File(path.to_string_lossy().into_owned())
    };
    let kind = if fetch.executable {
        EntryKind::Executable
    } else {
        EntryKind::File
    };
    let digest = digest_bytes(found.blake3.into());
    Ok(Produced {
        entry: Some(OutputEntry {
            path: fetch.out.clone(),
            kind: kind.into(),
            digest: digest.clone(),
            size: found.size,
            ..OutputEntry::default()
        }),
        content: Some(Content {
            content: Some(bytes),
            digest,
            size: found.size,
        }),
    })
}

/// Removes a file that nobody got.
struct Remover(Option<PathBuf>);

impl Drop for Remover {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

struct Found {
    sha256: String,
    blake3: blake3::Hash,
    size: u64,
}

async fn download(proxies: &Proxies, url: &str, target: &Path) -> Attempt<Found> {
    let parsed =
        reqwest::Url::parse(url).map_err(|error| failed(format!("{url:?} is no valid URL: {error}")))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        let message = format!("{url} is neither http nor https");
        return Err(Stop::failed(FailureKind::Definition, message));
    }
    let client = client(proxies)?;
    let mut pause = PAUSE;
    let mut tries = 1;
    loop {
        match attempt(&client, &parsed, target).await {
            Err(Trouble::Passing(_)) if tries < TRIES => {
                tries += 1;
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(Trouble::Passing(stop) | Trouble::Lasting(stop)) => return Err(stop),
            Ok(found) => return Ok(found),
        }
    }
}

enum Trouble {
    /// Another try may help.
    Passing(Stop),
    Lasting(Stop),
}

async fn attempt(client: &reqwest::Client, url: &reqwest::Url, target: &Path) -> Result<Found, Trouble> {
    let network = |error: reqwest::Error| {
        let cause = causes(&error);
        Trouble::Passing(failed(format!("failed to download {url}: {cause}")))
    };
    let mut response = client.get(url.clone()).send().await.map_err(network)?;
    let status = response.status();
    if !status.is_success() {
        let stop = failed(format!("failed to download {url}: the server answered {status}"));
        let passes = status.is_server_error() || status.as_u16() == 429;
        return Err(if passes {
            Trouble::Passing(stop)
        } else {
            Trouble::Lasting(stop)
        });
    }
    let disk = |error: std::io::Error| Trouble::Lasting(Stop::staging("write", target, errno(&error)));
    let mut file = File::create(target).map_err(disk)?;
    let mut sha256 = sha2::Sha256::new();
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    while let Some(chunk) = response.chunk().await.map_err(network)? {
        sha256.update(&chunk);
        hasher.update(&chunk);
        size += chunk.len() as u64;
        file.write_all(&chunk).map_err(disk)?;
    }
    let sha256 = sha256
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(Found {
        sha256,
        blake3: blake3::Hasher::finalize(&hasher),
        size,
    })
}

fn client(proxies: &Proxies) -> Attempt<reqwest::Client> {
    // Another part of the process may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let wrong = |error: reqwest::Error| failed(format!("failed to set downloading up: {}", causes(&error)));
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("heph/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        // The environment is the caller's business.
        .no_proxy();
    let none = proxies.none.as_deref().and_then(reqwest::NoProxy::from_string);
    if let Some(url) = &proxies.http {
        builder = builder.proxy(reqwest::Proxy::http(url).map_err(wrong)?.no_proxy(none.clone()));
    }
    if let Some(url) = &proxies.https {
        builder = builder.proxy(reqwest::Proxy::https(url).map_err(wrong)?.no_proxy(none));
    }
    builder.build().map_err(wrong)
}
