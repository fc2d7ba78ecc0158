//! The queue of uploads: what is under way at once, and who sends what.

use std::time::Duration;

use heph_tests::Environment;
use heph_tests::servers::Slow;

use crate::remote::uploads_left;

/// A machine whose targets have outputs of `size` random bytes each, and a slow server as its cache.
fn machine(server: &Slow, targets: usize, size: usize) -> Environment {
    let env = Environment::new();
    define(&env, server, "    read: false\n");
    let targets = (0..targets).map(|number| {
        format!(
            "target(name = \"t{number}\", driver = \"sh\", run = \"head -c {size} /dev/urandom > $OUT\", out = \"t{number}.out\")\n"
        )
    });
    env.write("BUILD", targets.collect::<String>());
    env
}

fn define(env: &Environment, server: &Slow, settings: &str) {
    env.write(
        ".hephconfig",
        format!(
            "{}sandbox:\n  mode: \"off\"\ncaches:\n  slow:\n    uri: http://127.0.0.1:{}/cache\n{settings}",
            heph_tests::CONFIG,
            server.port
        ),
    );
}

#[test]
fn bytes_under_way_are_bounded() {
    const SIZE: usize = 100_000;
    let most = |layer: &str| {
        let server = Slow::new(Duration::from_millis(60));
        let env = machine(&server, 12, SIZE);
        let file = env.user_home().join(".config/heph/hephconfig");
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, before + layer).unwrap();
        env.build("//...");
        env.heph(["cache", "flush"]).run().success();
        assert_eq!(uploads_left(&env), 0);
        assert_eq!(server.files("/blobs/").len(), 12);
        env.stop_daemons();
        server.most_under_way()
    };
    let bound = 256 * 1024;
    assert!(most("") > bound, "else what follows says nothing");
    let bounded = most("uploads:\n  maxInFlightBytes: 256 KiB\n");
    assert!((SIZE..=bound).contains(&bounded), "{bounded}");
    // What is larger by itself goes alone.
    let alone = most("uploads:\n  maxInFlightBytes: 1 KiB\n");
    assert_eq!(alone, SIZE);
}
