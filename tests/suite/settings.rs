//! Each key of `.hephconfig` that acts on one machine.

use heph_tests::{Environment, files_below};

const PLUGINS: &str = "plugins:\n  - builtin: buildfile\n  - builtin: sh\n  - builtin: textfile\n";

fn with(settings: &str) -> Environment {
    let env = Environment::bare();
    env.write(".hephconfig", format!("{PLUGINS}{settings}"));
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run='echo > $OUT', out='out')\n",
    );
    env
}

fn rewrite(env: &Environment, settings: &str) {
    env.write(".hephconfig", format!("{PLUGINS}{settings}"));
}

#[test]
fn version_pins_the_program() {
    let env = with(&format!("version: v{}\n", env!("CARGO_PKG_VERSION")));
    env.build("//:t");
    rewrite(&env, &format!("version: {}\n", env!("CARGO_PKG_VERSION")));
    env.build("//:t");
    rewrite(&env, "version: 9.9.9\n");
    env.heph(["run", "//:t"])
        .run()
        .exits(2)
        .says("9.9.9")
        .says("HEPH_NO_SELF_UPDATE");
    env.heph(["run", "//:t"])
        .with("HEPH_NO_SELF_UPDATE", "1")
        .run()
        .success();
    let pinned = env.home().join("versions/v9.9.9");
    std::fs::create_dir_all(&pinned).unwrap();
    let program = env.write_outside("home/versions/v9.9.9/heph", "#!/bin/sh\necho pinned \"$@\"\n");
    assert!(program.is_file());
    env.heph(["run", "//:t"]).run().success().says("pinned run //:t");
}

#[test]
fn buildfile_options() {
    let env = Environment::bare();
    env.write(
        ".hephconfig",
        "plugins:\n  - builtin: buildfile\n    options:\n      patterns: [HEPH, '*.heph']\n      skip: [old]\n      defaultDriver: sh\n  - builtin: sh\n",
    );
    env.write("HEPH", "target(name='a', run='true')\n");
    env.write("p/x.heph", "target(name='b', run='true')\n");
    env.write("p/BUILD", "target(name='c', run='true')\n");
    env.write("old/HEPH", "target(name='d', run='true')\n");
    let mut found = env.heph(["query", "//..."]).run().success().lines();
    found.sort();
    assert_eq!(found, ["//:a", "//p:b"]);
    env.build("//...");
}

#[test]
fn a_driver_that_is_not_registered_is_an_error_that_says_how() {
    let env = Environment::bare();
    env.write(".hephconfig", "plugins:\n  - builtin: buildfile\n");
    env.write("BUILD", "target(name='t', driver='bash', run='true')\n");
    env.heph(["run", "//:t"])
        .run()
        .exits(2)
        .says("bash")
        .says("builtin: bash");
}

#[test]
fn option_path_appends_directories() {
    let env = Environment::bare();
    env.write_outside("programs/greet", "#!/bin/sh\necho moin\n");
    let directory = env.beside("programs");
    env.write(
        ".hephconfig",
        format!(
            "plugins:\n  - builtin: buildfile\n  - builtin: sh\n    options:\n      path: ['{}']\n",
            directory.display()
        ),
    );
    env.write(
        "BUILD",
        "target(name='t', driver='sh', sandbox='standard', run='greet > $OUT', out='out')\n",
    );
    env.heph(["run", "--cat-out", "//:t"])
        .run()
        .success()
        .says("moin");
    env.heph(["validate"])
        .run()
        .success()
        .says(&directory.display().to_string());
}

#[test]
fn fs_skip_prunes_literal_paths_and_globs_for_everyone() {
    let env = with("fs:\n  skip:\n    - vendor\n    - ./third\n    - '**/generated/**'\n");
    for directory in ["vendor", "third", "a/generated", "a/vendor"] {
        env.write(
            &format!("{directory}/BUILD"),
            "target(name='x', driver='sh', run='true')\n",
        );
        env.write(&format!("{directory}/in.txt"), "x");
    }
    env.write(
        "BUILD",
        "target(name='t', driver='sh', deps=glob('**/*.txt'), run='echo $SRC > $OUT', out='out')\n",
    );
    let mut found = env.heph(["query", "//..."]).run().success().lines();
    found.sort();
    assert_eq!(found, ["//:t", "//a/vendor:x"]);
    env.heph(["run", "--cat-out", "//:t"])
        .run()
        .success()
        .says("a/vendor/in.txt")
        .never_says("generated/in.txt");
}

