//! Faults of networks and servers, for each kind of remote cache: builds go on and are right, and the cache is used again when it works.
//!
//! One daemon goes through all faults of one cache, which lies behind a proxy before a real server. Two packages of every fault are in the
//! cache before: one is read while the fault is there, the other one afterwards. A third one is built and sent in the middle of it.

mod directory;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use heph_tests::faults::{Fault, Protocol, Proxy};
use heph_tests::servers::{Azurite, GoogleFront, Memcached, Nginx, Redis, SeaweedFs};
use heph_tests::{Build, Environment, Mode, needs, wait_until};

/// `small` goes along with its manifest, `large` is a content of its own that does not shrink.
const BUILD: &str = r#"
target(name = "small", driver = "sh", deps = file("text"), run = "tr a-z A-Z < $SRC > $OUT", out = "small")
target(name = "large", driver = "sh", deps = [":small", file("data")], run = "cat $SRC > $OUT", out = "large")
"#;

/// Size of `data`: more than what is sent in memory.
const LARGE: usize = 300 << 10;

/// Settings under which the stated limits are short.
const SETTINGS: &str = "    readTimeout: 1200ms\n    retries: 1\n    pause: 100ms\n";

/// The longest pause that a run can leave: requests that were under way when `pause` began may fail after it, twice.
const PAUSE: Duration = Duration::from_millis(400);

/// Requests for four manifests and one content, each made twice; the content is gone on with four times.
const MOST_READS: usize = (4 + 1 + 4) * 2;

/// Twice three times `readTimeout`, twice each, on a busy machine.
const LONGEST: Duration = Duration::from_secs(15);

/// A fault, and what is known of a build that meets it.
struct Case {
    name: &'static str,
    fault: Fault,
    /// Whether what the cache has is used; unset where that depends on the cache.
    hits: Option<bool>,
    /// Whether results get there at once; unset where they do after a while.
    takes: Option<bool>,
}

fn cases() -> Vec<Case> {
    let case = |name, fault, hits: Option<bool>, takes: bool| Case {
        name,
        fault,
        hits,
        takes: (fault != Fault::EveryThird).then_some(takes),
    };
    vec![
        case(
            "delayed",
            Fault::Delay(Duration::from_millis(60)),
            Some(true),
            true,
        ),
        case(
            "trickling",
            Fault::Trickle(Duration::from_millis(10)),
            Some(true),
            true,
        ),
        case("failing-at-times", Fault::EveryThird, None, true),
        // Some caches go on where the transfer broke off.
        case("cut-late", Fault::Cut(120_000), None, true),
        case("cut-early", Fault::Cut(2), Some(false), false),
        case("corrupted", Fault::CorruptAnswers, Some(false), true),
        case("garbled", Fault::Garble, Some(false), false),
        case("closed", Fault::Close, Some(false), false),
        case("reset", Fault::Reset, Some(false), false),
        case("hanging", Fault::Hang, Some(false), false),
        case("status-403", Fault::Status(403), Some(false), false),
        case("status-404", Fault::Status(404), Some(false), false),
        case("status-429", Fault::Status(429), Some(false), false),
        case("status-500", Fault::Status(500), Some(false), false),
        case("status-503", Fault::Status(503), Some(false), false),
        case("full", Fault::Full, Some(true), false),
    ]
}

/// A cache, once directly and once behind the proxy.
struct Cache {
    name: &'static str,
    protocol: Protocol,
    /// Port of the server.
    server: u16,
    /// `uri` and settings of the cache on a port.
    entry: Box<dyn Fn(u16) -> String>,
    variables: Vec<(&'static str, String)>,
}

impl Cache {
    /// A machine that uses it on a port.
    fn machine(&self, port: u16, mode: Mode) -> Environment {
        let mut env = Environment::new().with_mode(mode);
        let config = heph_tests::CONFIG;
        let entry = (self.entry)(port);
        env.write(
            ".hephconfig",
            format!("{config}sandbox:\n  mode: \"off\"\ncaches:\n  shared:\n    uri: {entry}{SETTINGS}"),
        );
        for (name, value) in &self.variables {
            env.set(name, value.replace("{port}", &port.to_string()));
        }
        env
    }

