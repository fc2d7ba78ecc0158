//! Compares remote caches with a plain loop over `object_store`, and says what they cost a build. See docs/benchmarks.md.
//!
//! Options: `--only large|small|memory|build`, `--rounds N` (3), `--objects N` (10000), `--memory MIB` (4096), `--targets N` (1000).

#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a benchmark that cannot measure ends"
)]
#![expect(dead_code, reason = "the modules belong to several benchmarks")]

mod delay;
mod measure;
mod rusage;
mod workspace;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use heph_cache::remote::{Caller, Remotes, Wanted};
use heph_cache::{
    BlobSource, Content, Entry, Manifest, NewBlob, Origin, Output, Publication, SandboxMode, Store,
    StoreOptions,
};
use heph_common::Digest;
use heph_common::config::{Base, Config, parse};
use heph_tests::servers::{RcloneS3, SeaweedFs};
use heph_tests::{Environment, heph_program};
use measure::{ms, run};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStoreExt, PutPayload};
use tokio::io::AsyncWriteExt as _;
use workspace::Shape;

const MIB: u64 = 1 << 20;

struct Options {
    only: Option<String>,
    rounds: usize,
    objects: u64,
    memory: u64,
    targets: usize,
}

impl Options {
    fn read() -> Self {
        let mut options = Self {
            only: None,
            rounds: 3,
            objects: 10_000,
            memory: 4096,
            targets: 1000,
        };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
            let number = || {
                value
                    .parse::<u64>()
                    .unwrap_or_else(|_| panic!("{name} needs a number, not {value}"))
            };
            match name.as_str() {
                "--only" => options.only = Some(value),
                "--rounds" => options.rounds = number() as usize,
                "--objects" => options.objects = number(),
                "--memory" => options.memory = number(),
                "--targets" => options.targets = number() as usize,
                _ => panic!("unknown option {name}"),
            }
        }
        options
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

fn main() {
    let options = Options::read();
    // The peer's client wants one, also where it speaks without TLS.
    drop(rustls::crypto::ring::default_provider().install_default());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load before: {}", load.trim());
    if !SeaweedFs::available() || !RcloneS3::available() {
        println!("servers are not installed: run tests/setup");
        return;
    }
    if options.wants("large") {
        large(&options);
    }
    if options.wants("small") {
        small(&options);
    }
    if options.wants("build") {
        build(&options);
    }
    if options.wants("memory") {
        memory(&options);
    }
}

/// 64 MiB objects, up and down, between the same disk and server.
fn large(options: &Options) {
    const COUNT: u64 = 4;
    println!("large: {COUNT} objects of 64 MiB that do not compress, SeaweedFS; seconds up, seconds down");
    let server = SeaweedFs::shared();
    server.make_bucket("large");
    let endpoint = server.endpoint();
    let mut ratios = [Vec::new(), Vec::new()];
    for round in 0..=options.rounds as u64 {
        let place = tempfile::tempdir().expect("a directory");
        let seed = round * 1000;
        let sizes = vec![64 * MIB; COUNT as usize];
        let theirs = plain(&endpoint, "large", place.path(), seed, &sizes);
        let results: Vec<_> = (0..COUNT)
            .map(|number| vec![(seed + 500 + number, 64 * MIB)])
            .collect();
        let ours = through_heph(&endpoint, "large", place.path(), &results);
        println!(
            "  round {round}: plain loop {}, heph {}",
            shown(theirs),
            shown(ours)
        );
        if round > 0 {
            ratios[0].push(theirs.0.as_secs_f64() / ours.0.as_secs_f64());
            ratios[1].push(theirs.1.as_secs_f64() / ours.1.as_secs_f64());
        }
    }
    told("throughput of heph, plain loop = 1", ratios);
}

/// Many objects of 4 KiB on a server that is 5 ms away.
fn small(options: &Options) {
    const SIZE: u64 = 4096;
    println!(
        "small: {} objects of 4 KiB, SeaweedFS 5 ms away; seconds up, seconds down",
        options.objects
    );
    let server = SeaweedFs::shared();
    server.make_bucket("small");
    let port = delay::before(server.port, Duration::from_millis(5));
    let endpoint = format!("http://127.0.0.1:{port}");
    let place = tempfile::tempdir().expect("a directory");
    let sizes = vec![SIZE; options.objects as usize];
    let theirs = plain(&endpoint, "small", place.path(), 1 << 40, &sizes);
    println!("  sequential loop          {}", shown(theirs));
    let results: Vec<_> = (0..options.objects)
        .map(|number| vec![((2 << 40) + number, SIZE)])
        .collect();
    let single = through_heph(&endpoint, "small", place.path(), &results);
    println!("  heph, a result each      {}", shown(single));
    let one: Vec<_> = (0..options.objects)
        .map(|number| ((3 << 40) + number, SIZE + 1))
        .collect();
    let together = through_heph(&endpoint, "small", place.path(), &[one]);
    println!("  heph, all of one result  {}", shown(together));
    for (name, ours) in [("a result each", single), ("all of one result", together)] {
        let ratio = |theirs: Duration, ours: Duration| theirs.as_secs_f64() / ours.as_secs_f64();
        told(
            name,
            [vec![ratio(theirs.0, ours.0)], vec![ratio(theirs.1, ours.1)]],
        );
    }
}

fn shown((up, down): (Duration, Duration)) -> String {
    format!("{:7.2} {:7.2}", up.as_secs_f64(), down.as_secs_f64())
}

fn told(what: &str, [mut up, mut down]: [Vec<f64>; 2]) {
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    println!(
        "  {what}: up {:.2}, down {:.2}",
        median(&mut up),
        median(&mut down)
    );
}

/// Bytes that do not compress, other ones for each seed.
fn random(seed: u64, size: u64) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn bucket(endpoint: &str, name: &str) -> AmazonS3 {
    let (key, secret) = SeaweedFs::KEY;
    AmazonS3Builder::new()
        .with_bucket_name(name)
        .with_region("us-east-1")
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_access_key_id(key)
        .with_secret_access_key(secret)
        .build()
        .expect("the bucket")
}

/// File by file: read and put; get, and write as it arrives.
fn plain(endpoint: &str, name: &str, place: &Path, seed: u64, sizes: &[u64]) -> (Duration, Duration) {
    let (from, to) = (place.join("plain-from"), place.join("plain-to"));
    fs::create_dir_all(&from).expect("a directory");
    fs::create_dir_all(&to).expect("a directory");
    for (number, size) in sizes.iter().enumerate() {
        let bytes = random(seed + number as u64, *size);
        fs::write(from.join(number.to_string()), bytes).expect("write a file");
    }
    let bucket = bucket(endpoint, name);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let path = |number: usize| ObjectPath::from(format!("plain/{seed}-{number}"));
    runtime.block_on(async {
        let began = Instant::now();
        for number in 0..sizes.len() {
            let bytes = fs::read(from.join(number.to_string())).expect("read a file");
            let put = bucket.put(&path(number), PutPayload::from(bytes)).await;
            drop(put.expect("put an object"));
        }
        let up = began.elapsed();
        let began = Instant::now();
        for number in 0..sizes.len() {
            let got = bucket.get(&path(number)).await.expect("get an object");
            let mut stream = got.into_stream();
            let file = tokio::fs::File::create(to.join(number.to_string())).await;
            let mut file = file.expect("create a file");
            while let Some(bytes) = stream.next().await {
                file.write_all(&bytes.expect("a part of an object"))
                    .await
                    .expect("write a file");
            }
            file.flush().await.expect("write a file");
        }
        (up, began.elapsed())
    })
}

/// A home whose only remote cache is a bucket.
struct Home {
    store: Arc<Store>,
    remotes: Remotes,
    config: Config,
    environment: BTreeMap<String, String>,
}

impl Home {
    fn new(path: &Path, endpoint: &str, bucket: &str) -> Self {
        let options = StoreOptions {
            max_size: Some(64 << 30),
            ..StoreOptions::default()
        };
        let text = format!(
            "caches:\n  remote:\n    uri: s3://{bucket}/heph\n    endpoint: {endpoint}\n    region: us-east-1\n    pathStyle: true\n"
        );
        let loaded = parse("bench", &text, Base::default());
        let config = loaded.unwrap_or_else(|errors| panic!("{errors:?}")).config;
        let store = Arc::new(Store::open(path, options).expect("a store"));
        let (key, secret) = SeaweedFs::KEY;
        let environment = [("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)];
        Self {
            remotes: Remotes::new(Arc::clone(&store), &path.join("state"), &config.uploads),
            store,
            config,
            environment: environment
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
        }
    }

    fn session(&self) -> Arc<heph_cache::remote::Session> {
        let caller = Caller {
            config: &self.config,
            environment: &self.environment,
            branch: &|| None,
            platform: "linux-x86_64",
        };
        self.remotes.session(&caller).expect("a cache")
    }
}

/// The contents of results (a seed and a size each) from one store up, and down into another.
fn through_heph(
    endpoint: &str,
    bucket: &str,
    place: &Path,
    results: &[Vec<(u64, u64)>],
) -> (Duration, Duration) {
    let unique = Digest::of(format!("{results:?}").as_bytes()).to_hex();
    let from = Home::new(&place.join(format!("from-{:.16}", unique)), endpoint, bucket);
    let session = from.session();
    let mut manifests = Vec::new();
    for contents in results {
        let bytes: Vec<Bytes> = contents
            .iter()
            .map(|(seed, size)| random(*seed, *size).into())
            .collect();
        let manifest = manifest(&unique, manifests.len(), &bytes);
        let blobs = bytes.into_iter().map(|bytes| NewBlob {
            digest: Digest::of(&bytes),
            executable: false,
            source: BlobSource::Bytes(bytes),
        });
        let publication = Publication {
            manifest: manifest.clone(),
            blobs: blobs.collect(),
            origin: Origin::Local,
            record: None,
            uploads: session.uploads(),
            replace: false,
            partial: false,
            always_files: false,
            lock: None,
        };
        from.store.publish(publication).expect("store a result");
        manifests.push(manifest);
    }
    from.store.flush().expect("store results");
    let began = Instant::now();
    let left = from.remotes.drain(Duration::from_secs(600), || false);
    let up = began.elapsed();
    assert_eq!(left.known, 0, "everything is sent: {left:?}");

    let to = Home::new(&place.join(format!("to-{:.16}", unique)), endpoint, bucket);
    let session = to.session();
    let began = Instant::now();
    let (sender, answers) = mpsc::channel();
    for manifest in &manifests {
        let sender = sender.clone();
        let fetcher = Arc::clone(&session);
        session.look_up(
            "target",
            manifest.key,
            |_| Ok(()),
            move |found| {
                let found = found.expect("a hit");
                let wanted = found.contents().map(|(content, executable)| Wanted {
                    key: found.key,
                    digest: content.digest,
                    executable,
                });
                fetcher.fetch("target", wanted.collect(), move |missing| {
                    sender.send(missing).expect("somebody waits");
                });
            },
        );
    }
    drop(sender);
    let missing: Vec<Digest> = answers.into_iter().flatten().collect();
    to.store.flush().expect("store results");
    let down = began.elapsed();
    assert!(
        missing.is_empty(),
        "everything is had: {:?}",
        session.take_warnings()
    );
    (up, down)
}

fn manifest(unique: &str, number: usize, contents: &[Bytes]) -> Manifest {
    let outputs = contents.iter().enumerate().map(|(place, bytes)| Output {
        group: String::new(),
        path: format!("out/{place:06}"),
        entry: Entry::File {
            content: Content {
                digest: Digest::of(bytes),
                size: bytes.len() as u64,
            },
            executable: false,
        },
    });
    Manifest {
        kind: "target".to_owned(),
        key: Digest::of(format!("{unique} {number}").as_bytes()),
        outputs: outputs.collect(),
        log: None,
        exit_code: 0,
        platform: "linux-x86_64".to_owned(),
        sandbox: SandboxMode::Strict,
        address: format!("//bench:r{number}"),
        producer: "0.1.0".to_owned(),
        created_unix_ms: 1_700_000_000_000,
        duration: Duration::from_millis(5),
    }
}

/// heph with a home and a workspace of its own, and a bucket as remote cache.
struct Heph(Environment);

impl Heph {
    fn new(write: impl FnOnce(&Path), bucket: Option<(&str, &str, &str)>) -> Self {
        let mut environment = Environment::bare();
        write(&environment.root());
        if let Some((endpoint, name, direction)) = bucket {
            let cache = format!(
                "caches:\n  remote:\n    uri: s3://{name}/heph\n    endpoint: {endpoint}\n    region: us-east-1\n    pathStyle: true\n{direction}\
                 uploads:\n  drainTimeout: 20m\n"
            );
            let config = environment.read(".hephconfig") + &cache;
            environment.write(".hephconfig", config);
            let (key, secret) = SeaweedFs::KEY;
            environment.set("AWS_ACCESS_KEY_ID", key);
            environment.set("AWS_SECRET_ACCESS_KEY", secret);
        }
        Self(environment)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(heph_program());
        command
            .args(arguments)
            .current_dir(self.0.root())
            .env_clear()
            .envs(self.0.variables());
        command
    }

    /// A run with an empty home.
    fn cold(&self, with_daemon: bool) -> Duration {
        if with_daemon {
            run(&mut self.command(&["daemon", "stop", "--now"]));
        }
        let aside: PathBuf = (0..)
            .map(|number| self.0.beside(&format!("aside-{number}")))
            .find(|aside| !aside.exists())
            .expect("a free name");
        let _ = fs::rename(self.0.home(), aside);
        if with_daemon {
            run(&mut self.command(&["daemon", "start"]));
        }
        run(&mut self.command(&["run", "-q", "//..."])).wall
    }
}

/// What a remote cache that takes 200 ms for each request costs a build that finds nothing in it.
fn build(options: &Options) {
    const AWAY: Duration = Duration::from_millis(200);
    let shape = Shape::of(options.targets);
    let layers = shape.targets.div_ceil(shape.width);
    println!(
        "build: {} targets in {layers} layers, nothing stored, SeaweedFS {} ms away",
        shape.targets,
        AWAY.as_millis()
    );
    let server = SeaweedFs::shared();
    server.make_bucket("build");
    let endpoint = format!("http://127.0.0.1:{}", delay::before(server.port, AWAY));
    let write = |root: &Path| workspace::write_heph(root, shape, "standard");
    let with = |direction| Some((endpoint.as_str(), "build", direction));
    let daemon = |mut heph: Heph| {
        heph.0.set("HEPH_DAEMON", "require");
        heph
    };
    let sides = [
        (daemon(Heph::new(write, None)), true),
        (daemon(Heph::new(write, with("    read: false\n"))), true),
        (Heph::new(write, None), false),
        (Heph::new(write, with("    write: false\n")), false),
    ];
    let mut walls = vec![Vec::new(); sides.len()];
    for round in 0..=options.rounds {
        for ((heph, with_daemon), walls) in sides.iter().zip(&mut walls) {
            let wall = heph.cold(*with_daemon);
            if round > 0 {
                walls.push(ms(wall));
            }
        }
    }
    for (heph, with_daemon) in &sides {
        if *with_daemon {
            run(&mut heph.command(&["daemon", "stop", "--now"]));
        }
    }
    let [alone, writing, bare, reading] = walls.as_slice() else {
        unreachable!("four sides")
    };
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let pairs = |ours: &[f64], theirs: &[f64], of: fn(f64, f64) -> f64| {
        median(
            ours.iter()
                .zip(theirs)
                .map(|(ours, theirs)| of(*ours, *theirs))
                .collect(),
        )
    };
    println!(
        "  with daemon: {:.0} ms, {:.3} of that when everything is uploaded",
        median(alone.clone()),
        pairs(writing, alone, |ours, theirs| ours / theirs)
    );
    let extra = pairs(reading, bare, |ours, theirs| ours - theirs);
    println!(
        "  in-process: {:.0} ms, {extra:.0} ms more when everything is asked for first: {:.1} round trips",
        median(bare.clone()),
        extra / ms(AWAY)
    );
}

/// Memory of a process that makes, uploads and fetches much.
fn memory(options: &Options) {
    const COUNT: u64 = 8;
    let each = options.memory / COUNT;
    println!("memory: {COUNT} outputs of {each} MiB, rclone serve s3");
    let server = RcloneS3::new("memory");
    let write = |root: &Path| {
        fs::write(
            root.join(".hephconfig"),
            "plugins:\n  - builtin: buildfile\n  - builtin: sh\n",
        )
        .expect("write a file");
        let targets = (0..COUNT).map(|number| {
            format!("target(name=\"t{number}\", driver=\"sh\", run=\"head -c {} /dev/urandom > $OUT\", out=\"out{number}\")\n", each * MIB)
        });
        fs::write(root.join("BUILD"), targets.collect::<String>()).expect("write a file");
    };
    let bucket = Some((server.endpoint.as_str(), "memory", ""));
    let (first, second) = (Heph::new(write, bucket), Heph::new(write, bucket));
    let made = run(&mut first.command(&["run", "-q", "//..."]));
    println!(
        "  made and uploaded in {:.1} s, peak {:.1} MiB",
        made.wall.as_secs_f64(),
        made.usage.peak_memory as f64 / MIB as f64
    );
    let to = second.0.beside("copied");
    let fetched = run(&mut second.command(&["run", "-q", "//...", "--copy-out", &to.to_string_lossy()]));
    let bytes: u64 = heph_tests::files_below(&to)
        .iter()
        .filter_map(|path| Some(fs::metadata(path).ok()?.len()))
        .sum();
    assert_eq!(bytes, COUNT * each * MIB, "everything is fetched");
    println!(
        "  fetched in {:.1} s, peak {:.1} MiB",
        fetched.wall.as_secs_f64(),
        fetched.usage.peak_memory as f64 / MIB as f64
    );
}
