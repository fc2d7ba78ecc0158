//! Several caches, one of which fails or lacks something: what the others have is used.

use std::fs;
use std::path::{Path, PathBuf};

use heph_tests::faults::{Fault, Protocol, Proxy};
use heph_tests::servers::Nginx;
use heph_tests::{Environment, files_below, needs, wait_until};

/// `large` is a content of its own.
const BUILD: &str = r#"
target(name = "small", driver = "sh", deps = file("text"), run = "cat $SRC > $OUT", out = "small.out")
target(name = "large", driver = "sh", deps = ":small", run = "cat $SRC > $OUT; seq 1 90000 >> $OUT", out = "large.out")
"#;

fn machine(caches: &[(&str, &str)], settings: &str) -> Environment {
    let env = Environment::new();
    let mut config = format!("{}sandbox:\n  mode: \"off\"\ncaches:\n", heph_tests::CONFIG);
    for (name, uri) in caches {
        config += &format!("  {name}:\n    uri: {uri}\n    readTimeout: 700ms\n    retries: 0\n{settings}");
    }
    env.write(".hephconfig", config);
    env.write("BUILD", BUILD);
    env.write("text", "some text\n");
    env
}

/// Builds all and needs all of it: everything comes from the caches, and at most so many warnings.
#[track_caller]
fn everything_is_there(env: &Environment, warnings: usize) {
    let out = env.beside("out");
    let built = env
        .heph(["run", "--json", "--copy-out", out.to_str().unwrap(), "//..."])
        .build();
    assert_eq!(built.run.success().code, 0);
    assert_eq!(built.with_outcome("remote").len(), 2, "{}", built.run);
    let told = built
        .notices()
        .iter()
        .filter(|code| *code == "remote-cache")
        .count();
    assert!(told <= warnings, "{}", built.run);
    let large = fs::read_to_string(out.join("large.out")).unwrap();
    assert!(large.starts_with("some text\n1\n2\n") && large.ends_with("\n90000\n"));
}

fn fill(caches: &[(&str, &str)]) {
    let env = machine(caches, "    read: false\n");
    env.build("//...");
    wait_until("everything is uploaded", || {
        env.heph(["cache", "flush"]).run().code == 0
    });
}

fn blobs(directory: &Path) -> Vec<PathBuf> {
    let all = files_below(directory).into_iter();
    all.filter(|path| path.to_str().unwrap().contains("/blobs/"))
        .collect()
}

#[test]
fn a_content_that_one_cache_lacks_comes_from_another() {
    let place = tempfile::tempdir().unwrap();
    let [one, two] = ["one", "two"].map(|name| place.path().join(name));
    let uris = [&one, &two].map(|path| format!("file://{}", path.display()));
    let caches = [("one", uris[0].as_str()), ("two", uris[1].as_str())];
    fill(&caches);
    for (lacking, other) in [(&one, &two), (&two, &one)] {
        let [blob] = blobs(lacking).try_into().unwrap();
        let whole = fs::read(&blob).unwrap();
        // It has expired there, then it is damaged there. Whichever is read first, the other one helps.
        fs::remove_file(&blob).unwrap();
        everything_is_there(&machine(&caches, "    write: false\n"), 0);
        fs::write(&blob, vec![b'x'; whole.len()]).unwrap();
        everything_is_there(&machine(&caches, "    write: false\n"), 1);
        fs::write(&blob, whole).unwrap();
        assert_eq!(blobs(other).len(), 1);
    }
}

#[test]
fn a_cache_that_fails_does_not_hide_another() {
    let name = "remote_several::a_cache_that_fails_does_not_hide_another";
    if !needs(name, "nginx or openssl is missing", Nginx::available()) {
        return;
    }
    let server = Nginx::new();
    let proxy = Proxy::new(Protocol::Http, server.plain);
    let [far, near] = [proxy.port(), server.plain].map(|port| format!("http://127.0.0.1:{port}/open/cache"));
    fill(&[("near", &near)]);
    for fault in [
        Fault::Hang,
        Fault::Reset,
        Fault::Status(500),
        Fault::Status(404),
        Fault::CorruptAnswers,
    ] {
        proxy.set(fault);
        everything_is_there(
            &machine(&[("far", &far), ("near", &near)], "    write: false\n"),
            1,
        );
    }
}
