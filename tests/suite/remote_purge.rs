//! `heph cache purge`: what was purged is gone, and stays away.

use std::fs;
use std::path::Path;
use std::time::Duration;

use heph_tests::servers::{RcloneS3, SeaweedFs, Slow, WebDav};
use heph_tests::{Environment, Mode, needs, wait_until};
use rustix::process::Signal;

use crate::remote::{BUILD, bucket, configure, last, machine, objects, outcomes, uploaded, uploads_left};

/// A machine with any cache; `entry` is its whole definition.
pub(crate) fn machine_with(entry: &str, variables: &[(&str, &str)]) -> Environment {
    let mut env = Environment::new();
    for (name, value) in variables {
        env.set(name, *value);
    }
    define(&env, entry);
    env.write("BUILD", BUILD);
    env.write("a.txt", "some text\n");
    env
}

/// Gives a machine another cache, or other settings.
pub(crate) fn define(env: &Environment, entry: &str) {
    let config = heph_tests::CONFIG;
    env.write(
        ".hephconfig",
        format!("{config}sandbox:\n  mode: \"off\"\ncaches:\n  shared:\n{entry}"),
    );
}

fn flush(env: &Environment) {
    let flushed = env.heph(["cache", "flush"]).run();
    assert_eq!(flushed.success().out(), "everything is uploaded\n");
}

/// Two machines build the same; one of them cannot reach the cache (`away`) and sends what it has when it was purged by the other.
fn stays_away(entry: &str, away: &str, variables: &[(&str, &str)]) {
    let with = |entry: &str, more: &str| machine_with(&format!("{entry}{more}"), variables);
    let first = with(entry, "");
    first.build("//...");
    let wanted = last(&first);
    flush(&first);
    let late = with(away, "    read: false\n    retries: 0\n");
    late.build("//...");
    assert_eq!(uploads_left(&late), 3);
    late.stop_daemons();

    let purged = first.heph(["cache", "purge", "//:middle"]).run();
    assert_eq!(
        purged.success().out(),
        "purged 1 key\nthis store  1 result removed\nshared      1 result replaced by marks, in the scope main\n"
    );
    let reader = || with(entry, "    write: false\n");
    let only_middle = |env: &Environment| {
        let built = env.build("//...");
        assert_eq!(built.executed(), ["//:middle"], "{}", built.run);
        assert_eq!(
            built.notices(),
            [""; 0],
            "a purged result is nothing to complain about"
        );
    };
    only_middle(&reader());

    define(&late, entry);
    flush(&late);
    only_middle(&reader());
    only_middle(&late);
    flush(&late);
    let after = reader();
    assert_eq!(
        outcomes(&after),
        ["remote"; 3],
        "what was made later takes the mark's place"
    );
    assert_eq!(last(&after), wanted);
    for env in [&first, &late] {
        env.stop_daemons();
    }
}

