//! What a slower cache has is copied to faster ones, as it is, and only where that is right.

use std::fs;
use std::path::Path;
use std::time::Duration;

use heph_tests::servers::Slow;
use heph_tests::{Environment, wait_until};

use crate::remote::{BUILD, bucket, last, objects, outcomes};

/// A machine with a directory as its near cache and a slow server as its far one.
fn machine(near: Option<(&Path, &str)>, far: Option<(&Slow, &str)>) -> Environment {
    let env = Environment::new();
    define(&env, near, far);
    env.write("BUILD", BUILD);
    env.write("a.txt", "some text\n");
    env
}

fn define(env: &Environment, near: Option<(&Path, &str)>, far: Option<(&Slow, &str)>) {
    let mut config = format!("{}sandbox:\n  mode: \"off\"\ncaches:\n", heph_tests::CONFIG);
    if let Some((near, settings)) = near {
        config += &format!("  near:\n    uri: file://{}\n{settings}", near.display());
    }
    if let Some((far, settings)) = far {
        config += &format!("  far:\n    uri: http://127.0.0.1:{}/cache\n{settings}", far.port);
    }
    env.write(".hephconfig", config);
}

fn flush(env: &Environment) {
    let flushed = env.heph(["cache", "flush"]).run();
    assert_eq!(flushed.success().out(), "everything is uploaded\n");
}

/// A far cache in which everything is.
fn filled(settings: &str) -> Slow {
    let far = Slow::new(Duration::ZERO);
    let writer = machine(None, Some((&far, settings)));
    writer.build("//...");
    flush(&writer);
    writer.stop_daemons();
    far.set_delay(Duration::from_millis(20));
    far
}

#[test]
fn a_hit_of_a_slower_cache_is_copied_to_a_faster_one_as_it_is() {
    let far = filled("");
    let (_guard, near) = bucket();
    let env = machine(Some((&near, "")), Some((&far, "    write: false\n")));
    assert_eq!(outcomes(&env), ["remote"; 3]);
    flush(&env);
    let copied = || objects(&near, "actions").len();
    wait_until("everything is copied", || copied() == 3);
    for path in objects(&near, "v1") {
        let name = path.strip_prefix(&near).unwrap().to_str().unwrap().to_owned();
        let original = far.file(&format!("/cache/{name}")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), original, "{name}");
    }
    assert_eq!(objects(&near, "blobs").len(), far.files("/blobs/").len());
    // Nothing that was not made here is sent as if it were.
    assert_eq!(far.requests("PUT ").len(), far.files("").len());

    let only_near = machine(Some((&near, "    write: false\n")), None);
    assert_eq!(outcomes(&only_near), ["remote"; 3]);
    let asked_for = only_near.heph(["run", "--cat-out", "//:middle"]).run();
    assert!(asked_for.success().out().ends_with("\n20000\n"));
    assert_eq!(last(&only_near), last(&env));
    env.stop_daemons();
}

#[test]
fn what_comes_from_a_scope_is_copied_within_that_scope_alone() {
    let far = filled("    scope: pull-7\n");
    let (_guard, near) = bucket();
    let reads_it = "    write: false\n    scope: pull-7\n";
    // The near cache is written in another scope, or not at all.
    for settings in [
        "    scope: main\n",
        "    scope: pull-8\n    readScopes: [pull-8, pull-7]\n",
        "    scope: pull-7\n    write: false\n",
    ] {
        let env = machine(Some((&near, settings)), Some((&far, reads_it)));
        assert_eq!(outcomes(&env), ["remote"; 3], "{settings}");
        flush(&env);
        assert!(!near.exists() || objects(&near, "v1").is_empty(), "{settings}");
        env.stop_daemons();
    }
    let env = machine(Some((&near, "    scope: pull-7\n")), Some((&far, reads_it)));
    assert_eq!(outcomes(&env), ["remote"; 3]);
    flush(&env);
    wait_until("everything is copied", || objects(&near, "actions").len() == 3);
    assert!(
        objects(&near, "v1")
            .iter()
            .all(|path| path.to_str().unwrap().contains("/pull-7/"))
    );
    env.stop_daemons();
}

#[test]
fn a_copy_keeps_its_signature_and_goes_only_where_that_is_accepted() {
    let (guard, near) = bucket();
    let keys = ["ours", "theirs"].map(|name| {
        let file = guard.path().join(name).to_str().unwrap().to_owned();
        let made = Environment::new().heph(["cache", "keygen", &file]).run();
        (file, made.success().out().trim().to_owned())
    });
    let [(own_file, own), (their_file, theirs)] = &keys;
    let signs = |file: &str| format!("    signing:\n      keyFile: {file}\n");
    let accepts = |keys: &str| format!("    signing:\n      publicKeys: [{keys}]\n      required: true\n");
    let far = filled(&signs(their_file));
    let reads_all = "    write: false\n";

    // Neither is a stranger's result signed with the own key, nor is it put where only own ones count.
    let strict = accepts(&format!("\"{own}\"")) + &format!("      keyFile: {own_file}\n");
    let env = machine(Some((&near, &strict)), Some((&far, reads_all)));
    assert_eq!(outcomes(&env), ["remote"; 3]);
    flush(&env);
    assert!(!near.exists() || objects(&near, "v1").is_empty());
    env.stop_daemons();

    let both = accepts(&format!("\"{own}\", \"{theirs}\"")) + &format!("      keyFile: {own_file}\n");
    let env = machine(Some((&near, &both)), Some((&far, reads_all)));
    assert_eq!(outcomes(&env), ["remote"; 3]);
    flush(&env);
    wait_until("everything is copied", || objects(&near, "actions").len() == 3);
    env.stop_daemons();
    let reader = |keys: &str| {
        machine(
            Some((&near, &format!("    write: false\n{}", accepts(keys)))),
            None,
        )
    };
    assert_eq!(outcomes(&reader(&format!("\"{theirs}\""))), ["remote"; 3]);
    assert_eq!(outcomes(&reader(&format!("\"{own}\""))), ["executed"; 3]);

    // What nobody signed stays out of a cache in which results are signed.
    fs::remove_dir_all(&near).unwrap();
    let unsigned = filled("");
    let env = machine(Some((&near, &signs(own_file))), Some((&unsigned, reads_all)));
    assert_eq!(outcomes(&env), ["remote"; 3]);
    flush(&env);
    assert!(!near.exists() || objects(&near, "v1").is_empty());
    env.stop_daemons();
}

#[test]
fn what_was_purged_is_not_copied() {
    let far = filled("");
    let (_guard, near) = bucket();
    let purger = machine(Some((&near, "")), None);
    purger.build("//...");
    flush(&purger);
    // It was made before the far one was purged here, and is older than the mark.
    purger.heph(["cache", "purge", "//:middle"]).run().success();
    purger.stop_daemons();
    let env = machine(Some((&near, "")), Some((&far, "    write: false\n")));
    let built = env.build("//...");
    assert_eq!(
        built.executed(),
        ["//:middle"],
        "the near cache is asked first, and says that it was purged"
    );
    flush(&env);
    assert_eq!(outcomes(&machine(Some((&near, "")), None)), ["remote"; 3]);
    env.stop_daemons();
}