    /// One without a proxy before it.
    fn near(&self) -> Environment {
        self.machine(self.server, Mode::InProcess)
    }
}

/// Text and data of a package, each different from all others.
fn sources(package: &str) -> (String, Vec<u8>) {
    let mut data = vec![0; LARGE];
    blake3::Hasher::new()
        .update(package.as_bytes())
        .finalize_xof()
        .fill(&mut data);
    (format!("text of {package}\n"), data)
}

fn write_package(env: &Environment, package: &str) {
    let (text, data) = sources(package);
    env.write(&format!("{package}/BUILD"), BUILD);
    env.write(&format!("{package}/text"), text);
    env.write(&format!("{package}/data"), data);
}

/// Builds packages and copies their outputs, which must be what they are without any cache.
fn build(env: &Environment, selector: &str, packages: &[String]) -> Build {
    let out = env.beside("out");
    let out = out.to_str().unwrap();
    let build = env.heph(["run", "--json", "--copy-out", out, selector]).build();
    build.run.success();
    for package in packages {
        let (text, data) = sources(package);
        let small = text.to_uppercase();
        let read = |name: &str| std::fs::read(format!("{out}/{package}/{name}")).unwrap();
        assert!(
            read("small") == small.as_bytes(),
            "small of {package}\n{}",
            build.run
        );
        assert!(
            read("large") == [small.as_bytes(), &data].concat(),
            "large of {package}\n{}",
            build.run
        );
    }
    let told = build
        .notices()
        .iter()
        .filter(|code| *code == "remote-cache")
        .count();
    assert!(told <= 1, "one warning for each cache and run\n{}", build.run);
    build
}

/// Outcomes of the targets of a package.
fn outcomes(build: &Build, package: &str) -> Vec<String> {
    let all = build.outcomes().into_iter();
    let prefix = format!("//{package}:");
    all.filter(|(address, _)| address.starts_with(&prefix))
        .map(|(_, outcome)| outcome)
        .collect()
}

fn is_flushed(env: &Environment) -> bool {
    env.heph(["cache", "flush", "--timeout", "20s"]).run().code == 0
}

/// All faults, one after the other.
fn matrix(cache: &Cache) {
    let cases = cases();
    let named = |case: &Case, part: &str| format!("{}/{part}", case.name);
    let first = cache.near();
    for case in &cases {
        write_package(&first, &named(case, "now/read"));
        write_package(&first, &named(case, "later"));
    }
    first.build("//...");
    assert!(is_flushed(&first));

    let proxy = Proxy::new(cache.protocol, cache.server);
    let env = cache.machine(proxy.port(), Mode::Fresh);
    env.heph(["daemon", "start"]).run().success();
    let daemon = env.daemons();
    let mut all = Vec::new();
    for case in &cases {
        let packages = ["now/read", "now/write", "later"].map(|part| named(case, part));
        packages.iter().for_each(|package| write_package(&env, package));
        meet(&env, &proxy, case, &packages)
            .unwrap_or_else(|why| panic!("{}, {}: {why}", cache.name, case.name));
        all.extend(packages);
    }
    assert_eq!(env.daemons(), daemon, "nobody had to restart it");

    // Whatever was sent in the middle of faults is there, and right.
    let last = cache.near();
    all.iter().for_each(|package| write_package(&last, package));
    let built = build(&last, "//...", &all);
    assert_eq!(built.executed(), [""; 0], "{}: {}", cache.name, built.run);
    assert_eq!(built.notices(), [""; 0], "{}", cache.name);
    sent_wrongly(cache, &env, &proxy);
}

/// One fault: while it is there, and after it.
fn meet(env: &Environment, proxy: &Proxy, case: &Case, packages: &[String; 3]) -> Result<(), String> {
    let [read, write, later] = packages;
    let check = |holds: bool, what: &str, build: &Build| match holds {
        true => Ok(()),
        false => Err(format!("{what}\n{}", build.run)),
    };
    proxy.take_requests();
    proxy.set(case.fault);
    let now = format!("//{}/now/...", case.name);
    let met = build(env, &now, &[read.clone(), write.clone()]);
    let ended = Instant::now();
    let requests = proxy.take_requests();
    let expected = match case.hits {
        Some(true) => Some("remote"),
        Some(false) => Some("executed"),
        None => None,
    };
    let found = outcomes(&met, read);
    check(
        expected.is_none_or(|one| found == [one; 2]),
        "what the cache has",
        &met,
    )?;
    check(outcomes(&met, write) == ["executed"; 2], "what it has not", &met)?;
    check(reads(&requests) <= MOST_READS, &format!("{requests:?}"), &met)?;
    check(met.run.wall < LONGEST, "it took too long", &met)?;
    // A run that needs nothing from there is told of it once more at most, and does not wait.
    let again = build(env, &now, &[read.clone(), write.clone()]);
    check(again.executed().is_empty(), "all is here", &again)?;
    check(again.run.wall < LONGEST / 5, "it waited", &again)?;
    if case.fault == Fault::Hang {
        // Uploads are more patient than readers.
    } else if let Some(takes) = case.takes {
        if is_flushed(env) != takes {
            return Err(format!("whether results get there should be {takes}"));
        }
    } else {
        wait_until("everything is there after some tries", || is_flushed(env));
    }

    proxy.set(Fault::None);
    wait_until("the queue is empty", || is_flushed(env));
    wait_until("the pause is over", || ended.elapsed() > PAUSE);
    let recovered = build(
        env,
        &format!("//{}/later/...", case.name),
        std::slice::from_ref(later),
    );
    check(
        outcomes(&recovered, later) == ["remote"; 2],
        "it is read again",
        &recovered,
    )?;
    check(recovered.notices().is_empty(), "all is well", &recovered)
}

/// Requests that read contents or manifests.
fn reads(requests: &BTreeMap<String, usize>) -> usize {
    let is_one = |kind: &str| {
        let (verb, about) = kind.split_once(' ').unwrap_or_default();
        // Before an upload, marks of what was purged are asked for.
        ["GET", "get", "GETRANGE"].contains(&verb) && about != "tombstones"
    };
    let all = requests.iter().filter(|(kind, _)| is_one(kind));
    all.map(|(_, count)| count).sum()
}

/// What was damaged on its way to the server is refused by the server or by whoever reads it, and replaced.
fn sent_wrongly(cache: &Cache, env: &Environment, proxy: &Proxy) {
    let package = "sent-wrongly".to_owned();
    write_package(env, &package);
    proxy.set(Fault::CorruptRequests);
    build(env, "//sent-wrongly", std::slice::from_ref(&package));
    is_flushed(env);
    proxy.set(Fault::None);
    wait_until("the queue is empty", || is_flushed(env));
    // Each reader finds and replaces what it looks at: first the manifests, then the contents.
    let mut reader = 0;
    loop {
        let other = cache.near();
        write_package(&other, &package);
        let built = build(&other, "//...", std::slice::from_ref(&package));
        if built.executed().is_empty() {
            assert_eq!(built.notices(), [""; 0], "{}", cache.name);
            return;
        }
        reader += 1;
        assert!(reader < 3, "{}: it is not replaced: {}", cache.name, built.run);
        assert!(is_flushed(&other));
    }
}

#[test]
fn no_more_large_contents_come_at_once_than_allowed() {
    if !is_there(
        "no_more_large_contents_come_at_once_than_allowed",
        Nginx::available(),
    ) {
        return;
    }
    let server = Nginx::new();
    let cache = in_nginx(&server);
    let packages: Vec<String> = (0..8).map(|at| format!("package{at}")).collect();
    let first = cache.near();
    packages.iter().for_each(|package| write_package(&first, package));
    first.build("//...");
    let proxy = Proxy::new(Protocol::Http, server.plain);
    proxy.set(Fault::Trickle(Duration::from_millis(20)));
    let env = cache.machine(proxy.port(), Mode::InProcess);
    env.write(".hephconfig", env.read(".hephconfig") + "    concurrency: 4\n");
    packages.iter().for_each(|package| write_package(&env, package));
    let built = build(&env, "//...", &packages);
    assert_eq!(built.executed(), [""; 0], "{}", built.run);
    // Half of what is allowed is for manifests.
    for kind in ["GET blobs", "GET actions"] {
        assert!((1..=2).contains(&proxy.most_at_once(kind)), "{kind}");
    }
}

#[test]
fn without_a_daemon_a_server_that_hangs_is_waited_for_as_long_as_stated() {
    let test = "without_a_daemon_a_server_that_hangs_is_waited_for_as_long_as_stated";
    if !is_there(test, Nginx::available()) {
        return;
    }
    let server = Nginx::new();
    let proxy = Proxy::new(Protocol::Http, server.plain);
    let cache = in_nginx(&server);
    let env = cache.machine(proxy.port(), Mode::InProcess);
    env.write(
        ".hephconfig",
        env.read(".hephconfig") + "uploads:\n  drainTimeout: 1s\n",
    );
    let package = "alone".to_owned();
    write_package(&env, &package);
    proxy.set(Fault::Hang);
    let built = build(&env, "//...", std::slice::from_ref(&package));
    assert!(built.run.wall < LONGEST, "{}", built.run);
    built.run.says("uploads-left");
    proxy.set(Fault::None);
    assert!(is_flushed(&env), "whoever comes next sends it");
}

fn is_there(test: &str, available: bool) -> bool {
    needs(
        &format!("backends_faults::{test}"),
        "its server (tests/setup, tests/setup-deep)",
        available,
    )
}

fn port_of(endpoint: &str) -> u16 {
    let authority = endpoint.split('/').nth(2).unwrap();
    authority.rsplit(':').next().unwrap().parse().unwrap()
}

#[test]
fn s3() {
    if !is_there("s3", SeaweedFs::available()) {
        return;
    }
    let server = SeaweedFs::shared();
    server.make_bucket("faults");
    let (key, secret) = SeaweedFs::KEY;
    matrix(&Cache {
        name: "s3",
        protocol: Protocol::Http,
        server: server.port,
        entry: Box::new(|port| {
            format!("s3://faults/s3\n    region: us-east-1\n    endpoint: http://127.0.0.1:{port}\n")
        }),
        variables: vec![
            ("AWS_ACCESS_KEY_ID", key.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
        ],
    });
}

#[test]
fn gs() {
    if !is_there("gs", GoogleFront::available()) {
        return;
    }
    let server = GoogleFront::new();
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_path_buf();
    matrix(&Cache {
        name: "gs",
        protocol: Protocol::Http,
        server: port_of(&server.endpoint),
        entry: Box::new(move |port| {
            let text = format!(
                r#"{{"type":"service_account","disable_oauth":true,"gcs_base_url":"http://127.0.0.1:{port}","client_email":"x","private_key":"x","private_key_id":"x"}}"#
            );
            std::fs::write(place.join(format!("{port}.json")), text).unwrap();
            "gs://google/faults\n".to_owned()
        }),
        variables: vec![(
            "GOOGLE_APPLICATION_CREDENTIALS",
            format!("{}/{{port}}.json", directory.path().display()),
        )],
    });
}

#[test]
fn az() {
    if !is_there("az", Azurite::available()) {
        return;
    }
    let server = Azurite::new();
    server.make_container("faults");
    let (account, key) = Azurite::ACCOUNT;
    matrix(&Cache {
        name: "az",
        protocol: Protocol::Http,
        server: port_of(&server.endpoint),
        entry: Box::new(move |port| {
            format!("az://faults/az\n    endpoint: http://127.0.0.1:{port}/{account}\n")
        }),
        variables: vec![
            ("AZURE_STORAGE_ACCOUNT_NAME", account.to_owned()),
            ("AZURE_STORAGE_ACCESS_KEY", key.to_owned()),
        ],
    });
}

#[test]
fn http() {
    if !is_there("http", Nginx::available()) {
        return;
    }
    let server = Nginx::new();
    matrix(&in_nginx(&server));
}

fn in_nginx(server: &Nginx) -> Cache {
    Cache {
        name: "http",
        protocol: Protocol::Http,
        server: server.plain,
        entry: Box::new(|port| format!("http://127.0.0.1:{port}/open/faults\n")),
        variables: Vec::new(),
    }
}

#[test]
fn redis() {
    if !is_there("redis", Redis::available()) {
        return;
    }
    let server = Redis::new();
    matrix(&Cache {
        name: "redis",
        protocol: Protocol::Redis,
        server: server.port,
        entry: Box::new(|port| format!("redis://127.0.0.1:{port}/1/faults\n")),
        variables: vec![("REDIS_PASSWORD", Redis::PASSWORD.to_owned())],
    });
}

#[test]
fn memcached() {
    if !is_there("memcached", Memcached::available()) {
        return;
    }
    let server = Memcached::new(256, "1m");
    matrix(&Cache {
        name: "memcached",
        protocol: Protocol::Memcached,
        server: server.port,
        entry: Box::new(|port| format!("memcached://127.0.0.1:{port}/faults\n")),
        variables: Vec::new(),
    });
}