#[test]
fn spill_threshold_decides_what_becomes_a_file() {
    let env = with("cache:\n  spillThresholdBytes: 100\n");
    env.write("BUILD", "target(name='t', driver='sh', run=['head -c 100 /dev/zero > a', 'head -c 101 /dev/zero > b'], out=['a', 'b'])\n");
    env.build("//:t");
    let blobs = files_below(&env.home().join("cache/blobs"));
    let sizes: Vec<_> = blobs.iter().map(|blob| blob.metadata().unwrap().len()).collect();
    assert_eq!(sizes, [101]);
}

#[test]
fn max_size_is_kept_by_gc() {
    let env = with("cache:\n  maxSizeBytes: \"1 MiB\"\n");
    let target = |name: &str| {
        format!(
            "target(name='{name}', driver='sh', run='head -c 700000 /dev/urandom > $OUT', out='{name}')\n"
        )
    };
    env.write("BUILD", ["a", "b", "c", "d"].map(target).concat());
    env.build("//...");
    let stats = || env.heph(["cache", "stats", "--json"]).run().success().json();
    assert_eq!(stats()["max_bytes"], 1_048_576);
    env.heph(["cache", "gc"]).run().success();
    let stats = stats();
    let taken = stats["blob_bytes"].as_u64().unwrap() + stats["index_bytes"].as_u64().unwrap();
    assert!(taken <= 1_048_576, "{stats}");
    assert_eq!(stats["results"], 1, "one of 700,000 bytes fits");
    assert_eq!(env.build("//...").executed().len(), 3);
}

#[test]
fn cache_epoch_disowns_all_earlier_results() {
    let env = with("");
    env.build("//:t");
    assert!(env.build("//:t").executed().is_empty());
    rewrite(&env, "cacheEpoch: two\n");
    assert_eq!(env.build("//:t").executed(), ["//:t"]);
    rewrite(&env, "");
    assert!(env.build("//:t").executed().is_empty());
}

#[test]
fn both_lock_backends_build() {
    for backend in ["fs", "mem"] {
        let env = with(&format!("lock:\n  backend: {backend}\n"));
        assert_eq!(env.build("//:t").executed(), ["//:t"]);
        assert!(env.build("//:t").executed().is_empty());
    }
}

#[test]
fn memory_cache_can_be_switched_off() {
    let env = with("memCache:\n  perEntryBytes: 1\n  capacityBytes: 0\n");
    env.build("//:t");
    assert!(env.build("//:t").executed().is_empty());
}

#[test]
fn system_inputs_are_in_every_key() {
    let env = Environment::bare();
    let outside = env.beside("outside.conf");
    std::fs::write(&outside, "1").unwrap();
    rewrite(
        &env,
        &format!("sandbox:\n  systemInputs: ['{}']\n", outside.display()),
    );
    env.write(
        "BUILD",
        "target(name='t', driver='sh', run='echo > $OUT', out='out')\n",
    );
    env.build("//:t");
    assert!(env.build("//:t").executed().is_empty());
    std::fs::write(&outside, "22").unwrap();
    assert_eq!(env.build("//:t").executed(), ["//:t"]);
}

#[test]
fn home_is_the_variable_then_the_setting_then_the_user_home() {
    let env = with("homeDir: ./.own-home\n");
    env.build("//:t");
    assert!(env.home().is_dir() && !env.exists(".own-home"));
    let run = env.heph(["run", "//:t"]).without("HEPH_HOME").run();
    run.success();
    assert!(env.exists(".own-home"));
    rewrite(&env, "homeDir: ~/mine\n");
    env.heph(["run", "//:t"]).without("HEPH_HOME").run().success();
    assert!(env.user_home().join("mine").is_dir());
    rewrite(&env, "");
    env.heph(["run", "//:t"]).without("HEPH_HOME").run().success();
    assert!(env.user_home().join(".heph").is_dir());
}

#[test]
fn a_home_inside_the_workspace_is_never_source() {
    let env = with("homeDir: ./.own-home\n");
    env.write(
        "BUILD",
        "target(name='t', driver='sh', deps=glob('**/*'), run='echo $SRC > $OUT', out='out')\n",
    );
    env.heph(["run", "//:t"]).without("HEPH_HOME").run().success();
    let run = env.heph(["run", "--cat-out", "//:t"]).without("HEPH_HOME").run();
    run.success().never_says(".own-home");
}

