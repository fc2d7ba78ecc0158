//! `examples/remote-cache` as `docs/ci.md` uses it, with credentials that write one scope each.

use heph_tests::servers::SeaweedFs;
use heph_tests::{Environment, needs};

use crate::remote::outcomes;

/// A machine with the example, which is `who` to the bucket and has these profiles.
fn machine((key, secret): (&str, &str), profile: &str) -> Environment {
    let server = SeaweedFs::shared();
    server.make_bucket("scopes");
    let mut env = Environment::bare();
    env.copy_from_repository("examples/remote-cache");
    let config = env.read(".hephconfig").replace(
        "uri: s3://my-bucket/heph-cache",
        &format!(
            "uri: s3://scopes/heph-cache\n    endpoint: {}\n    region: us-east-1",
            server.endpoint()
        ),
    );
    env.write(".hephconfig", config);
    env.set("AWS_ACCESS_KEY_ID", key);
    env.set("AWS_SECRET_ACCESS_KEY", secret);
    env.set("HEPH_PROFILES", profile);
    // As in a job of a pull request, which has no branch checked out.
    env.set("GITHUB_HEAD_REF", "main");
    env
}

fn flush(env: &Environment) -> i32 {
    let code = env.heph(["cache", "flush", "--timeout", "20s"]).run().code;
    env.stop_daemons();
    code
}

#[test]
fn a_pull_request_reads_what_main_has_and_writes_nowhere_but_in_its_scope() {
    let test = "remote_scopes::a_pull_request_reads_what_main_has_and_writes_nowhere_but_in_its_scope";
    if !needs(test, "SeaweedFS (tests/setup)", SeaweedFs::available()) {
        return;
    }
    let (main, pull) = (SeaweedFs::MAIN, SeaweedFs::PULL);
    // What a pull request writes is there for it, and for nobody else, though its branch is called main.
    let first = machine(pull, "pull-request");
    assert_eq!(outcomes(&first), ["executed"; 2]);
    assert_eq!(flush(&first), 0);
    let again = machine(pull, "pull-request");
    assert_eq!(outcomes(&again), ["remote"; 2]);
    assert_eq!(flush(&again), 0);

    // One that says it is main is not allowed to write there, nor to purge.
    let impostor = machine(pull, "ci");
    assert_eq!(outcomes(&impostor), ["executed"; 2]);
    let refused = impostor.heph(["cache", "flush", "--timeout", "20s"]).run();
    refused.exits(1).says("does not take anything");
    assert_eq!(
        outcomes(&machine(pull, "")),
        ["executed"; 2],
        "nothing came of it"
    );
    impostor
        .heph(["cache", "purge", "//:count"])
        .run()
        .exits(1)
        .says("cache 'shared' does not allow the request");
    impostor.stop_daemons();

    // Main neither has what came from there, nor writes there.
    let own = machine(main, "ci");
    assert_eq!(outcomes(&own), ["executed"; 2]);
    assert_eq!(flush(&own), 0);
    let astray = machine(main, "pull-request");
    astray.write("words.txt", "another\n");
    assert_eq!(outcomes(&astray), ["executed"; 2]);
    assert_eq!(flush(&astray), 1);

    // Developers and other pull requests have what main made.
    assert_eq!(outcomes(&machine(SeaweedFs::READER, "")), ["remote"; 2]);
    let mut other = machine(pull, "pull-request");
    other.set("GITHUB_HEAD_REF", "other");
    assert_eq!(outcomes(&other), ["remote"; 2]);
    assert_eq!(flush(&other), 0);
}

#[test]
fn the_profiles_of_the_example_say_who_writes() {
    for (profile, write, scope) in [
        ("", "false", "main"),
        ("ci", "true", "main"),
        ("pull-request", "true", "pull/${branch}"),
    ] {
        let mut env = Environment::bare();
        env.copy_from_repository("examples/remote-cache");
        env.set("HEPH_PROFILES", profile);
        let config = env.heph(["inspect", "config", "--json"]).run().success().json();
        let value = |key: &str| {
            let values = config["values"].as_array().unwrap();
            let found = values.iter().find(|value| value["key"] == key);
            found.unwrap()["value"].as_str().unwrap().to_owned()
        };
        assert_eq!(value("caches.shared.write"), write, "{profile}");
        assert_eq!(value("caches.shared.scope"), scope, "{profile}");
    }
}
