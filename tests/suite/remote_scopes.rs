//! `examples/remote-cache` as `docs/ci.md` uses it, with credentials that write one scope each.

use heph_tests::servers::SeaweedFs;
use heph_tests::{Environment, needs, repository};

use crate::remote::outcomes;

/// A machine with the example and a bucket, which is `who` to the bucket and has these profiles.
fn machine_with(bucket: &str, (key, secret): (&str, &str), profile: &str) -> Environment {
    let server = SeaweedFs::shared();
    server.make_bucket(bucket);
    let mut env = Environment::bare();
    env.copy_from_repository("examples/remote-cache");
    let config = env.read(".hephconfig").replace(
        "uri: s3://my-bucket/heph-cache",
        &format!(
            "uri: s3://{bucket}/heph-cache\n    endpoint: {}\n    region: us-east-1",
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
    if needs(test, "SeaweedFS (tests/setup)", SeaweedFs::available()) {
        scopes_are_kept_apart("scopes", SeaweedFs::MAIN, SeaweedFs::PULL, SeaweedFs::READER);
    }
}

/// The policy on the page, as one of a bucket for each of the two who write.
fn policy_of_the_page(bucket: &str, people: [(&str, &str); 2]) -> String {
    let page = std::fs::read_to_string(repository().join("docs/ci.md")).unwrap();
    let from = page.find("{\"Version\"").unwrap();
    let text = &page[from..from + page[from..].find("```").unwrap()];
    let policy: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut statements = Vec::new();
    for (name, prefix) in people {
        let own = policy["Statement"].to_string().replace("my-bucket", bucket);
        let own = own.replace("v1/pull~2F*", prefix);
        let mut own: Vec<serde_json::Value> = serde_json::from_str(&own).unwrap();
        for statement in &mut own {
            statement["Principal"] =
                serde_json::json!({"AWS": format!("arn:aws:iam::000000000000:user/{name}")});
        }
        statements.extend(own);
    }
    serde_json::json!({"Version": policy["Version"], "Statement": statements}).to_string()
}

#[test]
fn the_policy_of_the_page_keeps_scopes_apart() {
    let test = "remote_scopes::the_policy_of_the_page_keeps_scopes_apart";
    if !needs(test, "SeaweedFS (tests/setup)", SeaweedFs::available()) {
        return;
    }
    let server = SeaweedFs::shared();
    server.make_bucket("policy");
    let ((main, main_name), (pull, pull_name)) = (SeaweedFs::MAIN_BY_POLICY, SeaweedFs::PULL_BY_POLICY);
    assert_eq!(
        flush_of_a_build("policy", main),
        1,
        "without a policy nothing is allowed"
    );
    let people = [(main_name, "v1/main/*"), (pull_name, "v1/pull~2F*")];
    server.put_policy("policy", &policy_of_the_page("policy", people));
    // Developers are those of pull requests here, who only read.
    scopes_are_kept_apart("policy", main, pull, pull);
}

fn flush_of_a_build(bucket: &str, who: (&str, &str)) -> i32 {
    let env = machine_with(bucket, who, "ci");
    assert_eq!(outcomes(&env), ["executed"; 2]);
    flush(&env)
}

fn scopes_are_kept_apart(bucket: &str, main: (&str, &str), pull: (&str, &str), reader: (&str, &str)) {
    let machine = |who: (&str, &str), profile: &str| machine_with(bucket, who, profile);
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
    assert_eq!(outcomes(&machine(reader, "")), ["remote"; 2]);
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