#[test]
fn the_user_layer_lies_under_every_workspace() {
    let mut env = with("");
    let directory = env.user_home().join(".config/heph");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("hephconfig"), "cacheEpoch: mine\n").unwrap();
    let shown = env.heph(["inspect", "config", "--json"]).run().success().json();
    let values = shown["values"].as_array().unwrap();
    let epoch = values
        .iter()
        .find(|value| value["key"] == "cacheEpoch")
        .expect("cacheEpoch is shown");
    assert_eq!(epoch["value"], "mine");
    rewrite(&env, "cacheEpoch: theirs\n");
    let shown = env.heph(["inspect", "config"]).run().success().out();
    assert!(shown.contains("theirs") && !shown.contains("mine"), "{shown}");
    let elsewhere = env.beside("xdg");
    std::fs::create_dir_all(elsewhere.join("heph")).unwrap();
    std::fs::write(elsewhere.join("heph/hephconfig"), "cacheEpoch: xdg\n").unwrap();
    rewrite(&env, "");
    env.set("XDG_CONFIG_HOME", elsewhere.to_str().unwrap());
    env.heph(["inspect", "config"]).run().success().says("xdg");
}

#[test]
fn profiles_are_merged_in_their_order() {
    let mut env = with(
        "cacheEpoch: base\nlock:\n  backend: mem\ncaches:\n  shared:\n    uri: file:///nowhere\n    write: true\n",
    );
    env.write(
        "a.hephconfig",
        "cacheEpoch: a\ncaches:\n  shared:\n    write: false\n",
    );
    env.write("b.hephconfig", "cacheEpoch: b\nplugins:\n  - builtin: bash\n");
    let value = |env: &Environment, key: &str| {
        let shown = env.heph(["inspect", "config", "--json"]).run().success().json();
        let values = shown["values"].as_array().unwrap().clone();
        values
            .into_iter()
            .find(|value| value["key"] == key)
            .map(|value| (value["value"].clone(), value["from"].clone()))
    };
    assert_eq!(value(&env, "cacheEpoch").unwrap().0, "base");
    env.set("HEPH_PROFILES", "a,b");
    let (epoch, from) = value(&env, "cacheEpoch").unwrap();
    assert_eq!(epoch, "b");
    assert!(from.as_str().unwrap().starts_with("b.hephconfig"), "{from}");
    assert_eq!(value(&env, "caches.shared.write").unwrap().0, "false");
    assert_eq!(value(&env, "caches.shared.uri").unwrap().0, "file:///nowhere");
    assert_eq!(value(&env, "lock.backend").unwrap().0, "mem");
    env.write("p/BUILD", "target(name='t', driver='bash', run='true')\n");
    env.build("//p:t");
    env.set("HEPH_PROFILES", "a,missing");
    env.heph(["run", "//:t"])
        .run()
        .exits(2)
        .says("missing.hephconfig");
}

#[test]
fn a_cache_of_a_kind_that_is_not_there_yet_costs_a_warning() {
    let env = with("caches:\n  one:\n    uri: grpc://127.0.0.1:9\n    concurrency: 3\n");
    let build = env.build("//:t");
    assert_eq!(
        build
            .notices()
            .iter()
            .filter(|code| code.contains("cache"))
            .count(),
        1,
        "{}",
        build.run
    );
}

#[test]
fn external_plugins_and_fuse_say_that_they_are_not_there_yet() {
    let env = with("  - path: ./my-plugin.json\n");
    env.heph(["run", "//:t"]).run().exits(2).says("my-plugin.json");
    rewrite(&env, "fuse:\n  enabled: true\n");
    let build = env.build("//:t");
    assert_eq!(
        build
            .notices()
            .iter()
            .filter(|code| code.contains("fuse"))
            .count(),
        1,
        "{}",
        build.run
    );
    rewrite(&env, "fuse:\n  enabled: false\n");
    assert!(
        !env.build("//:t")
            .notices()
            .iter()
            .any(|code| code.contains("fuse"))
    );
}

#[test]
fn telemetry_is_off_where_it_is_switched_off() {
    let env = with("telemetry:\n  enabled: false\n");
    env.build("//:t");
    let shown = env
        .heph(["inspect", "config", "--json"])
        .without("HEPH_DISABLE_TELEMETRY")
        .run()
        .success()
        .json();
    let values = shown["values"].as_array().unwrap();
    assert!(
        values
            .iter()
            .any(|value| value["key"] == "telemetry.enabled" && value["value"] == "false"),
        "{shown}"
    );
}
