use std::fs;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ByteSize;

mod messages;

const CHECKSUM: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn base() -> Base {
    Base {
        root: Some("/ws".into()),
        home: Some("/home/ada".into()),
    }
}

fn read(text: &str) -> Config {
    match parse(FILE_NAME, text, base()) {
        Ok(loaded) => loaded.config,
        Err(errors) => panic!("{errors}"),
    }
}

fn errors(text: &str) -> String {
    match parse(FILE_NAME, text, base()) {
        Ok(_) => format!("{text:?} is fine"),
        Err(errors) => errors.to_string(),
    }
}

/// A workspace with these files; `user` is the user's layer.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self { directory }
    }

    fn load(&self, profiles: &[&str]) -> Result<Loaded, String> {
        let profiles: Vec<String> = profiles.iter().map(|name| (*name).to_owned()).collect();
        let root = self.directory.path();
        let user = root.join("user");
        load(&LoadOptions {
            root: Some(root),
            user_layer: Some(&user),
            profiles: &profiles,
            home_directory: Some(Path::new("/home/ada")),
        })
        .map_err(|errors| errors.to_string().replace(root.to_str().unwrap(), "/ws"))
    }
}

#[test]
fn an_empty_file_gives_the_defaults() {
    for text in ["", "# nothing\n", "---\n", "fs:\nplugins:\ncaches:\n"] {
        assert_eq!(read(text), Config::default());
    }
    let config = Config::default();
    assert_eq!(config.cache.spill_threshold, ByteSize(65536));
    assert_eq!(config.cache.max_size, None);
    assert_eq!(config.mem_cache.per_entry, ByteSize(16384));
    assert_eq!(config.mem_cache.capacity, ByteSize(67_108_864));
    assert_eq!(config.daemon.idle_timeout, Duration::from_secs(3 * 3600));
    assert_eq!(config.daemon.max_memory, ByteSize::gib(2));
    assert_eq!(config.uploads.drain_timeout, Duration::from_secs(300));
    assert_eq!(config.uploads.max_age, Duration::from_secs(7 * 86400));
    assert_eq!(config.uploads.max_in_flight, ByteSize::mib(256));
    assert_eq!(config.fuse.enabled, FuseMode::Off);
    assert_eq!(config.lock.backend, LockBackend::Fs);
    assert_eq!(config.sandbox.mode, SandboxMode::Auto);
    assert!(config.telemetry.enabled);
}

/// Every key of the documentation, none at its default.
fn everything() -> String {
    format!(
        r#"
version: v1.2.3
homeDir: ./.heph-home
cacheEpoch: 2026-11
plugins:
- builtin: buildfile
  options:
    patterns: [BUILD, "*.BUILD"]
- path: ./path/to/my-plugin.json
- url: https://example.com/heph-go-plugin.json
  checksum: {CHECKSUM}
fs:
  skip: [vendor, ./node_modules, "**/generated/**"]
memCache: {{perEntryBytes: 1024, capacityBytes: 1 MiB}}
cache:
  spillThresholdBytes: 8388608
  maxSizeBytes: 20 GiB
  link: never
caches:
  shared:
    uri: s3://bucket/prefix
    read: false
    write: false
    concurrency: 20
    scope: pr-${{branch}}
    readScopes: [main]
    signing: {{keyFile: ~/key, publicKeys: [abc], revoked: [old], required: true}}
    credentials: {{envPrefix: CI_}}
    region: eu-central-1
    endpoint: https://minio.example.com
    pathStyle: true
    caFile: /etc/ca.pem
    ttl: 30d
    readTimeout: 1s
    retries: 5
sandbox: {{mode: strict, systemInputs: ["/usr/include/**"]}}
daemon: {{idleTimeout: 1h30m, maxMemoryBytes: 1 GiB}}
uploads: {{drainTimeout: 1m, maxAge: 1d, maxInFlightBytes: 1 MB}}
fuse: {{enabled: auto}}
lock: {{backend: mem}}
telemetry: {{enabled: false}}
"#
    )
}