#[test]
fn what_was_purged_does_not_come_back_from_the_queue_of_another_machine() {
    let (key, secret) = SeaweedFs::KEY;
    let variables = [("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)];
    let s3 = |endpoint: &str| {
        format!("    uri: s3://purge/prefix\n    endpoint: {endpoint}\n    region: us-east-1\n")
    };
    let test = "remote_purge::what_was_purged_does_not_come_back_from_the_queue_of_another_machine";
    if needs(test, "SeaweedFS (tests/setup)", SeaweedFs::available()) {
        let server = SeaweedFs::shared();
        server.make_bucket("purge");
        stays_away(&s3(&server.endpoint()), &s3("http://127.0.0.1:9"), &variables);
    }
    // It does not know conditional writes.
    if needs(test, "rclone (tests/setup)", RcloneS3::available()) {
        let server = RcloneS3::new("purge");
        stays_away(&s3(&server.endpoint), &s3("http://127.0.0.1:9"), &variables);
    }
    if needs(test, "rclone (tests/setup)", WebDav::available()) {
        let server = WebDav::new();
        let (user, password) = WebDav::LOGIN;
        let entry = format!(
            "    uri: https://{user}:{password}@localhost:{}/purge\n",
            server.port
        );
        let right = format!("{entry}    caFile: {}\n", server.authority.certificate.display());
        stays_away(&right, &entry, &[]);
    }
}

/// The time in a mark can be in the past of what a queue holds, and then holds nothing up.
#[test]
fn keys_are_purged_and_what_is_made_later_is_shared_again() {
    let (_guard, bucket) = bucket();
    let env = machine(&bucket, "");
    let built = env.build("//...");
    uploaded(&env, &bucket, 3);
    let key = built.target("//:middle")["key"].as_str().unwrap().to_owned();
    let other = built.target("//:first")["key"].as_str().unwrap().to_owned();

    let purged = env
        .heph(["cache", "purge", &key.to_uppercase(), &other, "--json"])
        .run();
    let document = purged.success().json();
    let mut keys = [key, other];
    keys.sort();
    assert_eq!(document["keys"], serde_json::json!(keys));
    assert_eq!(document["removed_results"], 2);
    let cache = &document["caches"][0];
    assert_eq!(
        (&cache["name"], &cache["scope"], &cache["marked"], &cache["found"]),
        (&"shared".into(), &"main".into(), &2.into(), &2.into())
    );
    assert_eq!(cache["error"], serde_json::Value::Null);

    // No key is known of what was never built: nothing is done, and it is said.
    let fresh = machine(&bucket, "    write: false\n");
    fresh
        .heph(["cache", "purge", "//:last"])
        .run()
        .exits(1)
        .says("no result of these targets is known here")
        .says("hint: ");
    fresh
        .heph(["cache", "purge"])
        .run()
        .exits(2)
        .says("nothing was named");
    fresh
        .heph(["cache", "purge", "//:nothing"])
        .run()
        .exits(1)
        .says("no targets matched //:nothing");

    assert_eq!(env.build("//...").executed(), ["//:first", "//:middle"]);
    uploaded(&env, &bucket, 3);
    assert_eq!(outcomes(&machine(&bucket, "")), ["remote"; 3]);
}

#[test]
fn what_cannot_be_removed_from_a_cache_is_not_used_here_any_more() {
    let (_guard, bucket) = bucket();
    let writer = machine(&bucket, "");
    writer.build("//...");
    uploaded(&writer, &bucket, 3);
    let reader = machine(&bucket, "    write: false\n");
    assert_eq!(outcomes(&reader), ["remote"; 3]);
    let before = fs_times(&bucket);
    let purged = reader.heph(["cache", "purge", "//:last"]).run();
    assert_eq!(
        purged.success().out(),
        "purged 1 key\nthis store  1 result removed\nshared      not written: what it has is not used here any more\n"
    );
    assert_eq!(reader.build("//...").executed(), ["//:last"]);
    assert_eq!(fs_times(&bucket), before);
}

fn fs_times(bucket: &Path) -> Vec<std::time::SystemTime> {
    let all = heph_tests::files_below(bucket);
    all.iter()
        .map(|path| fs::metadata(path).unwrap().modified().unwrap())
        .collect()
}

#[test]
fn a_cache_that_refuses_is_named_with_what_to_do() {
    let test = "remote_purge::a_cache_that_refuses_is_named_with_what_to_do";
    if !needs(test, "SeaweedFS (tests/setup)", SeaweedFs::available()) {
        return;
    }
    let server = SeaweedFs::shared();
    server.make_bucket("refuse");
    let entry = format!(
        "    uri: s3://refuse/prefix\n    endpoint: {}\n    region: us-east-1\n",
        server.endpoint()
    );
    let (key, secret) = SeaweedFs::READER;
    let env = machine_with(
        &entry,
        &[("AWS_ACCESS_KEY_ID", key), ("AWS_SECRET_ACCESS_KEY", secret)],
    );
    env.build("//...");
    let purged = env.heph(["cache", "purge", "//..."]).run();
    purged
        .exits(1)
        .says("warning: cache 'shared' does not allow the request: ")
        .says("hint: ");
    assert_eq!(
        purged.out(),
        "purged 3 keys\nthis store  3 results removed\nshared      0 of 3 keys purged\n"
    );
    assert_eq!(env.build("//...").executed().len(), 3);
}

#[test]
fn marks_count_as_signatures_say() {
    let (guard, bucket) = bucket();
    let file = guard.path().join("key").to_str().unwrap().to_owned();
    let keygen = Environment::new().heph(["cache", "keygen", &file]).run();
    let public = keygen.success().out().trim().to_owned();
    let required = format!("    signing:\n      publicKeys: [\"{public}\"]\n      required: true\n");
    let signs = format!("{required}      keyFile: {file}\n");
    let signer = machine(&bucket, &signs);
    signer.build("//...");
    uploaded(&signer, &bucket, 3);

    // Who cannot sign is told so, before it changes anything.
    let cannot = machine(&bucket, &required);
    assert_eq!(outcomes(&cannot), ["remote"; 3]);
    cannot
        .heph(["cache", "purge", "//:last"])
        .run()
        .exits(1)
        .says("requires signatures, and there is no key to sign with");
    assert_eq!(outcomes(&machine(&bucket, &required)), ["remote"; 3]);

    signer.heph(["cache", "purge", "//:last"]).run().success();
    let reader = machine(&bucket, &format!("    write: false\n{required}"));
    let built = reader.build("//...");
    assert_eq!(built.executed(), ["//:last"]);
    assert_eq!(built.notices(), [""; 0]);

    // A mark that nobody signed is no reason not to send anything.
    let stranger = machine(&bucket, "");
    stranger.build("//...");
    stranger.heph(["cache", "flush"]).run().success();
    stranger.heph(["cache", "purge", "//:first"]).run().success();
    assert_eq!(objects(&bucket, "tombstones").len(), 2);
    configure(&signer, &bucket, &signs);
    assert_eq!(signer.build("//...").executed(), ["//:last"]);
    signer.heph(["cache", "flush"]).run().success();
    let built = machine(&bucket, &format!("    write: false\n{required}")).build("//...");
    assert_eq!(built.executed(), ["//:first"]);
    built
        .run
        .says("has something that is not used")
        .says("it is not signed");
}

#[test]
fn where_a_result_came_from_is_told() {
    let (guard, bucket) = bucket();
    let file = guard.path().join("key").to_str().unwrap().to_owned();
    let keygen = Environment::new().heph(["cache", "keygen", &file]).run();
    let public = keygen.success().out().trim().to_owned();
    let writer = machine(
        &bucket,
        &format!(
            "    scope: pull-7\n    signing:\n      keyFile: {file}\n      publicKeys: [\"{public}\"]\n"
        ),
    );
    let built = writer.build("//...");
    uploaded(&writer, &bucket, 3);
    let key = built.target("//:last")["key"].as_str().unwrap().to_owned();
    let inspect = |env: &Environment| {
        env.heph(["tool", "cache", "inspect", &key, "--json"])
            .run()
            .success()
            .json()
    };
    let own = inspect(&writer);
    assert_eq!(own["stored"][0]["origin"], "local", "{own}");
    assert_eq!(own["caches"][0]["state"], "result");

    let settings = format!(
        "    write: false\n    readScopes: [main, pull-7]\n    signing:\n      publicKeys: [\"{public}\"]\n      required: true\n"
    );
    let reader = machine(&bucket, &settings);
    // Before it is here: what the cache has.
    let away = inspect(&reader);
    assert_eq!(
        (&away["address"], &away["stored"]),
        (&"//:last".into(), &serde_json::json!([]))
    );
    assert_eq!(outcomes(&reader), ["remote"; 3]);
    let here = inspect(&reader);
    let stored = &here["stored"][0];
    assert_eq!(
        (&stored["origin"], &stored["cache"], &stored["scope"]),
        (&"remote".into(), &"shared".into(), &"pull-7".into()),
        "{here}"
    );
    let signer = stored["signer"].as_str().unwrap();
    assert_eq!(signer.len(), 16);
    assert_eq!(stored["created_unix_ms"], own["created_unix_ms"]);
    let caches = here["caches"].as_array().unwrap();
    let states: Vec<_> = caches
        .iter()
        .map(|cache| (cache["scope"].clone(), cache["state"].clone()))
        .collect();
    assert_eq!(
        states,
        [
            ("main".into(), "absent".into()),
            ("pull-7".into(), "result".into())
        ]
    );
    assert_eq!(caches[1]["signer"], signer);
    assert!(caches[1]["written_unix_ms"].as_u64() >= caches[1]["created_unix_ms"].as_u64());
    let text = reader.heph(["tool", "cache", "inspect", &key]).run();
    text.success()
        .says(&format!(
            "from cache 'shared', scope pull-7, signed with {signer}; made "
        ))
        .says("cache 'shared', scope main: has none");

    writer.heph(["cache", "purge", &key]).run().success();
    let purged = inspect(&reader);
    assert_eq!(purged["caches"][1]["state"], "purged", "{purged}");
    configure(&reader, &bucket, "    read: false\n");
    assert_eq!(inspect(&reader)["stored"][0]["origin"], "unknown");
    writer
        .heph(["tool", "cache", "inspect", &key])
        .run()
        .exits(1)
        .says("neither the store nor a remote cache has a result");
}

#[test]
fn an_epoch_disowns_what_caches_have_from_another() {
    let (_guard, bucket) = bucket();
    let with_epoch = |epoch: &str| {
        let env = machine(&bucket, "");
        env.write(
            ".hephconfig",
            format!("cacheEpoch: {epoch}\n{}", env.read(".hephconfig")),
        );
        env
    };
    let one = with_epoch("one");
    one.build("//...");
    uploaded(&one, &bucket, 3);
    let two = with_epoch("two");
    let built = two.build("//...");
    assert_eq!(built.executed().len(), 3);
    assert_eq!(built.notices(), [""; 0]);
    uploaded(&two, &bucket, 6);
    for epoch in ["one", "two"] {
        assert_eq!(
            outcomes(&with_epoch(epoch)),
            ["remote"; 3],
            "both go on beside each other"
        );
    }
}

/// On a server that knows no conditions, whichever of the two is quicker at each step.
#[test]
fn a_purge_wins_against_an_upload_that_is_under_way() {
    const STEP: Duration = Duration::from_millis(100);
    for offset in 0..6 {
        let server = Slow::new(Duration::ZERO);
        server.ignore_conditions();
        let entry = format!("    uri: http://127.0.0.1:{}/cache\n", server.port);
        let with = |more: &str| machine_with(&format!("{entry}{more}"), &[]).with_mode(Mode::InProcess);
        let purger = with("");
        purger.build("//...");
        flush(&purger);
        // Another machine has the same in its queue.
        server.set_delay(Duration::from_secs(30));
        let late = with("    read: false\n");
        let run = late.heph(["run", "//..."]).start();
        wait_until("everything is queued", || uploads_left(&late) == 3);
        run.signal(Signal::KILL);
        run.wait();

        server.set_delay(STEP);
        let before = server.requests("").len();
        let sends = late.heph(["cache", "flush"]).start();
        wait_until("it sends", || server.requests("").len() > before);
        std::thread::sleep(STEP / 2 * offset);
        purger.heph(["cache", "purge", "//:middle"]).run().success();
        sends.wait().success();
        server.set_delay(Duration::ZERO);
        let built = with("    write: false\n").build("//...");
        assert_eq!(built.executed(), ["//:middle"], "offset {offset}: {}", built.run);
    }
}