#[test]
fn every_key_is_read() {
    let config = read(&everything());
    assert_eq!(config.version.as_ref().unwrap().as_str(), "1.2.3");
    assert_eq!(config.home_dir.as_deref(), Some(Path::new("/ws/.heph-home")));
    assert_eq!(config.cache_epoch.as_deref(), Some("2026-11"));
    let sources: Vec<&str> = config.plugins.iter().map(|p| p.source.identifier()).collect();
    assert_eq!(
        sources,
        [
            "buildfile",
            "./path/to/my-plugin.json",
            "https://example.com/heph-go-plugin.json"
        ]
    );
    assert_eq!(config.fs.skip, ["vendor", "./node_modules", "**/generated/**"]);
    assert_eq!(config.mem_cache.capacity, ByteSize::mib(1));
    assert_eq!(config.cache.max_size, Some(ByteSize::gib(20)));
    assert_eq!(config.cache.link, Link::Never);
    let shared = &config.caches["shared"];
    let uri = shared.uri.as_ref().unwrap();
    assert_eq!((uri.scheme(), uri.rest()), (Scheme::S3, "bucket/prefix"));
    assert!(!shared.read && !shared.write);
    assert_eq!(shared.concurrency.map(u32::from), Some(20));
    assert_eq!(shared.scope, "pr-${branch}");
    assert_eq!(shared.read_scopes, ["main"]);
    assert_eq!(
        shared.signing.key_file.as_deref(),
        Some(Path::new("/home/ada/key"))
    );
    assert_eq!(shared.signing.public_keys, ["abc"]);
    assert_eq!(shared.signing.revoked, ["old"]);
    assert!(shared.signing.required);
    assert_eq!(shared.credentials, Credentials::EnvPrefix("CI_".to_owned()));
    assert_eq!(shared.region.as_deref(), Some("eu-central-1"));
    assert_eq!(shared.endpoint.as_deref(), Some("https://minio.example.com"));
    assert_eq!(shared.path_style, Some(true));
    assert_eq!(shared.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert_eq!(shared.ttl, Some(Duration::from_secs(30 * 86400)));
    assert_eq!(shared.read_timeout, Duration::from_secs(1));
    assert_eq!(shared.retries, 5);
    assert_eq!(config.sandbox.mode, SandboxMode::Strict);
    assert_eq!(config.sandbox.system_inputs, ["/usr/include/**"]);
    assert_eq!(config.daemon.idle_timeout, Duration::from_secs(5400));
    assert_eq!(config.uploads.max_in_flight, ByteSize(1_000_000));
    assert_eq!(config.fuse.enabled, FuseMode::Auto);
    assert_eq!(config.lock.backend, LockBackend::Mem);
    assert!(!config.telemetry.enabled);
}

#[test]
fn a_configuration_travels_as_json() {
    let config = read(&everything());
    let json = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    assert!(json.contains(r#""spillThresholdBytes":8388608"#), "{json}");
}

#[test]
fn a_cache_reads_its_own_scope_unless_told_otherwise() {
    let text = "caches: {a: {uri: file:///x, scope: team}, b: {uri: file:///y}}";
    let loaded = parse(FILE_NAME, text, base()).unwrap();
    assert_eq!(loaded.config.caches["a"].read_scopes, ["team"]);
    assert_eq!(loaded.config.caches["b"].read_scopes, ["main"]);
    let origin = loaded
        .origins
        .iter()
        .find(|origin| origin.key == "caches.a.readScopes");
    assert_eq!(origin.unwrap().value, "[\"team\"]");
}

#[test]
fn anchors_and_merge_keys_work() {
    let config = read("caches:\n  a: &a {uri: file:///x, write: false}\n  b: {<<: *a, write: true}\n");
    assert!(!config.caches["a"].write);
    assert!(config.caches["b"].write);
    assert_eq!(config.caches["b"].uri, config.caches["a"].uri);
}

#[test]
fn profiles_are_laid_over_in_order() {
    let files = Files::new(&[
        (
            FILE_NAME,
            "homeDir: /h\nplugins:\n- builtin: buildfile\n  options: {patterns: [BUILD]}\n- builtin: bash\n\
             cache: {link: never, maxSizeBytes: 1 GiB}\nfs: {skip: [a]}\nlock: {backend: mem}\n\
             caches:\n  shared:\n    uri: s3://b/p\n    signing: {publicKeys: [k]}\n",
        ),
        (
            "dev.hephconfig",
            "caches: {shared: {write: false, signing: {keyFile: /k}}, mine: {uri: file:///m}}\nfs: {skip: [b]}\n",
        ),
        (
            "ci.hephconfig",
            "plugins:\n- builtin: sh\n- builtin: buildfile\n  options: {patterns: [B]}\n\
             cache: {maxSizeBytes: 2 GiB}\ncaches: {shared: {read: false}}\n",
        ),
    ]);
    let loaded = files.load(&["dev", "ci"]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.home_dir.as_deref(), Some(Path::new("/h")));
    assert_eq!(config.cache.link, Link::Never);
    assert_eq!(config.cache.max_size, Some(ByteSize::gib(2)));
    assert_eq!(config.fs.skip, ["b"]);
    assert_eq!(config.lock.backend, LockBackend::Mem);
    let shared = &config.caches["shared"];
    assert_eq!(shared.uri.as_ref().unwrap().as_str(), "s3://b/p");
    assert!(!shared.read && !shared.write);
    assert_eq!(shared.signing.public_keys, ["k"]);
    assert_eq!(shared.signing.key_file.as_deref(), Some(Path::new("/k")));
    assert!(config.caches["mine"].write);
    let plugins: Vec<&str> = config.plugins.iter().map(|p| p.source.identifier()).collect();
    assert_eq!(plugins, ["buildfile", "bash", "sh"]);
    let options = config.plugins[0].options.as_ref().unwrap();
    assert_eq!(options.get("patterns").unwrap().show(), "[B]");

    let origins: Vec<String> = loaded
        .origins
        .iter()
        .filter_map(|origin| match &origin.source {
            Source::File { file, line } => {
                Some(format!("{} = {}  ({file}:{line})", origin.key, origin.value))
            }
            Source::Default => None,
        })
        .collect();
    insta::assert_snapshot!(origins.join("\n"), @r#"
    homeDir = /h  (.hephconfig:1)
    plugins[0].builtin = buildfile  (ci.hephconfig:3)
    plugins[0].options.patterns = [B]  (ci.hephconfig:4)
    plugins[1].builtin = bash  (.hephconfig:5)
    plugins[2].builtin = sh  (ci.hephconfig:2)
    fs.skip = ["b"]  (dev.hephconfig:2)
    cache.maxSizeBytes = 2 GiB  (ci.hephconfig:5)
    cache.link = never  (.hephconfig:6)
    caches.mine.uri = file:///m  (dev.hephconfig:1)
    caches.shared.uri = s3://b/p  (.hephconfig:11)
    caches.shared.read = false  (ci.hephconfig:6)
    caches.shared.write = false  (dev.hephconfig:1)
    caches.shared.signing.keyFile = /k  (dev.hephconfig:1)
    caches.shared.signing.publicKeys = ["k"]  (.hephconfig:12)
    lock.backend = mem  (.hephconfig:8)
    "#);
    assert!(
        loaded.origins.iter().any(|o| o.key == "cache.spillThresholdBytes"
            && o.value == "64 KiB"
            && o.source == Source::Default)
    );
}

#[test]
fn the_users_layer_lies_under_the_workspace() {
    let files = Files::new(&[
        (
            "user",
            "telemetry: {enabled: false}\ndaemon: {idleTimeout: 1h}\ncache: {link: never}\n",
        ),
        (
            FILE_NAME,
            "telemetry: {enabled: true}\ndaemon: {idleTimeout: 2h}\n",
        ),
    ]);
    let loaded = files.load(&[]).unwrap();
    assert!(!loaded.config.telemetry.enabled);
    assert_eq!(loaded.config.daemon.idle_timeout, Duration::from_secs(7200));
    assert_eq!(loaded.config.cache.link, Link::Never);
    assert!(!loaded.owns_home);
    assert_eq!(loaded.home.daemon.idle_timeout, Duration::from_secs(3600));

    fs::write(
        files.directory.path().join(FILE_NAME),
        "homeDir: h\ndaemon: {idleTimeout: 2h}\n",
    )
    .unwrap();
    let loaded = files.load(&[]).unwrap();
    assert!(loaded.owns_home);
    assert_eq!(loaded.home.daemon.idle_timeout, Duration::from_secs(7200));

    fs::write(files.directory.path().join("user"), "homeDir: relative\n").unwrap();
    insta::assert_snapshot!(files.load(&[]).unwrap_err(), @"
    /ws/user:1:10: a path outside of a workspace is absolute or begins with '~/'
      |
    1 | homeDir: relative
      |          ^^^^^^^^
    ");
}

#[test]
fn outside_a_workspace_the_users_layer_is_alone() {
    let files = Files::new(&[("user", "homeDir: ~/h\n")]);
    let user = files.directory.path().join("user");
    let load = |home| {
        load(&LoadOptions {
            user_layer: Some(&user),
            home_directory: home,
            ..LoadOptions::default()
        })
    };
    let loaded = load(Some(Path::new("/home/ada"))).unwrap();
    assert_eq!(loaded.config.home_dir.as_deref(), Some(Path::new("/home/ada/h")));
    let error = load(None).unwrap_err();
    assert_eq!(
        error.problems[0].message,
        "there is no home directory that '~' could stand for"
    );
}

#[test]
fn the_root_is_the_nearest_directory_with_a_configuration() {
    let files = Files::new(&[(FILE_NAME, "")]);
    let below = files.directory.path().join("a/b");
    fs::create_dir_all(below.join(FILE_NAME)).unwrap();
    assert_eq!(find_root(&below).as_deref(), Some(files.directory.path()));
    assert_eq!(find_root(Path::new("/proc/self")), None);
}

#[test]
fn aliases_cannot_unfold_without_bound() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        text += &format!("a{level}: &a{level} [{items}]\n");
    }
    assert!(errors(&text).contains("aliases unfold to more than 10000 values"));
    let deep = format!("fs: {}{}", "[".repeat(5000), "]".repeat(5000));
    assert!(!errors(&deep).is_empty());
    let deep = format!("{}x", "- ".repeat(5000));
    assert!(!errors(&deep).is_empty());
}

#[test]
fn passwords_are_not_shown() {
    let loaded = parse(
        FILE_NAME,
        "caches: {a: {uri: 'redis://me:secret@host/0'}}",
        base(),
    )
    .unwrap();
    assert!(!format!("{loaded:?}").contains("secret"));
    assert_eq!(
        loaded.config.caches["a"].uri.as_ref().unwrap().to_string(),
        "redis://me:***@host/0"
    );
}

#[test]
fn settings_have_a_reach() {
    assert_eq!(reach("cache.link"), SettingReach::Home);
    assert_eq!(reach("caches.shared.write"), SettingReach::Request);
    assert_eq!(reach("caches.shared.uri"), SettingReach::Workspace);
    assert_eq!(reach("cacheEpoch"), SettingReach::Workspace);
}

#[test]
fn versions_with_and_without_v_are_equal() {
    assert_eq!(Version::parse("v1.2.3"), Version::parse("1.2.3"));
    assert_eq!(Version::parse("1.2.3-rc.1").unwrap().tag(), "v1.2.3-rc.1");
    for text in ["1.2", "1.2.3.4", "vv1.2.3", "1.2.x", "1.2.3-", "", "1.2.3/../x"] {
        assert_eq!(Version::parse(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in any::<String>(), noise in "[a-c:{}\\[\\], \n\"'&*!|>?%#-]{0,40}") {
        for text in [&text, &noise] {
            if let Err(errors) = parse(FILE_NAME, text, base()) {
                prop_assert!(!errors.problems.is_empty());
                prop_assert!(!errors.to_string().is_empty());
            }
        }
    }

    #[test]
    fn a_damaged_configuration_is_answered(at in 0..2000usize, with in "[a-z:{}\\[\\]\"' \n-]{0,3}", cut in 0..10usize) {
        let whole = everything();
        let at = at % whole.len();
        let end = (at + cut).min(whole.len());
        let damaged = format!("{}{with}{}", &whole[..at], &whole[end..]);
        if let Err(errors) = parse(FILE_NAME, &damaged, base()) {
            prop_assert!(!errors.problems.is_empty());
        }
    }
}
